//! Serves views to proxies: xDS requests flow in, the resources that changed flow out, in an order that breaks no traffic.
//!
//! The rules of the protocol are Envoy's (`xds_protocol` page of its documentation); [`session`] holds them as a
//! pure state machine, everything around it only moves bytes.

pub mod kind;
pub mod resources;
pub mod session;

pub use kind::{Kind, Kinds};
pub use resources::{Resource, ResourceSet};
