//! Whether and when a failed try is repeated. Pure.
//!
//! Rules: Envoy, "x-envoy-retry-on", "x-envoy-retry-grpc-on", "Retry plugin"; the back-off is fully jittered.

use std::time::Duration;

use http::{HeaderMap, Method};

use crate::cause::Cause;
use crate::http::ResponseHead;
use crate::route::RetryPolicy;
use crate::route::retry_on as on;
use crate::upstream::Race;

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
const FREE: u32 = 2;

/// Whether a request that met a connection in the moment of its end is sent again without any policy, because that does
/// no harm: the server says that it has not processed it (RFC 9113, 6.8), or it is idempotent and the connection had
/// served before (RFC 9110, 9.2.2).
pub fn is_free(method: &Method, race: Race, before_request: bool, used: u32) -> bool {
    let idempotent =
        matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE);
    used < FREE
        && match race {
            Race::None => false,
            Race::Stale => idempotent || before_request,
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
    if head.headers.contains_key("x-envoy-ratelimited") {
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
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
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
mod tests {
    use http::StatusCode;

    use super::*;

    fn policy(words: u32) -> RetryPolicy {
        RetryPolicy {
            on: words,
            status_codes: vec![503, 418],
            base_interval: Duration::from_millis(25),
            max_interval: Duration::from_millis(250),
            ..RetryPolicy::default()
        }
    }

    fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> ResponseHead {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, http::HeaderValue::from_static(value));
        }
        ResponseHead { status: StatusCode::from_u16(status).unwrap(), headers: map, upgrade: None }
    }

    #[test]
    fn each_word_retries_its_own_answers() {
        let table: &[(u32, &[u16], &[u16])] = &[
            (on::FIVE_XX, &[500, 503, 599], &[200, 404, 409]),
            (on::GATEWAY_ERROR, &[502, 503, 504], &[500, 501, 505]),
            (on::RETRIABLE_4XX, &[409], &[400, 404, 503]),
            (on::STATUS_CODES, &[503, 418], &[500, 504]),
            (on::CONNECT_FAILURE | on::RESET, &[], &[500, 503]),
        ];
        for (words, yes, no) in table {
            for (statuses, wanted) in [(yes, true), (no, false)] {
                for status in *statuses {
                    let head = answer(*status, &[]);
                    assert_eq!(is_wanted(&policy(*words), &Ended::Answer(&head)), wanted, "{words} {status}");
                }
            }
        }
    }

    #[test]
    fn grpc_words_look_at_the_status_in_the_head() {
        let head = answer(200, &[("grpc-status", "14")]);
        assert!(is_wanted(&policy(on::GRPC_UNAVAILABLE), &Ended::Answer(&head)));
        assert!(!is_wanted(&policy(on::GRPC_CANCELLED), &Ended::Answer(&head)));
    }

    #[test]
    fn a_rate_limited_answer_is_retried_only_if_asked_for() {
        let head = answer(503, &[("x-envoy-ratelimited", "true")]);
        assert!(!is_wanted(&policy(on::FIVE_XX), &Ended::Answer(&head)));
        assert!(is_wanted(&policy(on::ENVOY_RATELIMITED), &Ended::Answer(&head)));
    }

    #[test]
    fn each_word_retries_its_own_failures() {
        use Cause::{
            MaxPendingRequests, PerTryTimeout, UpstreamConnectionFailure, UpstreamRefusedStream, UpstreamRemoteReset,
        };
        let table: &[(u32, Cause, bool, bool)] = &[
            (on::CONNECT_FAILURE, UpstreamConnectionFailure, true, true),
            (on::CONNECT_FAILURE, UpstreamRemoteReset, false, false),
            (on::REFUSED_STREAM, UpstreamRefusedStream, true, true),
            (on::RESET, UpstreamRemoteReset, false, true),
            (on::RESET_BEFORE_REQUEST, UpstreamRemoteReset, false, false),
            (on::RESET_BEFORE_REQUEST, UpstreamRemoteReset, true, true),
            (on::FIVE_XX, PerTryTimeout, false, true),
            (on::FIVE_XX, MaxPendingRequests, true, false),
            (on::STATUS_CODES, UpstreamRemoteReset, false, false),
        ];
        for (words, cause, before_request, wanted) in table {
            let ended = Ended::Failed { cause: *cause, before_request: *before_request };
            assert_eq!(is_wanted(&policy(*words), &ended), *wanted, "{words} {cause:?}");
        }
    }

    #[test]
    fn a_race_with_the_end_of_a_connection_is_run_again_only_where_that_does_no_harm() {
        for (method, race, before_request, wanted) in [
            (Method::GET, Race::Stale, false, true),
            (Method::POST, Race::Stale, false, false),
            (Method::PATCH, Race::Stale, true, true),
            (Method::POST, Race::Unprocessed, false, true),
            (Method::GET, Race::None, true, false),
        ] {
            assert_eq!(is_free(&method, race, before_request, 0), wanted, "{method} {race:?}");
            assert!(!is_free(&method, race, before_request, FREE), "not for ever");
        }
    }

    #[test]
    fn a_rate_limited_answer_says_how_long_to_wait() {
        let header = |name| http::HeaderName::from_static(name);
        let rule = crate::route::RateLimitedBackOff {
            headers: vec![(header("retry-after"), false), (header("x-reset"), true)],
            max_interval: Duration::from_secs(60),
        };
        let policy = RetryPolicy { rate_limited: Some(rule), ..policy(0) };
        let asked = |headers: &[(&'static str, &'static str)], random| {
            asked_pause(&policy, &answer(429, headers).headers, 1000, random).map(|pause| pause.as_millis())
        };
        assert_eq!(asked(&[("retry-after", "2")], 0.0), Some(2000));
        assert_eq!(asked(&[("retry-after", "2")], 1.0), Some(3000));
        assert_eq!(asked(&[("x-reset", "1010")], 0.0), Some(10_000));
        assert_eq!(asked(&[("retry-after", "61"), ("x-reset", "1001")], 0.0), Some(1000), "the first is too long");
        assert_eq!(asked(&[("x-reset", "999")], 0.0), None, "it is past");
        assert_eq!(asked(&[("retry-after", "soon")], 0.0), None);
        assert_eq!(asked(&[], 0.0), None);
    }

    #[test]
    fn pauses_double_up_to_the_limit() {
        let pauses = [1, 2, 3, 4, 5, 60].map(|retry| pause(&policy(0), retry, 1.0).as_millis());
        assert_eq!(pauses, [25, 50, 100, 200, 250, 250]);
        assert_eq!(pause(&policy(0), 3, 0.5), Duration::from_millis(50));
    }
}
