//! Conditions of routes: Accepted, ResolvedRefs and PartiallyInvalid, for each parent that is ours.

use super::set::Set;
use crate::index::attachment::{self, Parent, Refusal, Route};
use crate::index::listeners::Fault;
use crate::index::references::Callers;
use crate::index::{Key, View, references};
use crate::translate::{grpc_route, http_route};
use ferromesh_api::Time;
use ferromesh_api::conditions::{reasons, types};
use ferromesh_api::gateway_api::{BackendObjectReference, GrpcRoute, HttpRoute, RouteParentStatus, RouteStatus};
use std::collections::BTreeMap;

/// How many routes are attached to each listener: by Gateway and name of the listener.
pub type AttachedCounts = BTreeMap<(Key, String), i32>;

/// Counts the routes of every listener.
pub fn attached_counts(view: &View) -> AttachedCounts {
    let mut counts = AttachedCounts::new();
    for bound in attachment::all_routes(view) {
        let mut places = std::collections::BTreeSet::new();
        for parent in attachment::parents(view, &bound.route()) {
            if let Parent::Gateway { gateway, outcome: Ok(attached), .. } = parent {
                places.extend(attached.into_iter().map(|at| (gateway.clone(), at.listener)));
            }
        }
        for place in places {
            *counts.entry(place).or_default() += 1;
        }
    }
    counts
}

/// The status of an HTTPRoute.
pub fn http_status(view: &View, key: &Key, object: &HttpRoute, now: &Time, old: Option<&RouteStatus>) -> RouteStatus {
    let route = Route::http(key, object);
    let unresolved = Unresolved::of(view, &route, || references::http_backends(object));
    let rules =
        object.spec.rules.iter().map(|rule| (http_route::unsupported(rule), http_route::refused(rule))).collect();
    status(view, &route, &unresolved, &Unsupported(rules), now, old)
}

/// The status of a GRPCRoute.
pub fn grpc_status(view: &View, key: &Key, object: &GrpcRoute, now: &Time, old: Option<&RouteStatus>) -> RouteStatus {
    let route = Route::grpc(key, object);
    let unresolved = Unresolved::of(view, &route, || references::grpc_backends(object));
    let rules =
        object.spec.rules.iter().map(|rule| (grpc_route::unsupported(rule), grpc_route::refused(rule))).collect();
    status(view, &route, &unresolved, &Unsupported(rules), now, old)
}

/// What does not resolve of a route's backends, for the requests of Gateways and of the mesh.
struct Unresolved {
    gateway: Option<Fault>,
    mesh: Option<Fault>,
}

impl Unresolved {
    fn of<'a, I>(view: &View, route: &Route<'_>, backends: impl Fn() -> I) -> Self
    where
        I: Iterator<Item = &'a BackendObjectReference>,
    {
        let reference = route.reference();
        let first = |callers: Callers| {
            backends().find_map(|backend| references::backend(view, &reference, backend, callers).err())
        };
        Self { gateway: first(Callers::Gateway), mesh: first(Callers::Mesh) }
    }
}

/// What is not supported, for each rule, and whether all of the rule is refused for it.
struct Unsupported(Vec<(Vec<String>, bool)>);

impl Unsupported {
    fn all(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|(_, refused)| *refused)
    }

    fn message(&self) -> Option<String> {
        let rules = self.0.iter().enumerate().filter(|(_, (rule, _))| !rule.is_empty());
        let parts: Vec<_> = rules.map(|(index, (rule, _))| format!("rules[{index}]: {}", rule.join("; "))).collect();
        (!parts.is_empty()).then(|| format!("not supported: {}", parts.join(" | ")))
    }
}

fn status(
    view: &View,
    route: &Route<'_>,
    unresolved: &Unresolved,
    unsupported: &Unsupported,
    now: &Time,
    old: Option<&RouteStatus>,
) -> RouteStatus {
    // A route of the mesh has no class: it is Istio's, where Istio's classes are ours.
    let mesh_controller = view.controllers().first().copied().unwrap_or_default();
    let mut parents = Vec::new();
    for (reference, parent) in route.parent_refs.iter().zip(attachment::parents(view, route)) {
        let (controller, refusal, unresolved): (String, Option<Refusal>, _) = match parent {
            Parent::Gateway { controller, outcome, .. } => (controller, outcome.err(), &unresolved.gateway),
            Parent::Service { outcome, .. } => (mesh_controller.to_owned(), outcome.err(), &unresolved.mesh),
            Parent::NotOurs { .. } => continue,
        };
        let before = old.and_then(|old| old.parents.iter().find(|before| before.parent_ref == *reference));
        let before = before.map(|before| before.conditions.as_slice()).unwrap_or_default();
        let mut set = Set::new(route.metadata.generation, now, before);
        let message = unsupported.message();
        match (&refusal, &message) {
            (Some(refusal), _) => set.add(types::ACCEPTED, false, refusal.reason(), refusal.message()),
            (None, Some(message)) if unsupported.all() => {
                set.add(types::ACCEPTED, false, reasons::UNSUPPORTED_VALUE, message.as_str());
            }
            _ => set.add(types::ACCEPTED, true, reasons::ACCEPTED, "the route is attached"),
        }
        match unresolved {
            Some((reason, what)) => set.add(types::RESOLVED_REFS, false, reason, what.as_str()),
            None => set.add(types::RESOLVED_REFS, true, reasons::RESOLVED_REFS, "every backend is there"),
        }
        if let (None, Some(message), false) = (&refusal, &message, unsupported.all()) {
            set.add(types::PARTIALLY_INVALID, true, reasons::UNSUPPORTED_VALUE, format!("Dropped Rule(s): {message}"));
        }
        let conditions = set.done();
        parents.push(RouteParentStatus { parent_ref: reference.clone(), controller_name: controller, conditions });
    }
    RouteStatus { parents }
}
