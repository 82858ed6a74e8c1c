//! The workload at the other end of a connection, as Istio's peer metadata tells it.

use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::prost::Message;
use ferromesh_proto::prost_types::{Struct, value::Kind};

use crate::text::Text;

/// Longest header that is decoded.
const MAX_HEADER: usize = 16 * 1024;

/// What is known about the workload at the other end; empty fields are unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Peer {
    /// `<pod>.<namespace>` node id as told.
    pub id: Text,
    /// Workload (Deployment) name.
    pub workload: Text,
    /// Namespace.
    pub namespace: Text,
    /// `app` label.
    pub app: Text,
    /// `version` label.
    pub version: Text,
    /// Canonical service name.
    pub canonical_name: Text,
    /// Canonical revision.
    pub canonical_revision: Text,
    /// Cluster id.
    pub cluster: Text,
}

/// The peer at the upstream's end, in a stream's filter state; the downstream's is a bare [`Peer`].
#[derive(Debug, Clone)]
pub struct UpstreamPeer(pub Rc<Peer>);

impl Peer {
    /// From node metadata in Istio's form.
    pub fn from_struct(id: &str, metadata: &Struct) -> Self {
        let labels = match metadata.fields.get("LABELS").and_then(|value| value.kind.as_ref()) {
            Some(Kind::StructValue(labels)) => labels.clone(),
            _ => Struct::default(),
        };
        let label = |name: &str| text(&labels, name);
        let workload = text(metadata, "WORKLOAD_NAME");
        let canonical = label("service.istio.io/canonical-name");
        let revision = label("service.istio.io/canonical-revision");
        let or = |first: Text, second: Text| if first.is_empty() { second } else { first };
        Self {
            id: id.into(),
            namespace: text(metadata, "NAMESPACE"),
            app: or(label("app"), label("app.kubernetes.io/name")),
            version: or(label("version"), label("app.kubernetes.io/version")),
            canonical_name: or(canonical, workload.clone()),
            canonical_revision: or(revision, Text::from_static("latest")),
            cluster: text(metadata, "CLUSTER_ID"),
            workload,
        }
    }

    /// The proxy's own workload.
    pub fn of_node(node: &core::Node) -> Self {
        node.metadata.as_ref().map(|metadata| Self::from_struct(&node.id, metadata)).unwrap_or_default()
    }

    /// From the base64 of an encoded struct, as headers carry it.
    pub fn from_header(id: &str, value: &[u8]) -> Option<Self> {
        if value.len() > MAX_HEADER {
            return None;
        }
        let bytes = STANDARD.decode(value).ok()?;
        Some(Self::from_struct(id, &Struct::decode(bytes.as_slice()).ok()?))
    }

    /// From an endpoint's metadata `istio.workload`: `name;namespace;canonical name;canonical revision;cluster`, which
    /// says nothing of `app` and `version`.
    pub fn from_endpoint(workload: &str) -> Self {
        let mut parts = workload.split(';').map(Text::from);
        let mut next = || parts.next().unwrap_or_default();
        let (name, namespace, canonical_name, canonical_revision, cluster) = (next(), next(), next(), next(), next());
        Self { workload: name, namespace, canonical_name, canonical_revision, cluster, ..Self::default() }
    }
}

fn text(metadata: &Struct, name: &str) -> Text {
    match metadata.fields.get(name).and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(text)) => text.as_str().into(),
        _ => Text::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_metadata_is_ignored() {
        for value in [&b"%%%"[..], b"AAAA", &[b'A'; MAX_HEADER + 1]] {
            assert_eq!(Peer::from_header("", value).map(|peer| peer.workload).unwrap_or_default(), Text::default());
        }
    }
}
