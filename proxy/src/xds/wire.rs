//! The two forms of ADS, delta and state of the world: which messages one exchanges, and what the session says in them.

use std::collections::BTreeSet;

use ferromesh_proto::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use ferromesh_proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Kind;
use super::session::{Session, Update};
use super::store::name_of;
use crate::grpc::Channel;

/// A resource's name, and its version or what is wrong with it.
pub(super) type Named = (String, String);

/// One form of ADS.
pub(super) trait Wire {
    /// What the proxy says.
    type Request: 'static;
    /// What the control plane says.
    type Response;

    /// Opens the stream.
    async fn call(
        client: &mut AggregatedDiscoveryServiceClient<Channel>,
        requests: Request<ReceiverStream<Self::Request>>,
    ) -> Result<Response<Streaming<Self::Response>>, Status>;

    /// The requests that every stream begins with.
    fn open(session: &mut Session) -> Vec<Self::Request>;

    /// The request that tells a change of what is asked for, if it is one.
    fn interest(session: &mut Session, kind: Kind, names: BTreeSet<String>) -> Option<Self::Request>;

    /// What a response changes.
    fn take(session: &mut Session, response: Self::Response) -> Option<(Kind, Update)>;

    /// The answer to the response that was taken last.
    fn answer(session: &mut Session, kind: Kind, versions: &[Named], errors: &[Named]) -> Self::Request;
}

/// `DeltaAggregatedResources`.
pub(super) enum Delta {}

impl Wire for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    async fn call(
        client: &mut AggregatedDiscoveryServiceClient<Channel>,
        requests: Request<ReceiverStream<Self::Request>>,
    ) -> Result<Response<Streaming<Self::Response>>, Status> {
        client.delta_aggregated_resources(requests).await
    }

    fn open(session: &mut Session) -> Vec<Self::Request> {
        session.open_delta()
    }

    fn interest(session: &mut Session, kind: Kind, names: BTreeSet<String>) -> Option<Self::Request> {
        let (added, removed) = session.set_interest(kind, names)?;
        Some(session.delta_interest(kind, added, removed))
    }

    fn take(session: &mut Session, response: Self::Response) -> Option<(Kind, Update)> {
        session.on_delta(response)
    }

    fn answer(session: &mut Session, kind: Kind, versions: &[Named], errors: &[Named]) -> Self::Request {
        session.answer_delta(kind, versions, errors)
    }
}

/// `StreamAggregatedResources`.
pub(super) enum StateOfTheWorld {}

impl Wire for StateOfTheWorld {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    async fn call(
        client: &mut AggregatedDiscoveryServiceClient<Channel>,
        requests: Request<ReceiverStream<Self::Request>>,
    ) -> Result<Response<Streaming<Self::Response>>, Status> {
        client.stream_aggregated_resources(requests).await
    }

    fn open(session: &mut Session) -> Vec<Self::Request> {
        session.open_sotw()
    }

    fn interest(session: &mut Session, kind: Kind, names: BTreeSet<String>) -> Option<Self::Request> {
        session.set_interest(kind, names)?;
        Some(session.sotw_request(kind))
    }

    fn take(session: &mut Session, response: Self::Response) -> Option<(Kind, Update)> {
        session.on_sotw(response, name_of)
    }

    fn answer(session: &mut Session, kind: Kind, versions: &[Named], errors: &[Named]) -> Self::Request {
        session.answer_sotw(kind, versions, errors)
    }
}
