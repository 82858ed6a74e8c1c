//! Labels and annotations of an injected pod.

use std::collections::BTreeMap;

use ferromesh_api::{annotations, labels};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::{Context, Parts, container, overrides};
use crate::settings::RedirectBy;

const DEFAULT_CONTAINER: [&str; 2] =
    ["kubectl.kubernetes.io/default-container", "kubectl.kubernetes.io/default-logs-container"];
/// Longest value of a label (Kubernetes).
const LABEL: usize = 63;

/// Whether the injector has been at it before.
pub(super) fn is_injected(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|known| known.contains_key(annotations::SIDECAR_STATUS))
}

pub(super) fn apply(context: &Context<'_>, metadata: &mut ObjectMeta, parts: &Parts, saved: Option<overrides::Saved>) {
    let settings = &context.mesh.settings;
    let labels = metadata.labels.get_or_insert_default();
    if !context.gateway() {
        labels.entry(labels::TLS_MODE.into()).or_insert_with(|| labels::TLS_MODE_ISTIO.into());
    }
    let name = canonical_name(context, labels);
    set_if_absent(labels, labels::CANONICAL_NAME, name);
    let revision = first(labels, &[labels::APP_VERSION, labels::VERSION]).unwrap_or_else(|| "latest".into());
    set_if_absent(labels, labels::CANONICAL_REVISION, revision);
    if !settings.network.is_empty() {
        labels.insert(labels::TOPOLOGY_NETWORK.into(), settings.network.clone());
    }
    labels.extend(settings.injected_labels.clone());

    let known = metadata.annotations.get_or_insert_default();
    known.insert(labels::REVISION.into(), settings.revision.clone());
    if let Some(first) = container::app_containers(context).first() {
        for name in DEFAULT_CONTAINER {
            known.entry(name.into()).or_insert_with(|| first.clone());
        }
    }
    if settings.redirect_by == RedirectBy::NodeAgent && parts.init.is_some() {
        for_the_node_agent(context, known);
    }
    if let Some(saved) = saved
        && let Ok(text) = serde_json::to_string(&saved)
    {
        known.insert(overrides::ANNOTATION.into(), text);
    }
    known.insert(annotations::SIDECAR_STATUS.into(), status(context, parts));
    known.extend(settings.injected_annotations.clone());
}

fn set_if_absent(labels: &mut BTreeMap<String, String>, key: &str, value: String) {
    let known = labels.entry(key.into()).or_default();
    if known.is_empty() {
        *known = value;
    }
}

fn first(labels: &BTreeMap<String, String>, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| labels.get(*key).filter(|value| !value.is_empty()).cloned())
}

/// Of the labels or the workload's name, as a label's value may be.
fn canonical_name(context: &Context<'_>, labels: &BTreeMap<String, String>) -> String {
    let name = first(labels, &[labels::APP_NAME, labels::APP]).unwrap_or_else(|| context.owner.name.clone());
    let short: String = name.chars().take(LABEL).collect();
    short.trim_matches(['-', '_', '.']).to_owned()
}

/// What the agent on the node reads: the traffic settings, complete.
fn for_the_node_agent(context: &Context<'_>, known: &mut BTreeMap<String, String>) {
    known.insert(annotations::INTERCEPTION_MODE.into(), context.mode().as_str().into());
    let args = super::init::redirect_args(context);
    let names = [
        ("-i", annotations::INCLUDE_OUTBOUND_IP_RANGES),
        ("-x", annotations::EXCLUDE_OUTBOUND_IP_RANGES),
        ("-b", annotations::INCLUDE_INBOUND_PORTS),
        ("-d", annotations::EXCLUDE_INBOUND_PORTS),
        ("-q", annotations::INCLUDE_OUTBOUND_PORTS),
        ("-o", annotations::EXCLUDE_OUTBOUND_PORTS),
    ];
    for pair in args.windows(2) {
        if let [flag, value] = pair
            && let Some((_, name)) = names.iter().find(|(known, _)| known == flag)
            && !value.is_empty()
        {
            known.insert((*name).into(), value.clone());
        }
    }
}

/// What the injector did, in Istio's form.
fn status(context: &Context<'_>, parts: &Parts) -> String {
    let native = context.native();
    let mut init: Vec<&str> = parts.init.iter().map(|init| init.name.as_str()).collect();
    let mut containers: Vec<&str> = Vec::new();
    if native { &mut init } else { &mut containers }.push(&parts.proxy.name);
    let list = |names: Vec<&str>| if names.is_empty() { json!(null) } else { json!(names) };
    let status = json!({
        "initContainers": list(init),
        "containers": list(containers),
        "volumes": parts.volumes.iter().map(|volume| &volume.name).collect::<Vec<_>>(),
        "imagePullSecrets": list(parts.image_pull_secrets.iter().map(String::as_str).collect()),
        "revision": context.mesh.settings.revision,
    });
    status.to_string()
}
