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
    ResponseHead { status: StatusCode::from_u16(status).unwrap(), headers: map, upgrade: None, names: None }
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
