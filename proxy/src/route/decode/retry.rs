//! From `RetryPolicy` to its runtime form.

use std::sync::Arc;
use std::time::Duration;

use ferromesh_proto::envoy::config::route::v3 as route;

use ferromesh_proto::envoy::extensions::retry::host::omit_canary_hosts::v3::OmitCanaryHostsPredicate;
use ferromesh_proto::envoy::extensions::retry::host::omit_host_metadata::v3::OmitHostMetadataConfig;
use ferromesh_proto::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use ferromesh_proto::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use serde_json::{Map, Value};

use crate::config::unpack;
use crate::config::{At, ConfigError, duration, required};
use crate::matcher::{HeaderMatcher, metadata};
use crate::route::{RateLimitedBackOff, RetryPolicy, retry_on};

/// Envoy's base of the back-off where none is set.
const BASE_INTERVAL: Duration = Duration::from_millis(25);

/// Longest time that a rate-limited answer may ask for, if the policy does not say.
const MAX_RESET: Duration = Duration::from_secs(300);

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
    let mut hosts = Hosts::default();
    for (index, predicate) in message.retry_host_predicate.iter().enumerate() {
        hosts.add(predicate).at(format!("retry_host_predicate[{index}]"))?;
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
        rate_limited: message
            .rate_limited_retry_back_off
            .map(rate_limited)
            .transpose()
            .at("rate_limited_retry_back_off")?,
        avoid_previous_hosts: hosts.avoid_previous,
        omit_hosts: hosts.omit,
        avoid_priorities_every: message.retry_priority.as_ref().map(priorities).transpose().at("retry_priority")?,
        host_selection_attempts: u32::try_from(message.host_selection_retry_max_attempts).unwrap_or(0).max(1),
    })
}

/// Which hosts further tries avoid.
#[derive(Default)]
struct Hosts {
    avoid_previous: bool,
    omit: Vec<Map<String, Value>>,
}

impl Hosts {
    fn add(&mut self, predicate: &route::retry_policy::RetryHostPredicate) -> Result<(), ConfigError> {
        use route::retry_policy::retry_host_predicate::ConfigType;
        let canary = || Map::from_iter([("canary".to_owned(), Value::Bool(true))]);
        let any = match &predicate.config_type {
            Some(ConfigType::TypedConfig(any)) => any,
            None if predicate.name == "envoy.retry_host_predicates.previous_hosts" => {
                self.avoid_previous = true;
                return Ok(());
            }
            None if predicate.name == "envoy.retry_host_predicates.omit_canary_hosts" => {
                self.omit.push(canary());
                return Ok(());
            }
            None => return Err(ConfigError::new("name", format!("predicate {:?} is not implemented", predicate.name))),
        };
        if any.is::<PreviousHostsPredicate>() {
            self.avoid_previous = true;
        } else if any.is::<OmitCanaryHostsPredicate>() {
            self.omit.push(canary());
        } else if any.is::<OmitHostMetadataConfig>() {
            let config: OmitHostMetadataConfig = unpack(any).at("typed_config")?;
            let metadata = required(config.metadata_match, "typed_config.metadata_match")?;
            let wanted = metadata.filter_metadata.get("envoy.lb").cloned().map(metadata::struct_to_json);
            // Without a key it would omit every host.
            self.omit.extend(wanted.filter(|wanted| !wanted.is_empty()));
        } else {
            return Err(ConfigError::new(
                "typed_config",
                format!("extension type {:?} is not implemented", any.type_url),
            ));
        }
        Ok(())
    }
}

fn priorities(priority: &route::retry_policy::RetryPriority) -> Result<u32, ConfigError> {
    use route::retry_policy::retry_priority::ConfigType;
    match &priority.config_type {
        Some(ConfigType::TypedConfig(any)) if any.is::<PreviousPrioritiesConfig>() => {
            let config: PreviousPrioritiesConfig = unpack(any).at("typed_config")?;
            let every = u32::try_from(config.update_frequency).ok().filter(|every| *every > 0);
            every.ok_or_else(|| ConfigError::new("typed_config.update_frequency", "must be above 0"))
        }
        Some(ConfigType::TypedConfig(any)) => {
            Err(ConfigError::new("typed_config", format!("extension type {:?} is not implemented", any.type_url)))
        }
        None => Err(ConfigError::new("typed_config", "must be set")),
    }
}

fn rate_limited(message: route::retry_policy::RateLimitedRetryBackOff) -> Result<RateLimitedBackOff, ConfigError> {
    if message.reset_headers.is_empty() {
        return Err(ConfigError::new("reset_headers", "must have at least one entry"));
    }
    let decode = |(index, header): (usize, &route::retry_policy::ResetHeader)| {
        let at = || format!("reset_headers[{index}]");
        let name = super::header_name(&header.name).at("name").at(at())?;
        match header.format {
            0 => Ok((name, false)),
            1 => Ok((name, true)),
            _ => Err(ConfigError::new("format", "is unknown").at(at())),
        }
    };
    let max_interval = duration(message.max_interval, "max_interval")?.unwrap_or(MAX_RESET);
    if max_interval.is_zero() {
        return Err(ConfigError::new("max_interval", "must be above 0"));
    }
    Ok(RateLimitedBackOff {
        headers: message.reset_headers.iter().enumerate().map(decode).collect::<Result<_, _>>()?,
        max_interval,
    })
}
