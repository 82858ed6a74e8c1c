//! Pods, by the API server.

use std::time::Duration;

use ferromesh_api::cluster::{Cluster, ClusterError, Resource};
use k8s_openapi::api::core::v1::Pod;
use tokio::runtime::Handle;

/// Kubernetes' pods.
pub const PODS: Resource = Resource::namespaced("", "v1", "pods");
/// Longest time of one lookup, with its repetitions; shorter than the plugin's patience.
const LONGEST: Duration = Duration::from_secs(15);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// Where pods are looked up. It may block.
pub trait Pods: Send + Sync + 'static {
    /// One pod; none if there is none of that name.
    ///
    /// # Errors
    /// If it cannot be told.
    fn get(&self, namespace: &str, name: &str) -> Result<Option<Pod>, String>;
}

/// The API server.
#[derive(Debug)]
pub struct Api {
    cluster: Cluster,
    runtime: Handle,
}

impl Api {
    /// With a connection, and where its work is done; needs a tokio runtime.
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster, runtime: Handle::current() }
    }

    async fn look(&self, namespace: &str, name: &str) -> Result<Option<Pod>, ClusterError> {
        loop {
            match self.cluster.get(&PODS.named(namespace, name)).await {
                Ok(pod) => return Ok(Some(pod)),
                Err(error) if error.is_not_found() => return Ok(None),
                // Away, or overloaded.
                Err(error) if error.code().is_none_or(|code| code == 429 || code >= 500) => {
                    tracing::warn!(%error, namespace, name, "the pod cannot be looked up; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Pods for Api {
    fn get(&self, namespace: &str, name: &str) -> Result<Option<Pod>, String> {
        let look = async { tokio::time::timeout(LONGEST, self.look(namespace, name)).await };
        match self.runtime.block_on(look) {
            Ok(found) => found.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the API server did not say within {LONGEST:?}")),
        }
    }
}
