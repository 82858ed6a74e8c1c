//! The pod that a word names.

use anyhow::{Context, anyhow};
use ferromesh_api::cluster::Cluster;
use ferromesh_api::labels::GATEWAY_NAME;
use k8s_openapi::api::core::v1::Pod;

use super::{PODS, has_proxy, is_running, key};

/// Names that a message lists.
const SHOWN: usize = 20;

/// The pod of that name, or the first that runs of a Deployment, StatefulSet, DaemonSet, Job or Gateway of that name.
/// `word` may be `<namespace>/<name>`.
///
/// # Errors
/// If there is none, with those that have a proxy.
pub async fn workload(cluster: &Cluster, word: &str, namespace: Option<&str>) -> anyhow::Result<Pod> {
    let (namespace, name) = match word.split_once('/') {
        Some((namespace, name)) => (namespace, name),
        None => (namespace.unwrap_or_else(|| cluster.default_namespace()), word),
    };
    let pods: Vec<Pod> = cluster.list(&PODS.all(Some(namespace)), "").await?;
    choose(&pods, name).cloned().with_context(|| missing(&pods, namespace, name))
}

fn choose<'a>(pods: &'a [Pod], name: &str) -> Option<&'a Pod> {
    let exact = pods.iter().find(|pod| key(pod).1 == name);
    exact.or_else(|| {
        let mut of: Vec<&Pod> = pods.iter().filter(|pod| is_of(pod, name)).collect();
        of.sort_by_key(|pod| (!is_running(pod), key(pod).1));
        of.first().copied()
    })
}

/// Whether a pod belongs to a workload, by its owner: a ReplicaSet is called as its Deployment, with a hash.
fn is_of(pod: &Pod, name: &str) -> bool {
    let labels = pod.metadata.labels.as_ref();
    if labels.and_then(|labels| labels.get(GATEWAY_NAME)).is_some_and(|gateway| gateway == name) {
        return true;
    }
    pod.metadata.owner_references.iter().flatten().any(|owner| match owner.kind.as_str() {
        "ReplicaSet" => owner.name.rsplit_once('-').is_some_and(|(deployment, _)| deployment == name),
        _ => owner.name == name,
    })
}

fn missing(pods: &[Pod], namespace: &str, name: &str) -> anyhow::Error {
    let mut known: Vec<&str> = pods.iter().filter(|pod| has_proxy(pod)).map(|pod| key(pod).1).collect();
    known.sort_unstable();
    let more = if known.len() > SHOWN { ", ..." } else { "" };
    known.truncate(SHOWN);
    let there = if known.is_empty() {
        "none there has a proxy; another namespace: -n NAMESPACE".to_owned()
    } else {
        format!("those with a proxy: {}{more}", known.join(", "))
    };
    anyhow!("no pod or workload {name:?} in namespace {namespace}; {there}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, phase: &str, owner: (&str, &str), gateway: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "demo", "labels": { (GATEWAY_NAME): gateway },
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": owner.0, "name": owner.1, "uid": "1" }],
            },
            "spec": { "containers": [{ "name": "app" }], "initContainers": [{ "name": "istio-proxy" }] },
            "status": { "phase": phase },
        }))
        .unwrap()
    }

    #[test]
    fn a_word_is_a_pod_a_workload_or_a_gateway() {
        let pods = [
            pod("web-7d9-a", "Pending", ("ReplicaSet", "web-7d9"), ""),
            pod("web-7d9-b", "Running", ("ReplicaSet", "web-7d9"), ""),
            pod("web-admin-5c-x", "Running", ("ReplicaSet", "web-admin-5c"), ""),
            pod("db-0", "Running", ("StatefulSet", "db"), ""),
            pod("edge-istio-66-y", "Running", ("ReplicaSet", "edge-istio-66"), "edge"),
        ];
        let named = |word: &str| choose(&pods, word).map(|pod| key(pod).1);
        assert_eq!(named("web-7d9-a"), Some("web-7d9-a"));
        assert_eq!(named("web"), Some("web-7d9-b"), "the one that runs");
        assert_eq!(named("web-admin"), Some("web-admin-5c-x"));
        assert_eq!(named("db"), Some("db-0"));
        assert_eq!((named("edge"), named("edge-istio")), (Some("edge-istio-66-y"), Some("edge-istio-66-y")));
        assert_eq!(named("we"), None);
        assert!(missing(&pods, "demo", "we").to_string().contains("those with a proxy: db-0, edge-istio-66-y"));
    }
}
