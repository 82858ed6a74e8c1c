//! What Helm leaves: CRDs, the CA's root, trust bundles. And what still has proxies.

use std::collections::BTreeSet;

use ferromesh_api::cluster::{Cluster, ClusterError, Resource};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use crate::cluster::{PODS, has_proxy, key};

const CRDS: Resource = Resource::cluster_wide("apiextensions.k8s.io", "v1", "customresourcedefinitions");
const SECRETS: Resource = Resource::namespaced("", "v1", "secrets");
const CONFIG_MAPS: Resource = Resource::namespaced("", "v1", "configmaps");
const LEASES: Resource = Resource::namespaced("coordination.k8s.io", "v1", "leases");
/// What the chart's objects are labelled with; so a real Istio's CRDs stay.
const OURS: &str = "app.kubernetes.io/part-of=ferromesh";
/// The label of trust bundles, which the CA writes.
const BUNDLES: &str = "istio.io/config=true";
const BUNDLE: &str = "istio-ca-root-cert";

#[derive(Deserialize)]
struct Named {
    metadata: ObjectMeta,
}

impl Named {
    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }
}

/// Deletes it; gives what was deleted.
pub(super) async fn purge(cluster: &Cluster, namespace: &str) -> Result<Vec<String>, ClusterError> {
    let mut gone = Vec::new();
    for crd in cluster.list::<Named>(&CRDS.all(None), OURS).await? {
        if delete(cluster, CRDS, "", crd.name()).await? {
            gone.push(format!("CustomResourceDefinition {}", crd.name()));
        }
    }
    for (resource, name) in
        [(SECRETS, "ferromesh-ca-root"), (LEASES, "ferromesh-ca-leader"), (LEASES, "ferromesh-controller-leader")]
    {
        if delete(cluster, resource, namespace, name).await? {
            gone.push(format!("{} {namespace}/{name}", resource.plural.trim_end_matches('s')));
        }
    }
    let mut bundles = 0;
    for bundle in cluster.list::<Named>(&CONFIG_MAPS.all(None), BUNDLES).await? {
        let of = bundle.metadata.namespace.as_deref().unwrap_or_default();
        if bundle.name() == BUNDLE && delete(cluster, CONFIG_MAPS, of, BUNDLE).await? {
            bundles += 1;
        }
    }
    gone.push(format!("{bundles} ConfigMaps {BUNDLE}"));
    Ok(gone)
}

async fn delete(cluster: &Cluster, resource: Resource, namespace: &str, name: &str) -> Result<bool, ClusterError> {
    match cluster.delete(&resource.named(namespace, name)).await {
        Ok(()) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Namespaces with pods that have proxies.
pub(super) async fn meshed(cluster: &Cluster) -> Result<Vec<String>, ClusterError> {
    let pods: Vec<Pod> = cluster.list(&PODS.all(None), "").await?;
    let with = pods.iter().filter(|pod| has_proxy(pod) && pod.metadata.deletion_timestamp.is_none());
    let namespaces: BTreeSet<String> = with.map(|pod| key(pod).0.to_owned()).collect();
    Ok(namespaces.into_iter().collect())
}
