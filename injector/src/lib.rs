//! Which pods get a sidecar: a pod's and its namespace's labels in, a decision with its reason out.
//!
//! This is the decision only, by Istio's rules, for whoever needs it (the command line, an admission webhook). It
//! changes no pod and serves no webhook.
//!
//! ```text
//! pod, namespace, revision --decide--> Inject | Skip(reason) --report--> words
//! ```

pub mod decide;
pub mod report;

pub use decide::{Decision, Namespace, Pod, Reason, decide};
