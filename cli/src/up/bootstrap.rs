//! The bootstrap of a proxy that `up` runs: what Istio's agent would write, with the controller on the loopback.

use std::net::SocketAddr;

use ferromesh_api::labels;
use serde_json::{Value, json};

use super::plan::{PodPlan, Role};

/// Identity of the controller, which the proxies expect.
pub const CONTROLLER_ID: &str = "ns/ferromesh-system/sa/ferromesh-controller";

/// The bootstrap as JSON, in Envoy's form. `sds` names the Unix socket of an SDS server for a real Envoy.
pub fn bootstrap(plan: &PodPlan, xds: SocketAddr, trust_domain: &str, sds: Option<&str>) -> Value {
    let mut clusters = vec![xds_cluster(xds, trust_domain)];
    clusters.extend(sds.map(sds_cluster));
    let ads = json!({ "ads": {}, "resource_api_version": "V3" });
    json!({
        "node": node(plan),
        "admin": { "address": socket_address("127.0.0.1:0".parse().unwrap_or(xds)) },
        "dynamic_resources": {
            "lds_config": ads,
            "cds_config": ads,
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "xds-grpc" } }],
            },
        },
        "static_resources": { "clusters": clusters },
    })
}

fn node(plan: &PodPlan) -> Value {
    let namespace = plan.key.namespace.as_ref();
    let kind = if plan.role == Role::Gateway { "router" } else { "sidecar" };
    let canonical =
        [labels::CANONICAL_NAME, labels::APP_NAME, labels::APP].iter().find_map(|name| plan.labels.get(*name));
    let mut shown = plan.labels.clone();
    shown.entry(labels::CANONICAL_NAME.into()).or_insert_with(|| canonical.unwrap_or(&plan.workload).clone());
    json!({
        "id": format!("{kind}~127.0.0.1~{}.{namespace}~{namespace}.svc.cluster.local", plan.key.name),
        "cluster": format!("{}.{namespace}", plan.workload),
        "metadata": {
            "NAME": plan.key.name.as_ref(),
            "NAMESPACE": namespace,
            "LABELS": shown,
            "SERVICE_ACCOUNT": plan.service_account,
            "WORKLOAD_NAME": plan.workload,
            "CLUSTER_ID": "Kubernetes",
            "MESH_ID": "cluster.local",
            "INTERCEPTION_MODE": "NONE",
            "ISTIO_VERSION": "1.31.0",
        },
    })
}

fn socket_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

fn endpoints(name: &str, address: &Value) -> Value {
    json!({ "cluster_name": name, "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }] })
}

fn http2() -> Value {
    json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http2_protocol_options": {} },
        },
    })
}

fn xds_cluster(xds: SocketAddr, trust_domain: &str) -> Value {
    let secret = |name: &str| {
        let sds_config = json!({
            "resource_api_version": "V3",
            "api_config_source": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "sds-grpc" } }],
            },
        });
        json!({ "name": name, "sds_config": sds_config })
    };
    json!({
        "name": "xds-grpc",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": endpoints("xds-grpc", &socket_address(xds)),
        "typed_extension_protocol_options": http2(),
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": "ferromesh-controller",
                "common_tls_context": {
                    "alpn_protocols": ["h2"],
                    "tls_params": { "tls_minimum_protocol_version": "TLSv1_3" },
                    "tls_certificate_sds_secret_configs": [secret("default")],
                    "combined_validation_context": {
                        "validation_context_sds_secret_config": secret("ROOTCA"),
                        "default_validation_context": {
                            "match_typed_subject_alt_names": [{
                                "san_type": "URI",
                                "matcher": { "exact": format!("spiffe://{trust_domain}/{CONTROLLER_ID}") },
                            }],
                        },
                    },
                },
            },
        },
    })
}

fn sds_cluster(socket: &str) -> Value {
    json!({
        "name": "sds-grpc",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": endpoints("sds-grpc", &json!({ "pipe": { "path": socket } })),
        "typed_extension_protocol_options": http2(),
    })
}
