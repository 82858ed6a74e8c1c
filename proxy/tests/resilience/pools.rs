//! Pools of connections to hosts: how many, how long, from where, in which version.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::hosts::{Client, Host};
use crate::peers::{eventually, get};
use crate::proxies::{Serving, Setup, endpoints};
use crate::wire::Server;

const HTTP1: &str = "http_protocol_options: {}";
const HTTP2: &str = "http2_protocol_options: {}";

/// Fields of a cluster with `HttpProtocolOptions`.
fn protocol(explicit: &str, more: &str) -> String {
    format!(
        "typed_extension_protocol_options: {{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{
          '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
          explicit_http_config: {{{explicit}}}{more}}}}}"
    )
}

async fn start(cluster: &str) -> Serving {
    Setup { cluster, ..Setup::default() }.start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_serves_no_more_requests_than_it_may() {
    let host = Host::start("a").await;
    for version in [HTTP1, HTTP2] {
        let options = protocol(version, ", common_http_protocol_options: {max_requests_per_connection: 2}");
        let serving = start(&format!("{options}, {}", endpoints(&[(host.address, "")]))).await;
        assert_eq!(Client::new(serving.address).count(5, "/").await["a"], 5);
        assert_eq!(serving.stat("cluster.c.upstream_cx_total").await, 3, "{version}");
        assert_eq!(serving.stat("cluster.c.upstream_cx_max_requests").await, 2, "{version}");
        eventually("one is left", || async { serving.stat("cluster.c.upstream_cx_active").await == 1 }).await;
        serving.proxy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_requests_share_connections_as_far_as_they_may() {
    for (options, connections) in [("{}", 1), ("{max_concurrent_streams: 1}", 3), ("{max_concurrent_streams: 2}", 2)] {
        let host = Host::start("a").await;
        host.state.holds.store(true, Ordering::SeqCst);
        let options = protocol(&format!("http2_protocol_options: {options}"), "");
        let serving = start(&format!("{options}, {}", endpoints(&[(host.address, "")]))).await;
        let address = serving.address;
        let mut held = Vec::new();
        for count in 1..=3 {
            held.push(tokio::spawn(async move { get(address, "/").await }));
            eventually("one more is held", || async { host.state.waiting() == count }).await;
        }
        assert_eq!(serving.stat("cluster.c.upstream_cx_http2_total").await, connections, "{options}");
        host.state.release();
        for held in held {
            assert_eq!(held.await.unwrap().0, 200);
        }
        serving.proxy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_further_connection_http_2_requests_wait_and_those_beyond_that_overflow() {
    let host = Host::start("a").await;
    host.state.holds.store(true, Ordering::SeqCst);
    let cluster = format!(
        "{}, circuit_breakers: {{thresholds: [{{max_connections: 1, max_pending_requests: 1}}]}}, {}",
        protocol("http2_protocol_options: {max_concurrent_streams: 1}", ""),
        endpoints(&[(host.address, "")])
    );
    let serving = start(&cluster).await;
    let address = serving.address;
    let first = tokio::spawn(async move { get(address, "/").await });
    eventually("one is held", || async { host.state.waiting() == 1 }).await;
    let second = tokio::spawn(async move { get(address, "/").await });
    eventually("one waits", || async { serving.stat("cluster.c.upstream_rq_pending_active").await == 1 }).await;
    let (status, headers, _) = Client::new(address).get("/").await.unwrap();
    assert_eq!((status, headers["x-envoy-overloaded"].as_bytes()), (503, &b"true"[..]));
    assert_eq!(serving.stat("cluster.c.upstream_rq_pending_overflow").await, 1);
    host.state.release();
    assert_eq!((first.await.unwrap().0, second.await.unwrap().0), (200, 200));
    assert_eq!(serving.stat("cluster.c.upstream_cx_total").await, 1);
    serving.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_rest_too_long_or_grow_too_old_are_closed() {
    let host = Host::start("a").await;
    for version in [HTTP1, HTTP2] {
        for (limit, counted) in [("idle_timeout: 0.3s", 1), ("max_connection_duration: 0.3s", 0)] {
            let options = protocol(version, &format!(", common_http_protocol_options: {{{limit}}}"));
            let serving = start(&format!("{options}, {}", endpoints(&[(host.address, "")]))).await;
            assert_eq!(get(serving.address, "/").await.0, 200);
            eventually("it is closed", || async { serving.stat("cluster.c.upstream_cx_active").await == 0 }).await;
            assert_eq!(serving.stat("cluster.c.upstream_cx_idle_timeout").await, counted, "{version}, {limit}");
            assert_eq!(get(serving.address, "/").await.0, 200);
            assert_eq!(serving.stat("cluster.c.upstream_cx_total").await, 2, "{version}, {limit}");
            serving.proxy.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_a_host_that_is_sick_are_closed_where_that_is_asked_for() {
    let (a, b) = (Host::start("a").await, Host::start("b").await);
    let cluster = format!(
        "close_connections_on_host_health_failure: true, health_checks: [{{timeout: 5s, interval: 0.02s, \
         no_traffic_interval: 0.02s, unhealthy_threshold: 1, healthy_threshold: 1, http_health_check: {{path: /healthz}}}}], {}",
        endpoints(&[(a.address, ""), (b.address, "")])
    );
    let serving = start(&cluster).await;
    assert_eq!(Client::new(serving.address).count(10, "/").await.len(), 2);
    assert_eq!(serving.stat("cluster.c.upstream_cx_active").await, 2);
    b.health(500);
    eventually("one is closed", || async { serving.stat("cluster.c.upstream_cx_active").await == 1 }).await;
    assert_eq!(Client::new(serving.address).count(10, "/").await["a"], 10);
    assert_eq!(serving.stat("cluster.c.upstream_cx_total").await, 2, "the other one stays");
    serving.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_asked_from_the_address_that_the_cluster_says() {
    let server = Server::new().await;
    let cluster = format!(
        "upstream_bind_config: {{source_address: {{address: 127.0.0.7, port_value: 0}}}}, {}",
        endpoints(&[(server.address, "")])
    );
    let serving = start(&cluster).await;
    let address = serving.address;
    let asked = tokio::spawn(async move { get(address, "/").await });
    let mut host = server.accept().await;
    assert_eq!(host.socket.peer_addr().unwrap().ip().to_string(), "127.0.0.7");
    host.head().await;
    host.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    assert_eq!(asked.await.unwrap(), (200, "ok".into()));
    serving.proxy.shutdown().await;
}

/// One request over HTTP/2.
async fn get_http2(address: std::net::SocketAddr) -> u16 {
    let socket = TcpStream::connect(address).await.unwrap();
    let io = TokioIo::new(socket);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder().uri("http://test/").body(Full::<Bytes>::default()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    response.into_body().collect().await.unwrap();
    status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_may_be_asked_in_the_version_of_the_client() {
    let host = Host::start("a").await;
    let cluster = format!(
        "typed_extension_protocol_options: {{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{
          '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
          use_downstream_protocol_config: {{http_protocol_options: {{}}, http2_protocol_options: {{}}}}}}}}, {}",
        endpoints(&[(host.address, "")])
    );
    let serving = start(&cluster).await;
    let made = || async {
        let of = |version: u8| format!("cluster.c.upstream_cx_http{version}_total");
        (serving.stat(&of(1)).await, serving.stat(&of(2)).await)
    };
    assert_eq!(get(serving.address, "/").await.0, 200);
    assert_eq!(made().await, (1, 0));
    assert_eq!(get_http2(serving.address).await, 200);
    assert_eq!(made().await, (1, 1));
    assert_eq!((get(serving.address, "/").await.0, get_http2(serving.address).await), (200, 200));
    assert_eq!(made().await, (1, 1), "each finds its connection again");
    serving.proxy.shutdown().await;
}
