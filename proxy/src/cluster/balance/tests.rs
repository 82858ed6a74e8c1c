use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ferromesh_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use ferromesh_proto::json;
use proptest::prelude::*;

use super::{Balancer, HostSet};
use crate::cluster::health::Unhealthy;
use crate::cluster::tests::cluster;
use crate::cluster::{Cluster, LbContext, RESELECT};

/// Endpoints `10.0.<priority>.<n>` with weights.
fn endpoints(priority: u32, weights: &[u32]) -> String {
    let endpoints: Vec<String> = weights
        .iter()
        .enumerate()
        .map(|(place, weight)| {
            let address = format!("{{socket_address: {{address: 10.0.{priority}.{place}, port_value: 80}}}}");
            format!("{{load_balancing_weight: {weight}, endpoint: {{address: {address}}}}}")
        })
        .collect();
    format!("{{priority: {priority}, lb_endpoints: [{}]}}", endpoints.join(", "))
}

fn with(policy: &str, groups: &[String]) -> Arc<Cluster> {
    cluster(&format!("{{name: c, {policy}, load_assignment: {{cluster_name: c, endpoints: [{}]}}}}", groups.join(", ")))
}

fn picks(cluster: &Cluster, count: usize, context: &LbContext<'_>) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for _ in 0..count {
        *found.entry(cluster.pick(context).unwrap().address.to_string()).or_default() += 1;
    }
    found
}

#[test]
fn round_robin_gives_each_host_its_exact_share() {
    let cluster = with("lb_policy: ROUND_ROBIN", &[endpoints(0, &[1, 1, 1])]);
    assert_eq!(picks(&cluster, 300, &LbContext::default()).into_values().collect::<Vec<_>>(), [100, 100, 100]);
    let cluster = with("lb_policy: ROUND_ROBIN", &[endpoints(0, &[80, 20])]);
    assert_eq!(picks(&cluster, 500, &LbContext::default()).into_values().collect::<Vec<_>>(), [400, 100]);
}

#[test]
fn unhealthy_hosts_are_left_out_and_come_back() {
    let cluster = with("lb_policy: ROUND_ROBIN", &[endpoints(0, &[1, 1, 1])]);
    let host = cluster.hosts.load().hosts[1].clone();
    host.health.set(Unhealthy::Outlier, true);
    assert!(!picks(&cluster, 30, &LbContext::default()).contains_key("10.0.0.1:80"));
    host.health.set(Unhealthy::Outlier, false);
    assert_eq!(picks(&cluster, 30, &LbContext::default())["10.0.0.1:80"], 10);
}

#[test]
fn below_the_panic_threshold_health_is_ignored_unless_it_is_zero() {
    for (threshold, found) in [("{}", false), ("{value: 50}", true)] {
        let policy = format!("common_lb_config: {{healthy_panic_threshold: {threshold}}}");
        let cluster = with(&policy, &[endpoints(0, &[1, 1])]);
        for host in &cluster.hosts.load().hosts {
            host.health.set(Unhealthy::Eds, true);
        }
        assert_eq!(cluster.pick(&LbContext::default()).is_ok(), found, "{threshold}");
    }
}

#[test]
fn the_second_priority_serves_when_the_first_fails() {
    let cluster = with("lb_policy: RANDOM", &[endpoints(0, &[1]), endpoints(1, &[1])]);
    assert_eq!(picks(&cluster, 50, &LbContext::default()).into_keys().collect::<Vec<_>>(), ["10.0.0.0:80"]);
    cluster.hosts.load().hosts[0].health.set(Unhealthy::ActiveCheck, true);
    assert_eq!(picks(&cluster, 50, &LbContext::default()).into_keys().collect::<Vec<_>>(), ["10.0.1.0:80"]);
}

#[test]
fn least_request_avoids_the_loaded_host() {
    let cluster =
        with("lb_policy: LEAST_REQUEST, least_request_lb_config: {choice_count: 8}", &[endpoints(0, &[1, 1])]);
    cluster.hosts.load().hosts[0].active.store(10, std::sync::atomic::Ordering::Relaxed);
    let found = picks(&cluster, 1000, &LbContext::default());
    assert!(found.get("10.0.0.0:80").copied().unwrap_or(0) < 30, "{found:?}");
}

#[test]
fn consistent_hashing_moves_only_the_hosts_share_when_it_leaves() {
    for policy in ["lb_policy: RING_HASH", "lb_policy: MAGLEV, maglev_lb_config: {table_size: 65537}"] {
        let cluster = with(policy, &[endpoints(0, &[1, 1, 1, 1])]);
        let place = |hash: u64| {
            let context = LbContext { hash: Some(hash.wrapping_mul(0x9E37_79B9_7F4A_7C15)), ..LbContext::default() };
            cluster.pick(&context).unwrap().address.to_string()
        };
        let before: Vec<String> = (0..2000).map(place).collect();
        assert_eq!(before, (0..2000).map(place).collect::<Vec<_>>(), "{policy}: the same hash, the same host");
        cluster.hosts.load().hosts[2].health.set(Unhealthy::Eds, true);
        let after: Vec<String> = (0..2000).map(place).collect();
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        let own = before.iter().filter(|host| *host == "10.0.0.2:80").count();
        assert!(own > 300 && moved < own + 400, "{policy}: {own} were there, {moved} moved");
    }
}

#[test]
fn subsets_serve_only_hosts_with_the_metadata_asked_for() {
    let endpoint = |place: u32, version: &str| {
        format!(
            "{{metadata: {{filter_metadata: {{envoy.lb: {{version: {version}}}}}}}, endpoint: {{address: \
             {{socket_address: {{address: 10.0.0.{place}, port_value: 80}}}}}}}}"
        )
    };
    let endpoints = format!("[{{lb_endpoints: [{}, {}]}}]", endpoint(1, "v1"), endpoint(2, "v2"));
    let cluster = cluster(&format!(
        "{{name: c, lb_subset_config: {{fallback_policy: NO_FALLBACK, subset_selectors: [{{keys: [version]}}]}}, \
         load_assignment: {{cluster_name: c, endpoints: {endpoints}}}}}"
    ));
    let wanted = |version: &str| serde_json::json!({ "version": version }).as_object().cloned().unwrap();
    let (v2, v3) = (wanted("v2"), wanted("v3"));
    let context = LbContext { metadata_match: Some(&v2), ..LbContext::default() };
    assert_eq!(picks(&cluster, 20, &context).into_keys().collect::<Vec<_>>(), ["10.0.0.2:80"]);
    let context = LbContext { metadata_match: Some(&v3), ..LbContext::default() };
    assert!(cluster.pick(&context).is_err());
}

#[test]
fn a_retry_avoids_the_hosts_that_were_tried() {
    let cluster = with("lb_policy: RANDOM", &[endpoints(0, &[1, 1])]);
    let tried = [cluster.hosts.load().hosts[0].clone()];
    let context = LbContext { previous: &tried, reselect: 50, ..LbContext::default() };
    assert_eq!(picks(&cluster, 50, &context).into_keys().collect::<Vec<_>>(), ["10.0.0.1:80"]);
}

#[test]
fn the_host_that_serves_is_found_although_the_one_that_failed_is_idle() {
    let cluster = with("lb_policy: LEAST_REQUEST", &[endpoints(0, &[1, 1])]);
    let hosts = cluster.hosts.load();
    hosts.hosts[1].active.store(10, std::sync::atomic::Ordering::Relaxed);
    let tried = [hosts.hosts[0].clone()];
    let context = LbContext { previous: &tried, reselect: RESELECT, ..LbContext::default() };
    assert_eq!(picks(&cluster, 10_000, &context).into_keys().collect::<Vec<_>>(), ["10.0.0.1:80"]);
}

/// The share of the host that came last, as it is `millis` after it came.
async fn share_of_a_new_host(policy: &str, millis: u64) -> f64 {
    let eds = |places: u32| -> ClusterLoadAssignment {
        let weights = vec![1; places as usize];
        json::from_yaml(&format!("{{cluster_name: c, endpoints: [{}]}}", endpoints(0, &weights))).unwrap()
    };
    let cluster =
        cluster(&format!("{{name: c, type: EDS, eds_cluster_config: {{eds_config: {{ads: {{}}}}}}, {policy}}}"));
    cluster.update_endpoints(&eds(1)).unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;
    cluster.update_endpoints(&eds(2)).unwrap();
    tokio::time::advance(Duration::from_millis(millis)).await;
    let found = picks(&cluster, 4000, &LbContext::default());
    found.get("10.0.0.1:80").copied().unwrap_or_default() as f64 / 4000.0
}

#[tokio::test(start_paused = true)]
async fn a_new_host_gets_its_share_little_by_little() {
    const TYPED: &str = "type.googleapis.com/envoy.extensions.load_balancing_policies";
    let rule = "slow_start_config: {slow_start_window: 10s}";
    let typed = |name: &str, message: &str| {
        format!(
            "load_balancing_policy: {{policies: [{{typed_extension_config: {{name: {name}, \
             typed_config: {{'@type': {TYPED}.{name}.v3.{message}, {rule}}}}}}}]}}"
        )
    };
    let policies = [
        format!("round_robin_lb_config: {{{rule}}}"),
        format!("lb_policy: LEAST_REQUEST, least_request_lb_config: {{{rule}}}"),
        typed("round_robin", "RoundRobin"),
        typed("least_request", "LeastRequest"),
    ];
    for policy in &policies {
        for (millis, weight) in [(0, 0.1), (5_000, 0.5), (9_000, 0.9), (10_000, 1.0), (60_000, 1.0)] {
            let (share, wanted) = (share_of_a_new_host(policy, millis).await, weight / (1.0 + weight));
            assert!((share - wanted).abs() < 0.04, "{policy} after {millis} ms: {share}, not {wanted}");
        }
    }
    let random = "lb_policy: RANDOM, round_robin_lb_config: {slow_start_config: {slow_start_window: 10s}}";
    assert!(share_of_a_new_host(random, 0).await > 0.45, "the configuration of another policy counts for nothing");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_recovers_starts_slowly_again() {
    let cluster =
        with("round_robin_lb_config: {slow_start_config: {slow_start_window: 10s}}", &[endpoints(0, &[1, 1])]);
    tokio::time::advance(Duration::from_secs(60)).await;
    let host = cluster.hosts.load().hosts[1].clone();
    host.health.set(Unhealthy::ActiveCheck, true);
    host.health.recover();
    host.health.set(Unhealthy::ActiveCheck, false);
    let share = picks(&cluster, 1000, &LbContext::default())["10.0.0.1:80"];
    assert!((80..105).contains(&share), "{share} of 1000");
}

#[test]
fn locality_weights_share_the_traffic_out() {
    let group = |zone: &str, place: u32, weight: u32| {
        format!(
            "{{locality: {{zone: {zone}}}, load_balancing_weight: {weight}, lb_endpoints: [{{endpoint: {{address: \
             {{socket_address: {{address: 10.0.0.{place}, port_value: 80}}}}}}}}]}}"
        )
    };
    let cluster = with("common_lb_config: {locality_weighted_lb_config: {}}", &[group("a", 1, 9), group("b", 2, 1)]);
    let found = picks(&cluster, 4000, &LbContext::default());
    let share = found["10.0.0.1:80"];
    assert!((3450..3750).contains(&share), "{found:?}");
    // Nobody is healthy: each host gets as much as the other, as in Envoy.
    for host in &cluster.hosts.load().hosts {
        host.health.set(Unhealthy::Eds, true);
    }
    assert_eq!(picks(&cluster, 4000, &LbContext::default())["10.0.0.1:80"], 2000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_policy_picks_by_weight(
        weights in prop::collection::vec(1u32..50, 2..6),
        policy in prop::sample::select(vec!["ROUND_ROBIN", "RANDOM", "LEAST_REQUEST", "MAGLEV"]),
    ) {
        let cluster = with(&format!("lb_policy: {policy}"), &[endpoints(0, &weights)]);
        let total: u32 = weights.iter().sum();
        let count = 20_000;
        let found = picks(&cluster, count, &LbContext::default());
        for (place, weight) in weights.iter().enumerate() {
            let wanted = f64::from(*weight) / f64::from(total);
            let share = found.get(&format!("10.0.0.{place}:80")).copied().unwrap_or(0) as f64 / count as f64;
            // Five standard deviations of a fair draw, and what Maglev rounds.
            let margin = 5.0 * (wanted * (1.0 - wanted) / count as f64).sqrt() + 0.005;
            prop_assert!((share - wanted).abs() < margin, "{policy} {weights:?}: {place} has {share}, not {wanted}");
        }
    }

    #[test]
    fn no_set_of_hosts_makes_a_pick_panic(
        weights in prop::collection::vec(1u32..5, 0..5),
        sick in prop::collection::vec(any::<bool>(), 5),
        threshold in 0u32..101,
    ) {
        let policy = format!("common_lb_config: {{healthy_panic_threshold: {{value: {threshold}}}}}");
        let cluster = with(&policy, &[endpoints(0, &weights), endpoints(1, &weights)]);
        for (host, sick) in cluster.hosts.load().hosts.iter().zip(sick) {
            host.health.set(Unhealthy::Eds, sick);
        }
        let _ = cluster.pick(&LbContext::default());
        let set = HostSet::default();
        prop_assert!(Balancer::default().pick(&set, &LbContext::default()).is_none());
    }
}
