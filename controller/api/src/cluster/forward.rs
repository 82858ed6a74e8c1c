//! A port of a pod, through the API server: what listens on the pod's loopback only is reached by who may do
//! `pods/portforward` there.

use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Cluster, ClusterError, chain};

impl Cluster {
    /// A connection to `port` of a pod.
    ///
    /// # Errors
    /// If the pod is not there or does not run, or the caller may not. A port where nothing listens is an error of the
    /// stream.
    pub async fn forward(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static + use<>, ClusterError> {
        let pods: kube::Api<Pod> = kube::Api::namespaced(self.client.clone(), namespace);
        let what = format!("forward port {port} of pod {namespace}/{pod}");
        let mut forwarder = pods.portforward(pod, &[port]).await.map_err(|error| match error {
            kube::Error::Api(status) => {
                ClusterError::Status { code: status.code, reason: status.reason, message: status.message, what }
            }
            other => ClusterError::Unreachable(format!("{what}: {}", chain(&other))),
        })?;
        let stream = forwarder.take_stream(port);
        stream.ok_or_else(|| ClusterError::Unreachable(format!("port {port} of pod {namespace}/{pod} gave no stream")))
    }
}
