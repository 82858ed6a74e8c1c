//! The workloads of a view: its Pods; and where a folder has none yet, what its Deployments and Gateways will make.

use super::attachment::our_controller;
use super::{View, envoy_filters, labels};
use ferromesh_api::{ObjectMeta, labels as keys};
use std::collections::{BTreeMap, BTreeSet};

/// A workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// What it is called for people: `Pod n/a`, `Deployment n/a`, `Gateway n/a`.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// True for a gateway, false for an application with a sidecar (or without a proxy).
    pub gateway: bool,
    /// False where injection was refused for it.
    pub meshed: bool,
}

/// All of them, by kind and name.
pub fn all(view: &View) -> Vec<Workload> {
    let pods = view.pods.iter();
    let mut found: Vec<_> =
        pods.map(|(key, pod)| workload(view, format!("Pod {key}"), &key.namespace, &pod.metadata)).collect();
    found.extend(coming(view));
    found
}

/// Those that have no Pod yet.
pub fn coming(view: &View) -> Vec<Workload> {
    let mut found = Vec::new();
    let pods = view.pods.iter();
    let gateways: BTreeSet<_> = pods
        .filter_map(|(key, pod)| {
            Some((key.namespace.to_string(), labels::of(&pod.metadata).get(keys::GATEWAY_NAME)?.clone()))
        })
        .collect();
    for (key, deployment) in view.deployments.iter() {
        let template = deployment.spec.template.metadata.as_ref();
        let Some(template) = template else { continue };
        let covered = view
            .pods
            .in_namespace(&key.namespace)
            .any(|(_, pod)| ferromesh_api::istio::selector::has_all(labels::of(&pod.metadata), labels::of(template)));
        if !covered {
            found.push(workload(view, format!("Deployment {key}"), &key.namespace, template));
        }
    }
    for (key, gateway) in view.gateways.iter() {
        if our_controller(view, gateway).is_none()
            || gateways.contains(&(key.namespace.to_string(), key.name.to_string()))
        {
            continue;
        }
        let infrastructure = gateway.spec.infrastructure.clone().unwrap_or_default();
        let mut labels = infrastructure.labels;
        labels.insert(keys::GATEWAY_NAME.to_owned(), key.name.to_string());
        labels.insert(keys::GATEWAY_CLASS_NAME.to_owned(), gateway.spec.gateway_class_name.clone());
        let meta = ObjectMeta { labels: Some(labels), ..ObjectMeta::default() };
        found.push(workload(view, format!("Gateway {key}"), &key.namespace, &meta));
    }
    found
}

fn workload(view: &View, name: String, namespace: &str, meta: &ObjectMeta) -> Workload {
    let labels = labels::of(meta).clone();
    let inject = labels.get(keys::SIDECAR_INJECT).map(String::as_str);
    let inject = inject.or_else(|| labels::annotation(meta, ferromesh_api::annotations::SIDECAR_INJECT));
    let namespace_labels = view.namespace_labels(namespace);
    let off = namespace_labels.get(keys::INJECTION).is_some_and(|word| word == "disabled");
    let gateway = envoy_filters::is_gateway(meta);
    let meshed = gateway || (inject != Some("false") && !off);
    Workload { name, namespace: namespace.to_owned(), labels, gateway, meshed }
}
