//! Envoy's node message goes in; what translation needs to know about a proxy comes out.

use std::collections::BTreeMap;

use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::json::struct_to_json;
use serde_json::Value;

use super::stock;
use crate::envoyfilter::Proxy;

/// Which kind of proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// Beside an application.
    #[default]
    Sidecar,
    /// A gateway.
    Router,
}

/// A proxy, as it describes itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `sidecar~<ip>~<pod>.<namespace>~<namespace>.svc.cluster.local`.
    pub id: String,
    /// Kind.
    pub kind: NodeKind,
    /// Address of the pod.
    pub ip: String,
    /// Name of the pod.
    pub pod: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Labels of the pod, as the proxy says.
    pub labels: BTreeMap<String, String>,
    /// Service account.
    pub service_account: String,
    /// Deployment or such.
    pub workload: String,
    /// Cluster that it runs in.
    pub cluster_id: String,
    /// Version of Istio that it says to be.
    pub version: String,
    /// It has not Istio's network filters.
    pub stock: bool,
    /// Its metadata: strings only.
    pub metadata: BTreeMap<String, String>,
}

/// Why a node cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The id has another shape.
    #[error("node.id {0:?} is not <sidecar|router>~<ip>~<pod>.<namespace>~<domain>")]
    Id(String),
    /// The kind is not known.
    #[error("node.id {id:?}: kind {kind:?} is not supported, only sidecar and router")]
    Kind {
        /// The id.
        id: String,
        /// The kind in it.
        kind: String,
    },
}

impl Node {
    /// Reads a node.
    ///
    /// # Errors
    /// If its id does not say what it is and where.
    pub fn from_proto(node: &core::Node) -> Result<Self, NodeError> {
        let wrong = || NodeError::Id(node.id.clone());
        let mut parts = node.id.split('~');
        let kind = match parts.next().unwrap_or_default() {
            "sidecar" => NodeKind::Sidecar,
            "router" => NodeKind::Router,
            other => return Err(NodeError::Kind { id: node.id.clone(), kind: other.to_owned() }),
        };
        let ip = parts.next().ok_or_else(wrong)?.to_owned();
        let (pod, namespace) = parts.next().and_then(|name| name.rsplit_once('.')).ok_or_else(wrong)?;
        let json = node.metadata.as_ref().map(struct_to_json).unwrap_or_default();
        let text = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let or = |own: String, other: &str| if own.is_empty() { other.to_owned() } else { own };
        Ok(Self {
            id: node.id.clone(),
            kind,
            ip,
            pod: or(text("NAME"), pod),
            namespace: or(text("NAMESPACE"), namespace),
            labels: strings(json.get("LABELS")),
            service_account: or(text("SERVICE_ACCOUNT"), "default"),
            workload: text("WORKLOAD_NAME"),
            cluster_id: or(text("CLUSTER_ID"), "Kubernetes"),
            version: text("ISTIO_VERSION"),
            stock: stock::is_stock(&node.extensions),
            metadata: strings(Some(&json)),
        })
    }

    /// What EnvoyFilter matching needs.
    pub fn proxy(&self) -> Proxy {
        Proxy { gateway: self.kind == NodeKind::Router, version: self.version.clone(), metadata: self.metadata.clone() }
    }
}

fn strings(value: Option<&Value>) -> BTreeMap<String, String> {
    let entries = value.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}
