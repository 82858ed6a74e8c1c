//! The Services that a sidecar sees go in; its outbound listeners come out: `virtualOutbound`, `0.0.0.0_<port>` for HTTP,
//! `<address>_<port>` for the rest, or the HTTP proxy port on a laptop.

use std::collections::{BTreeMap, BTreeSet};

use ferromesh_api::istio::MeshConfig;
use ferromesh_api::istio::mesh_config::OutboundMode;
use ferromesh_proto::envoy::config::core::v3::TrafficDirection;
use ferromesh_proto::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};

use super::hcm::{self, Routes, Side};
use super::inbound::{http_inspector, tls_inspector};
use super::message::{address, duration};
use super::protocol::Protocol;
use super::service::{Port, Reach, ServiceInfo};
use super::tls::words;
use super::{names, tcp};
use crate::envoyfilter::listener::VIRTUAL_OUTBOUND;
use crate::index::View;

/// The port to which redirection sends outbound connections.
pub const CAPTURE_PORT: u32 = 15001;

/// The listener of a sidecar's HTTP proxy port.
pub fn http_proxy(mesh: &MeshConfig, (host, port): &(String, u32)) -> Listener {
    let name = format!("{host}_{port}");
    let routes = Routes::Named(names::HTTP_PROXY_ROUTES.to_owned());
    let filter = hcm::filter(Side::Outbound, mesh, format!("outbound_{name};"), routes);
    Listener {
        name,
        address: Some(address(host, *port)),
        filter_chains: vec![FilterChain { filters: vec![filter], ..FilterChain::default() }],
        traffic_direction: TrafficDirection::Outbound as i32,
        ..Listener::default()
    }
}

/// Where traffic goes whose destination nobody knows.
pub fn unknown_cluster(mesh: &MeshConfig) -> &'static str {
    match mesh.outbound_traffic_policy.mode {
        OutboundMode::RegistryOnly => names::BLACK_HOLE,
        _ => names::PASSTHROUGH,
    }
}

/// `virtualOutbound`.
pub fn virtual_outbound(mesh: &MeshConfig) -> Listener {
    let own = FilterChainMatch { destination_port: Some(CAPTURE_PORT), ..FilterChainMatch::default() };
    let cluster = unknown_cluster(mesh);
    Listener {
        name: VIRTUAL_OUTBOUND.to_owned(),
        address: Some(address("0.0.0.0", CAPTURE_PORT)),
        use_original_dst: Some(true),
        filter_chains: vec![
            FilterChain {
                filter_chain_match: Some(own),
                ..tcp::chain(Side::Outbound, mesh, "virtualOutbound-blackhole", names::BLACK_HOLE)
            },
            tcp::chain(Side::Outbound, mesh, "virtualOutbound-catchall-tcp", cluster),
        ],
        traffic_direction: TrafficDirection::Outbound as i32,
        ..Listener::default()
    }
}

/// A listener for each port and address of these Services.
pub fn listeners(view: &View, services: &[&ServiceInfo]) -> Vec<Listener> {
    let mesh = &view.mesh;
    let mut http_ports = BTreeSet::new();
    let mut others = BTreeMap::<String, Listener>::new();
    for service in services {
        for port in &service.ports {
            if port.protocol.is_http() {
                http_ports.insert(port.number);
                continue;
            }
            for ip in addresses(view, service, port) {
                let listener = service_listener(mesh, service, port, &ip);
                // Two Services with one address and port: the first by name, so that it is always the same.
                others.entry(listener.name.clone()).or_insert(listener);
            }
        }
    }
    let http = http_ports.into_iter().map(|port| http_listener(mesh, port));
    http.chain(others.into_values()).collect()
}

/// The addresses by which clients call a port.
fn addresses(view: &View, service: &ServiceInfo, port: &Port) -> Vec<String> {
    match &service.reach {
        Reach::Addresses(addresses) => addresses.clone(),
        Reach::Headless => {
            let slices = view.slices_of(&service.key.namespace, &service.key.name);
            let named = |slice: &&std::sync::Arc<k8s_openapi::api::discovery::v1::EndpointSlice>| {
                let ports = slice.ports.as_deref().unwrap_or_default();
                ports.iter().any(|found| found.name.as_deref().unwrap_or_default() == port.name)
            };
            let endpoints = slices.filter(named).flat_map(|slice| slice.endpoints.iter().flatten());
            endpoints.flat_map(|endpoint| endpoint.addresses.iter().cloned()).collect()
        }
        Reach::ExternalName(_) => Vec::new(),
    }
}

fn outbound_listener(name: String, ip: &str, port: u16) -> Listener {
    Listener {
        name,
        address: Some(address(ip, u32::from(port))),
        bind_to_port: Some(false),
        traffic_direction: TrafficDirection::Outbound as i32,
        ..Listener::default()
    }
}

/// Plaintext HTTP, as the inspectors see it.
fn plain_http() -> FilterChainMatch {
    FilterChainMatch {
        transport_protocol: "raw_buffer".to_owned(),
        application_protocols: words(&["http/1.1", "h2c"]),
        ..FilterChainMatch::default()
    }
}

fn inspect(mesh: &MeshConfig, listener: &mut Listener) {
    let timeout = mesh.protocol_detection_timeout.0;
    listener.listener_filters = vec![tls_inspector(), http_inspector()];
    listener.listener_filters_timeout = Some(duration(timeout));
    listener.continue_on_listener_filters_timeout = true;
}

/// Every address with this port: HTTP by host, and what is not HTTP to where it meant to go.
fn http_listener(mesh: &MeshConfig, port: u16) -> Listener {
    let name = format!("0.0.0.0_{port}");
    let filter = hcm::filter(Side::Outbound, mesh, format!("outbound_{name};"), Routes::Named(port.to_string()));
    let mut listener = outbound_listener(name, "0.0.0.0", port);
    listener.filter_chains =
        vec![FilterChain { filter_chain_match: Some(plain_http()), filters: vec![filter], ..FilterChain::default() }];
    listener.default_filter_chain =
        Some(tcp::chain(Side::Outbound, mesh, "PassthroughFilterChain", unknown_cluster(mesh)));
    inspect(mesh, &mut listener);
    listener
}

fn service_listener(mesh: &MeshConfig, service: &ServiceInfo, port: &Port, ip: &str) -> Listener {
    let cluster = names::outbound(&service.host, port.number);
    let name = format!("{ip}_{}", port.number);
    let mut listener = outbound_listener(name.clone(), ip, port.number);
    let bytes =
        FilterChain { filters: tcp::filters(Side::Outbound, mesh, &cluster, &cluster), ..FilterChain::default() };
    if port.protocol != Protocol::Auto {
        listener.filter_chains = vec![bytes];
        return listener;
    }
    let routes = Routes::Named(format!("{}:{}", service.host, port.number));
    let filter = hcm::filter(Side::Outbound, mesh, format!("outbound_{name};"), routes);
    listener.filter_chains =
        vec![FilterChain { filter_chain_match: Some(plain_http()), filters: vec![filter], ..FilterChain::default() }];
    listener.default_filter_chain = Some(bytes);
    inspect(mesh, &mut listener);
    listener
}
