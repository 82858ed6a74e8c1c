//! A sidecar's pod and the Services that select it go in; its inbound listeners come out: `virtualInbound`, or one
//! listener for each port on a laptop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferromesh_api::istio::MeshConfig;
use ferromesh_api::istio::mesh_config::InboundMode;
use ferromesh_api::istio::peer_authentication::MtlsMode;
use ferromesh_proto::envoy::config::core::v3::TrafficDirection;
use ferromesh_proto::envoy::config::listener::v3::{
    FilterChain, FilterChainMatch, Listener, ListenerFilter, ListenerFilterChainMatchPredicate,
    listener_filter_chain_match_predicate::{MatchSet, Rule},
};
use ferromesh_proto::envoy::extensions::filters::listener::{
    http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst, tls_inspector::v3::TlsInspector,
};
use ferromesh_proto::envoy::r#type::v3::Int32Range;
use k8s_openapi::api::core::v1::{Pod, Service};

use super::hcm::{self, Routes, Side};
use super::message::{address, duration, listener_filter, seconds};
use super::protocol::Protocol;
use super::service::target_port;
use super::tls::{self, MESH_ALPN, MESH_HTTP_ALPN, MESH_TCP_ALPN, PLAIN_HTTP, words};
use super::{laptop, names, route, tcp};
use crate::envoyfilter::Context;
use crate::envoyfilter::listener::VIRTUAL_INBOUND;
use crate::envoyfilter::matching::PatchListener;
use crate::index::{Key, View};

/// The port to which redirection sends inbound connections.
pub const CAPTURE_PORT: u32 = 15006;

/// One of the pod's own ports.
#[derive(Clone, Debug)]
pub struct InboundPort {
    /// Number.
    pub port: u16,
    /// What it speaks: what the first Service says.
    pub protocol: Protocol,
    /// Services with this port behind them, with the Service's port.
    pub services: Vec<(Key, u16)>,
    /// Where it listens, on a laptop.
    pub listen: Option<(String, u32)>,
    /// Where the application is, if not at the original destination.
    pub app: Option<(String, u32)>,
}

impl InboundPort {
    /// Full names of its services.
    pub fn hosts(&self) -> Vec<String> {
        self.services.iter().map(|(key, _)| names::host(&key.namespace, &key.name)).collect()
    }
}

/// The ports of a pod: those of the Services that select it, and those that it listens at on a laptop.
pub fn ports(view: &View, pod: &Pod) -> Vec<InboundPort> {
    let mut ports = BTreeMap::<u16, InboundPort>::new();
    let new = |port, protocol| InboundPort { port, protocol, services: Vec::new(), listen: None, app: None };
    let mut services: Vec<(&Key, &Arc<Service>)> = view.services_of_pod(pod).collect();
    // The oldest Service says what a port speaks, so that a new one cannot change it.
    services.sort_by_key(|(key, service)| {
        (service.metadata.creation_timestamp.as_ref().map(|time| time.0), (*key).clone())
    });
    // Ports that a Service names for UDP, which is not proxied.
    let mut udp = BTreeSet::new();
    for (key, service) in services {
        for port in service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()) {
            let protocol = Protocol::of(port);
            let (Some(target), Ok(number)) = (target_port(port, pod), u16::try_from(port.port)) else { continue };
            if protocol == Protocol::Udp {
                udp.insert(target);
            } else {
                let entry = ports.entry(target).or_insert_with(|| new(target, protocol));
                entry.services.push((key.clone(), number));
            }
        }
    }
    for listen in laptop::listens(&pod.metadata) {
        if udp.contains(&listen.port) && !ports.contains_key(&listen.port) {
            continue;
        }
        let entry = ports.entry(listen.port).or_insert_with(|| new(listen.port, Protocol::Auto));
        entry.listen = Some(listen.listen);
        entry.app = listen.app;
    }
    if view.mesh.inbound_traffic_policy.mode == InboundMode::Localhost {
        for port in ports.values_mut().filter(|port| port.app.is_none()) {
            port.app = Some(("127.0.0.1".to_owned(), u32::from(port.port)));
        }
    }
    ports.into_values().collect()
}

/// The inbound listeners of a sidecar.
pub fn listeners(view: &View, pod: &Pod, ports: &[InboundPort]) -> Vec<PatchListener> {
    if laptop::is_laptop(&pod.metadata) {
        return ports.iter().filter_map(|port| laptop_listener(view, pod, port)).collect();
    }
    vec![PatchListener {
        listener: virtual_inbound(view, pod, ports),
        context: Some(Context::SidecarInbound),
        ..PatchListener::default()
    }]
}

fn mode(view: &View, pod: &Pod, port: u16) -> MtlsMode {
    view.mtls_mode_of_pod(&pod.metadata, port)
}

fn laptop_listener(view: &View, pod: &Pod, port: &InboundPort) -> Option<PatchListener> {
    let (host, number) = port.listen.as_ref()?;
    let mode = mode(view, pod, port.port);
    let mut listener_filters = Vec::new();
    if mode != MtlsMode::Disable {
        listener_filters.push(tls_inspector());
    }
    if port.protocol == Protocol::Auto {
        listener_filters.push(http_inspector());
    }
    let listener = Listener {
        name: format!("{host}_{number}"),
        address: Some(address(host, *number)),
        filter_chains: port_chains(&view.mesh, port, &mode, None),
        listener_filters,
        listener_filters_timeout: Some(seconds(0)),
        traffic_direction: TrafficDirection::Inbound as i32,
        ..Listener::default()
    };
    Some(PatchListener {
        listener,
        context: Some(Context::SidecarInbound),
        port: Some(u32::from(port.port)),
        alias: Some(VIRTUAL_INBOUND),
    })
}

fn virtual_inbound(view: &View, pod: &Pod, ports: &[InboundPort]) -> Listener {
    let mesh = &view.mesh;
    let mut chains = vec![FilterChain {
        filter_chain_match: Some(FilterChainMatch {
            destination_port: Some(CAPTURE_PORT),
            ..FilterChainMatch::default()
        }),
        ..tcp::chain(Side::Inbound, mesh, "virtualInbound-blackhole", names::BLACK_HOLE)
    }];
    chains.extend(passthrough_chains(view, pod));
    let (mut no_tls, mut no_http) = (vec![CAPTURE_PORT], vec![CAPTURE_PORT]);
    for port in ports {
        let mode = mode(view, pod, port.port);
        chains.extend(port_chains(mesh, port, &mode, Some(u32::from(port.port))));
        // Where the first bytes decide nothing, nobody waits for them: the server may be the one to speak first.
        if mode == MtlsMode::Disable {
            no_tls.push(u32::from(port.port));
        }
        if port.protocol != Protocol::Auto {
            no_http.push(u32::from(port.port));
        }
    }
    let disabled = |mut filter: ListenerFilter, ports: &[u32]| {
        filter.filter_disabled = disabled_for(ports);
        filter
    };
    let timeout = mesh.protocol_detection_timeout.0;
    Listener {
        name: VIRTUAL_INBOUND.to_owned(),
        address: Some(address("0.0.0.0", CAPTURE_PORT)),
        filter_chains: chains,
        use_original_dst: Some(true),
        listener_filters: vec![
            listener_filter("envoy.filters.listener.original_dst", &OriginalDst {}),
            disabled(tls_inspector(), &no_tls),
            disabled(http_inspector(), &no_http),
        ],
        listener_filters_timeout: Some(duration(timeout)),
        continue_on_listener_filters_timeout: !timeout.is_zero(),
        traffic_direction: TrafficDirection::Inbound as i32,
        ..Listener::default()
    }
}

/// Looks whether a connection is TLS, and for whom.
pub fn tls_inspector() -> ListenerFilter {
    listener_filter("envoy.filters.listener.tls_inspector", &TlsInspector::default())
}

/// Looks whether a connection is HTTP.
pub fn http_inspector() -> ListenerFilter {
    listener_filter("envoy.filters.listener.http_inspector", &HttpInspector::default())
}

/// True for connections to any of these ports.
fn disabled_for(ports: &[u32]) -> Option<ListenerFilterChainMatchPredicate> {
    let one = |port: &u32| {
        let start = i32::try_from(*port).unwrap_or_default();
        let range = Int32Range { start, end: start.saturating_add(1) };
        ListenerFilterChainMatchPredicate { rule: Some(Rule::DestinationPortRange(range)) }
    };
    match ports {
        [] => None,
        [port] => Some(one(port)),
        _ => {
            let rules = ports.iter().map(one).collect();
            Some(ListenerFilterChainMatchPredicate { rule: Some(Rule::OrMatch(MatchSet { rules })) })
        }
    }
}

/// One way in which a connection may come: its TLS, its ALPN, whether it is HTTP.
struct Way {
    transport: &'static str,
    alpn: Vec<String>,
    terminate: bool,
    http: bool,
}

/// The ways that a port takes, by its protocol and mode.
fn ways(protocol: Protocol, mode: &MtlsMode) -> Vec<Way> {
    let mesh = |alpn: &[&str], http| Way { transport: "tls", alpn: words(alpn), terminate: true, http };
    let plain = |alpn: &[&str], http| Way { transport: "raw_buffer", alpn: words(alpn), terminate: false, http };
    // TLS that is not the mesh's goes to the application as it is.
    let foreign = || Way { transport: "tls", alpn: Vec::new(), terminate: false, http: false };
    let anything = |http| Way { transport: "", alpn: Vec::new(), terminate: false, http };
    match (mode, protocol) {
        (MtlsMode::Strict, protocol) if protocol.is_http() => vec![mesh(&[], true)],
        (MtlsMode::Strict, Protocol::Auto) => vec![mesh(&MESH_HTTP_ALPN, true), mesh(&[], false)],
        (MtlsMode::Strict, _) => vec![mesh(&[], false)],
        (MtlsMode::Disable, protocol) if protocol.is_http() => vec![anything(true)],
        (MtlsMode::Disable, Protocol::Auto) => vec![Way { transport: "", ..plain(&PLAIN_HTTP, true) }, anything(false)],
        (MtlsMode::Disable, _) => vec![anything(false)],
        (_, protocol) if protocol.is_http() => vec![mesh(&MESH_ALPN, true), plain(&[], true)],
        (_, Protocol::Auto) => vec![
            mesh(&MESH_HTTP_ALPN, true),
            plain(&PLAIN_HTTP, true),
            mesh(&MESH_TCP_ALPN, false),
            plain(&[], false),
            foreign(),
        ],
        _ => vec![mesh(&MESH_TCP_ALPN, false), foreign(), plain(&[], false)],
    }
}

fn chain(mesh: &MeshConfig, way: Way, destination_port: Option<u32>, name: &str, at: &Target<'_>) -> FilterChain {
    let filters = if way.http {
        let routes = Routes::Inline(Box::new(route::inbound(at.cluster, at.host_port.as_deref())));
        vec![hcm::filter(Side::Inbound, mesh, at.stat_prefix.to_owned(), routes)]
    } else {
        tcp::filters(Side::Inbound, mesh, at.cluster, at.cluster)
    };
    let matching = FilterChainMatch {
        destination_port,
        transport_protocol: way.transport.to_owned(),
        application_protocols: way.alpn,
        ..FilterChainMatch::default()
    };
    FilterChain {
        name: name.to_owned(),
        filter_chain_match: (matching != FilterChainMatch::default()).then_some(matching),
        filters,
        transport_socket: way.terminate.then(|| tls::downstream(way.http)),
        ..FilterChain::default()
    }
}

/// Where a chain leads.
struct Target<'a> {
    cluster: &'a str,
    host_port: Option<String>,
    stat_prefix: &'a str,
}

fn port_chains(mesh: &MeshConfig, port: &InboundPort, mode: &MtlsMode, destination: Option<u32>) -> Vec<FilterChain> {
    let cluster = names::inbound(port.port);
    let first = port.services.first();
    let host_port = first.map(|(key, number)| format!("{}:{number}", names::host(&key.namespace, &key.name)));
    let name = format!("0.0.0.0_{}", port.port);
    let stat_prefix = format!("inbound_{name};");
    let target = Target { cluster: &cluster, host_port, stat_prefix: &stat_prefix };
    ways(port.protocol, mode).into_iter().map(|way| chain(mesh, way, destination, &name, &target)).collect()
}

/// What happens to connections for ports that no Service has.
fn passthrough_chains(view: &View, pod: &Pod) -> Vec<FilterChain> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mode = view.mtls_mode_of_workload(namespace, crate::index::labels::of(&pod.metadata));
    let target =
        Target { cluster: names::INBOUND_PASSTHROUGH, host_port: None, stat_prefix: names::INBOUND_PASSTHROUGH };
    let name = |way: &Way| if way.http { "virtualInbound-catchall-http" } else { VIRTUAL_INBOUND };
    let ways = ways(Protocol::Auto, &mode);
    ways.into_iter()
        .map(|way| {
            let name = name(&way);
            chain(&view.mesh, way, None, name, &target)
        })
        .collect()
}
