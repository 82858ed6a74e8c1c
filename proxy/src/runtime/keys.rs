//! Keys that Envoy knows and this proxy heeds; beyond them each resource may name keys of its own.

/// Percent of healthy hosts below which health is ignored; over every cluster's own.
pub(super) const PANIC_THRESHOLD: &str = "upstream.healthy_panic_threshold";

/// Connections of all listeners.
pub(super) const GLOBAL_CONNECTIONS: &str = "overload.global_downstream_max_connections";

/// Resets of one HTTP/2 client that may come at once.
pub(super) const PREMATURE_RESETS: &str = "overload.premature_reset_total_stream_count";

/// Least and greatest time between active health checks, in milliseconds.
pub(super) const CHECK_INTERVALS: [&str; 2] = ["health_check.min_interval", "health_check.max_interval"];

/// `outlier_detection.` and one of these; the numbers of `OutlierDetection`.
pub(super) const OUTLIERS: &str = "outlier_detection";

/// `circuit_breakers.<cluster>.<priority>.` and one of these.
pub(super) const BREAKERS: &str = "circuit_breakers";

/// Keys of faults that have no key of their own.
pub(super) const FAULTS: [&str; 7] = [
    "fault.http.delay.fixed_delay_percent",
    "fault.http.abort.abort_percent",
    "fault.http.delay.fixed_duration_ms",
    "fault.http.abort.http_status",
    "fault.http.max_active_faults",
    "fault.http.rate_limit.response_percent",
    "fault.http.abort.grpc_status",
];

/// Names behind `outlier_detection.`.
pub(super) const OUTLIER_NUMBERS: &[&str] = &[
    "consecutive_5xx",
    "consecutive_gateway_failure",
    "consecutive_local_origin_failure",
    "interval_ms",
    "base_ejection_time_ms",
    "max_ejection_time_ms",
    "max_ejection_time_jitter_ms",
    "max_ejection_percent",
    "enforcing_consecutive_5xx",
    "enforcing_consecutive_gateway_failure",
    "enforcing_consecutive_local_origin_failure",
    "enforcing_success_rate",
    "enforcing_local_origin_success_rate",
    "success_rate_minimum_hosts",
    "success_rate_request_volume",
    "success_rate_stdev_factor",
    "failure_percentage_threshold",
    "enforcing_failure_percentage",
    "enforcing_failure_percentage_local_origin",
    "failure_percentage_minimum_hosts",
    "failure_percentage_request_volume",
];

/// Names behind `circuit_breakers.<cluster>.<priority>.`.
const BREAKER_NUMBERS: [&str; 6] = [
    "max_connections",
    "max_pending_requests",
    "max_requests",
    "max_retries",
    "retry_budget.budget_percent",
    "retry_budget.min_retry_concurrency",
];

/// The key of a listener's connection limit.
pub(super) fn connections_of(listener: &str) -> String {
    format!("envoy.resource_limits.listener.{listener}.connection_limit")
}

/// Whether a rule of this proxy heeds the key, whatever resources there are.
pub(super) fn is_known(key: &str) -> bool {
    let behind = |prefix: &str| key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'));
    let breaker = |rest: &str| {
        let of = |priority: &str| rest.split_once(priority).is_some_and(|(_, name)| BREAKER_NUMBERS.contains(&name));
        of(".default.") || of(".high.")
    };
    let listener = |rest: &str| rest.ends_with(".connection_limit");
    key == PANIC_THRESHOLD
        || key == GLOBAL_CONNECTIONS
        || key == PREMATURE_RESETS
        || CHECK_INTERVALS.contains(&key)
        || FAULTS.contains(&key)
        || behind(OUTLIERS).is_some_and(|name| OUTLIER_NUMBERS.contains(&name))
        || behind(BREAKERS).is_some_and(breaker)
        || behind("envoy.resource_limits.listener").is_some_and(listener)
}
