//! Who asks: the node that a proxy says it is, checked against the identity that its connection proved.

use std::net::SocketAddr;

use ferromesh_core::{NodeId, SpiffeId};
use ferromesh_proto::envoy::config::core::v3::Node;
use ferromesh_proto::json::struct_to_json;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use crate::index::pods::service_account;

/// Longest node id.
const MAX_NODE_ID: usize = 1024;

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address; none on a Unix socket.
    pub address: Option<SocketAddr>,
    /// What its client certificate proved; none without TLS.
    pub identity: Option<SpiffeId>,
}

/// A proxy that may be served.
#[derive(Clone, Debug)]
pub struct Client {
    /// The node as it was sent.
    pub proto: Node,
    /// Its id, taken apart.
    pub id: NodeId,
    /// Its metadata.
    pub metadata: Value,
    /// Its service account, if it is known.
    pub service_account: Option<String>,
    /// Its connection.
    pub peer: Peer,
}

/// Why a proxy is not served.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ClientError {
    /// The first request on a stream must say who asks.
    #[error("the first request has no `node`; give `node.id` in the bootstrap")]
    NoNode,
    /// The id is not Istio's.
    #[error("node.id {0:?} is not `<sidecar|router>~<ip>~<pod>.<namespace>~<domain>`")]
    Id(String),
    /// Id and metadata contradict each other.
    #[error("node.metadata.NAMESPACE is {metadata:?}, but node.id says {id:?}")]
    Namespace {
        /// What the metadata says.
        metadata: String,
        /// What the id says.
        id: String,
    },
    /// The certificate belongs to someone else.
    #[error("{identity} may not claim namespace {namespace:?} and service account {service_account:?}")]
    Identity {
        /// Who asks.
        identity: String,
        /// The namespace that it claims.
        namespace: String,
        /// The service account that it claims.
        service_account: String,
    },
    /// The pod belongs to someone else.
    #[error("{identity} may not be pod {pod}: that pod runs as service account {service_account:?}")]
    Pod {
        /// Who asks.
        identity: String,
        /// The pod that it claims to be, as `<namespace>/<name>`.
        pod: String,
        /// The service account of that pod.
        service_account: String,
    },
    /// There is no such pod, or it has not been heard of yet.
    #[error("pod {0} is not known here (yet); connect again, or create it")]
    UnknownPod(String),
}

impl Client {
    /// Checks the node of a stream's first request.
    ///
    /// # Errors
    /// If there is none, or it is not what `peer` may claim to be.
    pub fn identify(node: Option<Node>, peer: Peer) -> Result<Self, ClientError> {
        let proto = node.ok_or(ClientError::NoNode)?;
        let bad_id = || ClientError::Id(proto.id.chars().take(200).collect());
        if proto.id.len() > MAX_NODE_ID {
            return Err(bad_id());
        }
        let id: NodeId = proto.id.parse().map_err(|_| bad_id())?;
        let metadata = proto.metadata.as_ref().map_or(Value::Null, struct_to_json);
        let text = |key: &str| metadata.get(key).and_then(Value::as_str).map(str::to_owned);
        if let Some(namespace) = text("NAMESPACE")
            && namespace != id.namespace
        {
            return Err(ClientError::Namespace { metadata: namespace, id: id.namespace });
        }
        let mut service_account = text("SERVICE_ACCOUNT");
        if let Some(identity) = &peer.identity {
            let own = identity.service_account().map(str::to_owned);
            let claimed = service_account.or_else(|| own.clone());
            if identity.namespace() != Some(id.namespace.as_str()) || claimed != own || own.is_none() {
                return Err(ClientError::Identity {
                    identity: identity.as_str().to_owned(),
                    namespace: id.namespace,
                    service_account: claimed.unwrap_or_default(),
                });
            }
            service_account = own;
        }
        Ok(Self { proto, id, metadata, service_account, peer })
    }

    /// Checks the pod that the proxy says to be against the identity that it proved: who may run as one account of a
    /// namespace must not read what is meant for another's pods. Without TLS there is nothing to check against.
    ///
    /// # Errors
    /// If the pod runs as another service account, or is not there.
    pub fn check_pod(&self, pod: Option<&Pod>) -> Result<(), ClientError> {
        let Some(identity) = &self.peer.identity else { return Ok(()) };
        let name = || format!("{}/{}", self.id.namespace, self.id.pod);
        let pod = pod.ok_or_else(|| ClientError::UnknownPod(name()))?;
        let account = service_account(pod);
        if identity.service_account() == Some(account) {
            return Ok(());
        }
        let identity = identity.as_str().to_owned();
        Err(ClientError::Pod { identity, pod: name(), service_account: account.to_owned() })
    }

    /// The name that `syncz` shows: `<pod>.<namespace>`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.id.pod, self.id.namespace)
    }

    /// A text in the node's metadata.
    pub fn metadata_str(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).and_then(Value::as_str)
    }
}

#[cfg(test)]
mod tests {
    use ferromesh_proto::json::json_to_struct;
    use serde_json::json;

    use super::*;

    fn identify(id: &str, metadata: Value, identity: Option<&str>) -> Result<Client, ClientError> {
        let node = Node { id: id.into(), metadata: Some(json_to_struct(&metadata)), ..Node::default() };
        let identity = identity.map(|id| SpiffeId::parse(id).unwrap());
        Client::identify(Some(node), Peer { address: None, identity })
    }

    const WEB: &str = "sidecar~10.0.0.1~web-0.default~default.svc.cluster.local";
    const WEB_ID: &str = "spiffe://cluster.local/ns/default/sa/web";

    #[test]
    fn without_tls_the_metadata_is_believed() {
        let client = identify(WEB, json!({"NAMESPACE": "default", "SERVICE_ACCOUNT": "web"}), None).unwrap();
        assert_eq!((client.name().as_str(), client.service_account.as_deref()), ("web-0.default", Some("web")));
    }

    #[test]
    fn a_node_without_metadata_is_what_its_certificate_says() {
        let client = identify(WEB, json!({}), Some(WEB_ID)).unwrap();
        assert_eq!(client.service_account.as_deref(), Some("web"));
    }

    #[test]
    fn a_node_may_not_claim_another_namespace_or_service_account() {
        let other_namespace = identify(WEB, json!({}), Some("spiffe://cluster.local/ns/other/sa/web"));
        assert!(matches!(other_namespace, Err(ClientError::Identity { .. })));
        let other_account = identify(WEB, json!({"SERVICE_ACCOUNT": "admin"}), Some(WEB_ID));
        assert!(matches!(other_account, Err(ClientError::Identity { .. })));
        let no_workload = identify(WEB, json!({}), Some("spiffe://cluster.local/somebody"));
        assert!(matches!(no_workload, Err(ClientError::Identity { .. })));
    }

    #[test]
    fn a_proxy_may_only_be_a_pod_of_its_own_account() {
        let pod = |account: Value| serde_json::from_value::<Pod>(json!({"spec": account})).unwrap();
        let web = pod(json!({"containers": [], "serviceAccountName": "web"}));
        let (admin, unnamed) = (
            pod(json!({"containers": [], "serviceAccountName": "admin"})),
            pod(json!({"containers": [], "serviceAccountName": ""})),
        );
        let client = identify(WEB, json!({}), Some(WEB_ID)).unwrap();
        assert_eq!(client.check_pod(Some(&web)), Ok(()));
        let error = client.check_pod(Some(&admin)).unwrap_err().to_string();
        assert_eq!(error, format!("{WEB_ID} may not be pod default/web-0: that pod runs as service account \"admin\""));
        assert!(matches!(client.check_pod(Some(&unnamed)), Err(ClientError::Pod { .. })));
        assert_eq!(client.check_pod(None), Err(ClientError::UnknownPod("default/web-0".into())));
        let default = identify(WEB, json!({}), Some("spiffe://cluster.local/ns/default/sa/default")).unwrap();
        assert_eq!(default.check_pod(Some(&unnamed)), Ok(()));
        let unproved = identify(WEB, json!({}), None).unwrap();
        assert_eq!((unproved.check_pod(Some(&admin)), unproved.check_pod(None)), (Ok(()), Ok(())));
    }

    #[test]
    fn a_node_that_contradicts_itself_or_is_none_is_refused() {
        let contradiction = identify(WEB, json!({"NAMESPACE": "other"}), None);
        assert!(matches!(contradiction, Err(ClientError::Namespace { .. })));
        assert!(matches!(identify("envoy-1", json!({}), None), Err(ClientError::Id(_))));
        assert!(matches!(identify(&"x".repeat(5000), json!({}), None), Err(ClientError::Id(_))));
        let none = Client::identify(None, Peer { address: None, identity: None });
        assert!(matches!(none, Err(ClientError::NoNode)));
    }
}
