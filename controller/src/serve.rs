//! Serves views to proxies: xDS requests flow in, the resources that changed flow out, in an order that breaks no traffic.
//!
//! ```text
//! connection --listener--> grpc --requests--> stream --> session --due--> snapshot --resources--> session --push--> stream --> grpc
//!                                      new view --hub--^
//! ```
//! The rules of the protocol are Envoy's (`xds_protocol` page of its documentation); [`session`] holds them as a
//! pure state machine, everything around it only moves bytes.

pub mod client;
pub mod debounce;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod grpc;
pub mod hub;
pub mod incoming;
mod lanes;
mod listener;
mod names;
mod outgoing;
pub mod resources;
pub mod session;
pub mod stream;
pub mod tls_files;
mod wire;

pub use crate::kind::{Kind, Kinds};
pub use client::{Client, ClientError};
pub use hub::{Hub, Snapshot};
pub use listener::{Address, Server, ServerConfig, ServerError, ServerTls};
pub use resources::{Resource, ResourceSet};
