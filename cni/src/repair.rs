//! Pods that started before the agent was there, or while it was not in the chain: their `istio-validation` fails again and
//! again, since only a new sandbox is redirected. They get Istio's label for it, or are deleted so that their owner makes
//! new ones. Off unless asked for; bounded in each round.

use std::time::Duration;

use ferromesh_api::cluster::{Cluster, ClusterError};
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::decide::{Decision, VALIDATION_CONTAINER, decide};
use crate::metrics::{AgentMetrics, Outcome};
use crate::pods::PODS;

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(10);
/// Pods of a round, at most. More of them is a fault that deleting does not mend.
const MOST: usize = 5;
/// Istio's label of such pods.
pub const LABEL: &str = "cni.istio.io/uninitialized";

/// What is done with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Repair {
    /// Nothing.
    None,
    /// They are labelled `cni.istio.io/uninitialized`.
    Label,
    /// They are deleted, if somebody makes new ones; else labelled.
    Delete,
}

/// One pod's part of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Label it.
    Label,
    /// Delete it.
    Delete,
}

/// Looks for them again and again, while `in_place` says that new pods are redirected.
pub async fn run(cluster: Cluster, node: String, repair: Repair, metrics: AgentMetrics, in_place: impl Fn() -> bool) {
    loop {
        tokio::time::sleep(ROUND).await;
        if !in_place() {
            continue;
        }
        if let Err(error) = round(&cluster, &node, repair, &metrics).await {
            tracing::warn!(%error, "pods without redirection cannot be looked for");
        }
    }
}

#[derive(Deserialize)]
struct List {
    items: Vec<Pod>,
}

async fn round(cluster: &Cluster, node: &str, repair: Repair, metrics: &AgentMetrics) -> Result<(), ClusterError> {
    // Their init containers are not done, so they are Pending; a node has 110 pods unless told otherwise.
    let path =
        format!("{}?fieldSelector=spec.nodeName%3D{node},status.phase%3DPending&limit=500", PODS.all(None).path());
    let list: List = cluster.get_path(&path).await?;
    let steps = list.items.iter().filter_map(|pod| Some((pod, step(pod, repair)?)));
    for (pod, step) in steps.take(MOST) {
        let done = take(cluster, pod, &step).await;
        let (namespace, name) = place(pod);
        let outcome = match (&step, done) {
            // It is gone, or changed: the next round sees.
            (_, Err(error)) if error.is_not_found() || error.is_conflict() => continue,
            (_, Err(error)) => {
                tracing::warn!(%error, namespace, name, "a pod without redirection cannot be repaired");
                "failed"
            }
            (Step::Label, Ok(())) => "labelled",
            (Step::Delete, Ok(())) => "deleted",
        };
        tracing::warn!(namespace, name, outcome, "a pod had started without redirection");
        metrics.repairs.get_or_create(&Outcome::of(outcome)).inc();
    }
    Ok(())
}

async fn take(cluster: &Cluster, pod: &Pod, step: &Step) -> Result<(), ClusterError> {
    let (namespace, name) = place(pod);
    let place = PODS.named(namespace, name);
    match step {
        Step::Delete => cluster.delete_this(&place, pod.metadata.uid.as_deref().unwrap_or_default()).await,
        Step::Label => {
            // The status' right is the smaller one, and labels go with it.
            let patch = json!({"metadata": {"uid": pod.metadata.uid, "labels": {LABEL: "true"}}});
            cluster.merge::<Value>(&place.subresource("status"), &patch).await.map(drop)
        }
    }
}

fn place(pod: &Pod) -> (&str, &str) {
    (pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default())
}

/// What is to be done with a pod; none if nothing is.
pub fn step(pod: &Pod, repair: Repair) -> Option<Step> {
    let metadata = &pod.metadata;
    let ours = matches!(decide(pod), Ok(Decision::Redirect(_)));
    if !ours || metadata.deletion_timestamp.is_some() || !failed(pod) {
        return None;
    }
    let owned = metadata.owner_references.iter().flatten().any(|owner| owner.controller == Some(true));
    match repair {
        Repair::None => None,
        Repair::Delete if owned => Some(Step::Delete),
        Repair::Label | Repair::Delete => {
            let labelled = metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(LABEL));
            (!labelled).then_some(Step::Label)
        }
    }
}

/// Whether its check has failed, now or the last time, and has not been passed since.
fn failed(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let mut checks = status.into_iter().flat_map(|status| status.init_container_statuses.iter().flatten());
    let Some(check) = checks.find(|check| check.name == VALIDATION_CONTAINER) else { return false };
    let code = |state: &Option<ContainerState>| Some(state.as_ref()?.terminated.as_ref()?.exit_code);
    match code(&check.state) {
        Some(code) => code != 0,
        None => code(&check.last_state).is_some_and(|code| code != 0),
    }
}

#[cfg(test)]
mod tests;
