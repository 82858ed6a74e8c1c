//! Which routes attach to which listener of which Gateway, with which hostnames, or why not (Gateway API v1: parentRefs,
//! allowedRoutes, hostname intersection). Translation and status both ask here, so that they cannot disagree.

use super::listeners::{self, ListenerState};
use super::{Key, Kind, ObjectRef, View};
use ferromesh_api::conditions::reasons;
use ferromesh_api::gateway_api::gateway::{FromNamespaces, Listener};
use ferromesh_api::gateway_api::{Gateway, GrpcRoute, HttpRoute, ParentReference};
use ferromesh_api::{ObjectMeta, Time};
use std::sync::Arc;

/// What attachment needs to know of a route of any kind.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    /// `Kind::HttpRoute` or `Kind::GrpcRoute`.
    pub kind: Kind,
    /// Namespace and name.
    pub key: &'a Key,
    /// Its metadata.
    pub metadata: &'a ObjectMeta,
    /// What it wants to attach to.
    pub parent_refs: &'a [ParentReference],
    /// Its hostnames.
    pub hostnames: &'a [String],
}

impl<'a> Route<'a> {
    /// From an HTTPRoute.
    pub fn http(key: &'a Key, route: &'a HttpRoute) -> Self {
        let spec = &route.spec;
        Self {
            kind: Kind::HttpRoute,
            key,
            metadata: &route.metadata,
            parent_refs: &spec.parent_refs,
            hostnames: &spec.hostnames,
        }
    }

    /// From a GRPCRoute.
    pub fn grpc(key: &'a Key, route: &'a GrpcRoute) -> Self {
        let spec = &route.spec;
        Self {
            kind: Kind::GrpcRoute,
            key,
            metadata: &route.metadata,
            parent_refs: &spec.parent_refs,
            hostnames: &spec.hostnames,
        }
    }

    /// What names it.
    pub fn reference(&self) -> ObjectRef {
        ObjectRef { kind: self.kind, key: self.key.clone() }
    }

    /// Sorts routes as Gateway API breaks ties: the oldest first, then by namespace and name.
    pub fn precedence(&self) -> (Option<&'a Time>, &'a Key, Kind) {
        (self.metadata.creation_timestamp.as_ref(), self.key, self.kind)
    }
}

/// Why a route is not attached to a parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The parent has no listener (or port) that the reference means.
    NoMatchingParent(String),
    /// Listeners do not take its kind or its namespace.
    NotAllowedByListeners(String),
    /// No listener has a hostname in common with it.
    NoMatchingListenerHostname(String),
    /// Something in it that no proxy would take.
    UnsupportedValue(String),
}

impl Refusal {
    /// The reason, as Gateway API calls it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoMatchingParent(_) => reasons::NO_MATCHING_PARENT,
            Self::NotAllowedByListeners(_) => reasons::NOT_ALLOWED_BY_LISTENERS,
            Self::NoMatchingListenerHostname(_) => reasons::NO_MATCHING_LISTENER_HOSTNAME,
            Self::UnsupportedValue(_) => reasons::UNSUPPORTED_VALUE,
        }
    }

    /// The same for people.
    pub fn message(&self) -> &str {
        match self {
            Self::NoMatchingParent(text) | Self::NotAllowedByListeners(text) => text,
            Self::NoMatchingListenerHostname(text) | Self::UnsupportedValue(text) => text,
        }
    }
}

/// A listener that a route is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Name of the listener.
    pub listener: String,
    /// Hostnames that it has there, in the route's order: exact, `*.` wildcard, or `*` for any.
    pub hostnames: Vec<String>,
}

/// What a parentRef of a route means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parent {
    /// A Gateway that we look after: the listeners that the route is attached to, or why to none.
    Gateway {
        /// Namespace and name of the Gateway.
        gateway: Key,
        /// Who looks after it (the GatewayClass's `controllerName`).
        controller: String,
        /// Where it is attached.
        outcome: Result<Vec<Attached>, Refusal>,
    },
    /// A Service: a route for traffic inside the mesh (GAMMA).
    Service {
        /// Namespace and name of the Service.
        service: Key,
        /// Its port, if the reference names one.
        port: Option<u16>,
        /// Whether it is attached.
        outcome: Result<(), Refusal>,
    },
    /// Not ours: no such Gateway, another controller's, or another kind. We say nothing about it.
    NotOurs {
        /// Why, for `analyze`.
        why: String,
    },
}

/// The controller that looks after a Gateway, if it is us.
pub fn our_controller<'a>(view: &'a View, gateway: &Gateway) -> Option<&'a str> {
    let controller = view.class_controller(&gateway.spec.gateway_class_name)?;
    view.controllers().contains(&controller).then_some(controller)
}

/// What each parentRef of a route means, in order.
pub fn parents(view: &View, route: &Route<'_>) -> Vec<Parent> {
    route.parent_refs.iter().map(|reference| parent(view, route, reference)).collect()
}

/// What one parentRef means.
pub fn parent(view: &View, route: &Route<'_>, reference: &ParentReference) -> Parent {
    let namespace = reference.namespace_or(&route.key.namespace);
    if reference.is_service() {
        return service_parent(view, route, reference, namespace);
    }
    if !reference.is_gateway() {
        let why = format!("a {} {:?} is not a parent that we know", reference.kind(), reference.group());
        return Parent::NotOurs { why };
    }
    let key = Key::new(namespace, reference.name.as_str());
    let Some(gateway) = view.gateways.get(&key) else {
        return Parent::NotOurs { why: format!("there is no Gateway {key}") };
    };
    let Some(controller) = our_controller(view, gateway) else {
        let class = &gateway.spec.gateway_class_name;
        return Parent::NotOurs {
            why: format!("the GatewayClass {class:?} of Gateway {key} is not ours or not there"),
        };
    };
    let outcome = attach(view, route, reference, &key, gateway);
    Parent::Gateway { gateway: key, controller: controller.to_owned(), outcome }
}

fn service_parent(view: &View, route: &Route<'_>, reference: &ParentReference, namespace: &str) -> Parent {
    let key = Key::new(namespace, reference.name.as_str());
    let outcome = match view.services.get(&key) {
        None => Err(Refusal::NoMatchingParent(format!("there is no Service {key}"))),
        Some(service) => match reference.port {
            Some(port) if super::services::port(service, port).is_none() => {
                Err(Refusal::NoMatchingParent(format!("Service {key} has no port {port}")))
            }
            _ => bad_hostname(route).map_or(Ok(()), Err),
        },
    };
    Parent::Service { service: key, port: reference.port, outcome }
}

fn attach(
    view: &View,
    route: &Route<'_>,
    reference: &ParentReference,
    key: &Key,
    gateway: &Gateway,
) -> Result<Vec<Attached>, Refusal> {
    if let Some(refusal) = bad_hostname(route) {
        return Err(refusal);
    }
    let states = listeners::states(view, key, gateway);
    let meant: Vec<_> =
        gateway.spec.listeners.iter().zip(&states).filter(|(listener, _)| means(reference, listener)).collect();
    if meant.is_empty() {
        return Err(Refusal::NoMatchingParent(format!("Gateway {key} has no listener{}", wanted(reference))));
    }
    let allowed: Vec<_> =
        meant.into_iter().filter(|(listener, state)| allows(view, key, listener, state, route)).collect();
    if allowed.is_empty() {
        return Err(Refusal::NotAllowedByListeners(format!(
            "no listener of Gateway {key}{} takes a {} from namespace {}; see its allowedRoutes",
            wanted(reference),
            route.kind,
            route.key.namespace
        )));
    }
    let attached: Vec<Attached> = allowed
        .into_iter()
        .filter_map(|(listener, _)| {
            let hostnames = intersection(listener.hostname.as_deref(), route.hostnames);
            (!hostnames.is_empty()).then(|| Attached { listener: listener.name.clone(), hostnames })
        })
        .collect();
    if attached.is_empty() {
        return Err(Refusal::NoMatchingListenerHostname(format!(
            "no listener of Gateway {key} has a hostname in common with {}",
            route.hostnames.join(", ")
        )));
    }
    Ok(attached)
}

/// A hostname that is none: a proxy would reject every route of the port for it.
fn bad_hostname(route: &Route<'_>) -> Option<Refusal> {
    let bad = route.hostnames.iter().find(|name| !listeners::is_hostname(name))?;
    Some(Refusal::UnsupportedValue(format!("spec.hostnames: {bad:?} is not a hostname, nor *. before one")))
}

fn means(reference: &ParentReference, listener: &Listener) -> bool {
    reference.section_name.as_ref().is_none_or(|name| *name == listener.name)
        && reference.port.is_none_or(|port| port == listener.port)
}

fn wanted(reference: &ParentReference) -> String {
    let name = reference.section_name.as_ref().map(|name| format!(" named {name:?}")).unwrap_or_default();
    let port = reference.port.map(|port| format!(" with port {port}")).unwrap_or_default();
    name + &port
}

/// Whether a listener takes routes of this kind from this namespace.
fn allows(view: &View, gateway: &Key, listener: &Listener, state: &ListenerState, route: &Route<'_>) -> bool {
    if !state.kinds.contains(&route.kind) {
        return false;
    }
    let namespaces = listener.allowed_routes.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
    let from = namespaces.and_then(|namespaces| namespaces.from.clone()).unwrap_or_default();
    match from {
        FromNamespaces::All => true,
        FromNamespaces::Same => route.key.namespace == gateway.namespace,
        FromNamespaces::Selector => namespaces
            .and_then(|namespaces| namespaces.selector.as_ref())
            .is_some_and(|selector| super::labels::selects(selector, &view.namespace_labels(&route.key.namespace))),
        FromNamespaces::None | FromNamespaces::Unknown(_) => false,
    }
}

/// The hostnames that a listener and a route have in common; `*` is any.
pub fn intersection(listener: Option<&str>, route: &[String]) -> Vec<String> {
    let listener = listener.filter(|hostname| !hostname.is_empty());
    if route.is_empty() {
        return vec![listener.unwrap_or("*").to_ascii_lowercase()];
    }
    let mut common = Vec::new();
    for hostname in route {
        let hostname = hostname.to_ascii_lowercase();
        let both = match listener.map(str::to_ascii_lowercase) {
            None => Some(hostname),
            Some(listener) if covers(&listener, &hostname) => Some(hostname),
            Some(listener) if covers(&hostname, &listener) => Some(listener),
            Some(_) => None,
        };
        if let Some(both) = both
            && !common.contains(&both)
        {
            common.push(both);
        }
    }
    common
}

/// True if every host that `narrow` means is one that `wide` means.
fn covers(wide: &str, narrow: &str) -> bool {
    if wide == narrow || wide == "*" {
        return true;
    }
    let Some(suffix) = wide.strip_prefix('*') else { return false };
    // `*.a.b` takes one label or more before `.a.b`, so the rest must not be empty.
    suffix.starts_with('.') && narrow.len() > suffix.len() && narrow.ends_with(suffix)
}

/// A route at a listener.
#[derive(Clone, Debug)]
pub enum Bound {
    /// An HTTPRoute.
    Http(Key, Arc<HttpRoute>),
    /// A GRPCRoute.
    Grpc(Key, Arc<GrpcRoute>),
}

impl Bound {
    /// What attachment knows of it.
    pub fn route(&self) -> Route<'_> {
        match self {
            Self::Http(key, route) => Route::http(key, route),
            Self::Grpc(key, route) => Route::grpc(key, route),
        }
    }
}

/// All routes, by precedence: the oldest first.
pub fn all_routes(view: &View) -> Vec<Bound> {
    let http = view.http_routes.iter().map(|(key, route)| Bound::Http(key.clone(), route.clone()));
    let grpc = view.grpc_routes.iter().map(|(key, route)| Bound::Grpc(key.clone(), route.clone()));
    let mut all: Vec<Bound> = http.chain(grpc).collect();
    all.sort_by(|a, b| a.route().precedence().cmp(&b.route().precedence()));
    all
}

/// The routes that are attached to one listener with the hostnames that each has there, by precedence. A route that
/// names the listener twice is there once.
pub fn routes_of_listener(view: &View, gateway: &Key, listener: &str) -> Vec<(Bound, Vec<String>)> {
    let mut found = Vec::new();
    for bound in all_routes(view) {
        let mut hostnames: Vec<String> = Vec::new();
        for parent in parents(view, &bound.route()) {
            let Parent::Gateway { gateway: key, outcome: Ok(attached), .. } = parent else { continue };
            if key != *gateway {
                continue;
            }
            for hostname in attached.into_iter().filter(|at| at.listener == listener).flat_map(|at| at.hostnames) {
                if !hostnames.contains(&hostname) {
                    hostnames.push(hostname);
                }
            }
        }
        if !hostnames.is_empty() {
            found.push((bound, hostnames));
        }
    }
    found
}

/// The routes whose parent is a Service (mesh routes), by precedence, with the port that each names.
pub fn routes_of_service(view: &View, service: &Key) -> Vec<(Bound, Option<u16>)> {
    let mut found = Vec::new();
    for bound in all_routes(view) {
        for parent in parents(view, &bound.route()) {
            if let Parent::Service { service: key, port, outcome: Ok(()) } = parent
                && key == *service
            {
                found.push((bound.clone(), port));
            }
        }
    }
    found
}
