//! The pods of the cluster, as far as a token's owner is concerned: account, uid and addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use ferromesh_api::cluster::watch::{Change, Name, Selection, follow};
use ferromesh_api::cluster::{Cluster, Resource};
use serde::Deserialize;
use tokio::sync::{mpsc, watch};

const PODS: Resource = Resource::namespaced("", "v1", "pods");
/// Those that have ended have neither address nor business here.
const LIVE: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// What is known of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) uid: String,
    pub(crate) account: String,
    pub(crate) ips: Vec<IpAddr>,
}

/// All live pods; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pods(Arc<RwLock<BTreeMap<Name, Pod>>>);

impl Pods {
    /// One pod.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Pod> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&(namespace.into(), name.into())).cloned()
    }

    /// Follows the cluster's pods, for ever; `synced` is told once all are known.
    pub(crate) async fn follow(self, cluster: Cluster, synced: watch::Sender<bool>) {
        let (changes, mut receiver) = mpsc::channel(64);
        let (_never, kinds) = watch::channel(0);
        let selection = Selection::all(PODS).fields(LIVE);
        let read = async {
            while let Some(change) = receiver.recv().await {
                match change {
                    Change::Applied { name, json } => match serde_json::from_str::<Object>(json.get()) {
                        Ok(object) => self.put(name, object.pod()),
                        Err(error) => tracing::warn!(pod = %name.1, %error, "a pod cannot be read"),
                    },
                    Change::Deleted(name) => self.remove(&name),
                    Change::Synced => {
                        synced.send_replace(true);
                    }
                    Change::Failed(error) => tracing::warn!(%error, "pods cannot be followed now"),
                }
            }
        };
        tokio::join!(follow(cluster, selection, kinds, changes), read);
    }

    pub(crate) fn put(&self, name: Name, pod: Pod) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name, pod);
    }

    fn remove(&self, name: &Name) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// The few fields of a pod that matter.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    metadata: Meta,
    spec: Spec,
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    uid: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    service_account_name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<Ip>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ip {
    ip: String,
}

impl Object {
    fn pod(self) -> Pod {
        let more = self.status.pod_ips.into_iter().map(|ip| ip.ip);
        let mut ips: Vec<IpAddr> =
            std::iter::once(self.status.pod_ip).chain(more).filter_map(|ip| ip.parse().ok()).collect();
        ips.dedup();
        Pod { uid: self.metadata.uid, account: self.spec.service_account_name, ips }
    }
}
