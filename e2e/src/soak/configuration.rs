//! What the sidecars are told.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::bench::bootstrap::{address, http2, tls_versions};

/// Name and resource as JSON with `@type`.
pub(super) type Named = (String, Value);

fn ads() -> Value {
    json!({ "ads": {}, "resource_api_version": "V3" })
}

pub(super) fn bootstrap(id: &str, admin: SocketAddr, control: SocketAddr) -> Value {
    let endpoint = json!({ "endpoint": { "address": address(control) } });
    json!({
        "node": { "id": id, "cluster": "soak" },
        "admin": { "address": address(admin) },
        "dynamic_resources": {
            "lds_config": ads(),
            "cds_config": ads(),
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "ads" } }],
            },
        },
        "static_resources": { "clusters": [{
            "name": "ads",
            "type": "STATIC",
            "connect_timeout": "5s",
            "typed_extension_protocol_options": http2(),
            "load_assignment": { "cluster_name": "ads", "endpoints": [{ "lb_endpoints": [endpoint] }] },
        }] },
    })
}

fn tls(kind: &str) -> Value {
    let mut common = tls_versions();
    common["tls_certificate_sds_secret_configs"] = json!([{ "name": "default", "sds_config": ads() }]);
    common["validation_context_sds_secret_config"] = json!({ "name": "ROOTCA", "sds_config": ads() });
    let mut context = json!({
        "@type": format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}"),
        "common_tls_context": common,
    });
    if kind == "DownstreamTlsContext" {
        context["require_client_certificate"] = true.into();
    }
    json!({ "name": "envoy.transport_sockets.tls", "typed_config": context })
}

/// The cluster that a sidecar's routes lead to. Connections idle for 2 s are closed, so that none is left in the end.
pub(super) fn cluster(is_client: bool) -> Named {
    let mut cluster = json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": "next",
        "type": "EDS",
        "eds_cluster_config": { "eds_config": ads() },
        "connect_timeout": "5s",
        "lb_policy": "LEAST_REQUEST",
        "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "common_http_protocol_options": { "idle_timeout": "2s" },
            "explicit_http_config": { "http_protocol_options": {} },
        } },
    });
    if is_client {
        cluster["transport_socket"] = tls("UpstreamTlsContext");
    }
    ("next".into(), cluster)
}

/// A cluster that no route names.
pub(super) fn idle_cluster(number: u64, at: SocketAddr, timeout: u64) -> Named {
    let name = format!("idle-{number}");
    let endpoint = json!({ "endpoint": { "address": address(at) } });
    let cluster = json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": format!("{timeout}s"),
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [endpoint] }] },
    });
    (name, cluster)
}

/// Endpoints with their weights.
pub(super) fn endpoints(of: &[(SocketAddr, u64)]) -> Named {
    let endpoint = |(at, weight): &(SocketAddr, u64)| json!({ "endpoint": { "address": address(*at) }, "load_balancing_weight": weight });
    let all: Vec<Value> = of.iter().map(endpoint).collect();
    let kind = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
    ("next".into(), json!({ "@type": kind, "cluster_name": "next", "endpoints": [{ "lb_endpoints": all }] }))
}

/// All to `next`, but `/change`, which says the number of the change.
pub(super) fn routes(change: u64) -> Named {
    let retry = json!({ "retry_on": "connect-failure,refused-stream", "num_retries": 1 + change % 3 });
    let host = json!({ "name": "all", "domains": ["*"], "routes": [
        { "match": { "path": "/change" }, "direct_response": { "status": 200, "body": { "inline_string": format!("change {change}") } } },
        { "match": { "prefix": "/" }, "route": { "cluster": "next", "retry_policy": retry } },
    ] });
    let kind = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
    ("routes".into(), json!({ "@type": kind, "name": "routes", "virtual_hosts": [host] }))
}

pub(super) fn listener(at: SocketAddr, is_client: bool) -> Named {
    let kind = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let manager = json!({
        "@type": kind,
        "stat_prefix": "soak",
        "rds": { "route_config_name": "routes", "config_source": ads() },
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
        }],
    });
    let mut chain =
        json!({ "filters": [{ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager }] });
    if !is_client {
        chain["transport_socket"] = tls("DownstreamTlsContext");
    }
    let kind = "type.googleapis.com/envoy.config.listener.v3.Listener";
    ("soak".into(), json!({ "@type": kind, "name": "soak", "address": address(at), "filter_chains": [chain] }))
}

/// The name of the listener that must be refused.
pub(super) const REFUSED: &str = "soak-refused";

/// A listener without an address, which no proxy may take.
pub(super) fn refused() -> Named {
    (REFUSED.into(), json!({ "@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": REFUSED }))
}
