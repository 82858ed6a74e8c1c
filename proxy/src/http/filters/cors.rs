//! `envoy.filters.http.cors`: answers preflight requests and marks responses, by the route's policy.

use std::sync::Arc;

use ferromesh_proto::Any;
use ferromesh_proto::envoy::extensions::filters::http::cors::v3 as proto;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{Build, Flow, HttpFilter, RouteConfig, route_config};
use crate::body::Body;
use crate::cause::Cause;
use crate::config::supported::Table;
use crate::config::{At, ConfigError, unpack};
use crate::context::Context;
use crate::http::stream::Stream;
use crate::matcher::{StringMatcher, hit, runtime_per_million};
use crate::message::{LocalReply, ResponseHead};
use crate::stats::Counter;

/// Fields of this filter's messages that are implemented.
pub const SUPPORTED: Table = &[
    ("envoy.extensions.filters.http.cors.v3.Cors", "*"),
    (
        "envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match allow_methods allow_headers expose_headers max_age allow_credentials \
         filter_enabled shadow_enabled allow_private_network_access forward_not_matching_preflights",
    ),
];

/// Full name of the configuration.
pub const MESSAGE: &str = "envoy.extensions.filters.http.cors.v3.Cors";
/// Full name of the configuration of a route.
pub const ROUTE_MESSAGE: &str = "envoy.extensions.filters.http.cors.v3.CorsPolicy";

/// Makes the filter.
pub fn build(build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
    let scope = build.stats().scope("cors");
    Ok(Arc::new(Cors {
        name: build.name.to_owned(),
        valid: scope.counter("origin_valid"),
        invalid: scope.counter("origin_invalid"),
    }))
}

/// Makes the policy of a route.
pub fn build_route(any: &Any, _context: &Context) -> Result<RouteConfig, ConfigError> {
    Ok(Arc::new(Policy::decode(&unpack(any)?)?))
}

struct Cors {
    name: String,
    valid: Counter,
    invalid: Counter,
}

struct Policy {
    origins: Vec<StringMatcher>,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    credentials: bool,
    private_network: bool,
    forward_not_matching: bool,
    enabled: u32,
    shadow: u32,
}

impl Policy {
    fn decode(message: &proto::CorsPolicy) -> Result<Self, ConfigError> {
        let value = |text: &str, field: &str| match text {
            "" => Ok(None),
            text => HeaderValue::from_str(text)
                .map(Some)
                .map_err(|_| ConfigError::new(field, "has characters that headers must not have")),
        };
        let origins = message
            .allow_origin_string_match
            .iter()
            .enumerate()
            .map(|(index, origin)| StringMatcher::decode(origin).at(format!("allow_origin_string_match[{index}]")));
        Ok(Self {
            origins: origins.collect::<Result<_, _>>()?,
            methods: value(&message.allow_methods, "allow_methods")?,
            headers: value(&message.allow_headers, "allow_headers")?,
            expose: value(&message.expose_headers, "expose_headers")?,
            max_age: value(&message.max_age, "max_age")?,
            credentials: message.allow_credentials.unwrap_or(false),
            private_network: message.allow_private_network_access.unwrap_or(false),
            forward_not_matching: message.forward_not_matching_preflights.unwrap_or(true),
            enabled: message.filter_enabled.as_ref().map_or(1_000_000, runtime_per_million),
            shadow: message.shadow_enabled.as_ref().map_or(0, runtime_per_million),
        })
    }

    fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|matcher| match matcher {
            StringMatcher::Exact(all) if &**all == "*" => true,
            matcher => matcher.matches(origin),
        })
    }
}

/// The origin of a request that the policy allows; its response is marked.
struct AllowedOrigin(HeaderValue, Arc<Policy>);

impl Cors {
    fn preflight(policy: &Policy, origin: HeaderValue, request: &HeaderMap) -> LocalReply {
        let mut reply = LocalReply::new(Cause::CorsPreflight);
        let headers = &mut reply.headers;
        mark(headers, origin, policy.credentials);
        let optional = [
            (ACCESS_CONTROL_ALLOW_METHODS, &policy.methods),
            (ACCESS_CONTROL_ALLOW_HEADERS, &policy.headers),
            (ACCESS_CONTROL_EXPOSE_HEADERS, &policy.expose),
            (ACCESS_CONTROL_MAX_AGE, &policy.max_age),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
        let asked = request.get("access-control-request-private-network").is_some_and(|value| value == "true");
        if asked && policy.private_network {
            let name = HeaderName::from_static("access-control-allow-private-network");
            headers.insert(name, HeaderValue::from_static("true"));
        }
        reply
    }
}

fn mark(headers: &mut HeaderMap, origin: HeaderValue, credentials: bool) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}

impl HttpFilter for Cors {
    fn on_request(&self, stream: &mut Stream, _body: &mut Body) -> Flow {
        let Some(policy) = route_config::<Policy>(stream, &self.name) else { return Flow::Next };
        let random = fastrand::u64(..);
        let enabled = hit(policy.enabled, random);
        if !enabled && !hit(policy.shadow, random) {
            return Flow::Next;
        }
        let Some(origin) = stream.request.headers.get(ORIGIN).filter(|value| !value.is_empty()).cloned() else {
            return Flow::Next;
        };
        let allowed = origin.to_str().is_ok_and(|origin| policy.allows(origin));
        if allowed {
            self.valid.inc()
        } else {
            self.invalid.inc()
        }
        if !enabled {
            return Flow::Next;
        }
        let preflight = stream.request.method == Method::OPTIONS
            && stream.request.headers.get(ACCESS_CONTROL_REQUEST_METHOD).is_some_and(|value| !value.is_empty());
        match (allowed, preflight) {
            (true, true) => Flow::Respond(Box::new(Self::preflight(&policy, origin, &stream.request.headers))),
            (true, false) => {
                stream.state.set(AllowedOrigin(origin, policy));
                Flow::Next
            }
            (false, true) if !policy.forward_not_matching => {
                Flow::Respond(Box::new(LocalReply::new(Cause::CorsPreflight)))
            }
            (false, _) => Flow::Next,
        }
    }

    fn on_response(&self, stream: &mut Stream, head: &mut ResponseHead, _body: &mut Body) {
        let Some(AllowedOrigin(origin, policy)) = stream.state.get() else { return };
        mark(&mut head.headers, origin.clone(), policy.credentials);
        if let Some(expose) = &policy.expose {
            head.headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }
}
