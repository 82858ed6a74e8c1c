//! The trust bundle in each namespace: ConfigMap `istio-ca-root-cert`, key `root-cert.pem`. Kept as it should be while
//! this replica leads: new namespaces get one, a changed or deleted one is put back, a new root goes everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ferromesh_api::cluster::watch::{Change, Selection, follow};
use ferromesh_api::cluster::{Cluster, Resource};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

/// The ConfigMap, as Istio calls it.
pub const NAME: &str = "istio-ca-root-cert";
/// The key in it.
pub const KEY: &str = "root-cert.pem";
const CONFIG_MAPS: Resource = Resource::namespaced("", "v1", "configmaps");
const NAMESPACES: Resource = Resource::cluster_wide("", "v1", "namespaces");
const MANAGER: &str = "ferromesh-ca";
/// How long before writes that failed are tried again.
const AGAIN: Duration = Duration::from_secs(2);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Map {
    data: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Namespace {
    metadata: Meta,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Meta {
    deletion_timestamp: Option<String>,
}

/// What is, and what should be.
#[derive(Default)]
struct Known {
    namespaces: BTreeSet<Arc<str>>,
    /// What the bundle is in each namespace; no ConfigMap, no entry.
    bundles: BTreeMap<Arc<str>, Option<String>>,
    synced: [bool; 2],
}

impl Known {
    /// The namespaces whose bundle is not `wanted`.
    fn wrong(&self, wanted: &str) -> Vec<Arc<str>> {
        if self.synced != [true, true] {
            return Vec::new();
        }
        let right = |namespace: &&Arc<str>| self.bundles.get(*namespace).and_then(Option::as_deref) == Some(wanted);
        self.namespaces.iter().filter(|namespace| !right(namespace)).cloned().collect()
    }

    fn namespace(&mut self, change: Change) {
        match change {
            Change::Applied { name, json } => {
                let ends =
                    serde_json::from_str::<Namespace>(json.get()).unwrap_or_default().metadata.deletion_timestamp;
                if ends.is_none() {
                    self.namespaces.insert(name.1)
                } else {
                    self.namespaces.remove(&name.1)
                };
            }
            Change::Deleted(name) => {
                self.namespaces.remove(&name.1);
            }
            Change::Synced => self.synced[0] = true,
            Change::Failed(error) => tracing::warn!(%error, "namespaces cannot be followed now"),
        }
    }

    fn map(&mut self, change: Change) {
        match change {
            Change::Applied { name, json } => {
                let map: Map = serde_json::from_str(json.get()).unwrap_or_default();
                self.bundles.insert(name.0, map.data.get(KEY).cloned());
            }
            Change::Deleted(name) => {
                self.bundles.remove(&name.0);
            }
            Change::Synced => self.synced[1] = true,
            Change::Failed(error) => tracing::warn!(%error, "trust bundles cannot be followed now"),
        }
    }
}

/// Writes bundles while `leading`, for ever.
pub async fn keep(cluster: Cluster, mut bundle: watch::Receiver<Arc<str>>, mut leading: watch::Receiver<bool>) {
    let (_never, kinds) = watch::channel(0);
    let (namespace_changes, mut namespaces) = mpsc::channel(64);
    let (map_changes, mut maps) = mpsc::channel(64);
    let follow_namespaces = follow(cluster.clone(), Selection::all(NAMESPACES), kinds.clone(), namespace_changes);
    let follow_maps = follow(cluster.clone(), Selection::all(CONFIG_MAPS).called(NAME), kinds, map_changes);
    let write = async {
        let mut known = Known::default();
        loop {
            let wanted = Arc::clone(&bundle.borrow_and_update());
            let leads = *leading.borrow_and_update();
            let wrong = if leads { known.wrong(&wanted) } else { Vec::new() };
            let mut failed = false;
            for namespace in wrong {
                match apply(&cluster, &namespace, &wanted).await {
                    Ok(()) => {
                        known.bundles.insert(namespace, Some(wanted.to_string()));
                    }
                    // Most likely a namespace that is going; if not, it is tried again.
                    Err(error) => {
                        tracing::info!(%namespace, %error, "the trust bundle was not written");
                        failed = true;
                    }
                }
            }
            tokio::select! {
                Some(change) = namespaces.recv() => known.namespace(change),
                Some(change) = maps.recv() => known.map(change),
                Ok(()) = bundle.changed() => {}
                Ok(()) = leading.changed() => {}
                () = tokio::time::sleep(AGAIN), if failed => {}
                else => return,
            }
        }
    };
    tokio::join!(follow_namespaces, follow_maps, write);
}

async fn apply(cluster: &Cluster, namespace: &str, bundle: &str) -> Result<(), ferromesh_api::cluster::ClusterError> {
    let body = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": namespace, "labels": {"istio.io/config": "true"}},
        "data": {KEY: bundle},
    });
    cluster.apply::<Value>(&CONFIG_MAPS.named(namespace, NAME), &body, MANAGER).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaces_without_the_right_bundle_are_written_and_none_before_all_is_known() {
        let mut known = Known::default();
        known.namespaces.extend(["a".into(), "b".into(), "c".into()]);
        known.bundles.insert("a".into(), Some("new".into()));
        known.bundles.insert("b".into(), Some("old".into()));
        assert!(known.wrong("new").is_empty());
        known.synced = [true, true];
        assert_eq!(known.wrong("new"), ["b".into(), "c".into()] as [Arc<str>; 2]);
    }
}
