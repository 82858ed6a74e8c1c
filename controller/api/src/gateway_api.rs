//! Gateway API v1 (gateway.networking.k8s.io): one kind in one file.

pub mod backend;
pub mod filter;
pub mod gateway;
pub mod gateway_class;
pub mod grpc_route;
pub mod http_route;
pub mod parent;
pub mod reference_grant;
pub mod rules;

pub use backend::{BackendObjectReference, BackendRef, SecretObjectReference};
pub use gateway::{Gateway, Listener};
pub use gateway_class::GatewayClass;
pub use grpc_route::GrpcRoute;
pub use http_route::{HttpRoute, HttpRouteRule};
pub use parent::{ParentReference, RouteParentStatus, RouteStatus};
pub use reference_grant::ReferenceGrant;

/// The API group of Gateway API.
pub const GROUP: &str = "gateway.networking.k8s.io";
