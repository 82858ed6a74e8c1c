//! The names of metrics, and what some of them say: each that this proxy shows is one of Envoy's.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Ports;
use crate::upstream::{self, Record};
use crate::world::{self, Kind};

/// Names that Envoy does not have, or not until something happens, with the reason.
const OWN: &[(&str, &str)] = &[
    ("access_logs.file_access_log.logs_", "lines are counted by a writer of their own"),
    (".upstream_rq_1xx", "there from the start"),
    (".upstream_rq_2xx", "there from the start"),
    (".upstream_rq_3xx", "there from the start"),
    (".upstream_rq_4xx", "there from the start"),
    (".upstream_rq_5xx", "there from the start"),
    (".downstream_cx_descriptor_overflow", "connections that were closed to keep descriptors for the admin address"),
    (".ssl.connection_error", "there also where no chain has TLS"),
    (".ssl.fail_verify_error", "there also where no chain has TLS"),
    (".ssl.handshake", "there also where no chain has TLS"),
    ("http2.", "floods are counted for the listener's side as a whole"),
];

/// What must be the same, not only there.
const COUNTED: &[&str] = &[
    "cluster.failing.outlier_detection.ejections_active",
    "cluster.failing.outlier_detection.ejections_detected_consecutive_5xx",
    "cluster.failing.outlier_detection.ejections_enforced_consecutive_5xx",
    "cluster.failing.outlier_detection.ejections_enforced_total",
    "cluster.limited.circuit_breakers.default.remaining_cx",
    "cluster.limited.circuit_breakers.default.remaining_pending",
    "cluster.limited.circuit_breakers.default.remaining_retries",
    "cluster.limited.circuit_breakers.default.remaining_rq",
    "cluster.failing.external.upstream_rq_500",
    "cluster.failing.external.upstream_rq_5xx",
    "cluster.failing.external.upstream_rq_completed",
    "cluster.limited.retry.upstream_rq_500",
    "cluster.limited.retry.upstream_rq_5xx",
    "cluster.limited.retry.upstream_rq_completed",
    "cluster.failing.upstream_rq_500",
    "cluster.limited.internal.upstream_rq_200",
    "cluster.limited.internal.upstream_rq_2xx",
    "cluster.limited.internal.upstream_rq_completed",
    "cluster.limited.upstream_rq_200",
    "cluster.limited.upstream_rq_500",
    "envoy_cluster_upstream_rq_time_count{envoy_cluster_name=\"failing\"",
    "envoy_cluster_upstream_rq_time_count{envoy_cluster_name=\"limited\"",
    "cluster.failing.upstream_rq_500",
    "cluster_manager.active_clusters",
    "cluster_manager.cluster_added",
    "cluster_manager.warming_clusters",
    "http.in.downstream_rq_http1_total",
    "http.in.downstream_rq_http2_total",
    "http.in.downstream_rq_total",
    "http.in.no_cluster",
    "http.in.no_route",
    "http.in.rq_direct_response",
    "http.in.rq_redirect",
    "http.in.rq_total",
    "listener_manager.listener_added",
    "listener_manager.total_listeners_active",
    "listener_manager.total_listeners_warming",
    "server.days_until_first_cert_expiring",
    "server.live",
    "server.state",
    "http.in.rbac.dry_.policy.all.shadow_denied",
    "http.in.rbac.dry_.shadow_allowed",
    "http.in.rbac.dry_.shadow_denied",
    "http.in.rbac.wet.policy.all.allowed",
    "http.in.rbac.wet.allowed",
    "http.in.rbac.wet.denied",
];

fn bootstrap(ports: &Ports) -> String {
    const TYPE: &str = "type.googleapis.com/envoy.extensions.filters";
    let address = |name| format!("{{socket_address: {{address: 127.0.0.1, port_value: {}}}}}", ports.of(name));
    let host = format!("{{endpoint: {{address: {}}}}}", address("echo"));
    let cluster = |name: &str, more: &str| {
        format!(
            "{{name: {name}, connect_timeout: 1s, {more}, load_assignment: {{cluster_name: {name}, endpoints: [{{lb_endpoints: [{host}]}}]}}}}"
        )
    };
    let failing = cluster(
        "failing",
        "outlier_detection: {consecutive_5xx: 3, interval: 3600s, base_ejection_time: 3600s, max_ejection_percent: 100}",
    );
    let limited = cluster(
        "limited",
        "circuit_breakers: {thresholds: [{max_connections: 7, max_pending_requests: 6, max_requests: 5, max_retries: 4, track_remaining: true}]}",
    );
    let all = |action: &str| {
        format!(
            "{{action: {action}, policies: {{all: {{permissions: [{{any: true}}], principals: [{{any: true}}]}}}}}}"
        )
    };
    let rbac = format!(
        "{{name: rbac, typed_config: {{'@type': {TYPE}.http.rbac.v3.RBAC, rules: {}, rules_stat_prefix: wet, shadow_rules: {}, \
         shadow_rules_stat_prefix: dry_, track_per_rule_stats: true}}}}",
        all("ALLOW"),
        all("DENY")
    );
    format!(
        "admin: {{address: {}}}\nstats_flush_interval: 0.05s\nstatic_resources: {{clusters: [{failing}, {limited}], listeners: [{{name: in, address: {}, \
         filter_chains: [{{filters: [{{name: hcm, typed_config: {{'@type': {TYPE}.network.http_connection_manager.v3.HttpConnectionManager, \
         stat_prefix: in, internal_address_config: {{cidr_ranges: [{{address_prefix: 10.0.0.0, prefix_len: 8}}]}}, http_filters: [{rbac}, {{name: router, typed_config: {{'@type': {TYPE}.http.router.v3.Router}}}}], \
         route_config: {{virtual_hosts: [{{name: all, domains: ['*'], routes: [{{match: {{prefix: /limited}}, route: {{cluster: limited, retry_policy: {{retry_on: 5xx, num_retries: 1}}}}}}, \
         {{match: {{prefix: /}}, route: {{cluster: failing}}}}]}}]}}}}}}]}}]}}]}}\n",
        address("admin"),
        address("in")
    )
}

fn get(port: u16, path: &str, header: &str) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nhost: a\r\n{header}connection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    text
}

/// Whether this is the number of times that were measured for a cluster.
fn is_time(name: &str) -> bool {
    ["envoy_cluster_upstream_rq_time_count", "envoy_cluster_upstream_cx_connect_ms_count"]
        .iter()
        .any(|time| name.starts_with(time))
}

/// Every metric by its name, after the same requests.
fn metrics(kind: &Kind<'_>) -> BTreeMap<String, String> {
    let (mut ports, folder) = (Ports::default(), tempfile::tempdir().unwrap());
    ports.add("echo", upstream::serve("echo", &Arc::new(Record::default())));
    let held = ["admin", "in"].map(|name| (name, world::quiet()));
    for (name, listener) in &held {
        ports.add(name, listener.local_addr().unwrap().port());
    }
    drop(held);
    let running = world::start(kind, &bootstrap(&ports), folder.path(), &ports);
    for _ in 0..9 {
        get(ports.of("in"), "/", "x-do: status=500\r\n");
    }
    get(ports.of("in"), "/limited", "x-forwarded-for: 10.0.0.1\r\n");
    get(ports.of("in"), "/limited/again", "x-do: status=500\r\n");
    let mut text = get(ports.of("admin"), "/stats", "");
    // Envoy adds to its histograms from time to time.
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let page = get(ports.of("admin"), "/stats/prometheus", "");
        let times: Vec<_> =
            page.lines().filter_map(|line| line.split_once("} ")).filter(|(name, _)| is_time(name)).collect();
        if times.iter().any(|(name, count)| name.contains("failing") && name.contains("rq_time") && *count == "9")
            || Instant::now() > until
        {
            text.extend(times.iter().map(|(name, count)| format!("{name}: {count}\n")));
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(running);
    let hide = |name: &str| name.replace(&format!("_{}.", ports.of("in")), "_in.");
    text.lines().filter_map(|line| line.split_once(": ")).map(|(name, value)| (hide(name), value.to_owned())).collect()
}

#[test]
fn metrics_have_envoys_names_and_the_ones_of_failures_its_values() {
    let Some(envoy) = crate::envoy() else { return };
    let (theirs, ours) = (metrics(&Kind::Envoy(&envoy)), metrics(&Kind::Ours));
    let is_own = |name: &&String| OWN.iter().any(|(own, _)| name.starts_with(own) || name.ends_with(own));
    // What comes before the metrics are the lines of the answer's head.
    let strange: Vec<_> = ours
        .keys()
        .filter(|name| !is_time(name) && name.contains('.') && !theirs.contains_key(*name))
        .filter(|name| !is_own(name))
        .collect();
    assert!(strange.is_empty(), "Envoy has no such metrics: {strange:#?}");
    // How many connections there are is the workers' affair.
    let connected = "envoy_cluster_upstream_cx_connect_ms_count{envoy_cluster_name=\"failing\"";
    assert!(ours.contains_key(connected) && theirs.contains_key(connected));
    for name in COUNTED {
        assert_eq!(ours.get(*name), theirs.get(*name), "{name}");
        assert!(ours.contains_key(*name), "{name} is not there");
    }
}
