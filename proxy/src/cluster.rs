//! Clusters: named sets of hosts with a balancer, circuit breakers, health and outlier state.
//!
//! Shared by the workers: a cluster's configuration is immutable, its host set is a snapshot, its counters atomics.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::cause::Cause;
use crate::text::Text;
use crate::tls::UpstreamTls;

pub mod balance;
pub mod breaker;
mod decode;
pub(crate) mod dial;
mod discovery;
mod endpoints;
pub mod health;
pub mod outlier;
mod stats;
mod supported;

pub use decode::FactoryContext;
pub use dial::Wanted;
pub use discovery::{Discovery, Settings as DnsSettings};
pub use endpoints::{Assignment, LocalityHosts};
pub use stats::{ClusterStats, HostStats};
pub use supported::SUPPORTED;

/// Where a host listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// Unix domain socket.
    Unix(Text),
}

impl std::fmt::Display for HostAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.fmt(f),
        }
    }
}

/// An endpoint of a cluster. When its weight or metadata changes, a new `Host` shares the old one's identity and state.
#[derive(Debug, Clone)]
pub struct Host {
    /// Unique in the process; key of connection pools.
    pub id: u64,
    /// Where it listens.
    pub address: HostAddress,
    /// Its name, for `auto_host_rewrite` and auto SNI.
    pub hostname: Text,
    /// `filter_metadata` of its endpoint.
    pub metadata: Arc<serde_json::Map<String, serde_json::Value>>,
    /// Region, zone, sub-zone.
    pub locality: Arc<[Text; 3]>,
    /// 0 is highest.
    pub priority: u32,
    /// Balancing weight, at least 1.
    pub weight: u32,
    /// Index into `ClusterConfig::transports`.
    pub transport: usize,
    /// Where and as which host active checks ask, if not at `address`.
    pub check: Option<Arc<health::HostCheck>>,
    /// Requests in flight, all workers.
    pub active: Arc<AtomicU32>,
    /// Health and outlier state; its own file.
    pub health: Arc<health::HostHealth>,
    /// Counters.
    pub stats: Arc<HostStats>,
}

impl Host {
    /// The value of the named key in the endpoint's `envoy.lb` metadata.
    pub fn lb_metadata(&self, key: &str) -> Option<&serde_json::Value> {
        self.metadata.get("envoy.lb")?.get(key)
    }
}

/// Which HTTP version goes upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// What the downstream request speaks.
    UseDownstream,
    /// By ALPN.
    Auto,
}

/// The transport of matching hosts.
#[derive(Debug, Clone)]
pub struct Transport {
    /// Name of the `transport_socket_matches` entry.
    pub name: Text,
    /// What a host's `envoy.transport_socket_match` metadata must hold; empty matches all.
    pub criteria: serde_json::Map<String, serde_json::Value>,
    /// TLS, or plain.
    pub tls: Option<Arc<UpstreamTls>>,
}

/// A cluster's configuration, decoded.
#[derive(Debug)]
pub struct ClusterConfig {
    /// Its name.
    pub name: Text,
    /// Name in metrics (`alt_stat_name` or its name).
    pub stat_name: Text,
    /// TCP connect and TLS handshake limit.
    pub connect_timeout: Duration,
    /// HTTP version upstream.
    pub protocol: UpstreamProtocol,
    /// Transports; a host has the index of its own. The last one is the cluster's `transport_socket`.
    pub transports: Vec<Transport>,
    /// HTTP/2 settings.
    pub http2: crate::codec::h2::Http2Options,
    /// Idle time after which a pooled connection is closed.
    pub idle_timeout: Option<Duration>,
    /// Longest life of a connection.
    pub max_connection_duration: Option<Duration>,
    /// Longest life of a stream.
    pub max_stream_duration: Option<Duration>,
    /// Requests per connection; 0 is unlimited.
    pub max_requests_per_connection: u32,
    /// Bytes buffered per connection.
    pub buffer_limit: usize,
    /// Local address to bind, `upstream_bind_config`.
    pub bind: Option<SocketAddr>,
    /// TCP keepalive: (time, interval, probes).
    pub keepalive: Option<(Duration, Duration, u32)>,
    /// Bytes of response headers.
    pub max_response_headers_bytes: usize,
    /// Number of response headers.
    pub max_response_headers_count: usize,
    /// HTTP/1 towards its hosts.
    pub http1: crate::codec::h1::Settings,
    /// SNI from the request's authority (`upstream_http_protocol_options.auto_sni`).
    pub auto_sni: bool,
    /// The peer's certificate must carry the request's authority (`auto_san_validation`).
    pub auto_san_validation: bool,
    /// `metadata.filter_metadata`.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Close pooled connections to a host when it becomes unhealthy.
    pub close_on_host_health_failure: bool,
    /// Hosts that discovery takes out go at once, also while their active checks pass.
    pub ignore_health_on_host_removal: bool,
    /// The ALPN protocol of Istio's `istio.metadata_exchange` among the upstream network filters, for TCP proxying.
    pub metadata_exchange: Option<Text>,
}

/// A cluster.
pub struct Cluster {
    /// Configuration.
    pub config: ClusterConfig,
    /// Hosts now.
    pub hosts: ArcSwap<balance::HostSet>,
    /// Circuit breakers: default and high priority.
    pub breakers: [Arc<breaker::Breakers>; 2],
    /// Counters.
    pub stats: Arc<ClusterStats>,
    /// The balancer.
    pub balancer: balance::Balancer,
    /// Outlier detection.
    pub outlier: Option<outlier::Detector>,
    /// Where the hosts come from.
    pub discovery: Discovery,
    /// Active health checks.
    pub health_check: Option<Box<health::HealthCheck>>,
    /// Goes up with each change of a host's health; the tables of [`balance::HostSet`] are made anew then.
    health_epoch: Arc<AtomicU64>,
    /// Held while the host set is replaced.
    updating: Mutex<()>,
    /// Told when hosts come or go.
    hosts_changed: Arc<tokio::sync::Notify>,
    /// Whether the first hosts are known.
    known: AtomicBool,
    /// Whether it can serve: the first hosts are known, and checked.
    warm: AtomicBool,
    /// Who is told when it can.
    on_warm: OnceLock<Arc<tokio::sync::Notify>>,
    /// What outlier sweeps begin with, until the first request has ended: most clusters of a big mesh see none.
    sweeps: Mutex<Option<discovery::Sweeps>>,
    /// Whether `sweeps` holds something.
    sweeps_wait: AtomicBool,
    /// Background work, stopped when the cluster is dropped.
    tasks: Mutex<Vec<tokio::task::AbortHandle>>,
}

/// Picks in search of a host that was not tried, where one must be found if there is one. The host that has just failed has no
/// requests, so that least request would take it three times of four: eight picks would end at it one time of thirteen.
pub const RESELECT: u32 = 64;

/// What the balancer looks at.
#[derive(Default)]
pub struct LbContext<'a> {
    /// Hash of the route's hash policies.
    pub hash: Option<u64>,
    /// Subset that the route asks for: keys and values of `envoy.lb`.
    pub metadata_match: Option<&'a serde_json::Map<String, serde_json::Value>>,
    /// Hosts that earlier tries used.
    pub previous: &'a [Arc<Host>],
    /// How often to re-pick to avoid them, and hosts to omit.
    pub reselect: u32,
    /// Hosts that earlier tries used are as good as others.
    pub may_repeat: bool,
    /// Hosts to avoid: those whose `envoy.lb` metadata holds all of one of these.
    pub omit: &'a [serde_json::Map<String, serde_json::Value>],
    /// Priority levels to avoid, as long as another one bears anything.
    pub avoid_levels: &'a [u32],
    /// Where the downstream connection wanted to go (ORIGINAL_DST).
    pub original_dst: Option<SocketAddr>,
    /// `x-envoy-original-dst-host` or the header that the cluster names.
    pub original_dst_header: Option<SocketAddr>,
}

impl Cluster {
    /// Whether its balancer places requests by their hashes.
    pub fn hashes(&self) -> bool {
        matches!(self.balancer.policy.kind, balance::Kind::RingHash { .. } | balance::Kind::Maglev { .. })
    }

    /// Picks a host.
    ///
    /// # Errors
    /// [`Cause::NoHealthyUpstream`] if there is none.
    pub fn pick(&self, context: &LbContext<'_>) -> Result<Arc<Host>, Cause> {
        let picked = match &self.discovery {
            Discovery::OriginalDst(destinations) => destinations.pick(self, context),
            _ => {
                let mut hosts = self.hosts.load();
                if hosts.epoch != self.health_epoch.load(Ordering::Acquire) {
                    drop(hosts);
                    self.refresh();
                    hosts = self.hosts.load();
                }
                if hosts.in_panic(&self.balancer.policy) {
                    self.stats.lb_healthy_panic.inc();
                }
                self.balancer.pick(&hosts, context)
            }
        };
        picked.ok_or_else(|| {
            self.stats.upstream_cx_none_healthy.inc();
            Cause::NoHealthyUpstream
        })
    }

    /// Makes the tables anew after a change of health; left to the other thread if one does it now.
    pub fn refresh(&self) {
        let Some(_guard) = self.updating.try_lock() else { return };
        let epoch = self.health_epoch.load(Ordering::Acquire);
        let assignment = self.hosts.load().assignment.clone();
        self.store(assignment, epoch);
    }

    /// As [`Self::refresh`], if there was a change.
    fn refresh_if_stale(&self) {
        if self.hosts.load().epoch != self.health_epoch.load(Ordering::Acquire) {
            self.refresh();
        }
    }

    fn store(&self, assignment: Arc<Assignment>, epoch: u64) {
        let set = balance::HostSet::new(assignment, epoch);
        self.stats.membership(&set);
        self.hosts.store(Arc::new(set));
    }

    /// Counts how a request to a host ended, for its counters and outlier detection.
    pub fn report(&self, host: &Host, outcome: outlier::Outcome) {
        host.stats.count(outcome);
        if let Some(detector) = &self.outlier {
            detector.report(self, host, outcome);
            if self.sweeps_wait.load(Ordering::Relaxed) {
                self.start_sweeps();
            }
        }
    }

    /// Whether the first hosts are known and checked (or will not come: they were waited for long enough).
    pub fn is_warm(&self) -> bool {
        self.warm.load(Ordering::SeqCst)
    }

    /// Tells `who` once [`Cluster::is_warm`]; the first who asks is told.
    pub fn tell_when_warm(&self, who: Arc<tokio::sync::Notify>) {
        // One of the two sees what the other wrote, so that nobody waits in vain.
        let who = self.on_warm.get_or_init(|| who);
        if self.is_warm() {
            who.notify_one();
        }
    }

    fn set_warm(&self) {
        let was = self.warm.swap(true, Ordering::SeqCst);
        if let Some(who) = self.on_warm.get().filter(|_| !was) {
            who.notify_one();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.retire();
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cluster({:?})", self.config.name)
    }
}

/// Clusters by name.
#[derive(Default)]
pub struct ClusterManager {
    clusters: ArcSwap<FxHashMap<Text, Arc<Cluster>>>,
}

impl ClusterManager {
    /// The named cluster.
    pub fn get(&self, name: &str) -> Option<Arc<Cluster>> {
        self.clusters.load().get(name.as_bytes()).cloned()
    }

    /// All clusters.
    pub fn all(&self) -> Arc<FxHashMap<Text, Arc<Cluster>>> {
        self.clusters.load_full()
    }

    /// Replaces the set.
    pub fn publish(&self, clusters: FxHashMap<Text, Arc<Cluster>>) {
        let before = self.clusters.swap(Arc::new(clusters));
        self.retire_missing(&before);
    }
}

#[cfg(test)]
pub(crate) mod tests;
