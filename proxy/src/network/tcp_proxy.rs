//! `tcp_proxy`: a connection's bytes to a cluster and back.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::extensions::filters::network::tcp_proxy::v3 as proto;
use tokio::time::Instant;

use super::connection_info;
use super::metadata_exchange::OwnMetadata;
use super::pump::{self, Counts};
use super::reports::Reports;
use crate::access_log::AccessLog;
use crate::cause::Cause;
use crate::cluster::Wanted;
use crate::cluster::{Cluster, Host, LbContext};
use crate::config::{ConfigError, duration, required};
use crate::connection::{Connection, Peer, UpstreamPeer};
use crate::context::Context;
use crate::format::Info;
use crate::io::Io;
use crate::matcher::metadata::struct_to_json;
use crate::stats::{Counter, Gauge};
use crate::stream::{FilterState, Traffic, Upstream};
use crate::text::Text;
use crate::upstream::{Active, TcpUpstream, UpstreamError};
use crate::worker::Worker;

/// Envoy's default.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// The subset in a metadata match.
const LB_METADATA: &str = "envoy.lb";

type Subset = Option<Arc<serde_json::Map<String, serde_json::Value>>>;

pub(super) struct TcpProxy {
    /// Clusters with their weights, and the sum.
    clusters: Vec<(Text, u64, Subset)>,
    total_weight: u64,
    subset: Subset,
    idle_timeout: Option<Duration>,
    max_duration: Option<Duration>,
    attempts: u32,
    hash_source: bool,
    access_logs: Vec<AccessLog>,
    stats: Stats,
    /// What upstreams are told, where their clusters have `istio.metadata_exchange`.
    own: OwnMetadata,
}

struct Stats {
    cx_total: Counter,
    cx_active: Gauge,
    rx_bytes: Counter,
    tx_bytes: Counter,
    no_route: Counter,
    idle_timeout: Counter,
}

/// What a log shows of a proxied connection.
#[derive(Default)]
struct Outcome {
    upstream: Upstream,
    /// The upstream's peer, if it told of itself.
    state: FilterState,
    cause: Option<Cause>,
}

/// A connection to a host, and what the host told of itself.
type Opened = (TcpUpstream, Active, Option<Peer>);

impl TcpProxy {
    pub(super) fn decode(proto: &proto::TcpProxy, context: &Context) -> Result<Self, ConfigError> {
        use proto::tcp_proxy::ClusterSpecifier;
        let clusters = match required(proto.cluster_specifier.as_ref(), "cluster")? {
            ClusterSpecifier::Cluster(name) => vec![(Text::from(name.as_str()), 1, None)],
            ClusterSpecifier::WeightedClusters(weighted) => weighted
                .clusters
                .iter()
                .map(|one| (Text::from(one.name.as_str()), u64::from(one.weight), subset(one.metadata_match.as_ref())))
                .collect(),
        };
        let total_weight = clusters.iter().map(|(_, weight, _)| weight).sum();
        if total_weight == 0 {
            return Err(ConfigError::new("weighted_clusters.clusters", "needs a weight above 0"));
        }
        let scope = context.stats.root().scope("tcp").tagged("envoy_tcp_prefix", &proto.stat_prefix);
        let idle = duration(proto.idle_timeout, "idle_timeout")?.unwrap_or(IDLE_TIMEOUT);
        let max_duration = duration(proto.max_downstream_connection_duration, "max_downstream_connection_duration")?;
        Ok(Self {
            clusters,
            total_weight,
            subset: subset(proto.metadata_match.as_ref()),
            idle_timeout: (!idle.is_zero()).then_some(idle),
            max_duration,
            attempts: proto.max_connect_attempts.unwrap_or(1).max(1),
            hash_source: !proto.hash_policy.is_empty(),
            own: OwnMetadata::new(&context.local.node),
            access_logs: AccessLog::decode_list(&proto.access_log, &context.access_logs)?,
            stats: Stats {
                cx_total: scope.counter("downstream_cx_total"),
                cx_active: scope.gauge("downstream_cx_active"),
                rx_bytes: scope.counter("downstream_cx_rx_bytes_total"),
                tx_bytes: scope.counter("downstream_cx_tx_bytes_total"),
                no_route: scope.counter("downstream_cx_no_route"),
                idle_timeout: scope.counter("idle_timeout"),
            },
        })
    }

    /// `sni_cluster` names the cluster that a filter before this one has chosen.
    pub(super) async fn serve(
        &self,
        worker: &Rc<Worker>,
        io: Io,
        connection: Rc<Connection>,
        sni_cluster: Option<Text>,
        reports: Reports<'_>,
        listener_logs: &[AccessLog],
    ) {
        self.stats.cx_total.inc();
        self.stats.cx_active.inc();
        let (outcome, counts) = (Outcome::default(), Counts::default());
        let mut end = End { proxy: self, connection, listener_logs, outcome, counts, reports };
        let (name, own_subset) = match sni_cluster {
            Some(name) => (name, &None),
            None => self.choose(fastrand::u64(0..self.total_weight)),
        };
        let subset = own_subset.clone().or_else(|| self.subset.clone());
        let (upstream, _active, peer) =
            match self.connect(worker, &end.connection.clone(), &name, subset, &mut end.outcome).await {
                Ok(opened) => opened,
                Err(cause) => {
                    end.outcome.cause = Some(cause);
                    return;
                }
            };
        end.outcome.upstream.local = upstream.local;
        end.outcome.upstream.connection_id = Some(upstream.id);
        end.outcome.upstream.tls = upstream.tls.clone();
        if let Some(peer) = peer {
            end.outcome.state.set(UpstreamPeer(Rc::new(peer)));
        }
        end.outcome.cause = end.copy(io, upstream).await;
    }

    fn choose(&self, mut point: u64) -> (Text, &Subset) {
        for (name, weight, subset) in &self.clusters {
            match point.checked_sub(*weight) {
                Some(rest) => point = rest,
                None => return (name.clone(), subset),
            }
        }
        // Only reached if `point` is not below the sum.
        (Text::default(), &None)
    }

    async fn connect(
        &self,
        worker: &Rc<Worker>,
        connection: &Connection,
        name: &Text,
        subset: Subset,
        outcome: &mut Outcome,
    ) -> Result<Opened, Cause> {
        outcome.upstream.cluster_name = Some(name.clone());
        let Some(cluster) = worker.context.clusters.get(name) else {
            self.stats.no_route.inc();
            return Err(Cause::ClusterNotFound);
        };
        outcome.upstream.cluster = Some(cluster.clone());
        let mut tried: Vec<Arc<Host>> = Vec::new();
        let mut cause = Cause::NoHealthyUpstream;
        for attempt in 1..=self.attempts {
            let host = {
                let context = LbContext {
                    hash: self.hash_source.then(|| source_hash(connection.remote)),
                    metadata_match: subset.as_deref(),
                    previous: &tried,
                    reselect: if tried.is_empty() { 0 } else { 3 },
                    original_dst: connection.original_dst,
                    ..LbContext::default()
                };
                cluster.pick(&context)?
            };
            outcome.upstream.attempts = attempt;
            outcome.upstream.host = Some(host.clone());
            match self.dial(worker, &cluster, &host).await {
                Ok(opened) => return Ok(opened),
                Err(error) => {
                    cause = error.cause;
                    outcome.upstream.transport_failure = Some(error.detail);
                    tried.push(host);
                }
            }
        }
        Err(cause)
    }

    async fn dial(
        &self,
        worker: &Rc<Worker>,
        cluster: &Arc<Cluster>,
        host: &Arc<Host>,
    ) -> Result<Opened, UpstreamError> {
        let (mut upstream, active) = worker.pools.relay(cluster, host, &Wanted::default()).await?;
        let Some(protocol) = &cluster.config.metadata_exchange else { return Ok((upstream, active, None)) };
        let peer = self.own.exchange(protocol, upstream.tls.as_deref(), &mut upstream.io).await;
        let failed = |error: io::Error| UpstreamError::early(Cause::UpstreamConnectionFailure, error.to_string());
        Ok((upstream, active, peer.map_err(failed)?))
    }
}

fn source_hash(remote: SocketAddr) -> u64 {
    xxhash_rust::xxh64::xxh64(remote.ip().to_string().as_bytes(), 0)
}

fn subset(proto: Option<&core::Metadata>) -> Subset {
    proto?.filter_metadata.get(LB_METADATA).cloned().map(struct_to_json).map(Arc::new)
}

async fn sleep(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// Comes back once no byte has moved for `limit`.
async fn idle(limit: Option<Duration>, activity: &Cell<Instant>) {
    let Some(limit) = limit else { return std::future::pending().await };
    loop {
        let due = activity.get() + limit;
        if due <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(due).await;
    }
}

/// Writes the log line when the connection ends, also if its task is aborted.
struct End<'a> {
    proxy: &'a TcpProxy,
    connection: Rc<Connection>,
    listener_logs: &'a [AccessLog],
    outcome: Outcome,
    counts: Counts,
    reports: Reports<'a>,
}

impl End<'_> {
    /// Copies bytes until something ends that; why.
    async fn copy(&mut self, io: Io, upstream: TcpUpstream) -> Option<Cause> {
        let Self { proxy, connection, outcome, counts, reports, .. } = self;
        let _open = upstream.open;
        counts.moved.set(Instant::now());
        tokio::select! {
            copied = pump::run(io, upstream.io, counts) => copied.err().map(|_| Cause::UpstreamTerminationAfterResponse),
            () = idle(proxy.idle_timeout, &counts.moved) => {
                proxy.stats.idle_timeout.inc();
                Some(Cause::TcpIdleTimeout)
            }
            () = sleep(proxy.max_duration) => Some(Cause::TcpMaxDuration),
            cause = report(reports, connection, outcome, counts) => cause,
        }
    }
}

/// Reports the connection while it runs.
async fn report(
    reports: &mut Reports<'_>,
    connection: &Connection,
    outcome: &Outcome,
    counts: &Counts,
) -> Option<Cause> {
    loop {
        reports.due().await;
        reports.report(&info(connection, outcome, counts));
    }
}

fn info<'a>(connection: &'a Connection, outcome: &'a Outcome, counts: &Counts) -> Info<'a> {
    let Outcome { upstream, state, cause } = outcome;
    Info {
        bytes_received: counts.received.get(),
        bytes_sent: counts.sent.get(),
        wire: Traffic { received: counts.received.get(), sent: counts.sent.get(), ..Traffic::default() },
        causes: cause.as_slice(),
        details: cause.map(Cause::details).unwrap_or_default(),
        termination_details: cause.map(Cause::details),
        state: Some(state),
        ..connection_info(connection, upstream)
    }
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        let stats = &self.proxy.stats;
        stats.cx_active.dec();
        stats.rx_bytes.add(self.counts.received.get());
        stats.tx_bytes.add(self.counts.sent.get());
        if self.outcome.upstream.connection_id.is_some() {
            // What comes from one side goes to the other.
            let (sent, received) = (self.counts.received.get(), self.counts.sent.get());
            let traffic = Traffic { sent, received, ..Traffic::default() };
            self.outcome.upstream.wire = Some(Rc::new(Cell::new(traffic)));
        }
        let info = info(&self.connection, &self.outcome, &self.counts);
        self.proxy.access_logs.iter().chain(self.listener_logs).for_each(|log| log.log(&info));
        self.reports.end(&info);
    }
}
