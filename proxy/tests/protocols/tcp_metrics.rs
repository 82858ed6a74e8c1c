//! Istio's metrics of TCP connections: peers that metadata exchange tells, bytes of both ways, reports of open connections.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::config::{Hop, Node, typed};
use crate::peers::{eventually, get};
use crate::pki::Pki;
use crate::wire::{Server, Wire};

const PROTOCOL: &str = "istio-peer-exchange";

/// One series: its labels and its value.
type Series = (BTreeMap<String, String>, u64);

fn exchange() -> Value {
    let kind = "type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange";
    json!({"name": "istio.metadata_exchange", "typed_config": {
        "@type": "type.googleapis.com/udpa.type.v1.TypedStruct", "type_url": kind,
        "value": {"protocol": PROTOCOL, "enable_discovery": true}}})
}

fn stats(config: &Value) -> Value {
    json!({"name": "istio.stats", "typed_config": {"@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
        "type_url": "type.googleapis.com/stats.PluginConfig", "value": config}})
}

fn workload(name: &str) -> Value {
    json!({"node": {"id": name, "metadata": {"WORKLOAD_NAME": format!("{name}-v1"), "NAMESPACE": "told", "CLUSTER_ID": "c1",
        "LABELS": {"app": name, "version": "v1", "service.istio.io/canonical-name": name,
            "service.istio.io/canonical-revision": "v1"}}}})
}

/// A sidecar's way from its application, or to it.
fn side(direction: &str, name: &str, config: &Value) -> Hop {
    let hop = Hop::tcp().bootstrap(workload(name)).listener(json!({"traffic_direction": direction}));
    let hop = if direction == "INBOUND" { hop.filter(exchange()) } else { hop };
    hop.filter(stats(config))
}

/// A client's proxy and a server's, with mTLS and metadata exchange between them; `upstream_filters` are the client's.
pub async fn pair(server: SocketAddr, config: &Value, upstream_filters: Value) -> (Node, Node) {
    let pki = Pki::new();
    let with_alpn = |mut context: Value| {
        context["typed_config"]["common_tls_context"]["alpn_protocols"] = json!([PROTOCOL]);
        context
    };
    let require = json!({"require_client_certificate": true});
    let own = pki.context("DownstreamTlsContext", &pki.workload("server", false), "client", &require);
    let chain = json!({"transport_socket": with_alpn(own)});
    let inner = side("INBOUND", "server", config).chain(chain).to(server).start().await;
    let towards =
        pki.context("UpstreamTlsContext", &pki.workload("client", false), "server", &json!({"sni": "server"}));
    let service = json!({"host": "db.test.svc.cluster.local", "name": "db", "namespace": "test"});
    let cluster = json!({"transport_socket": with_alpn(towards), "filters": upstream_filters,
        "metadata": {"filter_metadata": {"istio": {"services": [service]}}}});
    let outer = side("OUTBOUND", "client", config).cluster("next", &[inner.address()], cluster).start().await;
    (outer, inner)
}

/// The series of one of the four metrics.
async fn series(node: &Node, metric: &str) -> Vec<Series> {
    let text = get(node.proxy.admin_addr().unwrap(), "/stats/prometheus").await.1;
    let prefix = format!("istio_tcp_{metric}_total{{");
    let of = |line: &str| {
        let (labels, value) = line.strip_prefix(&prefix)?.rsplit_once("} ")?;
        let labels = labels.split("\",").filter_map(|label| label.split_once("=\""));
        let labels = labels.map(|(name, value)| (name.to_owned(), value.trim_end_matches('"').to_owned()));
        Some((labels.collect(), value.parse().ok()?))
    };
    text.lines().filter_map(of).collect()
}

/// Awaits the value of the only series of a metric; gives its labels.
async fn until(node: &Node, metric: &str, wanted: u64) -> BTreeMap<String, String> {
    eventually(&format!("{metric} is {wanted}"), || async {
        series(node, metric).await.iter().map(|(_, value)| *value).eq([wanted])
    })
    .await;
    series(node, metric).await.remove(0).0
}

fn expect(labels: &BTreeMap<String, String>, wanted: &[(&str, &str)]) {
    for (name, value) in wanted {
        assert_eq!(labels.get(*name).map(String::as_str), Some(*value), "{name} in {labels:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_of_a_hop_report_a_connection_with_the_peer_s_labels_and_the_same_bytes() {
    let server = Server::new().await;
    let (outer, inner) = pair(server.address, &json!({}), json!([exchange()])).await;
    let mut client = Wire::connect(outer.address()).await;
    let mut upstream = server.accept().await;
    // The server speaks first, as those of databases do.
    upstream.send("welcome").await;
    assert_eq!(client.exact(7).await, b"welcome");
    client.send("hello").await;
    assert_eq!(upstream.exact(5).await, b"hello");
    client.socket.shutdown().await.unwrap();
    assert_eq!(upstream.rest().await, "");
    drop(upstream);
    assert_eq!(client.rest().await, "");
    for (node, side) in [(&outer, "source"), (&inner, "destination")] {
        for (metric, value) in
            [("connections_closed", 1), ("connections_opened", 1), ("sent_bytes", 7), ("received_bytes", 5)]
        {
            let labels = until(node, metric, value).await;
            expect(&labels, &[("reporter", side), ("request_protocol", "tcp"), ("response_flags", "-")]);
            expect(&labels, &[("source_workload", "client-v1"), ("source_canonical_service", "client")]);
            expect(&labels, &[("destination_workload", "server-v1"), ("destination_app", "server")]);
            expect(&labels, &[("destination_version", "v1"), ("source_version", "v1"), ("source_cluster", "c1")]);
            expect(&labels, &[("source_principal", "spiffe://cluster.local/ns/test/sa/client")]);
            expect(&labels, &[("destination_principal", "spiffe://cluster.local/ns/test/sa/server")]);
            assert!(!labels.contains_key("response_code") && !labels.contains_key("grpc_response_status"));
        }
    }
    // A peer's namespace is that of its certificate; a proxy's own is what it is told.
    let labels = until(&outer, "connections_opened", 1).await;
    expect(&labels, &[("source_workload_namespace", "told"), ("destination_workload_namespace", "test")]);
    expect(&labels, &[("destination_service", "db.test.svc.cluster.local"), ("destination_service_name", "db")]);
    expect(&labels, &[("connection_security_policy", "unknown"), ("destination_service_namespace", "test")]);
    let labels = until(&inner, "connections_opened", 1).await;
    expect(&labels, &[("source_workload_namespace", "test"), ("destination_workload_namespace", "told")]);
    expect(&labels, &[("destination_service", "server"), ("connection_security_policy", "mutual_tls")]);
    outer.stop().await;
    inner.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_connection_is_reported_again_and_again_and_without_the_interval_only_at_its_end() {
    let server = Server::new().await;
    let (often, never) = (json!({"tcp_reporting_duration": "0.05s"}), json!({"tcp_reporting_duration": "0s"}));
    let node = Hop::tcp().filter(stats(&often)).filter(stats(&never)).to(server.address).start().await;
    let mut client = Wire::connect(node.address()).await;
    let mut upstream = server.accept().await;
    // Both filters count in the same series.
    until(&node, "connections_opened", 1).await;
    client.send("one").await;
    until(&node, "received_bytes", 3).await;
    client.send("more").await;
    until(&node, "received_bytes", 7).await;
    upstream.send("answer").await;
    until(&node, "sent_bytes", 6).await;
    assert!(series(&node, "connections_closed").await.iter().all(|(_, value)| *value == 0));
    // All is read, so that the end is no reset.
    assert_eq!((client.exact(6).await, upstream.exact(7).await), (b"answer".to_vec(), b"onemore".to_vec()));
    client.socket.shutdown().await.unwrap();
    upstream.rest().await;
    drop(upstream);
    client.rest().await;
    until(&node, "connections_closed", 2).await;
    until(&node, "connections_opened", 2).await;
    until(&node, "received_bytes", 14).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_reach_nobody_are_reported_with_their_flags() {
    let gone = Server::new().await.address;
    let node = Hop::tcp().filter(stats(&json!({}))).to(gone).start().await;
    assert_eq!(Wire::connect(node.address()).await.rest().await, "");
    for metric in ["connections_opened", "connections_closed"] {
        expect(&until(&node, metric, 1).await, &[("response_flags", "UF"), ("destination_workload", "unknown")]);
    }
    node.stop().await;
    let rules = typed("network.rbac.v3.RBAC", json!({"stat_prefix": "gate", "rules": {"action": "ALLOW"}}));
    let node = Hop::tcp().filter(rules).filter(stats(&json!({}))).to(gone).start().await;
    assert_eq!(Wire::connect(node.address()).await.rest().await, "");
    until(&node, "connections_opened", 1).await;
    until(&node, "connections_closed", 1).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_agrees_on_the_exchange_and_does_not_speak_it_is_closed() {
    let server = Server::new().await;
    let (outer, inner) = pair(server.address, &json!({}), json!([])).await;
    let mut client = Wire::connect(outer.address()).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    // What the server's proxy tells comes, since the client's proxy does not know better; nothing of the server's does.
    client.rest().await;
    inner.logged(&["closed=metadata exchange: the first bytes are not the protocol's magic number"]).await;
    until(&inner, "connections_closed", 1).await;
    outer.stop().await;
    inner.stop().await;
}
