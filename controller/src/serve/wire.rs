//! The requests of the two ADS methods, as the session reads them.

use ferromesh_proto::envoy::config::core::v3::Node;
use ferromesh_proto::envoy::service::discovery::v3 as discovery;
use ferromesh_proto::google::rpc;

use super::Kind;
use super::session::{Names, Protocol, Request};

/// One of the two ADS methods.
pub(super) trait Wire: Send + 'static {
    type Request: prost::Message + Default + Send + 'static;
    const PROTOCOL: Protocol;

    fn node(request: &mut Self::Request) -> Option<Node>;
    /// What the request says of names, and the rest of it: type URL, nonce, error.
    fn take_apart(request: Self::Request) -> (Names, String, String, Option<rpc::Status>);

    /// The request as the session reads it; of a type that is not served, its URL.
    fn request(request: Self::Request) -> Result<Request, String> {
        let (names, type_url, nonce, error) = Self::take_apart(request);
        let kind = Kind::from_type_url(&type_url).ok_or(type_url)?;
        Ok(Request { kind, nonce, error: error.map(|status| status.message), names })
    }
}

pub(super) struct Delta;

impl Wire for Delta {
    type Request = discovery::DeltaDiscoveryRequest;
    const PROTOCOL: Protocol = Protocol::Delta;

    fn node(request: &mut Self::Request) -> Option<Node> {
        request.node.take()
    }

    fn take_apart(request: Self::Request) -> (Names, String, String, Option<rpc::Status>) {
        let names = Names::Delta {
            subscribe: request.resource_names_subscribe,
            unsubscribe: request.resource_names_unsubscribe,
            initial_versions: request.initial_resource_versions.into_iter().collect(),
        };
        (names, request.type_url, request.response_nonce, request.error_detail)
    }
}

pub(super) struct StateOfTheWorld;

impl Wire for StateOfTheWorld {
    type Request = discovery::DiscoveryRequest;
    const PROTOCOL: Protocol = Protocol::StateOfTheWorld;

    fn node(request: &mut Self::Request) -> Option<Node> {
        request.node.take()
    }

    fn take_apart(request: Self::Request) -> (Names, String, String, Option<rpc::Status>) {
        let names = Names::StateOfTheWorld(request.resource_names);
        (names, request.type_url, request.response_nonce, request.error_detail)
    }
}
