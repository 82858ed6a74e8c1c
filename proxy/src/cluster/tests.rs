use std::sync::Arc;
use std::time::Duration;

use ferromesh_proto::envoy::config::cluster::v3 as proto;
use ferromesh_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use ferromesh_proto::{Any, json};

use super::health::Unhealthy;
use super::outlier::Outcome;
use super::{Cluster, LbContext};
use crate::config::ConfigError;
use crate::context::{Context, Local};
use crate::supported;

fn decode(yaml: &str) -> Result<Arc<Cluster>, ConfigError> {
    let message: proto::Cluster = json::from_yaml(yaml).expect("valid yaml");
    supported::check(&Any::pack(&message))?;
    Cluster::decode(&message, &Context::new(Local::default()).for_clusters())
}

/// A cluster from YAML.
pub(crate) fn cluster(yaml: &str) -> Arc<Cluster> {
    decode(yaml).expect("a valid cluster")
}

fn assignment(addresses: &[&str]) -> ClusterLoadAssignment {
    let endpoints: Vec<String> = addresses
        .iter()
        .map(|address| format!("{{endpoint: {{address: {{socket_address: {{address: {address}, port_value: 80}}}}}}}}"))
        .collect();
    json::from_yaml(&format!("{{cluster_name: c, endpoints: [{{lb_endpoints: [{}]}}]}}", endpoints.join(", ")))
        .expect("valid yaml")
}

const EDS: &str = "{name: c, type: EDS, eds_cluster_config: {service_name: s, eds_config: {ads: {}}}";

#[test]
fn a_static_cluster_without_endpoints_has_no_hosts_as_istios_black_hole() {
    let cluster = decode("{name: BlackHoleCluster, type: STATIC}").expect("accepted");
    assert!(cluster.hosts.load().hosts.is_empty());
}

#[test]
fn what_is_not_implemented_is_refused_by_its_path() {
    let table = [
        ("{name: c, lb_policy: 99}", "lb_policy"),
        ("{name: c, type: STRICT_DNS}", "load_assignment"),
        ("{name: c, lrs_server: {self: {}}}", "lrs_server"),
        ("{name: c, lb_policy: CLUSTER_PROVIDED}", "lb_policy"),
        (
            "{name: c, lb_policy: LEAST_REQUEST, least_request_lb_config: {active_request_bias: {}}}",
            "least_request_lb_config.active_request_bias",
        ),
        (
            "{name: c, round_robin_lb_config: {slow_start_config: {slow_start_window: 1s, aggression: {}}}}",
            "round_robin_lb_config.slow_start_config.aggression",
        ),
        ("{name: c, lb_policy: MAGLEV, maglev_lb_config: {table_size: 10}}", "maglev_lb_config.table_size"),
        (
            "{name: c, load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: \
             web.example, port_value: 80}}}}]}]}}",
            "load_assignment",
        ),
        (
            "{name: c, health_checks: [{interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, \
             tcp_health_check: {}}]}",
            "health_checks[0].timeout",
        ),
    ];
    for (yaml, path) in table {
        let error = decode(yaml).err().unwrap_or_else(|| panic!("{yaml} is accepted"));
        assert_eq!(error.path, path, "{error}");
        assert!(error.type_url.ends_with("envoy.config.cluster.v3.Cluster"), "{error}");
    }
}

#[test]
fn a_cluster_as_istio_sends_it_is_accepted() {
    let cluster = cluster(
        "{name: outbound|80||web.default.svc.cluster.local, type: EDS, lb_policy: LEAST_REQUEST, connect_timeout: 10s,
          eds_cluster_config: {eds_config: {ads: {}, initial_fetch_timeout: 0s, resource_api_version: V3},
            service_name: outbound|80||web.default.svc.cluster.local},
          circuit_breakers: {thresholds: [{max_connections: 4294967295, max_pending_requests: 4294967295,
            max_requests: 4294967295, max_retries: 4294967295, track_remaining: true}]},
          common_lb_config: {locality_weighted_lb_config: {}, healthy_panic_threshold: {}},
          metadata: {filter_metadata: {istio: {services: [{host: web, name: web, namespace: default}]}}},
          typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {
            '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions,
            explicit_http_config: {http2_protocol_options: {max_concurrent_streams: 1073741824}}}},
          filters: [{name: istio.metadata_exchange, typed_config: {
            '@type': type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange,
            protocol: istio-peer-exchange}}]}",
    );
    assert_eq!(cluster.config.protocol, super::UpstreamProtocol::Http2);
    assert!(cluster.config.metadata_exchange.is_some());
    assert!(!cluster.is_warm(), "it waits for its endpoints");
}

#[test]
fn endpoints_that_stay_keep_their_identity_and_the_others_are_marked_as_gone() {
    let cluster = cluster(&format!("{EDS}}}"));
    assert_eq!(cluster.eds_service_name(), Some("s"));
    cluster.update_endpoints(&assignment(&["10.0.0.1", "10.0.0.2"])).unwrap();
    assert!(cluster.is_warm());
    let before = cluster.hosts.load().hosts.clone();
    before[0].health.set(Unhealthy::Outlier, true);
    cluster.update_endpoints(&assignment(&["10.0.0.3", "10.0.0.1"])).unwrap();
    let after = cluster.hosts.load().hosts.clone();
    assert_eq!(after[1].id, before[0].id);
    assert!(after[1].health.has(Unhealthy::Outlier));
    assert!(before[1].health.is_removed() && !before[0].health.is_removed());
    assert_ne!(after[0].id, before[1].id);
}

#[test]
fn a_name_in_eds_is_refused_and_the_hosts_stay() {
    let cluster = cluster(&format!("{EDS}}}"));
    cluster.update_endpoints(&assignment(&["10.0.0.1"])).unwrap();
    assert!(cluster.update_endpoints(&assignment(&["web.example"])).is_err());
    assert_eq!(cluster.hosts.load().hosts.len(), 1);
}

#[test]
fn original_destinations_become_hosts_once() {
    let cluster = cluster("{name: c, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED}");
    assert!(cluster.is_warm());
    let context = LbContext { original_dst: Some(([10, 0, 0, 9], 8080).into()), ..LbContext::default() };
    let (first, second) = (cluster.pick(&context).unwrap(), cluster.pick(&context).unwrap());
    assert_eq!((first.id, first.address.to_string().as_str()), (second.id, "10.0.0.9:8080"));
    assert!(cluster.pick(&LbContext::default()).is_err(), "a connection that was not redirected has no destination");
}

fn with_outliers(config: &str) -> Arc<Cluster> {
    let cluster = cluster(&format!("{EDS}, outlier_detection: {{{config}}}}}"));
    cluster.update_endpoints(&assignment(&["10.0.0.1", "10.0.0.2"])).unwrap();
    cluster
}

#[test]
fn a_host_is_ejected_after_failures_in_a_row_but_not_beyond_the_percentage() {
    let cluster = with_outliers("consecutive_5xx: 3, max_ejection_percent: 50");
    let hosts = cluster.hosts.load().hosts.clone();
    for outcome in [500, 503, 200, 500, 500] {
        cluster.report(&hosts[0], Outcome::Status(outcome));
    }
    assert!(hosts[0].health.is_healthy(), "a good answer starts the count anew");
    cluster.report(&hosts[0], Outcome::ConnectFailed);
    assert!(hosts[0].health.has(Unhealthy::Outlier));
    for _ in 0..5 {
        cluster.report(&hosts[1], Outcome::Status(500));
    }
    assert!(hosts[1].health.is_healthy(), "half of the hosts is ejected already");
}

#[test]
fn local_failures_are_told_apart_if_asked_for() {
    let cluster = with_outliers(
        "consecutive_5xx: 2, split_external_local_origin_errors: true, consecutive_local_origin_failure: 4, \
         max_ejection_percent: 100",
    );
    let hosts = cluster.hosts.load().hosts.clone();
    for _ in 0..3 {
        cluster.report(&hosts[0], Outcome::ConnectFailed);
    }
    // It could be connected to before it was late or reset, which is one failure in a row again.
    for outcome in [Outcome::Timeout, Outcome::Reset, Outcome::Timeout, Outcome::Reset] {
        cluster.report(&hosts[0], outcome);
    }
    assert!(hosts[0].health.is_healthy());
    for _ in 0..3 {
        cluster.report(&hosts[0], Outcome::ConnectFailed);
    }
    assert!(!hosts[0].health.is_healthy());
}

#[tokio::test]
async fn each_ejection_lasts_longer_and_ends_by_itself() {
    let cluster = with_outliers(
        "consecutive_5xx: 1, interval: 0.005s, base_ejection_time: 0.1s, max_ejection_percent: 100, \
         enforcing_success_rate: 0",
    );
    cluster.start(&tokio::runtime::Handle::current());
    let host = cluster.hosts.load().hosts[0].clone();
    cluster.report(&host, Outcome::Status(500));
    // A second ejection before the first is forgotten: the count only goes down while the host is in use.
    let begun = std::time::Instant::now();
    while host.health.has(Unhealthy::Outlier) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(95));
    assert!(host.health.outlier.times() <= 1);
}

#[test]
fn hosts_far_below_their_peers_success_rate_are_ejected() {
    let cluster = cluster(&format!(
        "{EDS}, outlier_detection: {{consecutive_5xx: 1000000, max_ejection_percent: 100, \
         success_rate_request_volume: 10}}}}"
    ));
    let addresses: Vec<String> = (1..=6).map(|n| format!("10.0.0.{n}")).collect();
    cluster.update_endpoints(&assignment(&addresses.iter().map(String::as_str).collect::<Vec<_>>())).unwrap();
    let hosts = cluster.hosts.load().hosts.clone();
    for host in &hosts {
        for _ in 0..100 {
            cluster.report(host, Outcome::Status(if host.id == hosts[3].id { 500 } else { 200 }));
        }
    }
    cluster.outlier.as_ref().unwrap().sweep(&cluster);
    let ejected: Vec<usize> = (0..6).filter(|place| hosts[*place].health.has(Unhealthy::Outlier)).collect();
    assert_eq!(ejected, [3]);
}

#[test]
fn a_retry_budget_follows_the_active_requests() {
    let cluster = cluster(&format!(
        "{EDS}, circuit_breakers: {{thresholds: [{{retry_budget: {{budget_percent: {{value: 50}}, \
         min_retry_concurrency: 1}}}}]}}}}"
    ));
    let breakers = &cluster.breakers[0];
    let first = breakers.take_retry();
    assert!(first.is_some() && breakers.take_retry().is_none(), "one is always allowed");
    let active: Vec<_> = (0..4).map(|_| breakers.requests.take()).collect();
    assert!(active.iter().all(Option::is_some));
    assert!(breakers.take_retry().is_some(), "half of four requests may be retries");
}
