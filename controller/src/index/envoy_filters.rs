//! Which EnvoyFilters a workload has, in the order in which Istio applies them.

use super::{Key, Rejection, View, labels};
use crate::kind;
use ferromesh_api::gateway_api::GROUP;
use ferromesh_api::istio::EnvoyFilter;
use ferromesh_api::istio::envoy_filter::ApplyTo;
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
            (GROUP, "Gateway") => {
                let own = target.namespace.as_deref().is_none_or(|other| other == &*key.namespace);
                own && &*key.namespace == namespace && gateway == Some(&target.name)
            }
            (GROUP, "GatewayClass") => class == Some(&target.name),
            _ => false,
        }
    })
}

/// Whether a proxy may have rejected something for an EnvoyFilter: it selects the proxy, and patches such resources.
pub fn may_cause(view: &View, key: &Key, filter: &EnvoyFilter, rejection: &Rejection) -> bool {
    let patches = filter.spec.config_patches.iter().any(|patch| match patch.apply_to {
        ApplyTo::Cluster => rejection.kind == kind::Kind::Cluster,
        ApplyTo::ExtensionConfig => rejection.kind == kind::Kind::ExtensionConfig,
        // Inbound routes stand in listeners.
        ApplyTo::RouteConfiguration | ApplyTo::VirtualHost | ApplyTo::HttpRoute => {
            matches!(rejection.kind, kind::Kind::Route | kind::Kind::Listener)
        }
        // Neither is in what xDS sends.
        ApplyTo::Bootstrap | ApplyTo::Invalid | ApplyTo::Unknown(_) => false,
        _ => rejection.kind == kind::Kind::Listener,
    });
    // As `envoy_filters_for` selects, without their order.
    let ([ours, theirs], own) = (view.root_namespaces(), &*key.namespace);
    let hidden = own == theirs && theirs != ours && view.envoy_filters.named(ours, &key.name).is_some();
    let reaches = view.is_root_namespace(own) || own == rejection.namespace;
    patches && reaches && !hidden && applies(key, filter, &rejection.namespace, &rejection.labels)
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
