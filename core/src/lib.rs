//! What every daemon of the mesh shares: its vocabulary first, the skeleton of a process second.
//!
//! ```text
//! text, certificates --identity, names, ports--> typed names
//! arguments --args--> telemetry (logs, traces, metrics) + runtime (signals, drain, health, admin server)
//! ```
//!
//! # Invariants
//! * Nothing here knows a mesh message: no dependency on the contract crate or on any daemon.
//! * No process-global state but what `tracing` itself keeps; several daemons run in one process.
//! * Outside bytes (names, certificates, PEM files) give an error, never a panic.

pub mod args;
pub mod backoff;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod identity;
pub mod names;
pub mod ports;
pub mod re2;
pub mod runtime;
pub mod telemetry;
pub mod tls;

pub use identity::{SpiffeId, TrustDomain};
pub use names::{NodeId, ServiceName};
