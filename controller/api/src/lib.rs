//! The resource kinds that Ferromesh reads: Gateway API and Istio types, and every label, annotation and condition
//! string, each written once. Kubernetes' own kinds are those of `k8s_openapi`.
//!
//! ```text
//! YAML, JSON --documents--> gateway_api, istio (typed objects; unknown fields by name) --crd--> CustomResourceDefinitions
//!                     cluster: lists and watches of an API server, as text ---^
//! ```
//!
//! # Invariants
//! * A kind's fields, their names and their limits stand here once; CRDs are made of them.
//! * What cannot be read is an error that names the field, and never a panic; what is not known is named, not dropped in silence.
//! * Nothing here knows xDS, and nothing of a Secret is printed.
#![warn(missing_docs)]

#[macro_use]
mod object;

pub mod annotations;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod conditions;
pub mod crd;
pub mod documents;
pub mod duration;
pub mod gateway_api;
pub mod istio;
pub mod labels;
pub mod unknown;

pub use duration::Duration;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, ObjectMeta, Time};
pub use k8s_openapi::{Metadata, Resource};
