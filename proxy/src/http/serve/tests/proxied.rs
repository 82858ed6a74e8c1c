//! Tests of whole exchanges: a client over a pipe, the proxy, and an upstream on loopback that the test plays.

use std::sync::Arc;
use std::time::Duration;

use ferromesh_proto::envoy::config::cluster::v3 as cluster_proto;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::{connection, manager};
use crate::cluster::Cluster;
use crate::context::{Context, Local};
use crate::http::serve::{DrainSignal, ManagerHandle, serve};
use crate::io::{Io, Socket};
use crate::worker::Worker;

/// A proxy whose cluster `gone` is the listener.
async fn start(more: &str) -> (DuplexStream, TcpListener) {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = upstream.local_addr().unwrap().port();
    let yaml = format!(
        r#"
name: gone
type: STATIC
connect_timeout: 5s
load_assignment:
  cluster_name: gone
  endpoints:
  - lb_endpoints:
    - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}
"#
    );
    let message: cluster_proto::Cluster = ferromesh_proto::json::from_yaml(&yaml).expect("good YAML");
    let context = Arc::new(Context::new(Local::default()));
    let cluster = Cluster::decode(&message, &context.for_clusters()).expect("good cluster");
    context.clusters.publish([("gone".into(), cluster)].into_iter().collect());
    let manager = manager(&context, more);
    let (ours, client) = tokio::io::duplex(64 * 1024);
    let worker = Worker::new(0, context.clone());
    let io = Io::plain(Socket::Duplex(ours));
    tokio::task::spawn_local(serve(worker, ManagerHandle::new(manager), io, connection(), DrainSignal::never()));
    (client, upstream)
}

/// Reads until `end` has come.
async fn read_until(stream: &mut (impl AsyncReadExt + Unpin), end: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains(end) {
        let count = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut buffer)).await.expect("in time");
        let count = count.expect("readable");
        assert!(count > 0, "ended before {end:?}: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    text
}

async fn accept(upstream: &TcpListener) -> TcpStream {
    upstream.accept().await.unwrap().0
}

#[tokio::test]
async fn a_request_with_a_body_goes_through_and_both_connections_are_kept() {
    LocalSet::new()
        .run_until(async {
            let (mut client, upstream) = start("").await;
            client.write_all(b"POST /gone?x HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
            let mut server = accept(&upstream).await;
            let request = read_until(&mut server, "hello").await;
            assert!(request.starts_with("POST /gone?x HTTP/1.1\r\nhost: a\r\n"), "{request}");
            assert!(request.contains("x-request-id: ") && request.contains("x-forwarded-proto: http\r\n"), "{request}");
            server
                .write_all(b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok")
                .await
                .unwrap();
            let answer = read_until(&mut client, "ok").await;
            assert!(!answer.contains("connection:"), "{answer}");
            client.write_all(b"GET /gone HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            read_until(&mut server, "\r\n\r\n").await;
            let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nt: 1\r\n\r\n";
            server.write_all(chunked).await.unwrap();
            let answer = read_until(&mut client, "0\r\n\r\n").await;
            assert!(answer.contains("transfer-encoding: chunked\r\n") && answer.contains("3\r\nabc\r\n"), "{answer}");
        })
        .await;
}

#[tokio::test]
async fn a_client_that_expects_100_gets_it_before_it_sends_its_body() {
    LocalSet::new()
        .run_until(async {
            let (mut client, upstream) = start("").await;
            let head = b"PUT /gone HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
            client.write_all(head).await.unwrap();
            assert_eq!(read_until(&mut client, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
            client.write_all(b"body").await.unwrap();
            let mut server = accept(&upstream).await;
            let request = read_until(&mut server, "body").await;
            assert!(!request.contains("\r\nexpect:"), "{request}");
            server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            let answer = read_until(&mut client, "\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
        })
        .await;
}

#[tokio::test]
async fn a_granted_upgrade_is_a_tunnel_and_bytes_before_the_grant_wait() {
    LocalSet::new()
        .run_until(async {
            let (mut client, upstream) = start("upgrade_configs: [{ upgrade_type: websocket }]").await;
            let head = b"GET /gone HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nearly";
            client.write_all(head).await.unwrap();
            let mut server = accept(&upstream).await;
            let request = read_until(&mut server, "\r\n\r\n").await;
            assert!(request.contains("upgrade: websocket\r\n") && request.ends_with("\r\n\r\n"), "{request}");
            let head = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhi";
            server.write_all(head).await.unwrap();
            assert_eq!(read_until(&mut server, "early").await, "early");
            let answer = read_until(&mut client, "hi").await;
            assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains("upgrade: websocket\r\n"), "{answer}");
            client.write_all(b"ping").await.unwrap();
            assert_eq!(read_until(&mut server, "ping").await, "ping");
            drop(server);
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.unwrap();
        })
        .await;
}

#[tokio::test]
async fn bytes_after_a_refused_upgrade_are_neither_tunnelled_nor_read_as_http() {
    LocalSet::new()
        .run_until(async {
            let (mut client, upstream) = start("upgrade_configs: [{ upgrade_type: websocket }]").await;
            let head = b"GET /gone HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
            client.write_all(head).await.unwrap();
            client.write_all(b"GET /hello HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            let mut server = accept(&upstream).await;
            read_until(&mut server, "\r\n\r\n").await;
            server.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 403 ") && answer.ends_with("\r\n\r\nno"), "{answer}");
            assert!(answer.contains("connection: close\r\n"), "{answer}");
            let mut rest = Vec::new();
            server.read_to_end(&mut rest).await.unwrap();
            assert!(rest.is_empty(), "nothing was tunnelled");
        })
        .await;
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_request_upstream() {
    LocalSet::new()
        .run_until(async {
            let (mut client, upstream) = start("").await;
            client.write_all(b"GET /gone HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            let mut server = accept(&upstream).await;
            read_until(&mut server, "\r\n\r\n").await;
            drop(client);
            let mut rest = Vec::new();
            tokio::time::timeout(Duration::from_secs(10), server.read_to_end(&mut rest))
                .await
                .expect("closed")
                .unwrap();
        })
        .await;
}

#[tokio::test]
async fn a_bad_chunk_in_a_request_is_400_and_destroys_the_upstream_connection() {
    LocalSet::new()
        .run_until(async {
            let (mut client, upstream) = start("").await;
            client.write_all(b"POST /gone HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
            let mut server = accept(&upstream).await;
            read_until(&mut server, "\r\n\r\n").await;
            client.write_all(b"3\nabc\r\n0\r\n\r\n").await.unwrap();
            let mut rest = Vec::new();
            server.read_to_end(&mut rest).await.unwrap();
            assert!(!rest.ends_with(b"0\r\n\r\n"));
            let answer = read_until(&mut client, "\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("connection: close\r\n"), "{answer}");
        })
        .await;
}

#[tokio::test]
async fn an_http_2_request_goes_to_an_http_1_upstream() {
    LocalSet::new()
        .run_until(async {
            let (client, upstream) = start("").await;
            let (send, connection) = h2::client::handshake(client).await.unwrap();
            tokio::task::spawn_local(connection);
            let mut send = send.ready().await.unwrap();
            let request = http::Request::post("http://a.test/gone").body(()).unwrap();
            let (answer, mut body) = send.send_request(request, false).unwrap();
            body.send_data(bytes::Bytes::from_static(b"hello"), true).unwrap();
            let mut server = accept(&upstream).await;
            let request = read_until(&mut server, "hello").await;
            assert!(request.contains("host: a.test\r\n"), "{request}");
            server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            let mut answer = answer.await.unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(&answer.body_mut().data().await.unwrap().unwrap()[..], b"ok");
        })
        .await;
}
