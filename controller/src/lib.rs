//! The control plane: Kubernetes, Gateway API and Istio objects flow in, Envoy xDS v3 flows out.
//!
//! ```text
//! source --objects--> index --view, changes--> translate --resources--> serve --xDS--> proxies
//!                       |                                                |
//!                       view --status, writer--> objects' statuses <--what proxies reject
//! ```
//!
//! # Invariants
//! * Translation, statuses, patches and reviews are functions of a view: no clock, lock or I/O.
//! * One task owns the index; a view never changes once it is published.
//! * An object that cannot be read costs nothing but itself: its last good form goes on being served.
//! * A proxy is served as what its certificate says, and gets its own identity's configuration only.
//! * One response of a type is in flight to a proxy; what a change does not touch is neither made nor sent anew.
#![warn(missing_docs)]

mod admin;
pub mod admit;
pub mod analyze;
pub mod app;
pub mod args;
pub mod daemon;
pub mod envoyfilter;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod gateways;
pub mod identity;
pub mod index;
pub mod istio_class;
pub mod kind;
pub mod metrics;
pub mod serve;
pub mod source;
pub mod status;
pub mod translate;
pub mod writer;
