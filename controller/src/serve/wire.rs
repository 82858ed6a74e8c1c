//! The messages of the two ADS methods, into and out of the session's own.

use ferromesh_proto::envoy::config::core::v3::Node;
use ferromesh_proto::envoy::service::discovery::v3 as discovery;
use ferromesh_proto::google::rpc;

use super::session::{Names, Protocol, Push, Request};
use super::{Kind, Resource};

/// The messages of one of the two ADS methods.
pub(super) trait Wire: Send + 'static {
    type Request: Send + 'static;
    type Response: Send + 'static;
    const PROTOCOL: Protocol;

    fn node(request: &mut Self::Request) -> Option<Node>;
    /// What the request says of names, and the rest of it: type URL, nonce, error.
    fn take_apart(request: Self::Request) -> (Names, String, String, Option<rpc::Status>);
    fn response(push: Push) -> Self::Response;

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
    type Response = discovery::DeltaDiscoveryResponse;
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

    fn response(push: Push) -> Self::Response {
        let resource = |resource: Resource| discovery::Resource {
            name: resource.name.to_string(),
            version: format!("{:016x}", resource.version),
            resource: Some(resource.any),
            ..discovery::Resource::default()
        };
        discovery::DeltaDiscoveryResponse {
            system_version_info: push.version,
            resources: push.resources.into_iter().map(resource).collect(),
            type_url: push.kind.type_url().to_owned(),
            removed_resources: push.removed.iter().map(|name| name.to_string()).collect(),
            nonce: push.nonce,
            ..discovery::DeltaDiscoveryResponse::default()
        }
    }
}

pub(super) struct StateOfTheWorld;

impl Wire for StateOfTheWorld {
    type Request = discovery::DiscoveryRequest;
    type Response = discovery::DiscoveryResponse;
    const PROTOCOL: Protocol = Protocol::StateOfTheWorld;

    fn node(request: &mut Self::Request) -> Option<Node> {
        request.node.take()
    }

    fn take_apart(request: Self::Request) -> (Names, String, String, Option<rpc::Status>) {
        let names = Names::StateOfTheWorld(request.resource_names);
        (names, request.type_url, request.response_nonce, request.error_detail)
    }

    fn response(push: Push) -> Self::Response {
        discovery::DiscoveryResponse {
            version_info: push.version,
            resources: push.resources.into_iter().map(|resource| resource.any).collect(),
            type_url: push.kind.type_url().to_owned(),
            nonce: push.nonce,
            ..discovery::DiscoveryResponse::default()
        }
    }
}
