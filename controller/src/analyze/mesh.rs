//! MeshConfig: fields that are written and not honoured.

use super::{Finding, NOT_HONOURED};
use crate::index::mesh::{KEY, NAME};
use crate::index::{Kind, ObjectRef, Severity, View};
use ferromesh_api::istio::MeshConfig;
use ferromesh_api::istio::mesh_config::OutboundMode;
use serde_json::Value;

/// Fields that are read but that nothing obeys yet. Whoever makes one work takes it out.
pub const NOT_YET: [&str; 9] = [
    "defaultVirtualServiceExportTo",
    "defaultDestinationRuleExportTo",
    "discoverySelectors",
    "enablePrometheusMerge",
    "meshMTLS",
    "proxyHttpPort",
    "tcpKeepalive",
    "tlsDefaults",
    "trustDomainAliases",
];

pub(super) fn analyze(view: &View, findings: &mut Vec<Finding>) {
    let object = view.root_namespaces().into_iter().map(|root| ObjectRef::new(Kind::ConfigMap, root, NAME));
    let Some(object) = object.into_iter().find(|object| view.config_maps.contains_key(&object.key)) else { return };
    let map = view.config_maps.get(&object.key);
    let text = map.and_then(|map| map.data.as_ref()?.get(KEY)).map(String::as_str).unwrap_or_default();
    let written: Value = serde_saphyr::from_str(text).unwrap_or_default();
    let mut fields = not_honoured(&view.mesh);
    // On by default in Istio, where nothing is traced without a provider; who writes it wants traces.
    if written.get("enableTracing") == Some(&Value::Bool(true)) {
        fields.push("enableTracing".to_owned());
    }
    for field in fields {
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
    found.extend(inner(mesh));
    found.sort();
    found
}

/// The same of fields inside of others.
fn inner(mesh: &MeshConfig) -> Vec<String> {
    let topology = mesh.default_config.gateway_topology.as_ref();
    let retries = mesh.default_http_retry_policy.as_ref();
    let dynamic = mesh.outbound_traffic_policy.mode == OutboundMode::AllowAnyDynamicDns;
    let fields = [
        (dynamic, "outboundTrafficPolicy.mode ALLOW_ANY_DYNAMIC_DNS"),
        (mesh.default_config.proxy_headers.is_some(), "defaultConfig.proxyHeaders"),
        (
            topology.is_some_and(|topology| topology.proxy_protocol.is_some()),
            "defaultConfig.gatewayTopology.proxyProtocol",
        ),
        (
            retries.is_some_and(|retries| retries.retry_remote_localities.is_some()),
            "defaultHttpRetryPolicy.retryRemoteLocalities",
        ),
        (retries.is_some_and(|retries| retries.backoff.is_some()), "defaultHttpRetryPolicy.backoff"),
    ];
    fields.into_iter().filter(|(written, _)| *written).map(|(_, field)| field.to_owned()).collect()
}
