//! What the bootstraps of all proxies of a mesh share: everything comes from the controller, by ADS over mTLS. Pure.

use std::net::SocketAddr;

use serde_json::{Value, json};

/// The cluster of the controller; Istio's name.
const CLUSTER: &str = "xds-grpc";
/// The cluster of an SDS server; for its own secrets the proxy needs none.
pub const SDS_CLUSTER: &str = "sds-grpc";

/// `dynamic_resources`: listeners and clusters by delta ADS.
pub fn dynamic_resources() -> Value {
    let ads = json!({ "ads": {}, "resource_api_version": "V3" });
    json!({
        "lds_config": ads,
        "cds_config": ads,
        "ads_config": {
            "api_type": "DELTA_GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": true,
            "grpc_services": [{ "envoy_grpc": { "cluster_name": CLUSTER } }],
        },
    })
}

/// The cluster of the controller at `address`: with mTLS, under the name `sni`, and only if it is `id` (a SPIFFE ID).
/// How the address is found is left to the caller.
pub fn cluster(address: &Value, sni: &str, id: &str) -> Value {
    json!({
        "name": CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": assignment(CLUSTER, address),
        "typed_extension_protocol_options": http2(),
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": sni,
                "common_tls_context": {
                    "alpn_protocols": ["h2"],
                    "tls_params": { "tls_minimum_protocol_version": "TLSv1_3" },
                    "tls_certificate_sds_secret_configs": [secret("default")],
                    "combined_validation_context": {
                        "validation_context_sds_secret_config": secret("ROOTCA"),
                        "default_validation_context": {
                            "match_typed_subject_alt_names": [{ "san_type": "URI", "matcher": { "exact": id } }],
                        },
                    },
                },
            },
        },
    })
}

fn secret(name: &str) -> Value {
    json!({
        "name": name,
        "sds_config": {
            "resource_api_version": "V3",
            "api_config_source": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{ "envoy_grpc": { "cluster_name": SDS_CLUSTER } }],
            },
        },
    })
}

/// `typed_extension_protocol_options` of a cluster that speaks HTTP/2.
pub fn http2() -> Value {
    json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http2_protocol_options": {} },
        },
    })
}

/// A socket's address.
pub fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

/// A `load_assignment` of one endpoint.
pub fn assignment(cluster: &str, address: &Value) -> Value {
    json!({ "cluster_name": cluster, "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }] })
}
