//! Conditions of GatewayClasses, Gateways and their listeners.

use super::route::AttachedCounts;
use super::set::Set;
use crate::index::listeners::{self, ListenerState};
use crate::index::{Key, Rejection, View, labels, rejection};
use crate::translate::names;
use ferromesh_api::Time;
use ferromesh_api::conditions::{reasons, types};
use ferromesh_api::gateway_api::gateway::{GatewayAddress, GatewayStatus, Listener, ListenerStatus, RouteGroupKind};
use ferromesh_api::gateway_api::gateway_class::GatewayClassStatus;
use ferromesh_api::gateway_api::{GROUP, Gateway, GatewayClass};
use ferromesh_api::{Condition, Metadata};

/// True if we look after Gateways of this class.
pub fn is_ours(view: &View, class: &GatewayClass) -> bool {
    view.controllers().contains(&class.spec.controller_name.as_str())
}

/// The status of a GatewayClass of ours.
pub fn class_status(class: &GatewayClass, now: &Time, previous: &[Condition]) -> GatewayClassStatus {
    let mut set = Set::new(class.metadata.generation, now, previous);
    match &class.spec.parameters_ref {
        Some(parameters) => {
            let what = format!("parametersRef ({} {:?}) is not supported; remove it", parameters.kind, parameters.name);
            set.add(types::ACCEPTED, false, reasons::INVALID_PARAMETERS, what);
        }
        None => set.add(types::ACCEPTED, true, reasons::ACCEPTED, "Ferromesh looks after Gateways of this class"),
    }
    set.add(types::SUPPORTED_VERSION, true, reasons::SUPPORTED_VERSION, "Gateway API v1");
    GatewayClassStatus { conditions: set.done(), supported_features: Vec::new() }
}

/// What the view does not show of a Gateway.
pub struct Known<'a> {
    /// How many routes each listener has.
    pub attached: &'a AttachedCounts,
    /// What its proxies rejected.
    pub rejections: &'a [&'a Rejection],
}

/// The status of a Gateway of ours.
pub fn gateway_status(
    view: &View,
    key: &Key,
    gateway: &Gateway,
    known: &Known<'_>,
    now: &Time,
    old: Option<&GatewayStatus>,
) -> GatewayStatus {
    let states = listeners::states(view, key, gateway);
    let addresses = addresses(view, key, gateway);
    let has_address = !addresses.is_empty();
    let listeners = gateway.spec.listeners.iter().zip(&states).map(|(listener, state)| {
        let before = old.and_then(|old| old.listeners.iter().find(|before| before.name == state.name));
        let count = known.attached.get(&(key.clone(), state.name.clone())).copied().unwrap_or_default();
        let found = Found { attached_routes: count, rejected: rejected(key, listener, known.rejections) };
        listener_status(gateway, state, found, now, before)
    });
    let listeners = listeners.collect();
    let mut set =
        Set::new(gateway.metadata.generation, now, old.map(|old| old.conditions.as_slice()).unwrap_or_default());
    accepted(&mut set, gateway, &states);
    let usable = states.iter().any(ListenerState::usable);
    match (usable, has_address) {
        (true, true) if !known.rejections.is_empty() => {
            set.add(types::PROGRAMMED, false, reasons::INVALID, rejection::summary(known.rejections));
        }
        (true, true) => set.add(types::PROGRAMMED, true, reasons::PROGRAMMED, "a proxy serves it"),
        (true, false) => {
            let what = "nothing serves it yet: there is no ready Pod or Service of this Gateway";
            set.add(types::PROGRAMMED, false, reasons::ADDRESS_NOT_ASSIGNED, what);
        }
        (false, _) => set.add(types::PROGRAMMED, false, reasons::INVALID, "no listener can be used"),
    }
    match listeners::client_certificate(gateway).map(|reference| listeners::certificate(view, key, reference)) {
        Some(Err((reason, what))) => {
            let permitted = reason != reasons::REF_NOT_PERMITTED;
            let reason = if permitted { reasons::INVALID_CLIENT_CERTIFICATE_REF } else { reason };
            let what = format!("spec.tls.backend.clientCertificateRef: {what}");
            set.add(types::RESOLVED_REFS, false, reason, what);
        }
        None | Some(Ok(_)) => {
            let what = "every reference of the Gateway itself resolves";
            set.add(types::RESOLVED_REFS, true, reasons::RESOLVED_REFS, what);
        }
    }
    GatewayStatus { addresses, conditions: set.done(), listeners }
}

/// Adds the Gateway's own Accepted.
fn accepted(set: &mut Set<'_>, gateway: &Gateway, states: &[ListenerState]) {
    let bad: Vec<_> = states.iter().filter(|state| !state.usable()).map(|state| state.name.as_str()).collect();
    if let Some((reason, what)) = listeners::refusal(gateway) {
        set.add(types::ACCEPTED, false, reason, what);
    } else if bad.is_empty() {
        // There is no condition for a field that is passed over; the message says so.
        let mut what = vec!["every listener is valid".to_owned()];
        what.extend(listeners::passed_over(gateway));
        set.add(types::ACCEPTED, true, reasons::ACCEPTED, what.join("; "));
    } else {
        let mut what = vec![format!("listeners that cannot be used: {}", bad.join(", "))];
        what.extend(listeners::passed_over(gateway));
        set.add(types::ACCEPTED, bad.len() < states.len(), reasons::LISTENERS_NOT_VALID, what.join("; "));
    }
}

/// What the proxies rejected of one listener: of its port, or of its routes.
fn rejected(gateway: &Key, listener: &Listener, rejections: &[&Rejection]) -> Option<String> {
    let port = listener.port;
    let names = [
        format!("0.0.0.0_{port}"),
        names::gateway_http(port),
        names::gateway_https(port, &listener.name, &gateway.name, &gateway.namespace),
    ];
    // `0.0.0.0_80` is not `0.0.0.0_8080`.
    let named = |text: &str, name: &str| {
        let mut rests = text.match_indices(name).filter_map(|(at, _)| text.get(at + name.len()..));
        rests.any(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let found = rejections.iter().find(|one| names.iter().any(|name| named(&one.why, name)));
    found.map(ToString::to_string)
}

/// What the view does not show of a listener.
struct Found {
    attached_routes: i32,
    /// What proxies rejected of it.
    rejected: Option<String>,
}

/// The status of one listener.
fn listener_status(
    gateway: &Gateway,
    state: &ListenerState,
    found: Found,
    now: &Time,
    old: Option<&ListenerStatus>,
) -> ListenerStatus {
    let previous = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
    let mut set = Set::new(gateway.metadata.generation, now, previous);
    // A conflict is a reason not to accept, too (conformance: HostnameConflict, ProtocolConflict on Accepted).
    match state.unaccepted.as_ref().or(state.conflict.as_ref()) {
        Some((reason, what)) => set.add(types::ACCEPTED, false, reason, what.as_str()),
        None => set.add(types::ACCEPTED, true, reasons::ACCEPTED, "the listener is valid"),
    }
    match (&state.conflict, state.usable()) {
        (_, true) if found.rejected.is_some() => {
            set.add(types::PROGRAMMED, false, reasons::INVALID, found.rejected.unwrap_or_default());
        }
        (_, true) => set.add(types::PROGRAMMED, true, reasons::PROGRAMMED, "the listener is sent to its proxies"),
        (Some((reason, what)), false) => set.add(types::PROGRAMMED, false, reason, what.as_str()),
        (None, false) => {
            let what = if state.withheld { "the Gateway is not accepted" } else { "the listener cannot be used" };
            set.add(types::PROGRAMMED, false, reasons::INVALID, what);
        }
    }
    match &state.unresolved {
        Some((reason, what)) => set.add(types::RESOLVED_REFS, false, reason, what.as_str()),
        None => set.add(types::RESOLVED_REFS, true, reasons::RESOLVED_REFS, "every reference resolves"),
    }
    match &state.conflict {
        Some((reason, what)) => set.add(types::CONFLICTED, true, reason, what.as_str()),
        None => set.add(types::CONFLICTED, false, reasons::NO_CONFLICTS, "no other listener is in its way"),
    }
    let kind = |kind: &crate::index::Kind| RouteGroupKind { group: Some(GROUP.to_owned()), kind: kind.to_string() };
    let supported_kinds = state.kinds.iter().map(kind).collect();
    let attached_routes = found.attached_routes;
    ListenerStatus { name: state.name.clone(), supported_kinds, attached_routes, conditions: set.done() }
}

/// Where a Gateway can be reached: what a load balancer gave its Service, or else the Service's own address, or else the
/// addresses of its ready Pods.
fn addresses(view: &View, key: &Key, gateway: &Gateway) -> Vec<GatewayAddress> {
    let address =
        |type_: &str, value: &str| GatewayAddress { type_: Some(type_.to_owned()), value: Some(value.to_owned()) };
    if gateway.spec.addresses.iter().any(|address| address.type_.as_deref() == Some("Hostname")) {
        return gateway.spec.addresses.clone();
    }
    let mine = |meta: &ferromesh_api::ObjectMeta| {
        labels::of(meta).get(ferromesh_api::labels::GATEWAY_NAME).map(String::as_str) == Some(&*key.name)
    };
    let mut found = Vec::new();
    for (_, service) in view.services.in_namespace(&key.namespace).filter(|(_, service)| mine(service.metadata())) {
        let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        for ingress in balancer.into_iter().flat_map(|balancer| balancer.ingress.iter().flatten()) {
            found.extend(ingress.ip.as_deref().map(|ip| address("IPAddress", ip)));
            found.extend(ingress.hostname.as_deref().map(|name| address("Hostname", name)));
        }
        let own = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
        if found.is_empty() {
            found.extend(own.filter(|ip| !ip.is_empty() && *ip != "None").map(|ip| address("IPAddress", ip)));
        }
    }
    if found.is_empty() {
        for (_, pod) in view.pods.in_namespace(&key.namespace).filter(|(_, pod)| mine(pod.metadata())) {
            let Some(status) = &pod.status else { continue };
            let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
            found.extend(status.pod_ip.as_deref().filter(|_| ready).map(|ip| address("IPAddress", ip)));
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|address| seen.insert(address.value.clone()));
    found
}
