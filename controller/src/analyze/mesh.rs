//! MeshConfig: fields that are written and not honoured.

use super::{Finding, NOT_HONOURED};
use crate::index::mesh::NAME;
use crate::index::{Kind, ObjectRef, Severity, View};
use ferromesh_api::istio::MeshConfig;
use serde_json::Value;

/// Fields that are read but that nothing obeys yet. Whoever makes one work takes it out.
pub const NOT_YET: [&str; 9] = [
    "defaultServiceExportTo",
    "defaultVirtualServiceExportTo",
    "defaultDestinationRuleExportTo",
    "discoverySelectors",
    "enablePrometheusMerge",
    "meshMTLS",
    "proxyHttpPort",
    "tlsDefaults",
    "trustDomainAliases",
];

pub(super) fn analyze(view: &View, findings: &mut Vec<Finding>) {
    let object = view.root_namespaces().into_iter().map(|root| ObjectRef::new(Kind::ConfigMap, root, NAME));
    let Some(object) = object.into_iter().find(|object| view.config_maps.contains_key(&object.key)) else { return };
    for field in not_honoured(&view.mesh) {
        findings.push(Finding {
            severity: Severity::Warning,
            code: NOT_HONOURED,
            object: object.clone(),
            message: format!("MeshConfig field {field} is not honoured"),
            remedy: "Leave it out, or do not rely on it".to_owned(),
        });
    }
}

/// The fields that are written (differ from the default) and that nothing obeys.
pub fn not_honoured(mesh: &MeshConfig) -> Vec<String> {
    let mut found: Vec<String> = mesh.other.keys().cloned().collect();
    found.extend(mesh.default_config.other.keys().map(|name| format!("defaultConfig.{name}")));
    let written = serde_json::to_value(mesh).unwrap_or(Value::Null);
    let default = serde_json::to_value(MeshConfig::default()).unwrap_or(Value::Null);
    found.extend(NOT_YET.iter().filter(|name| written.get(**name) != default.get(**name)).map(|name| name.to_string()));
    found.sort();
    found
}
