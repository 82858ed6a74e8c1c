//! Clusters: named sets of hosts with a balancer, circuit breakers, health and outlier state.
//!
//! Shared by the workers: a cluster's configuration is immutable, its host set is a snapshot, its counters atomics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustc_hash::FxHashMap;

use crate::cause::Cause;
use crate::config::supported::Table;
use crate::stats::{Counter, Gauge};
use crate::text::Text;
use crate::tls::UpstreamTls;

/// Fields of this room's messages that are implemented.
pub const SUPPORTED: Table = &[];

/// Where a host listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// Unix domain socket.
    Unix(Text),
}

/// An endpoint of a cluster.
#[derive(Debug)]
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
    /// Requests in flight, all workers.
    pub active: AtomicU32,
    /// Health and outlier state; its own file.
    pub health: health::HostHealth,
    /// Counters.
    pub stats: HostStats,
}

/// Counters of a host, as `/clusters` shows them.
#[derive(Debug, Default)]
pub struct HostStats {
    /// Requests.
    pub rq_total: Counter,
    /// Good answers.
    pub rq_success: Counter,
    /// 5xx and resets.
    pub rq_error: Counter,
    /// Timeouts.
    pub rq_timeout: Counter,
    /// Connections made.
    pub cx_total: Counter,
    /// Connections that failed.
    pub cx_connect_fail: Counter,
    /// Connections now.
    pub cx_active: Gauge,
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
    /// Transports; a host has the index of its own.
    pub transports: Vec<Transport>,
    /// HTTP/2 settings.
    pub http2: crate::http::manager::Http2Options,
    /// Idle time after which a pooled connection is closed.
    pub idle_timeout: Option<Duration>,
    /// Longest life of a connection.
    pub max_connection_duration: Option<Duration>,
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
    /// `metadata.filter_metadata`.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Close pooled connections to a host when it becomes unhealthy.
    pub close_on_host_health_failure: bool,
}

/// A cluster.
pub struct Cluster {
    /// Configuration.
    pub config: ClusterConfig,
    /// Hosts now.
    pub hosts: ArcSwap<balance::HostSet>,
    /// Circuit breakers: default and high priority.
    pub breakers: [breaker::Breakers; 2],
    /// Counters.
    pub stats: ClusterStats,
    /// The balancer, outlier detector, health checker and DNS; each in its own file.
    pub balancer: balance::Balancer,
    /// Outlier detection.
    pub outlier: Option<outlier::Detector>,
}

/// Counters of a cluster under Envoy's names (`cluster.<name>.`); made by `decode`.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct ClusterStats {
    pub upstream_cx_total: Counter,
    pub upstream_cx_active: Gauge,
    pub upstream_cx_http1_total: Counter,
    pub upstream_cx_http2_total: Counter,
    pub upstream_cx_connect_fail: Counter,
    pub upstream_cx_connect_timeout: Counter,
    pub upstream_cx_destroy: Counter,
    pub upstream_cx_idle_timeout: Counter,
    pub upstream_cx_overflow: Counter,
    pub upstream_cx_none_healthy: Counter,
    pub upstream_cx_max_requests: Counter,
    pub upstream_cx_tx_bytes_total: Counter,
    pub upstream_cx_rx_bytes_total: Counter,
    pub upstream_rq_total: Counter,
    pub upstream_rq_active: Gauge,
    pub upstream_rq_completed: Counter,
    pub upstream_rq_xx: [Counter; 5],
    pub upstream_rq_pending_total: Counter,
    pub upstream_rq_pending_active: Gauge,
    pub upstream_rq_pending_overflow: Counter,
    pub upstream_rq_pending_failure_eject: Counter,
    pub upstream_rq_timeout: Counter,
    pub upstream_rq_per_try_timeout: Counter,
    pub upstream_rq_rx_reset: Counter,
    pub upstream_rq_tx_reset: Counter,
    pub upstream_rq_retry: Counter,
    pub upstream_rq_retry_success: Counter,
    pub upstream_rq_retry_overflow: Counter,
    pub upstream_rq_retry_limit_exceeded: Counter,
    pub upstream_rq_cancelled: Counter,
    pub upstream_rq_maintenance_mode: Counter,
}

/// What the balancer looks at.
#[derive(Default)]
pub struct LbContext<'a> {
    /// Hash of the route's hash policies.
    pub hash: Option<u64>,
    /// Subset that the route asks for.
    pub metadata_match: Option<&'a serde_json::Map<String, serde_json::Value>>,
    /// Hosts that earlier tries used.
    pub previous: &'a [Arc<Host>],
    /// How often to re-pick to avoid them.
    pub reselect: u32,
    /// Where the downstream connection wanted to go (ORIGINAL_DST).
    pub original_dst: Option<SocketAddr>,
    /// `x-envoy-original-dst-host` or the header that the cluster names.
    pub original_dst_header: Option<SocketAddr>,
}

pub mod balance;
pub mod breaker;
pub mod health;
pub mod outlier;

impl Cluster {
    /// Picks a host.
    ///
    /// # Errors
    /// [`Cause::NoHealthyUpstream`] if there is none.
    pub fn pick(&self, context: &LbContext<'_>) -> Result<Arc<Host>, Cause> {
        self.balancer.pick(&self.hosts.load(), context).ok_or(Cause::NoHealthyUpstream)
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
        // `Text` borrows as its bytes do not as `str`; the key is made without copying long-lived data.
        self.clusters.load().get(&Text::from(name)).cloned()
    }

    /// All clusters.
    pub fn all(&self) -> Arc<FxHashMap<Text, Arc<Cluster>>> {
        self.clusters.load_full()
    }

    /// Replaces the set.
    pub fn publish(&self, clusters: FxHashMap<Text, Arc<Cluster>>) {
        self.clusters.store(Arc::new(clusters));
    }
}
