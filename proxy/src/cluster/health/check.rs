//! Active health checks: HTTP, TCP and gRPC questions to each host, apart from the pools of the workers.
//!
//! Rules: Envoy, "Health checking" (thresholds, intervals by state, jitter).

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::config::endpoint::v3 as endpoint;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

use super::Unhealthy;
use crate::cluster::{Cluster, Host, HostAddress};
use crate::config::{At, ConfigError, duration, required};
use crate::stats::{Counter, Gauge, Scope};
use crate::text::Text;

mod probe;

use probe::Failure;

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
    healthy: Gauge,
}

impl CheckStats {
    fn new(scope: &Scope) -> Self {
        let scope = scope.scope("health_check");
        Self {
            attempt: scope.counter("attempt"),
            success: scope.counter("success"),
            failure: scope.counter("failure"),
            network_failure: scope.counter("network_failure"),
            healthy: scope.gauge("healthy"),
        }
    }

    fn count(&self, result: &Result<(), Failure>) {
        self.attempt.inc();
        match result {
            Ok(()) => self.success.inc(),
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

impl HostCheck {
    pub(in crate::cluster) fn decode(config: &endpoint::endpoint::HealthCheckConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            port: port(config.port_value).at("port_value")?,
            hostname: config.hostname.as_str().into(),
            disabled: config.disable_active_health_check,
        })
    }
}

fn port(value: u32) -> Result<Option<u16>, ConfigError> {
    let port = u16::try_from(value).map_err(|_| ConfigError::new("", "must be at most 65535"))?;
    Ok((port != 0).then_some(port))
}

impl HealthCheck {
    pub(in crate::cluster) fn decode(config: &core::HealthCheck, scope: &Scope) -> Result<Self, ConfigError> {
        let positive = |value, field| {
            required(duration(value, field)?, field).and_then(|value| {
                (!value.is_zero()).then_some(value).ok_or_else(|| ConfigError::new(field, "must not be zero"))
            })
        };
        let interval = positive(config.interval, "interval")?;
        Ok(Self {
            timeout: positive(config.timeout, "timeout")?,
            interval,
            initial_jitter: duration(config.initial_jitter, "initial_jitter")?.unwrap_or_default(),
            interval_jitter: duration(config.interval_jitter, "interval_jitter")?.unwrap_or_default(),
            jitter_percent: config.interval_jitter_percent.min(100),
            unhealthy_threshold: required(config.unhealthy_threshold, "unhealthy_threshold")?.max(1),
            healthy_threshold: required(config.healthy_threshold, "healthy_threshold")?.max(1),
            no_traffic_interval: duration(config.no_traffic_interval, "no_traffic_interval")?
                .unwrap_or(Duration::from_secs(60)),
            no_traffic_healthy_interval: duration(config.no_traffic_healthy_interval, "no_traffic_healthy_interval")?,
            unhealthy_interval: duration(config.unhealthy_interval, "unhealthy_interval")?,
            unhealthy_edge_interval: duration(config.unhealthy_edge_interval, "unhealthy_edge_interval")?,
            healthy_edge_interval: duration(config.healthy_edge_interval, "healthy_edge_interval")?,
            port: port(config.alt_port.unwrap_or_default()).at("alt_port")?,
            log_failures: config.always_log_health_check_failures,
            checker: checker(required(config.health_checker.as_ref(), "health_checker")?)?,
            stats: CheckStats::new(scope),
            bounds: (Duration::ZERO, Duration::MAX),
        })
    }

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

fn checker(config: &core::health_check::HealthChecker) -> Result<Checker, ConfigError> {
    use core::health_check::HealthChecker;
    match config {
        HealthChecker::HttpHealthCheck(config) => http_checker(config).at("http_health_check"),
        HealthChecker::TcpHealthCheck(config) => {
            let receive = config.receive.iter().map(payload).collect::<Result<_, _>>();
            let send = config.send.as_ref().map(payload).transpose();
            Ok(Checker::Tcp {
                send: send.at("tcp_health_check.send")?.unwrap_or_default(),
                receive: receive.at("tcp_health_check.receive")?,
            })
        }
        HealthChecker::GrpcHealthCheck(config) => {
            Ok(Checker::Grpc { service: config.service_name.clone(), authority: config.authority.clone() })
        }
        HealthChecker::CustomHealthCheck(_) => Err(ConfigError::new("custom_health_check", "is not implemented")),
    }
}

fn http_checker(config: &core::health_check::HttpHealthCheck) -> Result<Checker, ConfigError> {
    let method = match core::RequestMethod::try_from(config.method) {
        Ok(core::RequestMethod::MethodUnspecified) | Err(_) => http::Method::GET,
        Ok(method) => http::Method::from_bytes(method.as_str_name().as_bytes())
            .map_err(|_| ConfigError::new("method", "is no HTTP method"))?,
    };
    let expected = match config.expected_statuses.as_slice() {
        [] => Ok(std::iter::once(200..201).collect()),
        ranges => ranges
            .iter()
            .map(|range| {
                let bound = |value| {
                    u16::try_from(value).map_err(|_| ConfigError::new("expected_statuses", "must be 100 to 600"))
                };
                Ok(bound(range.start)?..bound(range.end)?)
            })
            .collect(),
    };
    let mut headers = http::HeaderMap::new();
    for header in config.request_headers_to_add.iter().filter_map(|option| option.header.as_ref()) {
        let name = http::HeaderName::from_bytes(header.key.as_bytes());
        let value = http::HeaderValue::from_str(&header.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(ConfigError::new("request_headers_to_add", format!("{:?} is no valid header", header.key)));
        };
        headers.append(name, value);
    }
    if http::uri::PathAndQuery::try_from(config.path.as_str()).is_err() || !config.path.starts_with('/') {
        return Err(ConfigError::new("path", "must be a path that starts with /"));
    }
    Ok(Checker::Http {
        host: config.host.clone(),
        path: config.path.clone(),
        method,
        headers,
        expected: expected?,
        http2: config.codec_client_type == ferromesh_proto::envoy::r#type::v3::CodecClientType::Http2 as i32,
    })
}

fn payload(payload: &core::health_check::Payload) -> Result<Bytes, ConfigError> {
    match &payload.payload {
        None => Ok(Bytes::new()),
        Some(core::health_check::payload::Payload::Binary(bytes)) => Ok(bytes.clone()),
        Some(core::health_check::payload::Payload::Text(hex)) => hex
            .as_bytes()
            .chunks(2)
            .map(|pair| {
                std::str::from_utf8(pair)
                    .ok()
                    .filter(|pair| pair.len() == 2)
                    .and_then(|pair| u8::from_str_radix(pair, 16).ok())
            })
            .collect::<Option<Vec<u8>>>()
            .map(Bytes::from)
            .ok_or_else(|| ConfigError::new("text", "must be hexadecimal")),
    }
}

/// A host's answers so far.
#[derive(Debug, Default)]
struct State {
    healthy: bool,
    /// Answers in a row that disagree with `healthy`.
    against: u32,
    /// The first answer decides alone.
    first: bool,
}

impl State {
    fn new() -> Self {
        Self { first: true, ..Self::default() }
    }

    fn edge(&self) -> bool {
        self.against > 0
    }

    /// Counts an answer; the new state if it changes. An answer that says that the host is not well counts at once;
    /// `unhealthy_threshold` is for hosts that do not answer (Envoy's HealthCheck message).
    fn count(&mut self, result: &Result<(), Failure>, check: &HealthCheck) -> Option<bool> {
        let good = result.is_ok();
        let says_so = result.as_ref().is_err_and(|failure| !failure.network);
        let first = std::mem::take(&mut self.first);
        if good == self.healthy && !first {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let threshold = match (first, good) {
            (true, _) => 1,
            (false, false) if says_so => 1,
            (false, true) => check.healthy_threshold,
            (false, false) => check.unhealthy_threshold,
        };
        if self.against < threshold {
            return None;
        }
        self.against = 0;
        self.healthy = good;
        Some(good)
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

/// Lets everybody see what a check has changed.
fn shown(cluster: &Cluster) {
    cluster.warm_if_checked();
    cluster.refresh_if_stale();
    if let Some(check) = &cluster.health_check {
        let hosts = cluster.hosts.load();
        let healthy = hosts.hosts.iter().filter(|host| !host.health.has(Unhealthy::ActiveCheck)).count();
        check.stats.healthy.set(healthy as u64);
    }
}

async fn watch(cluster: Weak<Cluster>, current: Current) {
    let mut state = State::new();
    let mut requests = 0;
    let initial = cluster.upgrade().and_then(|cluster| Some(cluster.health_check.as_ref()?.initial_jitter));
    tokio::time::sleep(initial.unwrap_or_default().mul_f64(fastrand::f64())).await;
    loop {
        let Some(owner) = cluster.upgrade() else { return };
        let Some(check) = &owner.health_check else { return };
        let host = current.lock().clone();
        let asked = probe::ask(&owner, check, &host);
        let result = match tokio::time::timeout(check.timeout, asked).await {
            Ok(result) => result,
            Err(_) => Err(Failure::network(format!("no answer within {:?}", check.timeout))),
        };
        check.stats.count(&result);
        if let Err(failure) = &result
            && (check.log_failures || state.healthy)
        {
            let reason = &failure.reason;
            tracing::info!(cluster = %owner.config.name, host = %host.address, reason, "health check failed");
        }
        let mut changed = false;
        if let Some(healthy) = state.count(&result, check) {
            if healthy && host.health.has(Unhealthy::ActiveCheck) {
                host.health.recover();
            }
            changed |= host.health.set(Unhealthy::ActiveCheck, !healthy);
        }
        changed |= host.health.set(Unhealthy::Pending, false);
        if let (Ok(()), Some(detector)) = (&result, &owner.outlier) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check() -> HealthCheck {
        let config = core::HealthCheck {
            timeout: Some(Duration::from_secs(1).try_into().unwrap()),
            interval: Some(Duration::from_secs(10).try_into().unwrap()),
            unhealthy_threshold: Some(3),
            healthy_threshold: Some(2),
            health_checker: Some(core::health_check::HealthChecker::TcpHealthCheck(Default::default())),
            ..Default::default()
        };
        HealthCheck::decode(&config, &Arc::<crate::stats::Store>::default().root()).unwrap()
    }

    fn answer(good: bool) -> Result<(), Failure> {
        if good { Ok(()) } else { Err(Failure::network("refused")) }
    }

    #[test]
    fn the_first_answer_decides_alone_and_later_ones_by_thresholds() {
        let (check, mut state) = (check(), State::new());
        assert_eq!(state.count(&answer(true), &check), Some(true));
        assert_eq!(state.count(&answer(false), &check), None);
        assert_eq!(state.count(&answer(false), &check), None);
        assert_eq!(state.count(&answer(true), &check), None, "a good answer starts the count anew");
        assert_eq!([false; 3].map(|good| state.count(&answer(good), &check)), [None, None, Some(false)]);
        assert_eq!([true; 2].map(|good| state.count(&answer(good), &check)), [None, Some(true)]);
    }

    #[test]
    fn a_host_that_says_that_it_is_not_well_is_believed_at_once() {
        let (check, mut state) = (check(), State::new());
        assert_eq!(state.count(&Ok(()), &check), Some(true));
        assert_eq!(state.count(&Err(Failure::said("status 503")), &check), Some(false));
    }

    #[test]
    fn hosts_without_traffic_are_asked_less_often() {
        let (check, state) = (check(), State::new());
        assert_eq!(check.pause(&state, false), Duration::from_secs(60));
        assert_eq!(check.pause(&state, true), Duration::from_secs(10));
    }
}
