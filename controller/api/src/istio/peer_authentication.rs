//! PeerAuthentication: whether a workload takes plaintext, mTLS or both.

use super::selector::{IstioStatus, PolicySelector};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

kubernetes_object! {
    /// Rules about mTLS towards workloads.
    PeerAuthentication, kind: "PeerAuthentication", group: "security.istio.io", version: "v1",
    plural: "peerauthentications", scope: NamespaceResourceScope,
    spec: #[serde(default)] PeerAuthenticationSpec, status: IstioStatus
}

/// What a PeerAuthentication says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerAuthenticationSpec {
    /// For which workloads; absent is all of the namespace (of the mesh, in a root namespace).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<PolicySelector>,
    /// The mode for all ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls: Option<MutualTls>,
    /// The mode for single ports of the workload (not of the Service). Needs a selector.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, MutualTls>")]
    pub port_level_mtls: BTreeMap<u16, MutualTls>,
}

impl PeerAuthenticationSpec {
    /// The labels, where some are written.
    pub fn selector(&self) -> Option<&PolicySelector> {
        self.selector.as_ref().filter(|selector| !selector.match_labels.is_empty())
    }
}

/// A mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MutualTls {
    /// The mode.
    #[serde(default)]
    pub mode: MtlsMode,
}

open_enum! {
    /// Whether a workload takes plaintext, mTLS or both.
    MtlsMode { Unset = "UNSET", Disable = "DISABLE", Permissive = "PERMISSIVE", Strict = "STRICT" }
}
