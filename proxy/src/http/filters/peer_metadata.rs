//! Istio's peer metadata: labels of the other side, told in `x-envoy-peer-metadata` headers.

use crate::text::Text;

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
pub struct UpstreamPeer(pub std::rc::Rc<Peer>);
