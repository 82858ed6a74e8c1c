//! The contract between controller and proxy: Envoy's xDS v3 messages, and Istio's certificate service.
//!
//! ```text
//! .proto files (envoy-types, mesh/) --build.rs--> messages, gRPC stubs, descriptors
//! YAML / JSON <--json--> messages <--any--> bytes on the wire
//! ```
//!
//! # Invariants
//! * Generated code only, but for [`Any`] (its payload is shared, not copied) and [`json`].
//! * No meaning is given to a message here: the controller writes them, the proxy reads them.
//! * A type URL that is not known is kept and named, never dropped.

pub mod any;
pub mod fields;
pub mod json;

pub use any::{Any, UnpackError};
pub use prost;
pub use prost_types;

#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/modules.rs"));
}
pub use generated::*;
