//! Where everything of a cluster is: folders on disk, addresses in its network. Pure.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

/// Address of the control plane and of who looks from outside: the hub, to which all nodes are wired.
pub const HUB: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 1);
/// Addresses of pods: a /24 a node.
pub const POD_NETWORK: &str = "10.244.0.0/16";
/// Addresses of Services.
pub const SERVICE_NETWORK: &str = "10.96.0.0/16";
/// Address of the Service `kubernetes`.
pub const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// Address of the Service `kube-dns`.
pub const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// Port of the API server in the cluster's network.
pub const API_PORT: u16 = 6443;
/// Port of the cluster's registry, at the hub.
pub const REGISTRY_PORT: u16 = 5000;
/// Most nodes of a cluster.
pub const MAX_NODES: u8 = 99;

/// What a cluster is made of; kept in its folder as `spec.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Its name.
    pub name: String,
    /// Nodes with kubelet and containerd; none is the control plane alone.
    pub nodes: u8,
    /// Nodes without machines: pods there are Running and run nothing.
    #[serde(default)]
    pub simulated: u16,
    /// Folders of the tools.
    pub tools: Vec<PathBuf>,
}

impl Spec {
    /// `node1`, `node2`, …
    pub fn node_names(&self) -> impl Iterator<Item = (u8, String)> {
        (1..=self.nodes).map(|node| (node, node_name(node)))
    }

    /// A program of the tools.
    ///
    /// # Errors
    /// If none of their folders has it.
    pub fn program(&self, name: &str) -> anyhow::Result<PathBuf> {
        let found = self.tools.iter().map(|folder| folder.join(name)).find(|file| file.is_file());
        found.with_context(|| format!("{name} is not in {:?}; run: ferromesh-e2e tools build", self.tools))
    }
}

/// Name of a node, from 1 on.
pub fn node_name(node: u8) -> String {
    format!("node{node}")
}

/// Address of a node.
pub const fn node_address(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 89, 0, 10 + node)
}

/// The network of a node's pods.
pub fn pod_subnet(node: u8) -> String {
    format!("10.244.{node}.0/24")
}

/// Addresses that a LoadBalancer can have: of the nodes' network, and no node's.
pub fn load_balancer_addresses() -> impl Iterator<Item = Ipv4Addr> {
    (1..=254).map(|last| Ipv4Addr::new(10, 89, 128, last))
}

/// The folder of a cluster.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The folder of the cluster of that name.
    ///
    /// # Errors
    /// If it is no name: lower-case letters, digits and `-`, at most 40.
    pub fn of(name: &str) -> anyhow::Result<Self> {
        let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        ensure!(
            (1..=40).contains(&name.len()) && name.bytes().all(valid) && !name.starts_with('-'),
            "{name:?} is no name for a cluster: use at most 40 lower-case letters, digits and '-'"
        );
        Ok(Self { root: state()?.join(name) })
    }

    /// A folder that is one.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Held by the keeper as long as the cluster lives.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// [`Spec`] as JSON.
    pub fn spec_file(&self) -> PathBuf {
        self.root.join("spec.json")
    }

    /// For the host: the API server through a port of the loopback.
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    /// A file of keys, certificates and kubeconfigs for use in the cluster's network.
    pub fn pki(&self, name: &str) -> PathBuf {
        self.root.join("pki").join(name)
    }

    /// What a daemon of the hub writes.
    pub fn log(&self, daemon: &str) -> PathBuf {
        self.root.join("log").join(format!("{daemon}.log"))
    }

    /// Where the first process of the hub takes orders.
    pub fn control(&self) -> PathBuf {
        self.root.join("control")
    }

    /// What etcd keeps.
    pub fn etcd_data(&self) -> PathBuf {
        self.root.join("etcd")
    }

    /// Images that nodes can pull.
    pub fn registry(&self) -> PathBuf {
        self.root.join("registry")
    }

    /// A node's own folder; laid out like the hub's as far as it has the same things.
    pub fn node(&self, name: &str) -> Self {
        Self { root: self.root.join(name) }
    }

    /// Reads the spec.
    ///
    /// # Errors
    /// If there is none.
    pub fn spec(&self) -> anyhow::Result<Spec> {
        let file = self.spec_file();
        let text = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        Ok(serde_json::from_slice(&text)?)
    }
}

/// The folder of all clusters: `FERROMESH_E2E_STATE`, or `/var/lib/ferromesh-e2e` for root, or one in the user's home.
///
/// # Errors
/// If there is no home.
pub fn state() -> anyhow::Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = variable("FERROMESH_E2E_STATE") {
        return Ok(folder);
    }
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/ferromesh-e2e".into());
    }
    variable("XDG_STATE_HOME")
        .or_else(|| Some(variable("HOME")?.join(".local/state")))
        .map(|folder| folder.join("ferromesh-e2e"))
        .context("set HOME or FERROMESH_E2E_STATE: a cluster needs a folder")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_is_handed_out_twice() {
        let mut all: Vec<Ipv4Addr> = load_balancer_addresses().chain((1..=MAX_NODES).map(node_address)).collect();
        all.push(HUB);
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(all.iter().all(|address| address.octets()[..2] == [10, 89]), "all are of the node network");
    }

    #[test]
    fn a_name_cannot_leave_the_folder() {
        for name in ["", "../x", "a/b", "-x", "X", "a b", &"a".repeat(41)] {
            assert!(Layout::of(name).is_err(), "{name:?}");
        }
        assert!(Layout::of("test-1").expect("a name").root().ends_with("test-1"));
    }
}
