//! The bootstrap of a proxy that `up` runs: what Istio's agent would write, with the controller on the loopback.

use std::net::SocketAddr;

use ferromesh_api::labels;
use ferromesh_proxy::agent::bootstrap::control_plane::{self, SDS_CLUSTER, assignment, http2, socket};
use serde_json::{Value, json};

use super::plan::{PodPlan, Role};

/// Identity of the controller, which the proxies expect.
pub const CONTROLLER_ID: &str = "ns/ferromesh-system/sa/ferromesh-controller";

/// The bootstrap as JSON, in Envoy's form. `sds` names the Unix socket of an SDS server for a real Envoy.
pub fn bootstrap(plan: &PodPlan, xds: SocketAddr, trust_domain: &str, sds: Option<&str>) -> Value {
    let controller_id = format!("spiffe://{trust_domain}/{CONTROLLER_ID}");
    let mut clusters = vec![control_plane::cluster(&socket(xds), "ferromesh-controller", &controller_id)];
    clusters.extend(sds.map(sds_cluster));
    json!({
        "node": node(plan),
        "admin": { "address": socket("127.0.0.1:0".parse().unwrap_or(xds)) },
        "dynamic_resources": control_plane::dynamic_resources(),
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

fn sds_cluster(socket: &str) -> Value {
    json!({
        "name": SDS_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": assignment(SDS_CLUSTER, &json!({ "pipe": { "path": socket } })),
        "typed_extension_protocol_options": http2(),
    })
}
