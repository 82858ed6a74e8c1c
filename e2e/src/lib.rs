//! Ferromesh among real programs: a real Kubernetes to run on, images to run there, and real peers to be compared with.
//!
//! ```text
//! cluster: tools (built once, cached) -> namespaces: control plane, nodes -> kubectl, Helm, tests; gone at the end
//! image:   binaries -> one archive each, the same bytes every time -> nodes of a cluster, or a registry
//! tutorial: images, cluster, chart -> the tutorial's commands -> a table of what was seen
//! restarts: images, cluster, chart -> every kind of restart under load -> a table of requests that failed
//! identity: images, cluster, chart -> who is served, who gets a certificate, what is on the wire -> a table
//! node_agent: images, cluster, chart -> pods where Pod Security is restricted, with and without an agent -> a table
//! bench:   certificates -> peers (ours, Envoy, nginx, a bare relay) -> load (wrk) -> CPU, latency, memory -> table
//! control_plane: cluster, objects -> ours and istiod, one at a time -> simulated sidecars -> memory, CPU, latency -> table
//! profile: the same pairs under callgrind and strace -> counts of one request -> tables, bounds
//! soak:    a pair, load, changes each second -> what failed, memory, descriptors -> a table
//! ```
//!
//! # Invariants
//! * Traffic stays on the loopback and in namespaces that were made here, is bounded, and stops by itself.
//! * Only processes that were started here are ended here.
//! * Nothing is left behind, whatever way the end comes.

pub mod bench;
pub mod cluster;
pub mod control_plane;
pub mod identity;
pub mod image;
pub mod image_command;
pub mod load;
pub mod mesh;
pub mod node_agent;
pub mod process;
pub mod profile;
pub mod progress;
pub mod restarts;
pub mod rows;
pub mod soak;
pub mod tools;
pub mod tutorial;
