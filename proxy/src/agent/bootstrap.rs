//! The bootstrap of a pod's proxy, pure: what Istio's agent would write for Envoy, so that the controller sees what it
//! would see from an Envoy. Ports: Istio's.

use std::net::{IpAddr, SocketAddr};

use ferromesh_core::ports;
use serde_json::{Value, json};

use super::environment::{Environment, Role};

/// The version of Istio whose node metadata this is; EnvoyFilters match on it.
const ISTIO_VERSION: &str = "1.31.0";

/// The bootstrap as JSON, in Envoy's form.
pub fn bootstrap(environment: &Environment) -> Value {
    let ads = json!({ "ads": {}, "resource_api_version": "V3" });
    let loopback = |port| SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port);
    let outside = |port| SocketAddr::new(environment.any(), port);
    let admin = loopback(environment.admin_port);
    json!({
        "node": node(environment),
        "admin": { "address": address(admin) },
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
        "static_resources": {
            "clusters": [
                local("prometheus_stats", admin),
                local("agent", loopback(environment.status_port)),
                controller(environment),
            ],
            "listeners": [
                page("prometheus", outside(ports::PROXY_METRICS), "/stats/prometheus", "prometheus_stats"),
                page("health", outside(ports::PROXY_HEALTH), "/healthz/ready", "agent"),
            ],
        },
    })
}

fn node(environment: &Environment) -> Value {
    let Environment { pod, namespace, service_account, labels, .. } = environment;
    let label = |names: &[&str]| names.iter().find_map(|name| labels.get(*name)).cloned();
    let workload = environment.metadata.get("WORKLOAD_NAME").and_then(Value::as_str).unwrap_or(pod);
    let app = label(&["app", "app.kubernetes.io/name"]).unwrap_or_else(|| workload.to_owned());
    let canonical = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];
    let mut shown = labels.clone();
    let name = label(&canonical).unwrap_or_else(|| workload.to_owned());
    shown.entry("service.istio.io/canonical-name".into()).or_insert(name);
    let mut metadata = json!({
        "NAME": pod,
        "NAMESPACE": namespace,
        "SERVICE_ACCOUNT": service_account,
        "LABELS": shown,
        "INSTANCE_IPS": environment.ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        "WORKLOAD_NAME": workload,
        "CLUSTER_ID": "Kubernetes",
        "MESH_ID": environment.trust_domain,
        "ISTIO_VERSION": ISTIO_VERSION,
        "ENVOY_PROMETHEUS_PORT": ports::PROXY_METRICS,
        "ENVOY_STATUS_PORT": ports::PROXY_HEALTH,
        "ANNOTATIONS": annotations(environment),
    });
    if let Some(object) = metadata.as_object_mut() {
        object.extend(environment.metadata.clone());
        if environment.role == Role::Sidecar {
            object.entry("INTERCEPTION_MODE").or_insert_with(|| "REDIRECT".into());
        }
    }
    json!({
        "id": environment.node_id(),
        "cluster": format!("{app}.{namespace}"),
        "locality": locality(environment),
        "metadata": metadata,
    })
}

/// Annotations without the large ones that only tools read.
fn annotations(environment: &Environment) -> Value {
    let shown = environment.annotations.iter().filter(|(name, value)| {
        !name.starts_with("kubectl.kubernetes.io/") && *name != "sidecar.istio.io/status" && value.len() < 4096
    });
    shown.map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect::<serde_json::Map<_, _>>().into()
}

/// `istio-locality: region.zone.subzone`, or the topology labels.
fn locality(environment: &Environment) -> Value {
    let label = |name: &str| environment.labels.get(name).map(String::as_str).unwrap_or_default();
    let istio = label("istio-locality").replace('.', "/");
    let mut parts = istio.split('/');
    let mut part = |other: &str| {
        let own = parts.next().unwrap_or_default();
        if own.is_empty() { label(other).to_owned() } else { own.to_owned() }
    };
    json!({
        "region": part("topology.kubernetes.io/region"),
        "zone": part("topology.kubernetes.io/zone"),
        "sub_zone": part("topology.istio.io/subzone"),
    })
}

fn address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

fn assignment(name: &str, address: &Value) -> Value {
    json!({ "cluster_name": name, "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }] })
}

fn local(name: &str, to: SocketAddr) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "0.250s",
        "load_assignment": assignment(name, &address(to)),
    })
}

/// The controller: by name, with mTLS, and only if it is the controller.
fn controller(environment: &Environment) -> Value {
    let (host, port) = environment.discovery();
    let ip = host.parse::<IpAddr>().ok();
    let family = if environment.ip().is_ipv4() { "V4_ONLY" } else { "V6_ONLY" };
    let at = json!({ "socket_address": { "address": host, "port_value": port } });
    let secret = |name: &str| {
        json!({
            "name": name,
            "sds_config": {
                "resource_api_version": "V3",
                "api_config_source": {
                    "api_type": "GRPC",
                    "transport_api_version": "V3",
                    "grpc_services": [{ "envoy_grpc": { "cluster_name": "sds-grpc" } }],
                },
            },
        })
    };
    json!({
        "name": "xds-grpc",
        "type": if ip.is_some() { "STATIC" } else { "STRICT_DNS" },
        "dns_lookup_family": family,
        "connect_timeout": "1s",
        "respect_dns_ttl": true,
        "load_assignment": assignment("xds-grpc", &at),
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} },
            },
        },
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": host,
                "common_tls_context": {
                    "alpn_protocols": ["h2"],
                    "tls_params": { "tls_minimum_protocol_version": "TLSv1_3" },
                    "tls_certificate_sds_secret_configs": [secret("default")],
                    "combined_validation_context": {
                        "validation_context_sds_secret_config": secret("ROOTCA"),
                        "default_validation_context": {
                            "match_typed_subject_alt_names": [{
                                "san_type": "URI",
                                "matcher": { "exact": environment.controller_id() },
                            }],
                        },
                    },
                },
            },
        },
    })
}

/// A listener with one page that comes from a cluster.
fn page(name: &str, at: SocketAddr, path: &str, cluster: &str) -> Value {
    json!({
        "name": name,
        "address": address(at),
        "filter_chains": [{
            "filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    "stat_prefix": name,
                    "route_config": {
                        "virtual_hosts": [{
                            "name": "backend",
                            "domains": ["*"],
                            "routes": [{ "match": { "prefix": path }, "route": { "cluster": cluster } }],
                        }],
                    },
                    "http_filters": [{
                        "name": "envoy.filters.http.router",
                        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
                    }],
                },
            }],
        }],
    })
}
