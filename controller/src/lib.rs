//! The control plane: Kubernetes, Gateway API and Istio objects flow in, Envoy xDS v3 flows out.
//!
//! ```text
//! source --objects--> index --view, changes--> translate --resources--> serve --xDS--> proxies
//! ```
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
