//! What will be done with a request: limits, retries and rewrites, from its route and its `x-envoy-` headers. Pure.
//!
//! Rules: Envoy, "Router", "HTTP headers consumed".

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::http::grpc_timeout;
use crate::matcher::HeaderMatcher;
use crate::message::RequestHead;
use crate::route::decode::retry::parse_retry_on;
use crate::route::{Forward, RetryPolicy, VirtualHost};

/// Headers that steer the router; they do not go upstream.
const CONTROL: [HeaderName; 11] = [
    HeaderName::from_static("x-envoy-upstream-rq-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms"),
    HeaderName::from_static("x-envoy-retry-on"),
    HeaderName::from_static("x-envoy-retry-grpc-on"),
    HeaderName::from_static("x-envoy-max-retries"),
    HeaderName::from_static("x-envoy-retriable-status-codes"),
    HeaderName::from_static("x-envoy-retriable-header-names"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-alt-response"),
    HeaderName::from_static("x-envoy-upstream-stream-duration-ms"),
    HeaderName::from_static("x-envoy-hedge-on-per-try-timeout"),
    HeaderName::from_static("x-envoy-upstream-alt-stat-name"),
];

/// The limits and retries of one request.
#[derive(Debug, Default)]
pub struct Plan {
    /// Whole answer within, from the end of the request.
    pub timeout: Option<Duration>,
    /// Head of the answer within, each try.
    pub per_try: Option<Duration>,
    /// Bytes must move within, each try.
    pub per_try_idle: Option<Duration>,
    /// What the upstream is told of how long its answer is waited for.
    pub expected: Option<Duration>,
    /// The same in `grpc-timeout`.
    pub tell_grpc: bool,
    /// Longest life of a try, from its start to the end of its answer.
    pub stream: Option<Duration>,
    /// Status in place of 504.
    pub late_status: Option<StatusCode>,
    /// Retries, if any are allowed.
    pub retry: Option<Arc<RetryPolicy>>,
}

/// Decides. `internal` requests may steer by headers.
pub fn decide(head: &RequestHead, forward: &Forward, virtual_host: &VirtualHost, internal: bool) -> Plan {
    let retry = forward.retry.as_ref().or(virtual_host.retry_policy.as_ref());
    let of_grpc = grpc_limit(head, forward);
    let mut plan = Plan {
        timeout: of_grpc.map_or(forward.timeout, Some),
        per_try: retry.and_then(|policy| policy.per_try_timeout),
        per_try_idle: retry.and_then(|policy| policy.per_try_idle_timeout),
        tell_grpc: of_grpc.is_some(),
        retry: retry.cloned(),
        ..Plan::default()
    };
    if internal {
        by_headers(&head.headers, &mut plan);
    }
    if let Some(policy) = &plan.retry {
        let matches = |matcher: &Arc<HeaderMatcher>| matcher.matches_request(head);
        let fits = policy.retriable_request_headers.is_empty() || policy.retriable_request_headers.iter().any(matches);
        if !fits || policy.on == 0 {
            plan.retry = None;
        }
    }
    plan.timeout = plan.timeout.filter(|timeout| !timeout.is_zero());
    // A try cannot last longer than all of them.
    plan.per_try = plan.per_try.filter(|limit| plan.timeout.is_none_or(|timeout| *limit < timeout));
    plan.expected = plan.per_try.or(plan.timeout);
    if head.upgrade.is_some() {
        // The request of a tunnel never ends, so its answer has no limit.
        plan = Plan { timeout: None, per_try: None, per_try_idle: None, ..plan };
    }
    plan
}

fn by_headers(headers: &HeaderMap, plan: &mut Plan) {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let millis = |name| text(name).and_then(|text| text.parse().ok()).map(Duration::from_millis);
    let [timeout, per_try, on, grpc_on, max, codes, names, alternative, stream, ..] = &CONTROL;
    if let Some(limit) = millis(timeout) {
        plan.timeout = Some(limit);
    }
    if let Some(limit) = millis(per_try) {
        plan.per_try = Some(limit);
    }
    plan.stream = millis(stream);
    plan.late_status = headers.contains_key(alternative).then_some(StatusCode::NO_CONTENT);
    let words: Vec<u32> = [on, grpc_on].into_iter().filter_map(text).map(parse_retry_on).collect();
    let (codes, names) = (text(codes), text(names));
    let max = text(max).and_then(|text| text.parse().ok());
    if words.is_empty() && codes.is_none() && names.is_none() && max.is_none() {
        return;
    }
    let mut policy = plan.retry.as_deref().cloned().unwrap_or_else(|| RetryPolicy {
        num_retries: 1,
        base_interval: Duration::from_millis(25),
        max_interval: Duration::from_millis(250),
        ..RetryPolicy::default()
    });
    policy.on |= words.into_iter().fold(0, |all, bits| all | bits);
    policy
        .status_codes
        .extend(codes.iter().flat_map(|codes| codes.split(',')).filter_map(|code| code.trim().parse::<u16>().ok()));
    let names = names.iter().flat_map(|names| names.split(',')).map(str::trim).filter(|name| !name.is_empty());
    policy.retriable_headers.extend(names.filter_map(HeaderMatcher::present).map(Arc::new));
    policy.num_retries = max.unwrap_or(policy.num_retries);
    plan.retry = Some(Arc::new(policy));
}

/// The limit that a gRPC client asks for, if the route heeds it; zero is without limit.
fn grpc_limit(head: &RequestHead, forward: &Forward) -> Option<Duration> {
    let rule = forward.grpc_timeout.as_ref().filter(|rule| !rule.of_stream && head.is_grpc())?;
    // Without the header the client is willing to wait for ever.
    Some(grpc_timeout::bounded(grpc_timeout::asked(&head.headers).unwrap_or_default(), rule))
}

/// Takes the steering headers off.
pub fn finish_headers(headers: &mut HeaderMap) {
    crate::http::head::remove_named(headers, |name| CONTROL.iter().any(|control| control.as_str() == name));
}

/// A number as a header's value, with one allocation; `HeaderValue::from` makes two.
pub fn number(value: u64) -> HeaderValue {
    let mut digits = itoa::Buffer::new();
    HeaderValue::from_str(digits.format(value)).unwrap_or_else(|_| HeaderValue::from(value))
}

/// Says how long an answer is waited for; what `elapsed` since the request was complete is gone from the whole limit.
pub fn set_expected(headers: &mut HeaderMap, plan: &Plan, elapsed: Duration) {
    let Some(limit) = plan.expected else { return };
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let left = plan.timeout.map_or(u64::MAX, |whole| millis(whole).saturating_sub(millis(elapsed)));
    // Zero would stand for no limit.
    let millis = millis(limit).min(left).max(1);
    headers.insert(HeaderName::from_static("x-envoy-expected-rq-timeout-ms"), number(millis));
    if plan.tell_grpc {
        grpc_timeout::tell(headers, Duration::from_millis(millis));
    }
}

/// The authority of a mirrored request: `-shadow` after the host.
pub fn shadow_authority(authority: &str) -> String {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{host}-shadow:{port}")
        }
        _ => format!("{authority}-shadow"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_has_shadow_after_its_host() {
        assert_eq!(shadow_authority("web.example"), "web.example-shadow");
        assert_eq!(shadow_authority("web.example:8080"), "web.example-shadow:8080");
        assert_eq!(shadow_authority("[::1]"), "[::1]-shadow");
    }

    #[test]
    fn steering_headers_do_not_go_upstream() {
        let mut headers = HeaderMap::new();
        for name in &CONTROL {
            headers.insert(name.clone(), HeaderValue::from_static("1"));
        }
        finish_headers(&mut headers);
        assert!(headers.is_empty(), "{headers:?}");
    }

    #[test]
    fn the_upstream_is_told_what_is_left_of_the_time() {
        let told = |expected: u64, whole: Option<u64>, elapsed: u64| {
            let mut headers = HeaderMap::new();
            let plan = Plan {
                expected: Some(Duration::from_millis(expected)),
                timeout: whole.map(Duration::from_millis),
                ..Plan::default()
            };
            set_expected(&mut headers, &plan, Duration::from_millis(elapsed));
            headers["x-envoy-expected-rq-timeout-ms"].to_str().expect("text").to_owned()
        };
        assert_eq!(told(15_000, Some(15_000), 0), "15000");
        assert_eq!(told(15_000, Some(15_000), 40), "14960");
        assert_eq!(told(100, Some(15_000), 40), "100", "a try's own limit starts anew");
        assert_eq!(told(100, Some(1_000), 950), "50");
        assert_eq!(told(100, Some(1_000), 2_000), "1", "never 0, which is without limit");
        assert_eq!(told(100, None, 2_000), "100");
    }
}
