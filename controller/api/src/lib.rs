//! The resource kinds that Ferromesh reads: Gateway API and Istio types, and every label, annotation and condition
//! string, each written once. Kubernetes' own kinds are those of `k8s_openapi`.
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
