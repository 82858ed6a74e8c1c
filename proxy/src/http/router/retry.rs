//! Whether and when a failed try is repeated. Pure.
//!
//! Rules: Envoy, "x-envoy-retry-on", "x-envoy-retry-grpc-on", "Retry plugin"; the back-off is fully jittered.

use std::time::Duration;

use http::{HeaderMap, HeaderName, Method};

use crate::cause::Cause;
use crate::message::ResponseHead;
use crate::route::RetryPolicy;
use crate::route::retry_on as on;
use crate::upstream::Race;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");

/// How a try ended.
#[derive(Debug)]
pub enum Ended<'a> {
    /// With an answer.
    Answer(&'a ResponseHead),
    /// Without one.
    Failed {
        /// Why.
        cause: Cause,
        /// Nothing was sent.
        before_request: bool,
    },
}

/// Repetitions that need no policy, at most.
pub const FREE: u32 = 2;

/// Whether a request may be sent twice (RFC 9110, 9.2.2).
pub fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE)
}

/// Whether a request that met a connection in the moment of its end is sent again without any policy, because that does
/// no harm: the server says that it has not processed it (RFC 9113, 6.8), or it is idempotent and the connection had
/// served before (RFC 9110, 9.2.2).
pub fn is_free(method: &Method, race: Race, before_request: bool, used: u32) -> bool {
    used < FREE
        && match race {
            Race::None => false,
            Race::Stale => is_idempotent(method) || before_request,
            Race::Unprocessed => true,
        }
}

/// Whether the policy wants another try after this end.
pub fn is_wanted(policy: &RetryPolicy, ended: &Ended<'_>) -> bool {
    match ended {
        Ended::Answer(head) => after_answer(policy, head),
        Ended::Failed { cause, before_request } => after_failure(policy.on, *cause, *before_request),
    }
}

fn after_answer(policy: &RetryPolicy, head: &ResponseHead) -> bool {
    let has = |word: u32| policy.on & word != 0;
    if head.headers.contains_key(RATE_LIMITED) {
        return has(on::ENVOY_RATELIMITED);
    }
    let status = head.status.as_u16();
    (has(on::FIVE_XX) && status >= 500)
        || (has(on::GATEWAY_ERROR) && matches!(status, 502..=504))
        || (has(on::RETRIABLE_4XX) && status == 409)
        || (has(on::STATUS_CODES) && policy.status_codes.contains(&status))
        || (has(on::HEADERS) && policy.retriable_headers.iter().any(|matcher| matcher.matches_response(head)))
        || grpc_status(&head.headers).is_some_and(|status| policy.on & grpc_word(status) != 0)
}

/// The gRPC status of trailers (or of a head without body).
pub fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

fn grpc_word(status: u32) -> u32 {
    match status {
        1 => on::GRPC_CANCELLED,
        4 => on::GRPC_DEADLINE,
        8 => on::GRPC_EXHAUSTED,
        13 => on::GRPC_INTERNAL,
        14 => on::GRPC_UNAVAILABLE,
        _ => 0,
    }
}

/// The HTTP status that a gRPC status stands for (Envoy's `grpcToHttpStatus`).
pub fn http_status(grpc: u32) -> u16 {
    match grpc {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

fn after_failure(words: u32, cause: Cause, before_request: bool) -> bool {
    let has = |word: u32| words & word != 0;
    let (connect, refused) = match cause {
        Cause::UpstreamConnectionFailure | Cause::UpstreamConnectTimeout | Cause::UpstreamTlsFailure => (true, false),
        Cause::UpstreamRefusedStream => (false, true),
        Cause::UpstreamConnectionTermination
        | Cause::UpstreamRemoteReset
        | Cause::UpstreamProtocolError
        | Cause::ResponseHeadersTooLarge
        | Cause::PerTryTimeout
        | Cause::UpstreamMaxStreamDuration => (false, false),
        // Overflow, or the client's own fault: another try would make it worse.
        _ => return false,
    };
    has(on::FIVE_XX | on::GATEWAY_ERROR | on::RESET)
        || (has(on::RESET_BEFORE_REQUEST) && before_request)
        || (has(on::CONNECT_FAILURE) && connect)
        || (has(on::REFUSED_STREAM) && refused)
}

/// The pause before the `retry`th repetition (1 is the first); `random` is from 0 to 1.
pub fn pause(policy: &RetryPolicy, retry: u32, random: f64) -> Duration {
    let grown = policy.base_interval.saturating_mul(1 << retry.saturating_sub(1).min(20));
    grown.min(policy.max_interval).mul_f64(random.clamp(0.0, 1.0))
}

/// The pause that a rate-limited answer asks for: at least that, and up to half more, so that clients do not all come
/// back at once. `now` is a Unix time in seconds, `random` from 0 to 1.
pub fn asked_pause(policy: &RetryPolicy, headers: &HeaderMap, now: u64, random: f64) -> Option<Duration> {
    let rule = policy.rate_limited.as_ref()?;
    let asked = |(name, is_time): &(http::HeaderName, bool)| {
        let value: u64 = headers.get(name)?.to_str().ok()?.parse().ok()?;
        let seconds = if *is_time { value.checked_sub(now).filter(|seconds| *seconds > 0)? } else { value };
        Some(Duration::from_secs(seconds)).filter(|interval| *interval <= rule.max_interval)
    };
    let interval = rule.headers.iter().find_map(asked)?;
    Some(interval.mul_f64(1.0 + 0.5 * random.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests;
