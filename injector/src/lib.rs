//! Which pods get a sidecar, and what they get: by Istio's rules, for the admission webhook and for files alike.
//!
//! ```text
//! pod, namespace --decide--> Inject | Skip(reason) --report--> words
//! pod, annotations, settings --inject--> pod with its proxy --patch--> JSON patch
//! AdmissionReview --webhook--> both, and an answer        file --manifest--> workload --> both, and the file
//! Istio's values --values--> settings
//! ```
//!
//! # Invariants
//! * `decide`, `annotations`, `inject`, `workload`, `manifest` and `values` are pure; only `webhook` and `app` have a clock, a socket or a file.
//! * A pod that cannot be injected as its annotations ask is refused with their names, never injected otherwise.
//! * Injecting twice is injecting once.
//! * The webhook never sees a Secret and may change one object only: its own MutatingWebhookConfiguration.

pub mod annotations;
pub mod app;
pub mod args;
pub mod decide;
pub mod inject;
pub mod manifest;
pub mod report;
pub mod settings;
pub mod values;
pub mod webhook;
pub mod workload;

pub use decide::{Decision, Namespace, Pod, Reason, decide};
pub use inject::{Injected, Refused};
pub use settings::{Mesh, Settings};
