//! The Envoy bootstrap that Envoy and our proxy run alike.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::certificates::SPIFFE_ID;
use super::path;
use super::peers::{Hop, Protocol};

/// Which metrics a proxy counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metrics {
    /// None (`stats_matcher.reject_all`).
    Off,
    /// Envoy's.
    On,
    /// Envoy's and Istio's (the filter `istio.stats`).
    Istio,
}

/// A sidecar's features: access log, request ids, retries, authorization, outlier detection, mTLS.
pub fn bootstrap(folder: &Path, hop: &Hop, metrics: Metrics) -> Value {
    let mut common = tls_versions();
    common["tls_certificates"] = json!([certificate(folder)]);
    common["validation_context"] = trust(folder);
    if hop.protocol == Protocol::Http2 {
        common["alpn_protocols"] = json!(["h2"]);
    }
    let socket = |kind: &str, mut context: Value| {
        context["@type"] = format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}").into();
        json!({ "name": "envoy.transport_sockets.tls", "typed_config": context })
    };
    let filter = match hop.protocol {
        Protocol::Tcp => json!({ "name": "envoy.filters.network.tcp_proxy", "typed_config": tcp_proxy(folder, hop) }),
        Protocol::Http1 | Protocol::Http2 => json!({
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": manager(folder, hop, metrics),
        }),
    };
    let mut chain = json!({ "filters": [filter] });
    let mut cluster = json!({
        "name": "next",
        "type": "STATIC",
        "connect_timeout": "5s",
        "lb_policy": "LEAST_REQUEST",
        "outlier_detection": { "consecutive_5xx": 5 },
        "load_assignment": { "cluster_name": "next", "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(hop.upstream) } }] }] },
    });
    if hop.protocol == Protocol::Http2 {
        cluster["typed_extension_protocol_options"] = http2();
    }
    if hop.is_client {
        cluster["transport_socket"] = socket("UpstreamTlsContext", json!({ "common_tls_context": common }));
    } else {
        let context = json!({
            "require_client_certificate": true,
            "disable_stateless_session_resumption": true,
            "disable_stateful_session_resumption": true,
            "common_tls_context": common,
        });
        chain["transport_socket"] = socket("DownstreamTlsContext", context);
    }
    let mut bootstrap = json!({
        "node": { "id": "bench", "cluster": "bench" },
        "static_resources": {
            "listeners": [{ "name": "in", "address": address(hop.listen), "filter_chains": [chain] }],
            "clusters": [cluster],
        },
    });
    if metrics == Metrics::Off {
        bootstrap["stats_config"] = json!({ "stats_matcher": { "reject_all": true } });
    }
    bootstrap
}

/// The `typed_extension_protocol_options` of a cluster that speaks HTTP/2.
pub fn http2() -> Value {
    json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": { "http2_protocol_options": {} },
    } })
}

fn access_log(folder: &Path, hop: &Hop) -> Value {
    let log = path(folder, if hop.is_client { "client-access.log" } else { "server-access.log" });
    let kind = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
    json!([{ "name": "envoy.access_loggers.file", "typed_config": { "@type": kind, "path": log } }])
}

fn tcp_proxy(folder: &Path, hop: &Hop) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "bench",
        "cluster": "next",
        "access_log": access_log(folder, hop),
    })
}

fn manager(folder: &Path, hop: &Hop, metrics: Metrics) -> Value {
    let allow = |i: u32| {
        let path = json!({ "prefix": if i == 9 { "/".to_owned() } else { format!("/never/{i}") } });
        json!({ "permissions": [{ "url_path": { "path": path } }], "principals": [{ "any": true }] })
    };
    let policies: serde_json::Map<String, Value> = (0..10).map(|i| (format!("rule-{i}"), allow(i))).collect();
    let mut manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "access_log": access_log(folder, hop),
        "http_filters": [
            {
                "name": "envoy.filters.http.rbac",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
                    "rules": { "action": "ALLOW", "policies": policies },
                },
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
            },
        ],
        "route_config": {
            "name": "local",
            "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{
                    "match": { "prefix": "/" },
                    "route": { "cluster": "next", "retry_policy": { "retry_on": "connect-failure,refused-stream", "num_retries": 2 } },
                }],
            }],
        },
    });
    if metrics == Metrics::Istio
        && let Some(filters) = manager["http_filters"].as_array_mut()
    {
        let kind = "type.googleapis.com/stats.PluginConfig";
        let stats = json!({ "name": "istio.stats", "typed_config": { "@type": kind } });
        filters.insert(filters.len() - 1, stats);
    }
    manager
}

/// TLS 1.3 only, so that all peers do the same work.
pub fn tls_versions() -> Value {
    json!({
        "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
    })
}

/// A `TlsCertificate` of files.
pub fn certificate(folder: &Path) -> Value {
    json!({
        "certificate_chain": { "filename": path(folder, "cert.pem") },
        "private_key": { "filename": path(folder, "key.pem") },
    })
}

/// A `CertificateValidationContext` that asks for the peer's identity.
pub fn trust(folder: &Path) -> Value {
    json!({
        "trusted_ca": { "filename": path(folder, "ca.pem") },
        "match_typed_subject_alt_names": [{ "san_type": "URI", "matcher": { "exact": SPIFFE_ID } }],
    })
}

/// A socket address as Envoy writes it.
pub fn address(at: SocketAddr) -> Value {
    json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } })
}
