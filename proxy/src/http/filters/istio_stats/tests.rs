//! Rules as Istio's control plane makes them of its Telemetry API ("Customizing Istio Metrics").

use std::collections::BTreeMap;

use ferromesh_proto::envoy::config::core::v3::Node;
use ferromesh_proto::stats::PluginConfig;

use super::IstioStats;
use super::tcp::{Account, TcpStats};
use crate::config::ConfigError;
use crate::context::{Context, Local};
use crate::format::Info;
use crate::http::serve::tests::stream;
use crate::http::stream::Stream;
use crate::route::table::tests::head;
use crate::stats::Value;
use crate::stream::Upstream;

type Labels = BTreeMap<String, String>;

fn context() -> Context {
    let metadata = serde_json::json!({
        "NAMESPACE": "shop", "WORKLOAD_NAME": "web",
        "LABELS": {"app": "web", "version": "v1", "service.istio.io/canonical-name": "web"},
    });
    let metadata = Some(ferromesh_proto::json::json_to_struct(&metadata));
    Context::new(Local::new(Node { id: "own".into(), metadata, ..Default::default() }))
}

fn decode(config: &str, context: &Context) -> Result<IstioStats, ConfigError> {
    let message: PluginConfig = ferromesh_proto::json::from_yaml(&format!("{{{config}}}")).expect("good YAML");
    IstioStats::decode(&message, context)
}

fn answered(path: &'static str) -> Stream {
    let mut stream = stream("", head("a.test", path));
    stream.status = Some(200);
    stream
}

/// The labels of each series of a metric, after requests.
fn series(config: &str, metric: &str, requests: &[Stream]) -> Vec<Labels> {
    let context = context();
    let stats = decode(config, &context).expect("a good configuration");
    requests.iter().for_each(|stream| stats.record(&stream.info(), Some([1, 2])));
    let all = context.stats.snapshot().into_iter();
    all.filter(|(key, _)| key.name == metric).map(|(key, _)| key.tags.into_iter().collect()).collect()
}

fn one(config: &str, metric: &str) -> Labels {
    let mut found = series(config, metric, &[answered("/")]);
    assert_eq!(found.len(), 1, "{config}: {metric}");
    found.remove(0)
}

#[tokio::test]
async fn dimensions_add_the_values_of_expressions_to_the_metric_that_they_name() {
    let config = "metrics: [{name: requests_total, dimensions: {destination_port: string(destination.port), request_host: request.host}}]";
    let labels = one(config, "istio_requests_total");
    assert_eq!((labels["destination_port"].as_str(), labels["request_host"].as_str()), ("80", "a.test"));
    assert_eq!(labels["reporter"], "source");
    assert!(!one(config, "istio_request_bytes").contains_key("request_host"));
}

#[tokio::test]
async fn dimensions_stand_in_place_of_standard_labels_and_unknown_for_what_is_absent() {
    let config = "metrics: [{dimensions: {source_workload: \"'_' + xds.node.metadata['WORKLOAD_NAME']\", \
                  request_protocol: request.protocol, destination_workload: filter_state.upstream_peer.workload}}]";
    for metric in ["istio_requests_total", "istio_response_bytes", "istio_request_messages_total"] {
        let labels = one(config, metric);
        assert_eq!(labels["source_workload"], "_web");
        assert_eq!(labels["request_protocol"], "HTTP/1.1");
        assert_eq!(labels["destination_workload"], "unknown");
    }
}

#[tokio::test]
async fn tags_are_removed_from_one_metric_or_all() {
    let config =
        "metrics: [{tags_to_remove: [response_flags]}, {name: requests_total, tags_to_remove: [grpc_response_status]}]";
    let (requests, bytes) = (one(config, "istio_requests_total"), one(config, "istio_request_bytes"));
    assert!(!requests.contains_key("response_flags") && !bytes.contains_key("response_flags"));
    assert!(!requests.contains_key("grpc_response_status") && bytes.contains_key("grpc_response_status"));
    let again = "metrics: [{tags_to_remove: [response_flags]}, {dimensions: {response_flags: \"'own'\"}}]";
    assert_eq!(one(again, "istio_requests_total")["response_flags"], "own");
}

#[tokio::test]
async fn a_dropped_metric_is_not_there_and_the_others_are() {
    let config = "metrics: [{name: request_duration_milliseconds, drop: true}]";
    assert!(series(config, "istio_request_duration_milliseconds", &[answered("/")]).is_empty());
    assert_eq!(series(config, "istio_requests_total", &[answered("/")]).len(), 1);
}

#[tokio::test]
async fn a_rule_holds_only_for_what_it_matches() {
    let config = "metrics: [{match: \"request.url_path.startsWith('/a')\", dimensions: {part: \"'a'\"}}]";
    let found = series(config, "istio_requests_total", &[answered("/a/b"), answered("/c"), answered("/a")]);
    let parts: Vec<_> = found.iter().map(|labels| labels.get("part").map(String::as_str)).collect();
    assert_eq!(parts.len(), 2);
    assert!(parts.contains(&Some("a")) && parts.contains(&None));
}

#[tokio::test]
async fn the_host_of_a_request_names_no_service_where_that_is_turned_off() {
    assert_eq!(one("", "istio_requests_total")["destination_service"], "a.test");
    let off = "disable_host_header_fallback: true";
    assert_eq!(one(off, "istio_requests_total")["destination_service"], "unknown");
}

#[tokio::test]
async fn a_server_gateway_reports_as_waypoint() {
    assert_eq!(one("reporter: SERVER_GATEWAY", "istio_requests_total")["reporter"], "waypoint");
}

/// The value of each series of a metric that a configuration defines.
fn defined(definition: &str, rules: &str, requests: &[Stream]) -> Vec<(Labels, Value)> {
    let context = context();
    let config = format!("definitions: [{{name: own, {definition}}}], metrics: [{rules}]");
    let stats = decode(&config, &context).expect("a good configuration");
    requests.iter().for_each(|stream| stats.record(&stream.info(), None));
    let all = context.stats.snapshot().into_iter();
    all.filter(|(key, _)| key.name == "istio_own").map(|(key, value)| (key.tags.into_iter().collect(), value)).collect()
}

#[tokio::test]
async fn a_defined_metric_has_the_value_of_its_expression_and_only_the_labels_of_its_rules() {
    let requests = || {
        let mut sized = [answered("/a"), answered("/a"), answered("/b")];
        sized.iter_mut().zip([5, 7, 11]).for_each(|(stream, size)| stream.bytes_sent = size);
        sized
    };
    let (counter, size) = ("type: COUNTER, value: response.size", "value: response.size");
    assert_eq!(defined(counter, "", &requests()), [(Labels::new(), Value::Counter(23))]);
    assert_eq!(defined("value: \"'1'\"", "", &requests()), [(Labels::new(), Value::Counter(3))]);
    assert_eq!(defined("value: \"'none'\"", "", &requests()), [(Labels::new(), Value::Counter(0))]);
    assert_eq!(defined(&format!("type: GAUGE, {size}"), "", &requests()), [(Labels::new(), Value::Gauge(11))]);
    let histogram = defined(&format!("type: HISTOGRAM, {size}"), "", &requests());
    assert!(
        matches!(&histogram[..], [(_, Value::Histogram(buckets, sum, _))] if buckets.iter().sum::<u64>() == 3 && *sum == 23.0)
    );
    let found = defined(counter, "{name: own, dimensions: {path: request.path, reporter: \"'me'\"}}", &requests());
    let of = |path: &str| Labels::from([("path".into(), path.into()), ("reporter".into(), "me".into())]);
    assert_eq!(found, [(of("/a"), Value::Counter(12)), (of("/b"), Value::Counter(11))]);
}

#[tokio::test]
async fn sizes_are_those_of_the_clients_connection() {
    let mut stream = answered("/");
    (stream.bytes_received, stream.bytes_sent) = (1, 2);
    (stream.wire.received, stream.wire.sent) = (100, 200);
    let context = context();
    decode("", &context).expect("a good configuration").record(&stream.info(), None);
    for (metric, wanted) in [("istio_request_bytes", 100.0), ("istio_response_bytes", 200.0)] {
        let found = context.stats.snapshot().into_iter().find(|(key, _)| key.name == metric).expect(metric).1;
        assert!(matches!(found, Value::Histogram(_, sum, _) if sum == wanted), "{metric}: {found:?}");
    }
}

#[test]
fn what_cannot_be_defined_is_refused_with_its_place() {
    let cases = [
        ("{name: requests_total, value: '1'}", "definitions[0].name"),
        ("{name: a-b, value: '1'}", "definitions[0].name"),
        ("{name: a, value: '1'}, {name: a, value: '2'}", "definitions[1].name"),
        ("{name: a, value: cannot_evaluate}", "definitions[0].value"),
    ];
    for (definitions, place) in cases {
        let error = decode(&format!("definitions: [{definitions}]"), &context()).err().expect(definitions).to_string();
        assert!(error.contains(place), "{definitions}: {error}");
    }
}

/// The labels of a connection's series.
fn connection_labels(config: &str, upstream: &Upstream) -> Labels {
    let context = context();
    let message: PluginConfig = ferromesh_proto::json::from_yaml(&format!("{{{config}}}")).expect("good YAML");
    let stats = TcpStats::decode(&message, &context).expect("a good configuration");
    let stream = answered("/");
    let info = Info { request: None, route: None, upstream, ..stream.info() };
    stats.report(&mut Account::default(), &info, true);
    let mut all = context.stats.snapshot().into_iter();
    let (key, _) = all.find(|(key, _)| key.name == "istio_tcp_connections_closed_total").expect("it is closed");
    key.tags.into_iter().collect()
}

#[tokio::test]
async fn a_connection_to_no_service_is_counted_under_the_clusters_name() {
    for name in ["PassthroughCluster", "BlackHoleCluster", "InboundPassthroughCluster"] {
        let upstream = Upstream { cluster_name: Some(name.into()), ..Upstream::default() };
        let labels = connection_labels("", &upstream);
        assert_eq!(
            (labels["destination_service_name"].as_str(), labels["destination_service"].as_str()),
            (name, "unknown")
        );
    }
    let config = "metrics: [{name: tcp_connections_closed_total, tags_to_remove: [reporter]}]";
    let labels = connection_labels(config, &Upstream::default());
    assert!(!labels.contains_key("reporter") && labels["request_protocol"] == "tcp");
}

#[tokio::test]
async fn a_connection_is_counted_once_opened_with_what_is_new_of_its_bytes() {
    let context = context();
    let stats = TcpStats::decode(&PluginConfig::default(), &context).expect("a good configuration");
    let stream = answered("/");
    let mut account = Account::default();
    let value = |name: &str| {
        let found =
            context.stats.snapshot().into_iter().filter(|(key, _)| key.name == format!("istio_tcp_{name}_total"));
        found.map(|(_, value)| value).collect::<Vec<_>>()
    };
    for (received, sent, is_over) in [(3, 0, false), (3, 4, false), (10, 9, true)] {
        let info = Info { request: None, bytes_received: received, bytes_sent: sent, ..stream.info() };
        stats.report(&mut account, &info, is_over);
        assert_eq!(value("connections_opened"), [Value::Counter(1)]);
        assert_eq!(value("received_bytes"), [Value::Counter(received)]);
        assert_eq!(value("sent_bytes"), [Value::Counter(sent)]);
        assert_eq!(value("connections_closed"), [Value::Counter(u64::from(is_over))]);
    }
}

#[test]
fn what_cannot_be_evaluated_is_refused_with_its_place() {
    let cases = [
        ("{name: nothing}", "metrics[0].name"),
        ("{dimensions: {fine: request.host, bad: cannot_evaluate}}", "metrics[0].dimensions[\"bad\"]"),
        ("{dimensions: {a-b: request.host}}", "metrics[0].dimensions[\"a-b\"]"),
        ("{match: request.time}", "metrics[0].match"),
    ];
    for (rule, place) in cases {
        let error = decode(&format!("metrics: [{rule}]"), &context()).err().expect(rule).to_string();
        assert!(error.contains(place), "{rule}: {error}");
    }
}
