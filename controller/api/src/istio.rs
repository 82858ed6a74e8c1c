//! Istio's kinds: one in one file.

pub mod envoy_filter;
pub mod mesh_config;
pub mod peer_authentication;
pub mod selector;

pub use envoy_filter::EnvoyFilter;
pub use mesh_config::MeshConfig;
pub use peer_authentication::PeerAuthentication;
pub use selector::{PolicySelector, WorkloadSelector};
