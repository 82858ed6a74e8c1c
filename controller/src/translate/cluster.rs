//! Services and a proxy's own ports go in; clusters come out.

use std::collections::BTreeSet;

use ferromesh_api::istio::MeshConfig;
use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster, Filter, circuit_breakers,
    cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy, TransportSocketMatch},
};
use ferromesh_proto::envoy::config::core::v3::{
    BindConfig, Http1ProtocolOptions, Http2ProtocolOptions, SocketAddress, socket_address::PortSpecifier,
};
use ferromesh_proto::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use ferromesh_proto::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions,
    http_protocol_options::{
        ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig, explicit_http_config::ProtocolConfig,
    },
};
use ferromesh_proto::json::json_to_struct;
use serde_json::json;

use super::inbound::InboundPort;
use super::message::{address, ads, duration, metadata};
use super::protocol::Protocol;
use super::service::{Port, Reach, ServiceInfo};
use super::{names, tcp, tls};

/// The cluster of one port of a Service. `identities` are those of its pods. With `balanced` a headless Service's pods are
/// balanced over, whatever they speak: for proxies whose clients meant no pod (gateways).
pub fn outbound(
    mesh: &MeshConfig,
    service: &ServiceInfo,
    port: &Port,
    identities: &BTreeSet<String>,
    balanced: bool,
) -> Cluster {
    let name = names::outbound(&service.host, port.number);
    let mut cluster = base(mesh, &name, DiscoveryType::Eds);
    match &service.reach {
        Reach::Addresses(_) => eds(&mut cluster),
        // HTTP needs endpoints to balance over; bytes go where the client meant to go.
        Reach::Headless if balanced || port.protocol.is_http() => eds(&mut cluster),
        Reach::Headless => original_dst(&mut cluster),
        Reach::ExternalName(target) => {
            set_type(&mut cluster, DiscoveryType::StrictDns);
            cluster.load_assignment = Some(one_endpoint(&name, target, u32::from(port.number)));
        }
    }
    match port.protocol {
        Protocol::Http2 => protocol(&mut cluster, http2()),
        Protocol::Auto => protocol(&mut cluster, as_downstream()),
        _ => {}
    }
    cluster.metadata = Some(services_metadata(&[(&service.key.namespace, &service.key.name)]));
    let external = matches!(service.reach, Reach::ExternalName(_));
    if mesh.enable_auto_mtls && !external {
        let sni = names::sni(&service.host, port.number);
        let mesh_tls = tls::upstream(sni, port.protocol == Protocol::Http2, identities);
        let exchange = Some(Any::pack(&tcp::exchange()));
        cluster.filters = vec![Filter { name: tcp::EXCHANGE.to_owned(), typed_config: exchange, ..Filter::default() }];
        cluster.transport_socket_matches = vec![
            TransportSocketMatch {
                name: "tlsMode-istio".to_owned(),
                r#match: Some(json_to_struct(&json!({ "tlsMode": "istio" }))),
                transport_socket: Some(mesh_tls),
            },
            TransportSocketMatch {
                name: "tlsMode-disabled".to_owned(),
                r#match: Some(json_to_struct(&json!({}))),
                transport_socket: Some(tls::raw_buffer()),
            },
        ];
    }
    cluster
}

/// The cluster of one of the pod's own ports.
pub fn inbound(mesh: &MeshConfig, port: &InboundPort) -> Cluster {
    let name = names::inbound(port.port);
    let mut cluster = base(mesh, &name, DiscoveryType::OriginalDst);
    match &port.app {
        Some((host, number)) => {
            set_type(&mut cluster, DiscoveryType::Static);
            cluster.load_assignment = Some(one_endpoint(&name, host, *number));
        }
        None => {
            original_dst(&mut cluster);
            cluster.upstream_bind_config = Some(inbound_source());
        }
    }
    match port.protocol {
        Protocol::Http2 => protocol(&mut cluster, http2()),
        Protocol::Http | Protocol::Auto => protocol(&mut cluster, as_downstream()),
        _ => {}
    }
    let services: Vec<_> = port.services.iter().map(|(key, _)| (&*key.namespace, &*key.name)).collect();
    cluster.metadata = Some(services_metadata(&services));
    cluster
}

/// `PassthroughCluster`, `BlackHoleCluster` and, for sidecars, `InboundPassthroughCluster`.
pub fn built_in(mesh: &MeshConfig, sidecar: bool) -> Vec<Cluster> {
    let mut passthrough = base(mesh, names::PASSTHROUGH, DiscoveryType::OriginalDst);
    original_dst(&mut passthrough);
    protocol(&mut passthrough, as_downstream());
    let mut black_hole = base(mesh, names::BLACK_HOLE, DiscoveryType::Static);
    black_hole.circuit_breakers = None;
    let mut clusters = vec![black_hole, passthrough];
    if sidecar {
        let mut inbound = base(mesh, names::INBOUND_PASSTHROUGH, DiscoveryType::OriginalDst);
        original_dst(&mut inbound);
        protocol(&mut inbound, as_downstream());
        inbound.upstream_bind_config = Some(inbound_source());
        clusters.push(inbound);
    }
    clusters
}

fn base(mesh: &MeshConfig, name: &str, kind: DiscoveryType) -> Cluster {
    let all = Some(u32::MAX);
    let thresholds = circuit_breakers::Thresholds {
        max_connections: all,
        max_pending_requests: all,
        max_requests: all,
        max_retries: all,
        track_remaining: true,
        ..circuit_breakers::Thresholds::default()
    };
    let mut cluster = Cluster {
        name: name.to_owned(),
        connect_timeout: Some(duration(mesh.connect_timeout.0)),
        lb_policy: LbPolicy::LeastRequest as i32,
        circuit_breakers: Some(CircuitBreakers { thresholds: vec![thresholds], ..CircuitBreakers::default() }),
        ..Cluster::default()
    };
    set_type(&mut cluster, kind);
    cluster
}

fn set_type(cluster: &mut Cluster, kind: DiscoveryType) {
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind as i32));
}

fn eds(cluster: &mut Cluster) {
    cluster.eds_cluster_config = Some(EdsClusterConfig { eds_config: Some(ads()), service_name: cluster.name.clone() });
}

fn original_dst(cluster: &mut Cluster) {
    set_type(cluster, DiscoveryType::OriginalDst);
    cluster.lb_policy = LbPolicy::ClusterProvided as i32;
}

/// The source address by which redirection knows the sidecar's own connections to its application.
fn inbound_source() -> BindConfig {
    BindConfig {
        source_address: Some(SocketAddress {
            address: "127.0.0.6".to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(0)),
            ..SocketAddress::default()
        }),
        ..BindConfig::default()
    }
}

fn one_endpoint(cluster: &str, host: &str, port: u32) -> ClusterLoadAssignment {
    let endpoint = Endpoint { address: Some(address(host, port)), ..Endpoint::default() };
    let endpoint = LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..LbEndpoint::default() };
    ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: vec![LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..LocalityLbEndpoints::default() }],
        ..ClusterLoadAssignment::default()
    }
}

fn protocol(cluster: &mut Cluster, options: UpstreamProtocolOptions) {
    let options = HttpProtocolOptions { upstream_protocol_options: Some(options), ..HttpProtocolOptions::default() };
    cluster
        .typed_extension_protocol_options
        .insert("envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(), Any::pack(&options));
}

fn http2() -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
        protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())),
    })
}

fn as_downstream() -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
        http_protocol_options: Some(Http1ProtocolOptions::default()),
        http2_protocol_options: Some(Http2ProtocolOptions::default()),
        ..UseDownstreamHttpConfig::default()
    })
}

fn services_metadata(services: &[(&str, &str)]) -> ferromesh_proto::envoy::config::core::v3::Metadata {
    let services: Vec<_> = services
        .iter()
        .map(|(namespace, name)| json!({ "host": names::host(namespace, name), "name": name, "namespace": namespace }))
        .collect();
    metadata("istio", &json!({ "services": services }))
}
