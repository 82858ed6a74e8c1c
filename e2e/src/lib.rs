//! Ferromesh beside its peers: real processes on the loopback, driven and measured.
//!
//! ```text
//! bench: certificates -> peers (ours, Envoy, nginx, a bare relay) -> load (wrk) -> CPU, latency, memory -> table
//! ```
//!
//! # Invariants
//! * Traffic stays on the loopback, is bounded, and stops by itself.
//! * Only processes that were started here are ended here.

pub mod bench;
pub mod process;
