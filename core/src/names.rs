//! Names of services and nodes: Kubernetes' host names and Istio's node id, in and out of text.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The cluster's DNS suffix when nobody chose one.
pub const DEFAULT_CLUSTER_DOMAIN: &str = "cluster.local";

/// A Kubernetes Service, by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    /// Its namespace.
    pub namespace: String,
    /// Its name in the namespace.
    pub name: String,
}

/// What a name that cannot be read should have looked like.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a label of DNS.
    #[error("{0:?} is not a DNS label (1 to 63 of a-z, 0-9 and `-`, which is neither first nor last)")]
    Label(String),
    /// Not the host name of a Service.
    #[error("{host:?} is not a Service's host name, `<name>.<namespace>.svc.{domain}`")]
    Host {
        /// The host name.
        host: String,
        /// The cluster's domain.
        domain: String,
    },
    /// Not a node id.
    #[error("{0:?} is not a node id, `<sidecar|router|ztunnel|waypoint>~<ip>~<pod>.<namespace>~<domain>`")]
    Node(String),
}

impl ServiceName {
    /// Names a Service; both parts are DNS labels.
    ///
    /// # Errors
    /// Names the part that is not a DNS label.
    pub fn new(namespace: &str, name: &str) -> Result<Self, NameError> {
        for label in [namespace, name] {
            if !is_dns_label(label) {
                return Err(NameError::Label(label.into()));
            }
        }
        Ok(Self { namespace: namespace.into(), name: name.into() })
    }

    /// The host name with the cluster's domain: `<name>.<namespace>.svc.<domain>`.
    pub fn host(&self, cluster_domain: &str) -> String {
        format!("{}.{}.svc.{cluster_domain}", self.name, self.namespace)
    }

    /// Reads a host name as written by [`ServiceName::host`].
    ///
    /// # Errors
    /// If the host is not of that form, or has another domain.
    pub fn from_host(host: &str, cluster_domain: &str) -> Result<Self, NameError> {
        let parts = host.strip_suffix(cluster_domain).and_then(|rest| rest.strip_suffix(".svc."));
        match parts.and_then(|rest| rest.split_once('.')) {
            Some((name, namespace)) if is_dns_label(name) && is_dns_label(namespace) => {
                Ok(Self { namespace: namespace.into(), name: name.into() })
            }
            _ => Err(NameError::Host { host: host.into(), domain: cluster_domain.into() }),
        }
    }
}

/// Prints `<namespace>/<name>`.
impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A label of DNS (RFC 1123): 1 to 63 of `a-z`, `0-9` and `-`, which is neither first nor last.
pub fn is_dns_label(text: &str) -> bool {
    let alphanumeric = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && alphanumeric(bytes.first())
        && alphanumeric(bytes.last())
        && bytes.iter().all(|b| alphanumeric(Some(b)) || *b == b'-')
}

/// What kind of proxy a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeKind {
    /// Beside a workload.
    Sidecar,
    /// A gateway.
    Router,
    /// One for each machine.
    Ztunnel,
    /// In front of the services of a namespace.
    Waypoint,
}

/// Istio's node id: `sidecar~10.1.2.3~web-0.default~default.svc.cluster.local`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeId {
    /// The first part.
    pub kind: NodeKind,
    /// The second: the pod's first address.
    pub ip: IpAddr,
    /// The pod's name.
    pub pod: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The fourth: the DNS domain in which short names are looked up.
    pub domain: String,
}

impl NodeId {
    /// The id of a pod whose domain is `<namespace>.svc.<cluster domain>`.
    pub fn new(kind: NodeKind, ip: IpAddr, pod: &str, namespace: &str, cluster_domain: &str) -> Self {
        let domain = format!("{namespace}.svc.{cluster_domain}");
        Self { kind, ip, pod: pod.into(), namespace: namespace.into(), domain }
    }
}

impl NodeKind {
    /// The word in a node id.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Router => "router",
            Self::Ztunnel => "ztunnel",
            Self::Waypoint => "waypoint",
        }
    }
}

impl FromStr for NodeKind {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Sidecar, Self::Router, Self::Ztunnel, Self::Waypoint];
        all.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| NameError::Node(text.into()))
    }
}

impl FromStr for NodeId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NameError::Node(text.chars().take(300).collect());
        let parts: Vec<&str> = text.split('~').collect();
        let [kind, ip, workload, domain] = parts.as_slice() else { return Err(wrong()) };
        // Pod names may have dots, namespaces may not.
        let (pod, namespace) = workload.rsplit_once('.').ok_or_else(wrong)?;
        if pod.is_empty() || !is_dns_label(namespace) || domain.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            kind: kind.parse().map_err(|_| wrong())?,
            ip: ip.parse().map_err(|_| wrong())?,
            pod: pod.into(),
            namespace: namespace.into(),
            domain: (*domain).into(),
        })
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, ip, pod, namespace, domain } = self;
        write!(f, "{}~{ip}~{pod}.{namespace}~{domain}", kind.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_service_has_kubernetes_host_name() {
        let service = ServiceName::new("default", "web").unwrap();
        assert_eq!(service.host(DEFAULT_CLUSTER_DOMAIN), "web.default.svc.cluster.local");
        assert_eq!(ServiceName::from_host("web.default.svc.cluster.local", DEFAULT_CLUSTER_DOMAIN), Ok(service));
    }

    #[test]
    fn other_hosts_are_not_services() {
        for host in ["web", "example.com", "a.b.c.svc.cluster.local", ".default.svc.cluster.local", "svc.cluster.local"]
        {
            assert!(ServiceName::from_host(host, DEFAULT_CLUSTER_DOMAIN).is_err(), "{host}");
        }
        assert!(ServiceName::new("default", "Web").is_err());
    }

    #[test]
    fn a_node_id_prints_as_it_was_read() {
        for text in
            ["sidecar~10.1.2.3~web-0.default~default.svc.cluster.local", "router~::1~gw.a.b.ingress~ingress.svc.x"]
        {
            assert_eq!(text.parse::<NodeId>().unwrap().to_string(), text);
        }
        let gateway = "router~::1~gw.a.b.ingress~ingress.svc.x".parse::<NodeId>().unwrap();
        assert_eq!((gateway.pod.as_str(), gateway.namespace.as_str()), ("gw.a.b", "ingress"));
    }

    #[test]
    fn what_is_not_a_node_id_is_refused() {
        for text in
            ["", "a~b", "sidecar~x~p.n~d", "proxy~1.1.1.1~p.n~d", "sidecar~1.1.1.1~pod~d", "sidecar~1.1.1.1~p.n~"]
        {
            assert!(text.parse::<NodeId>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_the_node_reader(text in "[ -~é~.]{0,80}") {
            if let Ok(node) = text.parse::<NodeId>() {
                prop_assert_eq!(node.to_string().parse::<NodeId>().unwrap(), node);
            }
        }
    }
}
