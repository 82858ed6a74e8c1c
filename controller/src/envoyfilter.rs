//! EnvoyFilter: generated resources and the patches that select a proxy go in; patched resources and what became of
//! each patch come out.
//!
//! Matching is Istio's (`istio.io/latest/docs/reference/config/networking/envoy-filter`); which filters select a proxy,
//! and in which order they run, the index says. A patch that cannot be read, or whose result cannot be built, is dropped
//! and says why; the resource stays as it was.

pub mod cluster;
pub mod facts;
mod http;
pub mod listener;
pub mod matching;
mod merge;
pub mod outcome;
pub mod patch;
pub mod route;
mod splice;

pub use facts::{Facts, PatchOutcome};
pub use matching::Proxy;
pub use outcome::{Outcome, PatchReport, Run, Stage};
pub use patch::{ApplyTo, CompiledFilter, Context, Operation, Patch, PatchSet, broken};

#[cfg(test)]
mod tests;
