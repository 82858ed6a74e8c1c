//! `envoy.filters.http.fault`: injected delays and aborts.

use std::sync::Arc;
use std::time::Duration;

use ferromesh_proto::Any;
use ferromesh_proto::envoy::extensions::filters::common::fault::v3 as common;
use ferromesh_proto::envoy::extensions::filters::http::fault::v3 as proto;
use http::{HeaderMap, StatusCode};

use super::{Build, Flow, HttpFilter, RouteConfig, route_config};
use crate::body::Body;
use crate::cause::Cause;
use crate::config::supported::Table;
use crate::config::{At, ConfigError, duration, required, unpack};
use crate::context::Context;
use crate::http::stream::Stream;
use crate::matcher::{HeaderMatcher, hit, per_million};
use crate::message::{LocalReply, ResponseHead};
use crate::stats::{Counter, Gauge};

mod throttled;

use throttled::Throttled;

/// Fields of this filter's messages that are implemented.
pub const SUPPORTED: Table = &[
    (
        "envoy.extensions.filters.http.fault.v3.HTTPFault",
        "delay abort upstream_cluster headers downstream_nodes max_active_faults disable_downstream_cluster_stats \
         response_rate_limit delay_percent_runtime abort_percent_runtime delay_duration_runtime \
         abort_http_status_runtime max_active_faults_runtime response_rate_limit_percent_runtime \
         abort_grpc_status_runtime",
    ),
    ("envoy.extensions.filters.common.fault.v3.FaultRateLimit", "fixed_limit header_limit percentage"),
    ("envoy.extensions.filters.common.fault.v3.FaultRateLimit.FixedLimit", "*"),
    ("envoy.extensions.filters.common.fault.v3.FaultRateLimit.HeaderLimit", "*"),
    (
        "envoy.extensions.filters.http.fault.v3.FaultAbort",
        "http_status grpc_status header_abort percentage response_body",
    ),
    ("envoy.extensions.filters.http.fault.v3.FaultAbort.HeaderAbort", "*"),
    ("envoy.extensions.filters.common.fault.v3.FaultDelay", "fixed_delay header_delay percentage"),
    ("envoy.extensions.filters.common.fault.v3.FaultDelay.HeaderDelay", "*"),
];

/// Full name of the configuration, also per route.
pub const MESSAGE: &str = "envoy.extensions.filters.http.fault.v3.HTTPFault";

/// Longest delay that a request may ask for by header.
const MAX_HEADER_DELAY: Duration = Duration::from_secs(3600);

/// Makes the filter.
pub fn build(build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
    let scope = build.stats().scope("fault");
    Ok(Arc::new(Fault {
        name: build.name.to_owned(),
        config: Arc::new(Config::decode(&build.unpack()?)?),
        stats: Stats {
            delays: scope.counter("delays_injected"),
            aborts: scope.counter("aborts_injected"),
            limits: scope.counter("response_rl_injected"),
            overflow: scope.counter("faults_overflow"),
            active: scope.gauge("active_faults"),
        },
    }))
}

/// Makes the configuration of a route, which stands in place of the filter's.
pub fn build_route(any: &Any, _context: &Context) -> Result<RouteConfig, ConfigError> {
    Ok(Arc::new(Config::decode(&unpack(any)?)?))
}

struct Fault {
    name: String,
    config: Arc<Config>,
    stats: Stats,
}

#[derive(Clone)]
struct Stats {
    delays: Counter,
    aborts: Counter,
    limits: Counter,
    overflow: Counter,
    active: Gauge,
}

struct Config {
    delay: Option<(Delay, u32)>,
    abort: Option<(Abort, u32)>,
    abort_body: String,
    limit: Option<(Limit, u32)>,
    cluster: String,
    headers: Vec<HeaderMatcher>,
    nodes: Vec<String>,
    max_active: u64,
}

#[derive(Clone, Copy)]
enum Delay {
    Fixed(Duration),
    /// From `x-envoy-fault-delay-request` (milliseconds).
    Header,
}

#[derive(Clone, Copy)]
enum Abort {
    Http(StatusCode),
    Grpc(u32),
    /// From `x-envoy-fault-abort-request` (status) or `x-envoy-fault-abort-grpc-request`.
    Header,
}

/// KiB a second of a response's body.
#[derive(Clone, Copy)]
enum Limit {
    Fixed(u64),
    /// From `x-envoy-fault-throughput-response`.
    Header,
}

impl Config {
    fn decode(message: &proto::HttpFault) -> Result<Self, ConfigError> {
        Ok(Self {
            delay: message.delay.as_ref().map(Self::delay).transpose().at("delay")?,
            abort: message.abort.as_ref().map(Self::abort).transpose().at("abort")?,
            abort_body: message.abort.as_ref().map(|abort| abort.response_body.clone()).unwrap_or_default(),
            limit: message.response_rate_limit.as_ref().map(Self::limit).transpose().at("response_rate_limit")?,
            cluster: message.upstream_cluster.clone(),
            headers: HeaderMatcher::decode_list(&message.headers, "headers")?,
            nodes: message.downstream_nodes.clone(),
            max_active: message.max_active_faults.map_or(u64::MAX, u64::from),
        })
    }

    fn delay(message: &common::FaultDelay) -> Result<(Delay, u32), ConfigError> {
        use common::fault_delay::FaultDelaySecifier as Kind;
        let delay = match required(message.fault_delay_secifier.as_ref(), "fixed_delay")? {
            Kind::FixedDelay(fixed) => Delay::Fixed(required(duration(Some(*fixed), "fixed_delay")?, "fixed_delay")?),
            Kind::HeaderDelay(_) => Delay::Header,
        };
        Ok((delay, message.percentage.as_ref().map_or(0, per_million)))
    }

    fn abort(message: &proto::FaultAbort) -> Result<(Abort, u32), ConfigError> {
        use proto::fault_abort::ErrorType as Kind;
        let abort = match required(message.error_type.as_ref(), "http_status")? {
            Kind::HttpStatus(status) => Abort::Http(
                u16::try_from(*status)
                    .ok()
                    .filter(|status| (200..600).contains(status))
                    .and_then(|status| StatusCode::from_u16(status).ok())
                    .ok_or_else(|| ConfigError::new("http_status", "must be from 200 to 599"))?,
            ),
            Kind::GrpcStatus(status) => Abort::Grpc(*status),
            Kind::HeaderAbort(_) => Abort::Header,
        };
        Ok((abort, message.percentage.as_ref().map_or(0, per_million)))
    }

    fn limit(message: &common::FaultRateLimit) -> Result<(Limit, u32), ConfigError> {
        use common::fault_rate_limit::LimitType;
        let limit = match required(message.limit_type.as_ref(), "fixed_limit")? {
            LimitType::FixedLimit(fixed) if fixed.limit_kbps == 0 => {
                return Err(ConfigError::new("fixed_limit.limit_kbps", "must be above 0"));
            }
            LimitType::FixedLimit(fixed) => Limit::Fixed(fixed.limit_kbps),
            LimitType::HeaderLimit(_) => Limit::Header,
        };
        Ok((limit, message.percentage.as_ref().map_or(0, per_million)))
    }

    fn applies(&self, stream: &Stream) -> bool {
        let cluster = || stream.upstream.cluster_name.as_ref();
        let node = || stream.request.headers.get("x-envoy-downstream-service-node");
        self.headers.iter().all(|matcher| matcher.matches_request(&stream.request))
            && (self.cluster.is_empty() || cluster().is_some_and(|name| name.as_str() == self.cluster))
            && (self.nodes.is_empty()
                || node().is_some_and(|node| self.nodes.iter().any(|name| name.as_bytes() == node.as_bytes())))
    }

    /// How long this request waits.
    fn delay_of(&self, headers: &HeaderMap, random: u64) -> Option<Duration> {
        let (delay, share) = self.delay?;
        let (delay, share) = match delay {
            Delay::Fixed(delay) => (delay, share),
            Delay::Header => {
                let delay =
                    Duration::from_millis(number(headers, "x-envoy-fault-delay-request")?).min(MAX_HEADER_DELAY);
                (delay, lower(headers, "x-envoy-fault-delay-request-percentage", share))
            }
        };
        (hit(share, random) && !delay.is_zero()).then_some(delay)
    }

    /// How fast the response's body goes, KiB a second.
    fn limit_of(&self, headers: &HeaderMap, random: u64) -> Option<u64> {
        let (limit, share) = self.limit?;
        let (limit, share) = match limit {
            Limit::Fixed(limit) => (limit, share),
            Limit::Header => {
                let limit = number(headers, "x-envoy-fault-throughput-response")?;
                (limit, lower(headers, "x-envoy-fault-throughput-response-percentage", share))
            }
        };
        (hit(share, random) && limit > 0).then_some(limit)
    }

    /// How this request is aborted.
    fn abort_of(&self, headers: &HeaderMap, random: u64) -> Option<LocalReply> {
        let (abort, share) = self.abort?;
        let (abort, share) = match abort {
            Abort::Header => {
                let share = lower(headers, "x-envoy-fault-abort-request-percentage", share);
                let http = number(headers, "x-envoy-fault-abort-request")
                    .and_then(|status| u16::try_from(status).ok())
                    .filter(|status| (200..600).contains(status))
                    .and_then(|status| StatusCode::from_u16(status).ok());
                let grpc =
                    || number(headers, "x-envoy-fault-abort-grpc-request").and_then(|code| u32::try_from(code).ok());
                (http.map(Abort::Http).or_else(|| grpc().map(Abort::Grpc))?, share)
            }
            other => (other, share),
        };
        if !hit(share, random) {
            return None;
        }
        let mut reply = LocalReply::new(Cause::FaultAbort);
        reply.body = match self.abort_body.as_str() {
            "" => "fault filter abort".into(),
            body => body.into(),
        };
        match abort {
            Abort::Http(status) => reply.status = Some(status),
            Abort::Grpc(status) => {
                reply.status = Some(StatusCode::OK);
                reply.grpc_status = Some(status);
            }
            Abort::Header => {}
        }
        Some(reply)
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// A header may only lower the share (its percentage is of a hundred).
fn lower(headers: &HeaderMap, name: &str, share: u32) -> u32 {
    let asked = number(headers, name).and_then(|percent| u32::try_from(percent).ok());
    asked.map_or(share, |percent| percent.saturating_mul(10_000).min(share))
}

/// Counts a fault as active while it lasts.
struct Active(Gauge);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The response of the stream is slowed down to this, KiB a second.
struct Limited(u64, #[allow(dead_code, reason = "counted until it is dropped")] Active);

impl Fault {
    /// Begins a fault, if there may be one more.
    fn begin(&self, config: &Config) -> Option<Active> {
        if self.stats.active.get() >= config.max_active {
            self.stats.overflow.inc();
            return None;
        }
        self.stats.active.inc();
        Some(Active(self.stats.active.clone()))
    }
}

impl HttpFilter for Fault {
    fn on_response(&self, stream: &mut Stream, _head: &mut ResponseHead, body: &mut Body) {
        if let Some(Limited(limit, _)) = stream.state.get()
            && !body.is_empty()
        {
            *body = Body::new(Throttled::new(std::mem::take(body), limit.saturating_mul(1024)));
        }
    }

    fn on_request(&self, stream: &mut Stream, _body: &mut Body) -> Flow {
        let config = route_config::<Config>(stream, &self.name).unwrap_or_else(|| self.config.clone());
        let nothing = config.delay.is_none() && config.abort.is_none() && config.limit.is_none();
        if nothing || !config.applies(stream) {
            return Flow::Next;
        }
        if let Some(limit) = config.limit_of(&stream.request.headers, fastrand::u64(..)) {
            match self.begin(&config) {
                Some(active) => {
                    self.stats.limits.inc();
                    stream.state.set(Limited(limit, active));
                }
                None => return Flow::Next,
            }
        }
        let headers = &stream.request.headers;
        let delay = config.delay_of(headers, fastrand::u64(..));
        let abort = config.abort_of(headers, fastrand::u64(..));
        if delay.is_none() && abort.is_none() {
            return Flow::Next;
        }
        let Some(active) = self.begin(&config) else { return Flow::Next };
        let Some(delay) = delay else {
            self.stats.aborts.inc();
            return abort.map_or(Flow::Next, |reply| Flow::Respond(Box::new(reply)));
        };
        self.stats.delays.inc();
        stream.causes.push(Cause::FaultDelay);
        let aborts = self.stats.aborts.clone();
        Flow::Wait(Box::pin(async move {
            tokio::time::sleep(delay).await;
            drop(active);
            match abort {
                Some(reply) => {
                    aborts.inc();
                    Flow::Respond(Box::new(reply))
                }
                None => Flow::Next,
            }
        }))
    }
}
