//! Active health checks: HTTP, TCP and gRPC questions to each host, apart from the pools of the workers.
//!
//! Rules: Envoy, "Health checking" (thresholds, intervals by state, jitter).

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

use super::Unhealthy;
use crate::cluster::{Cluster, Host, HostAddress};
use crate::stats::{Counter, Gauge, Scope};
use crate::text::Text;

mod decode;
mod probe;
mod state;

use probe::{Asker, Failure, Passed};
use state::State;

/// An active health check of a cluster.
#[derive(Debug)]
pub struct HealthCheck {
    timeout: Duration,
    interval: Duration,
    initial_jitter: Duration,
    interval_jitter: Duration,
    jitter_percent: u32,
    unhealthy_threshold: u32,
    healthy_threshold: u32,
    no_traffic_interval: Duration,
    no_traffic_healthy_interval: Option<Duration>,
    unhealthy_interval: Option<Duration>,
    unhealthy_edge_interval: Option<Duration>,
    healthy_edge_interval: Option<Duration>,
    port: Option<u16>,
    log_failures: bool,
    /// HTTP and gRPC questions go on one connection, as long as it lasts.
    reuse_connection: bool,
    checker: Checker,
    stats: CheckStats,
    /// Least and greatest time between questions.
    bounds: (Duration, Duration),
}

/// Counters of a cluster's checks (`cluster.<name>.health_check.`).
#[derive(Debug)]
struct CheckStats {
    attempt: Counter,
    success: Counter,
    failure: Counter,
    network_failure: Counter,
    passive_failure: Counter,
    healthy: Gauge,
    degraded: Gauge,
}

impl CheckStats {
    fn new(scope: &Scope) -> Self {
        let scope = scope.scope("health_check");
        Self {
            attempt: scope.counter("attempt"),
            success: scope.counter("success"),
            failure: scope.counter("failure"),
            network_failure: scope.counter("network_failure"),
            passive_failure: scope.counter("passive_failure"),
            healthy: scope.gauge("healthy"),
            degraded: scope.gauge("degraded"),
        }
    }

    fn count(&self, result: &Result<Passed, Failure>) {
        self.attempt.inc();
        match result {
            Ok(_) => self.success.inc(),
            Err(failure) => {
                self.failure.inc();
                if failure.network {
                    self.network_failure.inc();
                }
            }
        }
    }
}

/// What is asked.
#[derive(Debug)]
pub enum Checker {
    /// An HTTP request.
    Http {
        /// Host header; the cluster's name if empty.
        host: String,
        /// Path.
        path: String,
        /// Method.
        method: http::Method,
        /// Further headers.
        headers: http::HeaderMap,
        /// Statuses that are good.
        expected: Vec<std::ops::Range<u16>>,
        /// Over HTTP/2.
        http2: bool,
    },
    /// A connection, and bytes to send and to find in the answer.
    Tcp {
        /// Sent.
        send: Bytes,
        /// Expected, each after the other.
        receive: Vec<Bytes>,
    },
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// Service asked for.
        service: String,
        /// Authority; the cluster's name if empty.
        authority: String,
    },
}

/// What an endpoint says about its own checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCheck {
    /// Port, unless the endpoint's.
    pub port: Option<u16>,
    /// Host header, unless the check's.
    pub hostname: Text,
    /// Not checked.
    pub disabled: bool,
}

impl HealthCheck {
    /// With the least and the greatest time between questions.
    pub(in crate::cluster) fn within(self, bounds: (Duration, Duration)) -> Self {
        Self { bounds, ..self }
    }

    /// The time until the next question.
    fn pause(&self, state: &State, traffic: bool) -> Duration {
        let edge = state.edge();
        let interval = match (state.healthy, traffic) {
            (true, false) => self.no_traffic_healthy_interval.unwrap_or(self.no_traffic_interval),
            (false, false) => self.no_traffic_interval,
            (true, true) if edge => self.healthy_edge_interval.unwrap_or(self.interval),
            (true, true) => self.interval,
            (false, true) if edge => self.unhealthy_edge_interval.or(self.unhealthy_interval).unwrap_or(self.interval),
            (false, true) => self.unhealthy_interval.unwrap_or(self.interval),
        };
        let jitter = self.interval_jitter + interval * self.jitter_percent / 100;
        (interval + jitter.mul_f64(fastrand::f64())).min(self.bounds.1).max(self.bounds.0)
    }

    fn address(&self, host: &Host) -> HostAddress {
        let port = host.check.as_ref().and_then(|check| check.port).or(self.port);
        match (&host.address, port) {
            (HostAddress::Tcp(address), Some(port)) => HostAddress::Tcp(SocketAddr::new(address.ip(), port)),
            (address, _) => address.clone(),
        }
    }
}

/// A host as its task sees it; replaced when its configuration changes.
type Current = Arc<Mutex<Arc<Host>>>;

/// Checks the hosts of a cluster for as long as it lives: one task a host, started and ended as hosts come and go.
pub(in crate::cluster) async fn run(cluster: Weak<Cluster>, hosts_changed: Arc<Notify>) {
    let mut tasks = JoinSet::new();
    let mut known: FxHashMap<u64, (Current, AbortHandle)> = FxHashMap::default();
    loop {
        {
            let Some(cluster) = cluster.upgrade() else { return };
            let hosts = cluster.hosts.load_full();
            let is_checked = |host: &Host| !host.check.as_ref().is_some_and(|check| check.disabled);
            known.retain(|id, (_, task)| {
                let stays = hosts.hosts.iter().any(|host| host.id == *id && is_checked(host));
                if !stays {
                    task.abort();
                }
                stays
            });
            for host in &hosts.hosts {
                if !is_checked(host) {
                    host.health.set(Unhealthy::Pending, false);
                    host.health.set(Unhealthy::ActiveCheck, false);
                } else if let Some((current, _)) = known.get(&host.id) {
                    *current.lock() = host.clone();
                } else {
                    let current = Arc::new(Mutex::new(host.clone()));
                    let task = tasks.spawn(watch(Arc::downgrade(&cluster), current.clone()));
                    known.insert(host.id, (current, task));
                }
            }
            shown(&cluster);
        }
        while tasks.try_join_next().is_some() {}
        hosts_changed.notified().await;
    }
}

impl Cluster {
    /// A host said in an answer that it fails its checks (`x-envoy-immediate-health-check-fail`): it is out at once, if it is
    /// checked at all, until its checks pass again (Envoy, "Health checking", fast failure).
    pub fn told_failed(&self, host: &Host) {
        let Some(check) = &self.health_check else { return };
        if host.check.as_ref().is_some_and(|check| check.disabled) {
            return;
        }
        host.health.fail_at_once();
        check.stats.failure.inc();
        check.stats.passive_failure.inc();
        self.hosts_changed.notify_one();
    }
}

/// Lets everybody see what a check has changed.
fn shown(cluster: &Cluster) {
    cluster.drop_leavers();
    cluster.warm_if_checked();
    cluster.refresh_if_stale();
    if let Some(check) = &cluster.health_check {
        let hosts = cluster.hosts.load();
        let count = |reason: Unhealthy| hosts.hosts.iter().filter(|host| host.health.has(reason)).count() as u64;
        check.stats.healthy.set(hosts.hosts.len() as u64 - count(Unhealthy::ActiveCheck));
        check.stats.degraded.set(count(Unhealthy::DegradedCheck));
    }
}

/// Sets what a result says of its host, and the new state if it is one; whether that changed anything.
fn note(host: &Host, result: &Result<Passed, Failure>, healthy: Option<bool>) -> bool {
    let health = &host.health;
    let mut changed = false;
    if let Some(healthy) = healthy {
        if healthy && health.has(Unhealthy::ActiveCheck) {
            health.recover();
        }
        changed |= healthy && health.set(Unhealthy::Excluded, false);
        changed |= health.set(Unhealthy::ActiveCheck, !healthy);
    }
    match result {
        Ok(passed) => changed |= health.set(Unhealthy::DegradedCheck, *passed == Passed::Degraded),
        Err(failure) => changed |= failure.excludes && health.set(Unhealthy::Excluded, true),
    }
    let is_late = result.as_ref().is_err_and(|failure| failure.late) && health.has(Unhealthy::ActiveCheck);
    if is_late || result.is_err() || healthy == Some(true) {
        changed |= health.set(Unhealthy::CheckTimeout, is_late);
    }
    changed | health.set(Unhealthy::Pending, false)
}

async fn watch(cluster: Weak<Cluster>, current: Current) {
    let mut state = State::new();
    let (mut asker, mut requests) = (Asker::default(), 0);
    let initial = cluster.upgrade().and_then(|cluster| Some(cluster.health_check.as_ref()?.initial_jitter));
    tokio::time::sleep(initial.unwrap_or_default().mul_f64(fastrand::f64())).await;
    loop {
        let Some(owner) = cluster.upgrade() else { return };
        let Some(check) = &owner.health_check else { return };
        let host = current.lock().clone();
        let result = match tokio::time::timeout(check.timeout, asker.ask(&owner, check, &host)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::timeout(format!("no answer within {:?}", check.timeout))),
        };
        check.stats.count(&result);
        if host.health.take_told_failed() {
            state.fail();
        }
        if let Err(failure) = &result
            && (check.log_failures || state.healthy)
        {
            let reason = &failure.reason;
            tracing::info!(cluster = %owner.config.name, host = %host.address, reason, "health check failed");
        }
        let now = state.count(&result, check);
        let changed = note(&host, &result, now);
        if let (Ok(_), Some(detector)) = (&result, &owner.outlier) {
            detector.check_passed(&host);
        }
        if changed {
            shown(&owner);
        }
        let now = owner.stats.upstream_rq_total.get();
        let traffic = now > 0 || requests > 0;
        requests = now;
        let pause = check.pause(&state, traffic);
        drop(owner);
        tokio::time::sleep(pause).await;
    }
}
