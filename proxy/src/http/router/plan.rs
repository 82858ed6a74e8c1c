//! What will be done with a request: limits, retries and rewrites, from its route and its `x-envoy-` headers. Pure.
//!
//! Rules: Envoy, "Router", "HTTP headers consumed".

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::http::RequestHead;
use crate::route::decode::retry::parse_retry_on;
use crate::route::matcher::HeaderMatcher;
use crate::route::{Forward, RetryPolicy, VirtualHost};

/// Headers that steer the router; they do not go upstream.
const CONTROL: [HeaderName; 8] = [
    HeaderName::from_static("x-envoy-upstream-rq-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms"),
    HeaderName::from_static("x-envoy-retry-on"),
    HeaderName::from_static("x-envoy-retry-grpc-on"),
    HeaderName::from_static("x-envoy-max-retries"),
    HeaderName::from_static("x-envoy-retriable-status-codes"),
    HeaderName::from_static("x-envoy-retriable-header-names"),
    HeaderName::from_static("x-envoy-hedge-on-per-try-timeout"),
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
    /// Retries, if any are allowed.
    pub retry: Option<Arc<RetryPolicy>>,
}

/// Decides. `internal` requests may steer by headers.
pub fn decide(head: &RequestHead, forward: &Forward, virtual_host: &VirtualHost, internal: bool) -> Plan {
    let retry = forward.retry.as_ref().or(virtual_host.retry_policy.as_ref());
    let mut plan = Plan {
        timeout: grpc_timeout(head, forward).unwrap_or(forward.timeout),
        per_try: retry.and_then(|policy| policy.per_try_timeout),
        per_try_idle: retry.and_then(|policy| policy.per_try_idle_timeout),
        retry: retry.cloned(),
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
    if head.upgrade.is_some() {
        // The request of a tunnel never ends, so its answer has no limit; and it cannot be sent twice.
        plan = Plan { per_try_idle: None, timeout: None, per_try: None, retry: None };
    }
    plan
}

fn by_headers(headers: &HeaderMap, plan: &mut Plan) {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let millis = |name| text(name).and_then(|text| text.parse().ok()).map(Duration::from_millis);
    let [timeout, per_try, on, grpc_on, max, codes, ..] = &CONTROL;
    if let Some(limit) = millis(timeout) {
        plan.timeout = Some(limit);
    }
    if let Some(limit) = millis(per_try) {
        plan.per_try = Some(limit);
    }
    let words: Vec<(u32, Vec<u16>)> = [on, grpc_on].into_iter().filter_map(text).map(parse_retry_on).collect();
    let codes = text(codes);
    let max = text(max).and_then(|text| text.parse().ok());
    if words.is_empty() && codes.is_none() && max.is_none() {
        return;
    }
    let mut policy = plan.retry.as_deref().cloned().unwrap_or_else(|| RetryPolicy {
        num_retries: 1,
        base_interval: Duration::from_millis(25),
        max_interval: Duration::from_millis(250),
        ..RetryPolicy::default()
    });
    for (bits, found) in words {
        policy.on |= bits;
        policy.status_codes.extend(found);
    }
    policy
        .status_codes
        .extend(codes.iter().flat_map(|codes| codes.split(',')).filter_map(|code| code.trim().parse::<u16>().ok()));
    policy.num_retries = max.unwrap_or(policy.num_retries);
    plan.retry = Some(Arc::new(policy));
}

/// The limit that a gRPC client asks for, if the route heeds it: `Some(None)` is without limit.
fn grpc_timeout(head: &RequestHead, forward: &Forward) -> Option<Option<Duration>> {
    let most = forward.grpc_timeout_max?;
    if !head.is_grpc() {
        return None;
    }
    let asked = head.headers.get("grpc-timeout").and_then(|value| parse_grpc_timeout(value.as_bytes()));
    // Without the header the client is willing to wait for ever.
    let mut timeout = asked.unwrap_or_default();
    if let Some(offset) = forward.grpc_timeout_offset
        && offset < timeout
    {
        timeout -= offset;
    }
    if !most.is_zero() && (timeout.is_zero() || timeout > most) {
        timeout = most;
    }
    Some(Some(timeout))
}

/// `grpc-timeout`: up to 8 digits and a unit (gRPC over HTTP/2, "Requests").
fn parse_grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// Takes the steering headers off and says how long an answer is waited for.
pub fn finish_headers(headers: &mut HeaderMap, plan: &Plan) {
    for name in &CONTROL {
        headers.remove(name);
    }
    if let Some(limit) = plan.per_try.or(plan.timeout) {
        let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        headers.insert(HeaderName::from_static("x-envoy-expected-rq-timeout-ms"), HeaderValue::from(millis));
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
    fn grpc_timeouts_are_read_in_every_unit_and_refused_when_malformed() {
        let table: &[(&[u8], Option<Duration>)] = &[
            (b"1H", Some(Duration::from_secs(3600))),
            (b"2M", Some(Duration::from_secs(120))),
            (b"3S", Some(Duration::from_secs(3))),
            (b"99999999m", Some(Duration::from_millis(99_999_999))),
            (b"5u", Some(Duration::from_micros(5))),
            (b"6n", Some(Duration::from_nanos(6))),
            (b"99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            (b"999999999S", None),
            (b"S", None),
            (b"", None),
            (b"-1S", None),
            (b"1X", None),
        ];
        for (text, wanted) in table {
            assert_eq!(parse_grpc_timeout(text), *wanted, "{}", String::from_utf8_lossy(text));
        }
    }

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
        let plan = Plan { timeout: Some(Duration::from_secs(15)), ..Plan::default() };
        finish_headers(&mut headers, &plan);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["x-envoy-expected-rq-timeout-ms"], "15000");
    }
}
