//! Redirects pods' traffic from the node, so that pods need no right for it: the agent of each node, and the CNI plugin
//! that the container runtime calls for each pod. Both are one program.
//!
//! ```text
//! agent:   node's conflist --conflist (pure)--> the same with our plugin at its end --chain, files--> the node's folder
//! runtime: stdin, environment --plugin--> wire: pod's name and its network namespace (a descriptor) --> server
//! agent:   server --pods--> Pod --decide (pure)--> Plan --netns--> ferromesh_redirect's rules in that namespace
//! agent:   Pending pods whose istio-validation failed --repair--> label, or deletion (off unless asked for)
//! ```
//!
//! # Invariants
//! * A conflist that cannot be read, or not be chained to, is left as it is; of one that can, no other's plugin changes.
//! * A pod that has no sidecar starts, whatever state the agent is in. A pod with one starts redirected, or does not start.
//! * The agent never touches the node's own network namespace.
//! * The plugin waits for nothing without a limit, and knows no credential.
//!
//! Sources: the CNI specification 1.1.0, its CONVENTIONS (`io.kubernetes.cri.pod-annotations`), and Istio's node agent,
//! whose names and meaning of `istio-validation` and of the repair are kept.

#![cfg(target_os = "linux")]

pub mod app;
pub mod args;
pub mod chain;
pub mod conflist;
pub mod decide;
pub mod files;
pub mod metrics;
pub mod netns;
pub mod plugin;
pub mod pods;
pub mod program;
pub mod repair;
pub mod server;
pub mod wire;
