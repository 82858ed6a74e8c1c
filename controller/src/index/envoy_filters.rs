//! Which EnvoyFilters a workload has, in the order in which Istio applies them.

use super::{Key, View, labels};
use ferromesh_api::gateway_api::GROUP;
use ferromesh_api::istio::EnvoyFilter;
use ferromesh_api::istio::envoy_filter::{ApplyTo, ConfigPatch, PatchContext, PatchOperation};
use std::collections::BTreeMap;
use std::sync::Arc;

impl View {
    /// The EnvoyFilters for a workload: those of the root namespaces, then those of its own, sorted by priority, root
    /// namespace first, age, name. The same name in both root namespaces: ours wins.
    pub fn envoy_filters_for(
        &self,
        namespace: &str,
        workload: &BTreeMap<String, String>,
    ) -> Vec<(&Key, &Arc<EnvoyFilter>)> {
        let [ours, theirs] = self.root_namespaces();
        let mut found: Vec<_> = self.envoy_filters.in_namespace(ours).collect();
        if theirs != ours {
            let hidden = |key: &Key| self.envoy_filters.named(ours, &key.name).is_some();
            found.extend(self.envoy_filters.in_namespace(theirs).filter(|(key, _)| !hidden(key)));
        }
        if !self.is_root_namespace(namespace) {
            found.extend(self.envoy_filters.in_namespace(namespace));
        }
        found.retain(|(key, filter)| applies(key, filter, namespace, workload));
        found.sort_by_key(|(key, filter)| {
            let age = filter.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (filter.spec.priority, !self.is_root_namespace(&key.namespace), age, (*key).clone())
        });
        found
    }
}

/// Whether one EnvoyFilter is for a workload of this namespace with these labels.
fn applies(key: &Key, filter: &EnvoyFilter, namespace: &str, workload: &BTreeMap<String, String>) -> bool {
    if filter.spec.target_refs.is_empty() {
        return filter.spec.workload_selector.as_ref().is_none_or(|selector| selector.matches(workload));
    }
    filter.spec.target_refs.iter().any(|target| {
        let gateway = workload.get(ferromesh_api::labels::GATEWAY_NAME);
        let class = workload.get(ferromesh_api::labels::GATEWAY_CLASS_NAME);
        match (target.group.as_str(), target.kind.as_str()) {
            (GROUP, "Gateway") => &*key.namespace == namespace && gateway == Some(&target.name),
            (GROUP, "GatewayClass") => class == Some(&target.name),
            _ => false,
        }
    })
}

/// The labels that an EnvoyFilter asks for, if any.
pub fn wanted_labels(filter: &EnvoyFilter) -> Option<&BTreeMap<String, String>> {
    filter.spec.workload_selector.as_ref().map(|selector| &selector.labels).filter(|labels| !labels.is_empty())
}

/// True if this workload is a gateway and not a sidecar: it was made for a Gateway, or is one of Istio's own.
pub fn is_gateway(pod: &ferromesh_api::ObjectMeta) -> bool {
    let labels = labels::of(pod);
    labels.contains_key(ferromesh_api::labels::GATEWAY_NAME)
        || labels.get(ferromesh_api::labels::ISTIO).is_some_and(|word| word.ends_with("gateway"))
        || labels::annotation(pod, "inject.istio.io/templates").is_some_and(|templates| templates.contains("gateway"))
}

/// What cannot be read in the patches, by index.
pub fn invalid_patches(filter: &EnvoyFilter) -> Vec<String> {
    let patches = filter.spec.config_patches.iter().enumerate();
    patches.filter_map(|(index, patch)| invalid(patch).map(|what| format!("configPatches[{index}]: {what}"))).collect()
}

fn invalid(patch: &ConfigPatch) -> Option<String> {
    match &patch.apply_to {
        ApplyTo::Invalid => return Some("applyTo must be written".to_owned()),
        ApplyTo::Unknown(word) => return Some(format!("applyTo {word} is not known")),
        _ => {}
    }
    if let PatchContext::Unknown(word) = patch.context() {
        return Some(format!("match.context {word} is not known"));
    }
    match &patch.patch.operation {
        PatchOperation::Invalid => Some("patch.operation must be written".to_owned()),
        PatchOperation::Unknown(word) => Some(format!("patch.operation {word} is not known")),
        PatchOperation::Remove => None,
        other if patch.patch.value.is_null() => Some(format!("patch.value must be written for {other}")),
        _ => None,
    }
}
