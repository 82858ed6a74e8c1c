//! What a control plane of a test serves, and the bootstrap of a proxy under it.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::net::SocketAddr;

use ferromesh_proto::envoy::config::cluster::v3::Cluster;
use ferromesh_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use ferromesh_proto::envoy::config::listener::v3::Listener;
use ferromesh_proto::envoy::config::route::v3::RouteConfiguration;
use ferromesh_proto::{Any, json};
use ferromesh_proxy::app::Proxy;

use crate::peers::proxy;

const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";

pub fn cluster(name: &str, more: &str) -> (String, Any) {
    let yaml = format!(
        "{{name: {name}, type: EDS, connect_timeout: 5s, eds_cluster_config: {{eds_config: {{ads: {{}}}}}}{more}}}"
    );
    (name.into(), Any::pack::<Cluster>(&json::from_yaml(&yaml).unwrap()))
}

pub fn endpoints(cluster: &str, address: SocketAddr) -> (String, Any) {
    let yaml = format!(
        "{{cluster_name: {cluster}, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, \
         port_value: {}}}}}}}}}]}}]}}",
        address.port()
    );
    (cluster.into(), Any::pack::<ClusterLoadAssignment>(&json::from_yaml(&yaml).unwrap()))
}

/// A listener that gets its table `main` by RDS; `filters` come before the router.
pub fn listener(name: &str, filters: &str) -> (String, Any) {
    let yaml = format!(
        r#"
name: {name}
address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
filter_chains:
- filters:
  - name: http
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: {name}
      rds: {{route_config_name: main, config_source: {{ads: {{}}}}}}
      http_filters: [{filters} {{name: router, typed_config: {{"@type": type.googleapis.com/{ROUTER}}}}}]
"#
    );
    (name.into(), Any::pack::<Listener>(&json::from_yaml(&yaml).unwrap()))
}

pub fn route_to(cluster: &str) -> (String, Any) {
    let yaml = format!(
        "{{name: main, virtual_hosts: [{{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: {cluster}}}}}]}}]}}"
    );
    ("main".into(), Any::pack::<RouteConfiguration>(&json::from_yaml(&yaml).unwrap()))
}

pub fn under(control_plane: &str, delta: bool) -> Proxy {
    under_with(control_plane, delta, "")
}

/// `more` are fields of the control plane's cluster, after a comma.
pub fn under_with(control_plane: &str, delta: bool, more: &str) -> Proxy {
    proxy(&bootstrap(control_plane, delta, more))
}

pub fn bootstrap(control_plane: &str, delta: bool, more: &str) -> String {
    let api_type = if delta { "DELTA_GRPC" } else { "GRPC" };
    format!(
        r#"
node: {{id: "sidecar~127.0.0.1~a.b~b.svc.cluster.local", cluster: a}}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
dynamic_resources:
  lds_config: {{ads: {{}}, resource_api_version: V3}}
  cds_config: {{ads: {{}}, resource_api_version: V3}}
  ads_config: {{api_type: {api_type}, transport_api_version: V3, grpc_services: [{{envoy_grpc: {{cluster_name: xds-grpc}}}}]}}
static_resources:
  clusters:
  - {{name: xds-grpc, type: STATIC, connect_timeout: 5s, typed_extension_protocol_options: {{
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions,
        explicit_http_config: {{http2_protocol_options: {{}}}}}}}},
      load_assignment: {{cluster_name: xds-grpc, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {control_plane}}}}}]}}]}}{more}}}
"#
    )
}

pub fn at(address: SocketAddr) -> String {
    format!("{{socket_address: {{address: {}, port_value: {}}}}}", address.ip(), address.port())
}
