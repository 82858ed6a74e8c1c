//! `envoy.filters.http.health_check`: answers health checks itself, or marks them on their way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ferromesh_proto::envoy::extensions::filters::http::health_check::v3 as proto;
use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;

use super::{Build, Flow, HttpFilter};
use crate::access_log::HealthCheckRequest;
use crate::body::Body;
use crate::cause::Cause;
use crate::config::supported::Table;
use crate::config::{ConfigError, duration, required};
use crate::http::stream::Stream;
use crate::matcher::HeaderMatcher;
use crate::message::{LocalReply, ResponseHead};

/// Fields of this filter's messages that are implemented.
pub const SUPPORTED: Table = &[(
    "envoy.extensions.filters.http.health_check.v3.HealthCheck",
    "pass_through_mode headers cache_time cluster_min_healthy_percentages",
)];

/// Full name of the configuration.
pub const MESSAGE: &str = "envoy.extensions.filters.http.health_check.v3.HealthCheck";

/// Makes the filter.
pub fn build(build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
    let message: proto::HealthCheck = build.unpack()?;
    let pass_through = required(message.pass_through_mode, "pass_through_mode")?;
    let cache_time = duration(message.cache_time, "cache_time")?;
    if !pass_through && cache_time.is_some() {
        return Err(ConfigError::new("cache_time", "goes only with pass_through_mode: true"));
    }
    if pass_through && !message.cluster_min_healthy_percentages.is_empty() {
        return Err(ConfigError::new("cluster_min_healthy_percentages", "goes only with pass_through_mode: false"));
    }
    let percent = |(name, percent): (String, ferromesh_proto::envoy::r#type::v3::Percent)| match percent.value {
        value @ 0.0..=100.0 => Ok((name, value)),
        _ => Err(ConfigError::new(format!("cluster_min_healthy_percentages[{name}]"), "must be from 0 to 100")),
    };
    Ok(Arc::new(HealthCheck {
        pass_through,
        headers: HeaderMatcher::decode_list(&message.headers, "headers")?,
        cluster: HeaderValue::from_str(&build.context.local.cluster).unwrap_or(HeaderValue::from_static("")),
        cache: cache_time.map(|time| Cache { time, answer: Mutex::default() }),
        clusters: message.cluster_min_healthy_percentages.into_iter().map(percent).collect::<Result<_, _>>()?,
    }))
}

struct HealthCheck {
    pass_through: bool,
    headers: Vec<HeaderMatcher>,
    cluster: HeaderValue,
    cache: Option<Cache>,
    /// Clusters, and the least percentage of their hosts that must be able to serve.
    clusters: Vec<(String, f64)>,
}

/// The last answer of the application, which stands for the next ones for a while.
struct Cache {
    time: Duration,
    answer: Mutex<Option<(Instant, StatusCode, bool)>>,
}

/// The answer was made here, so that it is not to be kept.
struct Own;

impl Cache {
    fn get(&self, now: Instant) -> Option<(StatusCode, bool)> {
        let answer = *self.answer.lock();
        answer.filter(|(at, ..)| now.duration_since(*at) < self.time).map(|(_, status, degraded)| (status, degraded))
    }
}

impl HealthCheck {
    /// What the clusters say: details, and whether the check fails.
    fn of_clusters(&self, stream: &Stream) -> (&'static str, bool) {
        let mut details = "health_check_ok";
        for (name, least) in &self.clusters {
            details = "health_check_ok_cluster_healthy";
            let Some(cluster) = stream.worker.context.clusters.get(name) else {
                return ("health_check_failed_no_cluster_found", true);
            };
            let hosts = cluster.hosts.load();
            let able = hosts.hosts.iter().filter(|host| host.health.is_healthy() || host.health.is_degraded()).count();
            if hosts.hosts.is_empty() && *least > 0.0 {
                return ("health_check_failed_cluster_empty", true);
            }
            let share = 100.0 * able as f64 / hosts.hosts.len().max(1) as f64;
            if share < *least {
                return ("health_check_failed_cluster_unhealthy", true);
            }
        }
        (details, false)
    }

    fn reply(&self, stream: &Stream, failing: bool) -> Option<LocalReply> {
        let failed = || LocalReply::new(Cause::HealthCheckFailed);
        if failing {
            return Some(failed());
        }
        if let Some(cache) = &self.cache {
            let (status, degraded) = cache.get(Instant::now())?;
            let mut reply = if status.is_success() { LocalReply::new(Cause::HealthCheckReply) } else { failed() };
            reply.status = Some(status);
            reply.details = Some("health_check_cached".into());
            if degraded {
                reply.headers.insert(DEGRADED, HeaderValue::from_static(""));
            }
            return Some(reply);
        }
        if self.pass_through {
            return None;
        }
        let (details, unhealthy) = self.of_clusters(stream);
        let mut reply = if unhealthy { failed() } else { LocalReply::new(Cause::HealthCheckReply) };
        reply.details = Some(details.into());
        Some(reply)
    }
}

const DEGRADED: &str = "x-envoy-degraded";

fn is_failing(stream: &Stream) -> bool {
    stream.worker.context.fails_health_check()
}

impl HttpFilter for HealthCheck {
    fn on_request(&self, stream: &mut Stream, _body: &mut Body) -> Flow {
        if !self.headers.iter().all(|matcher| matcher.matches_request(&stream.request)) {
            return Flow::Next;
        }
        stream.state.set(HealthCheckRequest);
        match self.reply(stream, is_failing(stream)) {
            Some(reply) => {
                stream.state.set(Own);
                Flow::Respond(Box::new(reply))
            }
            None => Flow::Next,
        }
    }

    fn on_response(&self, stream: &mut Stream, head: &mut ResponseHead, _body: &mut Body) {
        // Who sends requests here need not wait for the next check.
        if is_failing(stream) {
            head.headers.insert("x-envoy-immediate-health-check-fail", HeaderValue::from_static("true"));
        }
        if stream.state.get::<HealthCheckRequest>().is_none() {
            return;
        }
        head.headers.insert("x-envoy-upstream-healthchecked-cluster", self.cluster.clone());
        if let Some(cache) = &self.cache
            && stream.state.get::<Own>().is_none()
        {
            let degraded = head.headers.contains_key(DEGRADED);
            *cache.answer.lock() = Some((Instant::now(), head.status, degraded));
        }
    }
}
