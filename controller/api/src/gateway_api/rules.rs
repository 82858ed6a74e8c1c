//! Gateway API's own rules, which its CRDs carry (schema and CEL, v1): an object in, what breaks a rule out, by path.
//! An API server refuses such an object; a folder has none, and refuses it by these.
//!
//! Not judged here are the words of enumerations, which a later version may add to (the object's status names those that
//! we do not know), and listeners that conflict, which have conditions that say so.

mod filters;
mod gateway;
mod grpc_route;
mod http_route;
mod parents;
pub mod text;

#[cfg(test)]
mod tests;

pub use gateway::gateway;
pub use grpc_route::grpc_route;
pub use http_route::http_route;

use super::{BackendObjectReference, GatewayClass, ReferenceGrant};
use std::collections::BTreeSet;

/// Gathers what breaks a rule.
#[derive(Default)]
struct Broken(Vec<String>);

impl Broken {
    /// `what` is wrong at `path` unless `good`.
    fn check(&mut self, good: bool, path: &str, what: &str) {
        if !good {
            self.0.push(format!("{path}: {what}"));
        }
    }

    /// At most so many.
    fn most(&mut self, count: usize, most: usize, path: &str) {
        if count > most {
            self.0.push(format!("{path}: {count} are too many; {most} is the most"));
        }
    }

    /// None of them twice.
    fn unique<'a>(&mut self, names: impl IntoIterator<Item = &'a str>, path: &str) {
        let mut seen = BTreeSet::new();
        if let Some(twice) = names.into_iter().find(|name| !seen.insert(*name)) {
            self.0.push(format!("{path}: {twice:?} is there twice"));
        }
    }

    /// A name of DNS: small letters, digits, hyphens and dots.
    fn subdomain(&mut self, name: &str, path: &str) {
        self.check(text::is_subdomain(name), path, &format!("{name:?} is not a name of DNS in small letters"));
    }

    /// A hostname, which may begin with `*.`.
    fn hostname(&mut self, name: &str, path: &str) {
        let good = text::is_hostname(name);
        self.check(good, path, &format!("{name:?} is not a hostname in small letters, nor *. before one"));
    }

    /// A reference to what traffic goes to.
    fn backend(&mut self, backend: &BackendObjectReference, path: &str) {
        self.check(!backend.name.is_empty(), &format!("{path}.name"), "is empty");
        let service = backend.group().is_empty() && backend.kind() == "Service";
        self.check(!service || backend.port.is_some(), &format!("{path}.port"), "must be written for a Service");
        self.check(backend.port != Some(0), &format!("{path}.port"), "0 is not a port");
        if let Some(namespace) = &backend.namespace {
            let what = format!("{namespace:?} is not a name of a namespace");
            self.check(text::is_label(namespace), &format!("{path}.namespace"), &what);
        }
    }
}

/// What in a ReferenceGrant breaks a rule.
pub fn reference_grant(grant: &ReferenceGrant) -> Vec<String> {
    let mut broken = Broken::default();
    for (list, count) in [("spec.from", grant.spec.from.len()), ("spec.to", grant.spec.to.len())] {
        broken.check(count > 0, list, "is empty");
        broken.most(count, 16, list);
    }
    for (index, from) in grant.spec.from.iter().enumerate() {
        let what = format!("{:?} is not a name of a namespace", from.namespace);
        broken.check(text::is_label(&from.namespace), &format!("spec.from[{index}].namespace"), &what);
        broken.check(!from.kind.is_empty(), &format!("spec.from[{index}].kind"), "is empty");
    }
    for (index, to) in grant.spec.to.iter().enumerate() {
        broken.check(!to.kind.is_empty(), &format!("spec.to[{index}].kind"), "is empty");
    }
    broken.0
}

/// What in a GatewayClass breaks a rule.
pub fn gateway_class(class: &GatewayClass) -> Vec<String> {
    let mut broken = Broken::default();
    let name = &class.spec.controller_name;
    let good = name.split_once('/').is_some_and(|(domain, path)| text::is_subdomain(domain) && !path.is_empty());
    broken.check(good, "spec.controllerName", &format!("{name:?} is not a domain with a path after it"));
    broken.0
}
