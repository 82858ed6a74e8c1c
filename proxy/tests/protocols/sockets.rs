//! How sockets are made and handed on: addresses, keepalive, transports by endpoint, listeners without a socket.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::config::{Hop, Node, socket, typed};
use crate::peers::{eventually, get, upstream};
use crate::pki::Pki;
use crate::wire::{Server, Wire};

/// A cluster's endpoint; `more` are fields of its metadata for `envoy.transport_socket_match`.
fn endpoint(address: SocketAddr, more: &Value) -> Value {
    json!({"endpoint": {"address": socket(address)}, "metadata": {"filter_metadata": {"envoy.transport_socket_match": more}}})
}

fn endpoints(all: &[Value]) -> Value {
    json!({"load_assignment": {"endpoints": [{"lb_endpoints": all}]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_endpoint_is_spoken_to_by_the_transport_that_its_metadata_matches() {
    let (behind, plain) = (upstream("tls").await, upstream("plain").await);
    let pki = Pki::new();
    let server = pki.context("DownstreamTlsContext", &pki.workload("server", false), "client", &json!({}));
    let inner = Hop::http().to(behind).chain(json!({"transport_socket": server})).start().await;
    let client = pki.context("UpstreamTlsContext", &pki.workload("client", false), "server", &json!({"sni": "server"}));
    let mut fields = endpoints(&[endpoint(inner.address(), &json!({"mode": "tls"})), endpoint(plain, &json!({}))]);
    fields["transport_socket_matches"] = json!([{"name": "tls", "match": {"mode": "tls"}, "transport_socket": client}]);
    let node = Hop::http().cluster("next", &[], fields).start().await;
    let mut answers = BTreeMap::<(u16, String), usize>::new();
    for _ in 0..6 {
        *answers.entry(get(node.address(), "/").await).or_default() += 1;
    }
    assert_eq!(answers, BTreeMap::from([((200, "plain".to_owned()), 3), ((200, "tls".to_owned()), 3)]));
    node.stop().await;
    inner.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_a_cluster_come_from_the_address_that_it_is_bound_to() {
    let server = Server::new().await;
    let bound = json!({"upstream_bind_config": {"source_address": {"address": "127.0.0.5", "port_value": 0}}});
    for (more, wanted) in [(json!({}), "127.0.0.1"), (bound, "127.0.0.5")] {
        let node = Hop::tcp().cluster("next", &[server.address], more).start().await;
        let client = Wire::connect(node.address()).await;
        let accepted = server.accept().await;
        assert_eq!(accepted.socket.peer_addr().unwrap().ip().to_string(), wanted);
        drop(client);
        node.stop().await;
    }
}

/// Seconds until the kernel's keepalive timer of a socket of this process runs out; `None` if it has none.
fn keepalive(local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let shown = |address: SocketAddr| match address {
        SocketAddr::V4(address) => {
            format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
        }
        SocketAddr::V6(_) => unreachable!("the tests' addresses are IPv4"),
    };
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let ends = format!("{} {}", shown(local), shown(remote));
    let line = table.lines().find(|line| line.contains(&ends)).unwrap_or_else(|| panic!("no socket {ends}"));
    // Of `tr:when`, timer 2 is keepalive's; its time is in hundredths.
    let (timer, when) = line.split_whitespace().nth(5).and_then(|field| field.split_once(':')).unwrap();
    (timer == "02").then(|| u64::from_str_radix(when, 16).unwrap() / 100)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_of_both_sides_are_kept_alive_as_configured() {
    let server = Server::new().await;
    let of = |time: u32| json!({"keepalive_time": time, "keepalive_interval": 7, "keepalive_probes": 3});
    let upstream = json!({"upstream_connection_options": {"tcp_keepalive": of(600)}});
    for (listener, cluster, wanted) in
        [(json!({}), json!({}), [None, None]), (json!({"tcp_keepalive": of(300)}), upstream, [Some(300), Some(600)])]
    {
        let node = Hop::tcp().listener(listener).cluster("next", &[server.address], cluster).start().await;
        let client = Wire::connect(node.address()).await;
        let accepted = server.accept().await;
        let downstream = (node.address(), client.socket.local_addr().unwrap());
        let upstream = (accepted.socket.peer_addr().unwrap(), server.address);
        for ((local, remote), wanted) in [downstream, upstream].into_iter().zip(wanted) {
            let left = || keepalive(local, remote);
            // The kernel counts down, and may round up.
            let fits = |left: Option<u64>| match (left, wanted) {
                (Some(left), Some(wanted)) => (wanted - 60..=wanted + 1).contains(&left),
                (left, wanted) => left == wanted,
            };
            eventually("the timer runs", || async { fits(left()) }).await;
        }
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_free_bind_takes_an_address_that_is_not_here() {
    // TEST-NET-1 (RFC 5737): nobody has it.
    let address = json!({"address": socket("192.0.2.1:0".parse().unwrap())});
    let start = |more: Value| {
        let mut listener = json!({"name": "in", "filter_chains": [{"filters": [{"name": "echo", "typed_config":
            {"@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo"}}]}]});
        crate::config::merge(&mut listener, address.clone());
        crate::config::merge(&mut listener, more);
        let text = json!({"static_resources": {"listeners": [listener]}}).to_string();
        let bootstrap = ferromesh_proxy::bootstrap::parse(&text).unwrap();
        ferromesh_proxy::app::Proxy::start(bootstrap, ferromesh_proxy::app::Options::default())
    };
    let said = start(json!({})).err().expect("the address cannot be had").to_string();
    assert!(said.contains("\"in\"") && said.contains("192.0.2.1"), "{said}");
    let proxy = start(json!({"freebind": true})).unwrap();
    proxy.ready().await;
    assert_eq!(proxy.listener_addr("in").unwrap().ip().to_string(), "192.0.2.1");
    proxy.shutdown().await;
}

/// A chain that says its name.
fn says(name: &str) -> Value {
    json!({"filters": [{"name": "says", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config",
        "response": {"inline_string": name}}}]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_without_a_socket_gets_the_connections_to_its_address_from_the_one_that_has() {
    let other = |name: &str, address: &str| json!({"name": name, "bind_to_port": false, "address": socket(address.parse().unwrap()), "filter_chains": [says(name)]});
    let captured = json!({"name": "in", "address": socket(([127, 0, 0, 1], 0).into()), "use_original_dst": true,
        "listener_filters": [typed("listener.proxy_protocol.v3.ProxyProtocol", json!({}))], "filter_chains": [says("in")]});
    let listeners = [captured, other("exact", "10.0.0.1:80"), other("any", "0.0.0.0:80")];
    let node = Hop::tcp().bootstrap(json!({"static_resources": {"listeners": listeners}})).workers(2).start().await;
    let said = async |node: &Node, destination: &str| {
        let mut client = Wire::connect(node.address()).await;
        client.send(format!("PROXY TCP4 192.0.2.9 {destination}\r\n")).await;
        let mut said = String::new();
        client.socket.read_to_string(&mut said).await.unwrap();
        said
    };
    for _ in 0..4 {
        assert_eq!(said(&node, "10.0.0.1 9 80").await, "exact");
        assert_eq!(said(&node, "10.0.0.2 9 80").await, "any");
        assert_eq!(said(&node, "10.0.0.1 9 81").await, "in");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_share_one_bucket_of_the_local_rate_limit() {
    const TOKENS: usize = 10;
    let server = upstream("server").await;
    let limit = typed(
        "http.local_ratelimit.v3.LocalRateLimit",
        json!({
        "stat_prefix": "limit",
        "token_bucket": {"max_tokens": TOKENS, "tokens_per_fill": 1, "fill_interval": "3600s"},
        "filter_enabled": {"default_value": {"numerator": 100}},
        "filter_enforced": {"default_value": {"numerator": 100}}}),
    );
    let filters = json!([limit, typed("http.router.v3.Router", json!({}))]);
    let balance = json!({"connection_balance_config": {"exact_balance": {}}});
    let hop = Hop::http().terminal(json!({"http_filters": filters})).listener(balance).workers(2);
    let node = hop.to(server).start().await;
    // Connections that stay are spread over the workers evenly.
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Wire::connect(node.address()).await);
    }
    let asked = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            client.until("\r\n").await
        })
    });
    let mut passed = 0;
    for answer in asked.collect::<Vec<_>>() {
        let line = answer.await.unwrap();
        assert!(line.starts_with("HTTP/1.1 200") || line.starts_with("HTTP/1.1 429"), "{line}");
        passed += usize::from(line.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(passed, TOKENS);
    assert_eq!(node.stat("limit.http_local_rate_limit.rate_limited").await, 20 - TOKENS as u64);
    node.stop().await;
}
