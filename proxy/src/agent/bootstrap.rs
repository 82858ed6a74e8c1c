//! The bootstrap of a pod's proxy, pure: what Istio's agent would write for Envoy, so that the controller sees what it
//! would see from an Envoy. Ports: Istio's.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ferromesh_core::ports;
use serde_json::{Value, json};

use super::environment::{Environment, Role};
use control_plane::{assignment, socket};

pub mod control_plane;

/// The version of Istio whose node metadata this is; EnvoyFilters match on it.
const ISTIO_VERSION: &str = "1.31.0";

/// The bootstrap as JSON, in Envoy's form.
pub fn bootstrap(environment: &Environment) -> Value {
    let loopback = |port| SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port);
    let outside = |port| SocketAddr::new(environment.any(), port);
    let admin = loopback(environment.admin_port);
    json!({
        "node": node(environment),
        "admin": { "address": socket(admin) },
        "dynamic_resources": control_plane::dynamic_resources(),
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

fn local(name: &str, to: SocketAddr) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "0.250s",
        "load_assignment": assignment(name, &socket(to)),
    })
}

/// The controller, by the name or address that the environment gives.
fn controller(environment: &Environment) -> Value {
    let (host, port) = environment.discovery();
    let at = json!({ "socket_address": { "address": host, "port_value": port } });
    let mut cluster = control_plane::cluster(&at, host, &environment.controller_id());
    if host.parse::<IpAddr>().is_err() {
        cluster["type"] = "STRICT_DNS".into();
        cluster["dns_lookup_family"] = if environment.ip().is_ipv4() { "V4_ONLY" } else { "V6_ONLY" }.into();
        cluster["respect_dns_ttl"] = true.into();
    }
    cluster
}

/// A listener with one page that comes from a cluster.
fn page(name: &str, at: SocketAddr, path: &str, cluster: &str) -> Value {
    let mut address = socket(at);
    if at.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        // A pod may have addresses of both families.
        address["socket_address"]["ipv4_compat"] = true.into();
    }
    json!({
        "name": name,
        "address": address,
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
