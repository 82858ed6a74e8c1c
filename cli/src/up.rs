//! The mesh on one machine: a folder of YAML becomes controller, CA, gateways, sidecars and applications in one process.
//!
//! ```text
//! folder --source--> controller --view--> plan (pods, ports) --> applications, proxies
//!                        ^                    |
//!                        +---- memory source -+   Pods and EndpointSlices of what runs here
//! ```
//!
//! No root, no Linux-only call: every pod is on 127.0.0.1 and has ports of its own.

pub mod apps;
pub mod bootstrap;
pub mod controller_tls;
pub mod mesh;
pub mod plan;
pub mod ports;
pub mod state;
pub mod workloads;

pub use mesh::{Mesh, MeshOptions};
