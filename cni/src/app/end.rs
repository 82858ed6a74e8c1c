//! Whether the agent's end is for good: it is not when its pod makes way for another one (upgrade, restart, eviction).

use std::time::Duration;

use ferromesh_api::cluster::{Cluster, ClusterError, Resource};
use k8s_openapi::api::apps::v1::DaemonSet;

const DAEMON_SETS: Resource = Resource::namespaced("apps", "v1", "daemonsets");

/// Whether the DaemonSet is gone or going. While it is there, pods with a sidecar are better held up than started without
/// redirection; nobody can say that if the API server is away. Without a DaemonSet every end is for good.
pub(super) async fn is_final(cluster: &Cluster, daemon_set: Option<&str>, patience: Duration) -> bool {
    let Some(daemon_set) = daemon_set else { return true };
    let (namespace, name) = daemon_set.split_once('/').unwrap_or(("", daemon_set));
    let place = DAEMON_SETS.named(namespace, name);
    let asked = tokio::time::timeout(patience, cluster.get::<DaemonSet>(&place)).await;
    let found = asked.unwrap_or_else(|_| Err(ClusterError::Unreachable(format!("no answer within {patience:?}"))));
    match found {
        Ok(daemon_set) => daemon_set.metadata.deletion_timestamp.is_some(),
        // Our right to ask, or our service account, went with the release.
        Err(error) if error.is_not_found() || error.is_forbidden() => true,
        Err(error) => {
            tracing::warn!(%error, "it is not known whether {name} is being removed");
            false
        }
    }
}
