//! A [`View`](crate::index::View) of the cluster and a proxy's [`Node`] go in; the xDS resources of that proxy come out,
//! with Istio's names and shapes. Pure: no clock, no I/O, nothing read but what is handed in.

pub mod access_log;
pub mod affected;
mod cache;
pub mod cluster;
pub mod endpoint;
pub mod gateway;
pub mod grpc_route;
pub mod hcm;
pub mod http_route;
pub mod inbound;
pub mod laptop;
pub mod message;
pub mod name_table;
pub mod names;
pub mod node;
pub mod outbound;
pub mod protocol;
pub mod resource;
pub mod route;
pub mod secret;
pub mod service;
pub mod stock;
pub mod tcp;
pub mod tls;
pub mod translator;
pub mod virtual_hosts;

pub use affected::{Affected, TypeSet};
pub use node::{Node, NodeError, NodeKind};
pub use resource::Resource;
pub use service::all_visible;
pub use translator::Translator;

#[cfg(test)]
mod tests;
