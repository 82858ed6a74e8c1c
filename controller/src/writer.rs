//! The statuses that were computed, written to the cluster by the replica that leads: only those that differ from what
//! the API server has, a few at a time.
//!
//! ```text
//! views (statuses wanted) ──┐
//! observed (statuses there) ├──> patch (pure) ──> server-side apply, or a merge where lists are shared
//! leading ──────────────────┘
//! ```

mod patch;

use std::time::Duration;

use ferromesh_api::cluster::{Cluster, ClusterError};
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::app::Published;
use crate::index::{Key, Kind, ObjectRef};
use crate::source::kubernetes::{Observed, Seen, resources};
use crate::status::Statuses;
use patch::Patch;

/// The name under which fields are owned.
const MANAGER: &str = "ferromesh-controller";
/// Writes at a time.
const AT_ONCE: usize = 8;
/// How long changes are gathered.
const GATHER: Duration = Duration::from_millis(100);
/// How long before writes that failed are tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Writes while `leading`, until the controller ends.
pub async fn keep(
    cluster: Cluster,
    observed: Observed,
    mut views: watch::Receiver<Published>,
    mut leading: watch::Receiver<bool>,
) {
    let mut changes = observed.changes();
    loop {
        changes.borrow_and_update();
        let leads = *leading.borrow_and_update();
        let published = views.borrow_and_update().clone();
        let failed = leads && published.synced && !write(&cluster, &observed, &published).await;
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            changed = changes.changed() => if changed.is_err() { return },
            changed = leading.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if failed => {}
        }
        tokio::time::sleep(GATHER).await;
    }
}

/// Writes what differs. False if something could not be written.
async fn write(cluster: &Cluster, observed: &Observed, published: &Published) -> bool {
    let (wanted, controllers) = (wanted(&published.statuses), published.view.controllers());
    let patches = wanted.into_iter().filter_map(|(reference, status)| {
        let seen = observed.get(&reference)?;
        let patch = patch::patch(reference.kind, &status, &seen, controllers)?;
        Some((reference, patch, seen))
    });
    let writes = stream::iter(patches).map(|(reference, patch, seen)| async move {
        match send(cluster, &reference, &patch, &seen).await {
            Ok(written) => {
                observed.written(&reference, written);
                true
            }
            // Changed or gone meanwhile: news of it comes, and with it the next try.
            Err(error) if error.is_conflict() || error.is_not_found() => true,
            Err(error) => {
                tracing::warn!(object = %reference, %error, "its status was not written");
                false
            }
        }
    });
    writes.buffer_unordered(AT_ONCE).fold(true, |all, one| async move { all && one }).await
}

async fn send(cluster: &Cluster, reference: &ObjectRef, patch: &Patch, seen: &Seen) -> Result<Seen, ClusterError> {
    let Key { namespace, name } = &reference.key;
    let mut error = None;
    for resource in resources(reference.kind) {
        let place = resource.named(namespace, name).subresource("status");
        let written = match patch {
            Patch::Apply(status) => {
                let mut metadata = json!({"name": **name});
                if resource.namespaced {
                    metadata["namespace"] = json!(**namespace);
                }
                let body = json!({
                    "apiVersion": resource.api_version(), "kind": reference.kind.as_str(),
                    "metadata": metadata, "status": status,
                });
                cluster.apply::<Value>(&place, &body, MANAGER).await
            }
            Patch::Merge(status) => {
                let body = json!({"metadata": {"resourceVersion": seen.version}, "status": status});
                cluster.merge::<Value>(&place, &body).await
            }
        };
        match written {
            Ok(object) => return Ok(Seen::of(&object)),
            // Perhaps only this version is not served.
            Err(missing) if missing.is_not_found() => error = Some(missing),
            Err(error) => return Err(error),
        }
    }
    Err(error.unwrap_or_else(|| ClusterError::Unreachable("the kind has no version".into())))
}

/// Every status as JSON.
fn wanted(statuses: &Statuses) -> Vec<(ObjectRef, Value)> {
    let mut all = Vec::new();
    let mut add = |kind, key: &Key, status: serde_json::Result<Value>| match status {
        Ok(status) => all.push((ObjectRef { kind, key: key.clone() }, status)),
        Err(error) => tracing::error!(%kind, %key, %error, "a status cannot be written as JSON"),
    };
    statuses
        .gateway_classes
        .iter()
        .for_each(|(key, status)| add(Kind::GatewayClass, key, serde_json::to_value(status)));
    statuses.gateways.iter().for_each(|(key, status)| add(Kind::Gateway, key, serde_json::to_value(status)));
    statuses.http_routes.iter().for_each(|(key, status)| add(Kind::HttpRoute, key, serde_json::to_value(status)));
    statuses.grpc_routes.iter().for_each(|(key, status)| add(Kind::GrpcRoute, key, serde_json::to_value(status)));
    statuses.envoy_filters.iter().for_each(|(key, status)| add(Kind::EnvoyFilter, key, serde_json::to_value(status)));
    all
}
