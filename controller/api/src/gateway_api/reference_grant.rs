//! ReferenceGrant: which other namespaces may refer to objects in this one (v1 and v1beta1 are the same).

use serde::{Deserialize, Serialize};

kubernetes_object! {
    /// Permission to refer to objects of its namespace from elsewhere.
    ReferenceGrant, kind: "ReferenceGrant", group: "gateway.networking.k8s.io", version: "v1",
    plural: "referencegrants", scope: NamespaceResourceScope, spec: ReferenceGrantSpec, status: serde_json::Value
}

/// What a ReferenceGrant says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReferenceGrantSpec {
    /// Who may refer.
    pub from: Vec<ReferenceGrantFrom>,
    /// To what.
    pub to: Vec<ReferenceGrantTo>,
}

/// Who may refer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReferenceGrantFrom {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
}

/// To what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReferenceGrantTo {
    /// API group; empty is core.
    #[serde(default)]
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name; absent is all of that kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}
