//! The Gateways that a proxy serves go in; its listeners and route configurations come out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferromesh_api::gateway_api::gateway::{Listener as GatewayListener, Protocol};
use ferromesh_api::gateway_api::{Gateway, SecretObjectReference};
use ferromesh_api::labels as known;
use ferromesh_proto::envoy::config::core::v3::TrafficDirection;
use ferromesh_proto::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};
use ferromesh_proto::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use k8s_openapi::api::core::v1::Pod;

use super::hcm::{self, Routes, Side};
use super::http_route::{self, Place, Ranked, sorted};
use super::inbound::tls_inspector;
use super::message::{address, seconds};
use super::node::Node;
use super::{grpc_route, laptop, names, tls};
use crate::envoyfilter::Context;
use crate::envoyfilter::matching::PatchListener;
use crate::index::attachment::{Bound, our_controller, routes_of_listener};
use crate::index::references::Callers;
use crate::index::{Key, Kind, View, listeners};

/// A listener of a Gateway that this proxy serves.
pub struct Served<'a> {
    /// The Gateway.
    pub gateway: &'a Key,
    /// Roots in PEM by which clients are checked. A listener that asks for some and has none is not served at all.
    pub roots: Option<Vec<u8>>,
    /// The listener.
    pub listener: &'a GatewayListener,
}

impl Served<'_> {
    fn is_tls(&self) -> bool {
        self.listener.protocol == Protocol::Https
    }

    /// Name of its route configuration: plain HTTP shares one for each port.
    fn routes(&self) -> String {
        let listener = self.listener;
        if self.is_tls() {
            names::gateway_https(listener.port, &listener.name, &self.gateway.name, &self.gateway.namespace)
        } else {
            names::gateway_http(listener.port)
        }
    }
}

/// The name of the Gateway that a proxy serves.
pub fn name_of<'a>(node: &'a Node, pod: Option<&'a Pod>) -> Option<&'a String> {
    let own = pod.map_or(&node.labels, |pod| crate::index::labels::of(&pod.metadata));
    own.get(known::GATEWAY_NAME)
}

/// The usable listeners of the Gateways that a proxy serves: the one that its label names.
pub fn served<'a>(view: &'a View, node: &Node, pod: Option<&Pod>) -> Vec<Served<'a>> {
    let name = name_of(node, pod);
    let mine = |(key, gateway): &(&'a Key, &'a Arc<Gateway>)| {
        name.is_some_and(|name| **name == *key.name) && our_controller(view, gateway).is_some()
    };
    let mut found = Vec::new();
    for (gateway, object) in view.gateways.in_namespace(&node.namespace).filter(mine) {
        let states = listeners::states(view, gateway, object);
        for (listener, state) in object.spec.listeners.iter().zip(states) {
            if state.usable() {
                found.push(Served { gateway, roots: state.roots, listener });
            }
        }
    }
    found
}

/// One listener for each port.
pub fn listeners(view: &View, pod: Option<&Pod>, served: &[Served<'_>]) -> Vec<PatchListener> {
    let mut ports = BTreeMap::<u16, Vec<&Served<'_>>>::new();
    for one in served {
        ports.entry(one.listener.port).or_default().push(one);
    }
    let bound = pod.map(|pod| laptop::listens(&pod.metadata)).unwrap_or_default();
    let on_laptop = pod.is_some_and(|pod| laptop::is_laptop(&pod.metadata));
    let at = |port: u16| match bound.iter().find(|listen| listen.port == port) {
        Some(listen) => Some(listen.listen.clone()),
        None if on_laptop => None,
        None => Some(("0.0.0.0".to_owned(), u32::from(port))),
    };
    let one = |(port, served): (u16, Vec<&Served<'_>>)| {
        let (host, number) = at(port)?;
        let mut listener = Listener {
            name: format!("0.0.0.0_{port}"),
            address: Some(address(&host, number)),
            filter_chains: chains(view, port, &served),
            traffic_direction: TrafficDirection::Outbound as i32,
            ..Listener::default()
        };
        if served.iter().any(|one| one.is_tls()) {
            listener.listener_filters = vec![tls_inspector()];
            listener.listener_filters_timeout = Some(seconds(15));
        }
        Some(PatchListener {
            listener,
            context: Some(Context::Gateway),
            port: on_laptop.then_some(u32::from(port)),
            alias: None,
        })
    };
    ports.into_iter().filter_map(one).collect()
}

fn chains(view: &View, port: u16, served: &[&Served<'_>]) -> Vec<FilterChain> {
    let filter = |routes: String| {
        let stat_prefix = format!("outbound_0.0.0.0_{port};");
        hcm::filter(Side::Gateway, &view.mesh, stat_prefix, Routes::Named(routes))
    };
    if !served.iter().any(|one| one.is_tls()) {
        return vec![FilterChain { filters: vec![filter(names::gateway_http(port))], ..FilterChain::default() }];
    }
    let one = |one: &&Served<'_>| {
        let host = one.listener.hostname.as_deref().filter(|host| !host.is_empty() && *host != "*");
        let refs = one.listener.tls.as_ref().map(|tls| tls.certificate_refs.as_slice()).unwrap_or_default();
        let certificates: Vec<String> = refs.iter().map(|reference| secret_name(one.gateway, reference)).collect();
        FilterChain {
            name: one.listener.name.clone(),
            filter_chain_match: host.map(|host| FilterChainMatch {
                server_names: vec![host.to_ascii_lowercase()],
                ..FilterChainMatch::default()
            }),
            filters: vec![filter(one.routes())],
            transport_socket: Some(tls::gateway(&certificates, one.roots.clone())),
            ..FilterChain::default()
        }
    };
    served.iter().filter(|found| found.is_tls()).map(one).collect()
}

/// SDS name of a certificate.
pub fn secret_name(gateway: &Key, reference: &SecretObjectReference) -> String {
    names::gateway_secret(reference.namespace_or(&gateway.namespace), &reference.name)
}

/// The certificates that a proxy may ask for, by SDS name: those of the listeners that it serves.
pub fn certificates<'a>(served: &[Served<'a>]) -> BTreeMap<String, (&'a Key, &'a SecretObjectReference)> {
    let mut found = BTreeMap::new();
    for one in served {
        for reference in one.listener.tls.iter().flat_map(|tls| &tls.certificate_refs) {
            found.insert(secret_name(one.gateway, reference), (one.gateway, reference));
        }
    }
    found
}

/// Names of the route configurations of these listeners.
pub fn route_names(served: &[Served<'_>]) -> BTreeSet<String> {
    served.iter().map(Served::routes).collect()
}

/// One route configuration.
pub fn route_configuration(view: &View, served: &[Served<'_>], name: &str) -> Option<RouteConfiguration> {
    let mine: Vec<&Served<'_>> = served.iter().filter(|one| one.routes() == name).collect();
    let port = mine.first()?.listener.port;
    let mut hosts = BTreeMap::<String, Vec<Ranked>>::new();
    for one in &mine {
        // A listener without routes answers 404 for its hosts, and leaves them to no other listener.
        let own = one.listener.hostname.as_deref().filter(|host| !host.is_empty()).unwrap_or("*");
        hosts.entry(own.to_ascii_lowercase()).or_default();
        for (bound, hostnames) in routes_of_listener(view, one.gateway, &one.listener.name) {
            let routes = bound_routes(view, &bound, port, one.is_tls(), Callers::Gateway);
            for host in hostnames {
                if !belongs_elsewhere(&mine, one, &host) {
                    hosts.entry(host).or_default().extend(routes.iter().cloned());
                }
            }
        }
    }
    Some(RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: hosts.into_iter().map(|(host, routes)| virtual_host(&host, port, routes)).collect(),
        validate_clusters: Some(false),
        ignore_port_in_host_matching: true,
        ..RouteConfiguration::default()
    })
}

/// The routes of an HTTPRoute or a GRPCRoute.
pub fn bound_routes(view: &View, bound: &Bound, port: u16, tls: bool, callers: Callers) -> Vec<Ranked> {
    let mut routes = Vec::new();
    match bound {
        Bound::Http(key, route) => {
            for (number, rule) in route.spec.rules.iter().enumerate() {
                let place = Place { view, kind: Kind::HttpRoute, key, rule: number, port, tls, callers };
                routes.extend(http_route::rule(&place, rule));
            }
        }
        Bound::Grpc(key, route) => {
            for (number, rule) in route.spec.rules.iter().enumerate() {
                let place = Place { view, kind: Kind::GrpcRoute, key, rule: number, port, tls, callers };
                routes.extend(grpc_route::rule(&place, rule));
            }
        }
    }
    routes
}

/// Whether another listener of this port has a closer hostname for `host`: requests for it are that one's alone.
fn belongs_elsewhere(all: &[&Served<'_>], own: &Served<'_>, host: &str) -> bool {
    let own_length = own.listener.hostname.as_deref().map_or(0, str::len);
    all.iter().any(|other| {
        let Some(hostname) = other.listener.hostname.as_deref().filter(|hostname| !hostname.is_empty()) else {
            return false;
        };
        let hostname = hostname.to_ascii_lowercase();
        let covers = match hostname.strip_prefix('*') {
            Some(suffix) => host == hostname || (host.len() > suffix.len() && host.ends_with(suffix)),
            None => host == hostname,
        };
        let closer = hostname.len() > own_length || (!hostname.starts_with('*') && own_is_wild(own));
        !std::ptr::eq(*other, own) && covers && closer
    })
}

fn own_is_wild(own: &Served<'_>) -> bool {
    own.listener.hostname.as_deref().is_none_or(|hostname| hostname.is_empty() || hostname.starts_with('*'))
}

fn virtual_host(host: &str, port: u16, routes: Vec<Ranked>) -> VirtualHost {
    VirtualHost {
        name: format!("{host}:{port}"),
        domains: vec![host.to_owned()],
        routes: sorted(routes),
        include_request_attempt_count: true,
        ..VirtualHost::default()
    }
}
