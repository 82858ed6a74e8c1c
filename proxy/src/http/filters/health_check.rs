//! `envoy.filters.http.health_check`: answers health checks itself, or marks them on their way.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferromesh_proto::envoy::extensions::filters::http::health_check::v3 as proto;
use http::{HeaderValue, StatusCode};

use super::{Build, Flow, HttpFilter};
use crate::access_log::HealthCheckRequest;
use crate::body::Body;
use crate::cause::Cause;
use crate::config::supported::Table;
use crate::config::{ConfigError, required};
use crate::http::{LocalReply, ResponseHead};
use crate::route::matcher::HeaderMatcher;
use crate::stream::Stream;

/// Fields of this filter's messages that are implemented.
pub const SUPPORTED: Table =
    &[("envoy.extensions.filters.http.health_check.v3.HealthCheck", "pass_through_mode headers")];

/// Full name of the configuration.
pub const MESSAGE: &str = "envoy.extensions.filters.http.health_check.v3.HealthCheck";

/// Makes the filter.
pub fn build(build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
    let message: proto::HealthCheck = build.unpack()?;
    Ok(Arc::new(HealthCheck {
        pass_through: required(message.pass_through_mode, "pass_through_mode")?,
        headers: HeaderMatcher::decode_list(&message.headers, "headers")?,
        cluster: HeaderValue::from_str(&build.context.local.cluster).unwrap_or(HeaderValue::from_static("")),
    }))
}

struct HealthCheck {
    pass_through: bool,
    headers: Vec<HeaderMatcher>,
    cluster: HeaderValue,
}

impl HttpFilter for HealthCheck {
    fn on_request(&self, stream: &mut Stream, _body: &mut Body) -> Flow {
        if !self.headers.iter().all(|matcher| matcher.matches_request(&stream.request)) {
            return Flow::Next;
        }
        stream.state.set(HealthCheckRequest);
        let failing = stream.worker.context.failing_health_check.load(Ordering::Relaxed);
        if self.pass_through && !failing {
            return Flow::Next;
        }
        let mut reply = LocalReply::new(Cause::HealthCheckReply);
        if failing {
            reply.status = Some(StatusCode::SERVICE_UNAVAILABLE);
            reply.details = Some("health_check_failed".into());
            reply.headers.insert("x-envoy-immediate-health-check-fail", HeaderValue::from_static("true"));
        }
        Flow::Respond(Box::new(reply))
    }

    fn on_response(&self, stream: &mut Stream, head: &mut ResponseHead, _body: &mut Body) {
        if stream.state.get::<HealthCheckRequest>().is_some() {
            head.headers.insert("x-envoy-upstream-healthchecked-cluster", self.cluster.clone());
        }
    }
}
