//! EnvoyFilter: generated resources and the patches that select a proxy go in; patched resources and what became of
//! each patch come out.
//!
//! Order and matching are Istio's (`istio.io/latest/docs/reference/config/networking/envoy-filter`): patches run by
//! priority, those of the root namespace first, then by creation time and name. A patch that cannot be read, or whose
//! result cannot be built, is dropped and says why; the resource stays as it was.

pub mod cluster;
mod http;
pub mod listener;
pub mod matching;
mod merge;
pub mod outcome;
pub mod patch;
pub mod route;
mod splice;

pub use matching::Proxy;
pub use outcome::{Outcome, PatchReport, Run, Stage};
pub use patch::{ApplyTo, CompiledFilter, Context, Operation, Patch, PatchSet};

#[cfg(test)]
mod tests;
