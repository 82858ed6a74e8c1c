//! What all threads of one proxy share: stores of configuration, metrics, the node.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use ferromesh_proto::envoy::config::core::v3 as core;

use crate::access_log::Sinks;
use crate::cluster::{ClusterManager, DnsSettings, FactoryContext};
use crate::extension::ExtensionStore;
use crate::overload::Overload;
use crate::route::RouteStore;
use crate::runtime::Runtime;
use crate::stats;
use crate::tls::SecretStore;

/// The proxy's own place in the mesh, from the bootstrap's `node`.
#[derive(Debug, Clone, Default)]
pub struct Local {
    /// The node as the bootstrap gives it; sent to the control plane.
    pub node: core::Node,
    /// `service-cluster` name.
    pub cluster: String,
    /// Region, zone, sub-zone.
    pub locality: core::Locality,
    address: OnceLock<IpAddr>,
}

/// Shared by the workers and the admin thread of one proxy. Everything in it is atomics and snapshots.
pub struct Context {
    /// Who this proxy is.
    pub local: Local,
    /// Metrics.
    pub stats: Arc<stats::Store>,
    /// Clusters by name.
    pub clusters: Arc<ClusterManager>,
    /// Route tables by name (RDS).
    pub routes: Arc<RouteStore>,
    /// Filter configurations by name (ECDS).
    pub extensions: Arc<ExtensionStore<Self>>,
    /// Secrets by name (SDS).
    pub secrets: Arc<SecretStore>,
    /// Who resolves names for clusters that do not say.
    pub dns: DnsSettings,
    /// Values of `layered_runtime`, which stand in place of what resources say.
    pub runtime: Runtime,
    /// Access log files.
    pub access_logs: Arc<Sinks>,
    /// What is done when resources run out, and connections of all listeners.
    pub overload: Arc<Overload>,
    /// The newest connection's id, of both sides.
    pub connection_ids: Arc<AtomicU64>,
    /// Draining: connections are closed when their request ends.
    pub draining: AtomicBool,
    /// The admin asked the `health_check` filter to fail.
    pub failing_health_check: AtomicBool,
}

impl Local {
    /// From the bootstrap's node.
    pub fn new(node: core::Node) -> Self {
        let locality = node.locality.clone().unwrap_or_default();
        Self { cluster: node.cluster.clone(), locality, node, address: OnceLock::new() }
    }

    /// The proxy's own address, as Envoy's: the first of the node's `INSTANCE_IPS`, else the one that packets to
    /// elsewhere would carry, else the loopback.
    pub fn address(&self) -> IpAddr {
        *self.address.get_or_init(|| self.instance_ip().or_else(outgoing).unwrap_or(Ipv4Addr::LOCALHOST.into()))
    }

    fn instance_ip(&self) -> Option<IpAddr> {
        use ferromesh_proto::prost_types::value::Kind;
        match self.node.metadata.as_ref()?.fields.get("INSTANCE_IPS")?.kind.as_ref()? {
            Kind::StringValue(all) => all.split(',').next()?.trim().parse().ok(),
            _ => None,
        }
    }
}

/// Asks the kernel's routes; a datagram socket that is connected sends nothing.
fn outgoing() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

impl Context {
    /// Empty stores for the proxy that `local` names.
    pub fn new(local: Local) -> Self {
        Self::counting_in(local, Arc::default())
    }

    /// As [`Self::new`], with a store of metrics.
    pub fn counting_in(local: Local, stats: Arc<stats::Store>) -> Self {
        Self {
            local,
            access_logs: Arc::new(Sinks::new(&stats)),
            stats,
            clusters: Arc::default(),
            routes: Arc::default(),
            extensions: Arc::default(),
            secrets: Arc::default(),
            dns: DnsSettings::default(),
            runtime: Runtime::default(),
            overload: Arc::default(),
            connection_ids: Arc::default(),
            draining: AtomicBool::new(false),
            failing_health_check: AtomicBool::new(false),
        }
    }

    /// What clusters are made with.
    pub fn for_clusters(&self) -> FactoryContext<'_> {
        FactoryContext { stats: &self.stats, secrets: &self.secrets, dns: &self.dns, runtime: &self.runtime }
    }

    /// Whether the proxy as a whole drains.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether `/healthcheck/fail` was asked, and `/healthcheck/ok` not since.
    pub fn fails_health_check(&self) -> bool {
        self.failing_health_check.load(Ordering::Relaxed)
    }
}
