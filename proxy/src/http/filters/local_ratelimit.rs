//! `envoy.filters.http.local_ratelimit`: token buckets in the proxy, shared by its workers.

use std::sync::Arc;
use std::time::Instant;

use ferromesh_proto::Any;
use ferromesh_proto::envoy::extensions::common::ratelimit::v3 as common;
use ferromesh_proto::envoy::extensions::filters::http::local_ratelimit::v3 as proto;
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};

use super::{Build, Flow, HttpFilter, RouteConfig, route_config};
use crate::body::Body;
use crate::cause::Cause;
use crate::config::supported::Table;
use crate::config::{ConfigError, unpack};
use crate::context::Context;
use crate::http::stream::Stream;
use crate::matcher::{hit, runtime_per_million};
use crate::message::{LocalReply, ResponseHead};
use crate::route::header_rules::Mutations;
use crate::route::rate_limit::Entry;
use crate::route::{Action, RateLimit};
use crate::stats::Counter;

mod bucket;
mod limiter;

pub use bucket::Bucket;
use limiter::{Limiter, Verdict};

/// Fields of this filter's messages that are implemented.
pub const SUPPORTED: Table = &[
    (
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix status token_bucket filter_enabled filter_enforced request_headers_to_add_when_not_enforced \
         response_headers_to_add descriptors stage local_rate_limit_per_downstream_connection \
         enable_x_ratelimit_headers vh_rate_limits always_consume_default_token_bucket \
         rate_limited_as_resource_exhausted rate_limits max_dynamic_descriptors \
         enable_retry_after_header",
    ),
    ("envoy.extensions.common.ratelimit.v3.LocalRateLimitDescriptor", "entries token_bucket shadow_mode"),
    ("envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.Entry", "*"),
];

/// Full name of the configuration, also per route.
pub const MESSAGE: &str = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";

/// gRPC's RESOURCE_EXHAUSTED and UNAVAILABLE.
const RESOURCE_EXHAUSTED: u32 = 8;
const UNAVAILABLE: u32 = 14;

/// Makes the filter.
pub fn build(build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
    let config = Config::decode(&build.unpack()?, build.context, false)?;
    Ok(Arc::new(LocalRateLimit { name: build.name.to_owned(), config: Arc::new(config) }))
}

/// Makes the configuration of a route, which stands in place of the filter's.
pub fn build_route(any: &Any, context: &Context) -> Result<RouteConfig, ConfigError> {
    Ok(Arc::new(Config::decode(&unpack(any)?, context, true)?))
}

struct LocalRateLimit {
    name: String,
    config: Arc<Config>,
}

struct Config {
    limiter: Option<Limiter>,
    enabled: u32,
    enforced: u32,
    status: StatusCode,
    not_enforced_headers: Mutations,
    response_headers: Mutations,
    stage: u32,
    show_headers: bool,
    vh_rate_limits: common::VhRateLimitsOptions,
    rate_limits: Vec<RateLimit>,
    exhausted: bool,
    retry_after: bool,
    stats: Stats,
}

struct Stats {
    enabled: Counter,
    enforced: Counter,
    ok: Counter,
    rate_limited: Counter,
}

impl Config {
    fn decode(message: &proto::LocalRateLimit, context: &Context, route: bool) -> Result<Self, ConfigError> {
        if message.stat_prefix.is_empty() {
            return Err(ConfigError::new("stat_prefix", "must be set"));
        }
        if route && message.token_bucket.is_none() {
            return Err(ConfigError::new("token_bucket", "must be set in a route's configuration"));
        }
        if message.stage > 10 {
            return Err(ConfigError::new("stage", "must be from 0 to 10"));
        }
        let limited = [
            (message.request_headers_to_add_when_not_enforced.len(), "request_headers_to_add_when_not_enforced"),
            (message.response_headers_to_add.len(), "response_headers_to_add"),
        ];
        for (count, field) in limited {
            if count > 10 {
                return Err(ConfigError::new(field, "must have at most 10 entries"));
            }
        }
        let status = message.status.as_ref().and_then(|status| u16::try_from(status.code).ok()).unwrap_or(0);
        let scope = context.stats.root().tagged("envoy_local_http_ratelimit_prefix", &message.stat_prefix);
        let scope = scope.scope("http_local_rate_limit");
        let headers = |list: &[_], field| Mutations::decode(list, &[], field);
        Ok(Self {
            limiter: Limiter::decode(message, Instant::now())?,
            enabled: message.filter_enabled.as_ref().map_or(0, runtime_per_million),
            enforced: message.filter_enforced.as_ref().map_or(0, runtime_per_million),
            status: StatusCode::from_u16(status)
                .ok()
                .filter(|status| status.as_u16() >= 400)
                .unwrap_or(StatusCode::TOO_MANY_REQUESTS),
            not_enforced_headers: headers(&message.request_headers_to_add_when_not_enforced, "request_headers")?,
            response_headers: headers(&message.response_headers_to_add, "response_headers")?,
            stage: message.stage,
            show_headers: message.enable_x_ratelimit_headers() == common::XRateLimitHeadersRfcVersion::DraftVersion03,
            vh_rate_limits: message.vh_rate_limits(),
            rate_limits: RateLimit::decode_list(&message.rate_limits, "rate_limits")?,
            exhausted: message.rate_limited_as_resource_exhausted,
            retry_after: message.enable_retry_after_header,
            stats: Stats {
                enabled: scope.counter("enabled"),
                enforced: scope.counter("enforced"),
                ok: scope.counter("ok"),
                rate_limited: scope.counter("rate_limited"),
            },
        })
    }

    /// The descriptors of a request.
    fn descriptors(&self, stream: &Stream) -> Vec<Vec<Entry>> {
        let (info, service_cluster) = (stream.info(), &stream.worker.context.local.cluster);
        let of = |limits: &[RateLimit]| -> Vec<Vec<Entry>> {
            limits
                .iter()
                .filter(|limit| limit.stage == self.stage)
                .filter_map(|limit| limit.descriptor(&info, service_cluster))
                .collect()
        };
        if !self.rate_limits.is_empty() {
            return of(&self.rate_limits);
        }
        let Some(route) = &stream.route else { return Vec::new() };
        let (own, include): (&[RateLimit], bool) = match &route.route().action {
            Action::Forward(forward) => (&forward.rate_limits, forward.include_vh_rate_limits),
            _ => (&[], false),
        };
        let with_host = match self.vh_rate_limits {
            _ if include => true,
            common::VhRateLimitsOptions::Override => own.is_empty(),
            common::VhRateLimitsOptions::Include => true,
            common::VhRateLimitsOptions::Ignore => false,
        };
        let mut all = of(own);
        if with_host {
            all.extend(of(&route.virtual_host().rate_limits));
        }
        all
    }

    /// The refusal; `reset` is when there is a token again, in seconds.
    fn reply(&self, stream: &Stream, reset: Option<u64>) -> LocalReply {
        let mut reply = LocalReply::new(Cause::RateLimited).body("local_rate_limited");
        reply.status = Some(self.status);
        reply.grpc_status = Some(if self.exhausted { RESOURCE_EXHAUSTED } else { UNAVAILABLE });
        self.response_headers.apply_headers(stream, &mut reply.headers);
        if let Some(reset) = reset.filter(|_| self.retry_after && self.status == StatusCode::TOO_MANY_REQUESTS)
            && !reply.headers.contains_key(RETRY_AFTER)
        {
            reply.headers.insert(RETRY_AFTER, HeaderValue::from(reset.max(1)));
        }
        reply
    }
}

/// What `x-ratelimit-*` headers will say.
#[derive(Clone, Copy)]
struct Shown {
    limit: u32,
    remaining: u32,
    reset: u64,
}

impl HttpFilter for LocalRateLimit {
    fn on_request(&self, stream: &mut Stream, _body: &mut Body) -> Flow {
        let config = route_config::<Config>(stream, &self.name).unwrap_or_else(|| self.config.clone());
        if !hit(config.enabled, fastrand::u64(..)) {
            return Flow::Next;
        }
        config.stats.enabled.inc();
        let Some(limiter) = &config.limiter else {
            config.stats.ok.inc();
            return Flow::Next;
        };
        let descriptors = if limiter.wants_descriptors() { config.descriptors(stream) } else { Vec::new() };
        let now = Instant::now();
        let Verdict { allowed, bucket } = limiter.decide(&descriptors, stream.connection.id, now);
        if config.show_headers
            && let Some(bucket) = bucket.as_ref().filter(|bucket| bucket.max_tokens() > 0)
        {
            let (remaining, reset) = bucket.remaining(now);
            stream.state.set(Shown { limit: bucket.max_tokens(), remaining, reset });
        }
        if allowed {
            config.stats.ok.inc();
            return Flow::Next;
        }
        config.stats.rate_limited.inc();
        if !hit(config.enforced, fastrand::u64(..)) {
            config.not_enforced_headers.apply_request(stream);
            return Flow::Next;
        }
        config.stats.enforced.inc();
        let reset = bucket.map(|bucket| bucket.remaining(now).1);
        Flow::Respond(Box::new(config.reply(stream, reset)))
    }

    fn on_response(&self, stream: &mut Stream, head: &mut ResponseHead, _body: &mut Body) {
        let Some(shown) = stream.state.get::<Shown>() else { return };
        head.headers.insert("x-ratelimit-limit", HeaderValue::from(shown.limit));
        head.headers.insert("x-ratelimit-remaining", HeaderValue::from(shown.remaining));
        head.headers.insert("x-ratelimit-reset", HeaderValue::from(shown.reset));
    }
}
