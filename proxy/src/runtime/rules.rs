//! Which fields of which messages runtime values stand in for. Pure.

use std::time::Duration;

use ferromesh_proto::envoy::config::accesslog::v3::RuntimeFilter;
use ferromesh_proto::envoy::config::cluster::v3::{self as cluster, circuit_breakers::Thresholds};
use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::config::route::v3::WeightedCluster;
use ferromesh_proto::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
use ferromesh_proto::envoy::extensions::filters::http::fault::v3::{HttpFault, fault_abort};
use ferromesh_proto::envoy::r#type::v3 as types;
use ferromesh_proto::prost::Message;
use ferromesh_proto::prost_types;

use super::Runtime;
use super::keys::{
    BREAKERS, CHECK_INTERVALS, FAULTS, GLOBAL_CONNECTIONS, OUTLIERS, PANIC_THRESHOLD, PREMATURE_RESETS, connections_of,
};

/// The message with what the runtime says; `None` if it says nothing.
pub(super) fn edit(runtime: &Runtime, name: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    match name {
        "envoy.config.core.v3.RuntimeFractionalPercent" => {
            change(bytes, |message: &mut core::RuntimeFractionalPercent| {
                put_some(&mut message.default_value, runtime.fraction(&message.runtime_key));
            })
        }
        "envoy.config.core.v3.RuntimeFeatureFlag" => change(bytes, |message: &mut core::RuntimeFeatureFlag| {
            put_some(&mut message.default_value, runtime.flag(&message.runtime_key));
        }),
        "envoy.config.core.v3.RuntimeDouble" => change(bytes, |message: &mut core::RuntimeDouble| {
            put(&mut message.default_value, runtime.number(&message.runtime_key));
        }),
        "envoy.config.core.v3.RuntimeUInt32" => change(bytes, |message: &mut core::RuntimeUInt32| {
            put(&mut message.default_value, runtime.integer_32(&message.runtime_key));
        }),
        "envoy.config.core.v3.RuntimePercent" => change(bytes, |message: &mut core::RuntimePercent| {
            put_some(
                &mut message.default_value,
                runtime.number(&message.runtime_key).map(|value| types::Percent { value }),
            );
        }),
        "envoy.config.accesslog.v3.RuntimeFilter" => change(bytes, |message: &mut RuntimeFilter| {
            put_some(&mut message.percent_sampled, runtime.fraction(&message.runtime_key));
        }),
        "envoy.config.route.v3.WeightedCluster" => change(bytes, |message| weights(runtime, message)),
        "envoy.config.cluster.v3.Cluster" => change(bytes, |message| of_cluster(runtime, message)),
        "envoy.extensions.filters.http.fault.v3.HTTPFault" => change(bytes, |message| fault(runtime, message)),
        _ => None,
    }
}

fn change<M: Message + Default + Clone + PartialEq>(bytes: &[u8], edit: impl FnOnce(&mut M)) -> Option<Vec<u8>> {
    let before = M::decode(bytes).ok()?;
    let mut after = before.clone();
    edit(&mut after);
    (after != before).then(|| after.encode_to_vec())
}

fn put<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn put_some<T>(field: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *field = value;
    }
}

impl Runtime {
    /// A greater number than the field can hold counts for nothing, as in Envoy.
    fn integer_32(&self, key: &str) -> Option<u32> {
        u32::try_from(self.integer(key)?).ok()
    }

    /// Connections of all listeners at most.
    pub fn global_connections(&self) -> Option<u64> {
        self.integer(GLOBAL_CONNECTIONS)
    }

    /// Resets of one HTTP/2 client that may come at once.
    pub fn premature_resets(&self) -> Option<u32> {
        self.integer(PREMATURE_RESETS).map(|count| u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Connections of the named listener at most.
    pub fn connections(&self, listener: &str) -> Option<u64> {
        self.integer(&connections_of(listener))
    }

    /// Least and greatest time between active health checks.
    pub fn check_intervals(&self) -> (Duration, Duration) {
        let [least, most] = CHECK_INTERVALS.map(|key| self.integer(key).map(Duration::from_millis));
        let floor = Duration::from_millis(1);
        (least.unwrap_or_default().max(floor), most.unwrap_or(Duration::MAX).max(floor))
    }
}

fn weights(runtime: &Runtime, message: &mut WeightedCluster) {
    if message.runtime_key_prefix.is_empty() {
        return;
    }
    for cluster in &mut message.clusters {
        let key = format!("{}.{}", message.runtime_key_prefix, cluster.name);
        put_some(&mut cluster.weight, runtime.integer_32(&key));
    }
}

fn of_cluster(runtime: &Runtime, message: &mut cluster::Cluster) {
    if let Some(percent) = runtime.integer(PANIC_THRESHOLD) {
        let value = percent.min(100) as f64;
        message.common_lb_config.get_or_insert_default().healthy_panic_threshold = Some(types::Percent { value });
    }
    if let Some(outliers) = &mut message.outlier_detection {
        outlier_numbers(runtime, outliers);
    }
    for (priority, word) in [(core::RoutingPriority::Default, "default"), (core::RoutingPriority::High, "high")] {
        let mut all = message.circuit_breakers.clone().unwrap_or_default();
        let place = all.thresholds.iter().position(|found| found.priority == priority as i32);
        let none = Thresholds { priority: priority as i32, ..Thresholds::default() };
        let before = place.and_then(|place| all.thresholds.get(place)).copied().unwrap_or(none);
        let mut after = before;
        thresholds(runtime, &format!("{BREAKERS}.{}.{word}", message.name), &mut after);
        if after != before {
            match place.and_then(|place| all.thresholds.get_mut(place)) {
                Some(found) => *found = after,
                None => all.thresholds.push(after),
            }
            message.circuit_breakers = Some(all);
        }
    }
}

fn thresholds(runtime: &Runtime, prefix: &str, message: &mut Thresholds) {
    let number = |name: &str| runtime.integer_32(&format!("{prefix}.{name}"));
    put_some(&mut message.max_connections, number("max_connections"));
    put_some(&mut message.max_pending_requests, number("max_pending_requests"));
    put_some(&mut message.max_requests, number("max_requests"));
    put_some(&mut message.max_retries, number("max_retries"));
    let percent = runtime.number(&format!("{prefix}.retry_budget.budget_percent"));
    let least = number("retry_budget.min_retry_concurrency");
    if percent.is_some() || least.is_some() {
        let budget = message.retry_budget.get_or_insert_default();
        put_some(&mut budget.budget_percent, percent.map(|value| types::Percent { value }));
        put_some(&mut budget.min_retry_concurrency, least);
    }
}

fn outlier_numbers(runtime: &Runtime, message: &mut cluster::OutlierDetection) {
    let number = |name: &str| runtime.integer_32(&format!("{OUTLIERS}.{name}"));
    let percent = |name: &str| number(name).map(|percent| percent.min(100));
    let time = |name: &str| runtime.integer(&format!("{OUTLIERS}.{name}")).map(millis);
    put_some(&mut message.consecutive_5xx, number("consecutive_5xx"));
    put_some(&mut message.consecutive_gateway_failure, number("consecutive_gateway_failure"));
    put_some(&mut message.consecutive_local_origin_failure, number("consecutive_local_origin_failure"));
    put_some(&mut message.interval, time("interval_ms"));
    put_some(&mut message.base_ejection_time, time("base_ejection_time_ms"));
    put_some(&mut message.max_ejection_time, time("max_ejection_time_ms"));
    put_some(&mut message.max_ejection_time_jitter, time("max_ejection_time_jitter_ms"));
    put_some(&mut message.max_ejection_percent, percent("max_ejection_percent"));
    put_some(&mut message.enforcing_consecutive_5xx, percent("enforcing_consecutive_5xx"));
    put_some(&mut message.enforcing_consecutive_gateway_failure, percent("enforcing_consecutive_gateway_failure"));
    put_some(
        &mut message.enforcing_consecutive_local_origin_failure,
        percent("enforcing_consecutive_local_origin_failure"),
    );
    put_some(&mut message.enforcing_success_rate, percent("enforcing_success_rate"));
    put_some(&mut message.enforcing_local_origin_success_rate, percent("enforcing_local_origin_success_rate"));
    put_some(&mut message.success_rate_minimum_hosts, number("success_rate_minimum_hosts"));
    put_some(&mut message.success_rate_request_volume, number("success_rate_request_volume"));
    put_some(&mut message.success_rate_stdev_factor, number("success_rate_stdev_factor"));
    put_some(&mut message.failure_percentage_threshold, percent("failure_percentage_threshold"));
    put_some(&mut message.enforcing_failure_percentage, percent("enforcing_failure_percentage"));
    put_some(
        &mut message.enforcing_failure_percentage_local_origin,
        percent("enforcing_failure_percentage_local_origin"),
    );
    put_some(&mut message.failure_percentage_minimum_hosts, number("failure_percentage_minimum_hosts"));
    put_some(&mut message.failure_percentage_request_volume, number("failure_percentage_request_volume"));
}

fn fault(runtime: &Runtime, message: &mut HttpFault) {
    let own = [
        &message.delay_percent_runtime,
        &message.abort_percent_runtime,
        &message.delay_duration_runtime,
        &message.abort_http_status_runtime,
        &message.max_active_faults_runtime,
        &message.response_rate_limit_percent_runtime,
        &message.abort_grpc_status_runtime,
    ];
    let keys: Vec<String> = own
        .iter()
        .zip(FAULTS)
        .map(|(own, default)| if own.is_empty() { default.into() } else { (*own).clone() })
        .collect();
    let [delay_percent, abort_percent, delay_time, status, most, limit_percent, grpc] = keys.as_slice() else { return };
    if let Some(delay) = &mut message.delay {
        put_some(&mut delay.percentage, runtime.fraction(delay_percent));
        if let Some(FaultDelaySecifier::FixedDelay(fixed)) = &mut delay.fault_delay_secifier {
            put(fixed, runtime.integer(delay_time).map(millis));
        }
    }
    if let Some(abort) = &mut message.abort {
        put_some(&mut abort.percentage, runtime.fraction(abort_percent));
        match &mut abort.error_type {
            Some(fault_abort::ErrorType::HttpStatus(code)) => put(code, runtime.integer_32(status)),
            Some(fault_abort::ErrorType::GrpcStatus(code)) => put(code, runtime.integer_32(grpc)),
            _ => {}
        }
    }
    if let Some(limit) = &mut message.response_rate_limit {
        put_some(&mut limit.percentage, runtime.fraction(limit_percent));
    }
    put_some(&mut message.max_active_faults, runtime.integer_32(most));
}

fn millis(millis: u64) -> prost_types::Duration {
    let seconds = i64::try_from(millis / 1000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(millis % 1000 * 1_000_000).unwrap_or(0);
    prost_types::Duration { seconds, nanos }
}
