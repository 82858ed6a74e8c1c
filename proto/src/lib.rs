//! The contract between controller and proxy: Envoy's xDS v3 messages, and Istio's certificate service.
//!
//! ```text
//! .proto files (envoy-types, mesh/) --build.rs--> messages, gRPC stubs, table of fields
//! YAML / JSON <--json--> bytes on the wire <--prost--> messages
//!                          │ any    type and shared bytes
//!                          ├ merge  bytes + patch
//!                          └ rules  what the protos state of fields, checked on bytes
//! ```
//!
//! # Invariants
//! * Generated code, and what is true of every message: [`Any`] (its payload is shared, not copied), [`json`],
//!   [`merge`](mod@merge), [`fields`], [`rules`].
//! * No meaning is given to a message here: the controller writes them, the proxy reads them.
//! * A type URL that is not known is kept and named, never dropped.
//! * Descriptors take no memory: [`fields`] and [`rules`] read tables in the program's read-only data.

pub mod any;
pub mod fields;
pub mod json;
pub mod merge;
pub mod rules;
pub mod wire;

pub use any::{Any, UnpackError};
pub use prost;
pub use prost_types;

#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/modules.rs"));
}
pub use generated::*;
