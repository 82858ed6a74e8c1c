//! A mesh in Kubernetes as the command sees it: its pods, and the admin pages of its programs, which listen on the
//! loopback of their pods and are reached through the API server's port-forward.
//!
//! # Invariants
//! * Nothing is changed here; only what the caller may read is read.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use ferromesh_api::cluster::{Cluster, ClusterError, Resource};
use ferromesh_injector::inject::PROXY_CONTAINER;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use crate::client::Ask;

mod find;

pub use find::workload;

/// Where the chart is installed unless told otherwise.
pub const NAMESPACE: &str = "ferromesh-system";
/// Label of the controller's pods.
const CONTROLLERS: &str = "app=ferromesh-controller";
/// The controller's admin port.
const CONTROLLER_ADMIN: u16 = 15014;
/// A proxy's admin port.
const PROXY_ADMIN: u16 = 15000;
/// Pods.
pub const PODS: Resource = Resource::namespaced("", "v1", "pods");

/// Which cluster.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ClusterArgs {
    /// Kubeconfig file; default: as kubectl finds it.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; default: its current one.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

impl ClusterArgs {
    /// Whether a cluster was named on the command line.
    pub fn is_given(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some()
    }

    /// The cluster. It is not asked yet.
    ///
    /// # Errors
    /// If there is no kubeconfig that can be used.
    pub async fn connect(&self) -> Result<Cluster, ClusterError> {
        Cluster::connect_as(self.kubeconfig.as_deref(), self.context.as_deref()).await
    }
}

/// A page of a program in a pod, as JSON.
async fn page(cluster: &Cluster, namespace: &str, pod: &str, port: u16, path: &str) -> anyhow::Result<Value> {
    let stream = cluster.forward(namespace, pod, port).await?;
    let ask = Ask::get(SocketAddr::from(([127, 0, 0, 1], port)), path);
    let what = || format!("{path} of pod {namespace}/{pod}, port {port}");
    let answer = ask.send_over(stream).await.with_context(what)?;
    if answer.status != 200 {
        bail!("{}: {} {}", what(), answer.status, answer.text().trim());
    }
    answer.json().with_context(what)
}

/// A page of a proxy's admin address.
///
/// # Errors
/// If the pod has no proxy, or it does not answer.
pub async fn proxy_page(cluster: &Cluster, pod: &Pod, path: &str) -> anyhow::Result<Value> {
    let (namespace, name) = key(pod);
    if !has_proxy(pod) {
        bail!("pod {namespace}/{name} has no proxy; is its namespace labelled istio-injection=enabled?");
    }
    page(cluster, namespace, name, PROXY_ADMIN, path).await
}

/// A page of every controller that runs, with the name of its pod.
///
/// # Errors
/// If none runs in the namespace, or one does not answer.
pub async fn controller_pages(cluster: &Cluster, namespace: &str, path: &str) -> anyhow::Result<Vec<(String, Value)>> {
    let pods: Vec<Pod> = cluster.list(&PODS.all(Some(namespace)), CONTROLLERS).await?;
    let running: Vec<&Pod> = pods.iter().filter(|pod| is_running(pod)).collect();
    if running.is_empty() {
        return Err(anyhow!("no controller runs in namespace {namespace} (ferromesh check says more)"));
    }
    let mut pages = Vec::new();
    for pod in running {
        let (namespace, name) = key(pod);
        pages.push((name.to_owned(), page(cluster, namespace, name, CONTROLLER_ADMIN, path).await?));
    }
    Ok(pages)
}

/// Namespace and name.
pub fn key(pod: &Pod) -> (&str, &str) {
    let metadata = &pod.metadata;
    (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

/// Whether a pod has a proxy of ours (or of Istio's) in it.
pub fn has_proxy(pod: &Pod) -> bool {
    let spec = pod.spec.iter();
    let names = spec.flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    names.into_iter().any(|container| container.name == PROXY_CONTAINER)
}

/// Whether a pod runs and is not on its way out.
pub fn is_running(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
}
