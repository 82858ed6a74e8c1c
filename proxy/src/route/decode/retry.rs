//! From `RetryPolicy` to its runtime form.

use std::sync::Arc;
use std::time::Duration;

use ferromesh_proto::envoy::config::route::v3 as route;

use crate::config::{At, ConfigError, duration};
use crate::route::matcher::HeaderMatcher;
use crate::route::{RetryPolicy, retry_on};

/// Envoy's base of the back-off where none is set.
const BASE_INTERVAL: Duration = Duration::from_millis(25);

/// Envoy's words and their bits; those of gRPC are among them.
const WORDS: &[(&str, u32)] = &[
    ("5xx", retry_on::FIVE_XX),
    ("gateway-error", retry_on::GATEWAY_ERROR),
    ("reset", retry_on::RESET),
    ("reset-before-request", retry_on::RESET_BEFORE_REQUEST),
    ("connect-failure", retry_on::CONNECT_FAILURE),
    ("envoy-ratelimited", retry_on::ENVOY_RATELIMITED),
    ("retriable-4xx", retry_on::RETRIABLE_4XX),
    ("refused-stream", retry_on::REFUSED_STREAM),
    ("retriable-status-codes", retry_on::STATUS_CODES),
    ("retriable-headers", retry_on::HEADERS),
    ("http3-post-connect-failure", retry_on::HTTP3_POST_CONNECT),
    ("cancelled", retry_on::GRPC_CANCELLED),
    ("deadline-exceeded", retry_on::GRPC_DEADLINE),
    ("internal", retry_on::GRPC_INTERNAL),
    ("resource-exhausted", retry_on::GRPC_EXHAUSTED),
    ("unavailable", retry_on::GRPC_UNAVAILABLE),
];

/// The bits of `retry_on` words; unknown words count for nothing, as in Envoy.
/// Also for `x-envoy-retry-on` and `x-envoy-retry-grpc-on` headers.
pub fn parse_retry_on(words: &str) -> u32 {
    let known = |word: &str| WORDS.iter().find(|(known, _)| *known == word).map_or(0, |(_, bit)| *bit);
    words.split(',').map(str::trim).fold(0, |bits, word| bits | known(word))
}

pub(super) fn decode(message: route::RetryPolicy) -> Result<RetryPolicy, ConfigError> {
    let on = parse_retry_on(&message.retry_on);
    let back_off = message.retry_back_off.unwrap_or_default();
    let base = duration(back_off.base_interval, "retry_back_off.base_interval")?.unwrap_or(BASE_INTERVAL);
    let max = duration(back_off.max_interval, "retry_back_off.max_interval")?.unwrap_or(base * 10);
    if base.is_zero() || max < base {
        return Err(ConfigError::new("retry_back_off", "base_interval must be above 0 and not above max_interval"));
    }
    let mut status_codes = Vec::with_capacity(message.retriable_status_codes.len());
    for code in message.retriable_status_codes {
        let bad = || ConfigError::new("retriable_status_codes", format!("{code} is not a status"));
        status_codes.push(u16::try_from(code).map_err(|_| bad())?);
    }
    let headers = |list: &[route::HeaderMatcher], field: &str| -> Result<Vec<Arc<HeaderMatcher>>, ConfigError> {
        Ok(HeaderMatcher::decode_list(list, field)?.into_iter().map(Arc::new).collect())
    };
    for (index, predicate) in message.retry_host_predicate.iter().enumerate() {
        known_predicate(predicate).at(format!("retry_host_predicate[{index}]"))?;
    }
    Ok(RetryPolicy {
        on,
        num_retries: message.num_retries.unwrap_or(1),
        per_try_timeout: duration(message.per_try_timeout, "per_try_timeout")?.filter(|limit| !limit.is_zero()),
        per_try_idle_timeout: duration(message.per_try_idle_timeout, "per_try_idle_timeout")?
            .filter(|limit| !limit.is_zero()),
        status_codes,
        retriable_headers: headers(&message.retriable_headers, "retriable_headers")?,
        retriable_request_headers: headers(&message.retriable_request_headers, "retriable_request_headers")?,
        base_interval: base,
        max_interval: max,
        avoid_previous_hosts: !message.retry_host_predicate.is_empty(),
        host_selection_attempts: u32::try_from(message.host_selection_retry_max_attempts).unwrap_or(0).max(1),
    })
}

fn known_predicate(predicate: &route::retry_policy::RetryHostPredicate) -> Result<(), ConfigError> {
    use route::retry_policy::retry_host_predicate::ConfigType;
    const NAME: &str = "envoy.retry_host_predicates.previous_hosts";
    const TYPE: &str = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";
    match &predicate.config_type {
        Some(ConfigType::TypedConfig(any)) if any.type_name() == TYPE => Ok(()),
        Some(ConfigType::TypedConfig(any)) => {
            Err(ConfigError::new("typed_config", format!("extension type {:?} is not implemented", any.type_url)))
        }
        None if predicate.name == NAME => Ok(()),
        None => Err(ConfigError::new("name", format!("predicate {:?} is not implemented", predicate.name))),
    }
}
