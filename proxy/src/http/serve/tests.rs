//! Tests of downstream connections: real bytes over a pipe in, the answers of routes out.

mod proxied;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use ferromesh_proto::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::LocalSet;

use super::{Drain, DrainSignal, ManagerHandle, Session, serve};
use crate::connection::Connection;
use crate::context::{Context, Local};
use crate::http::HttpConnectionManager;
use crate::http::stream::Stream;
use crate::io::{Io, Socket};
use crate::message::RequestHead;
use crate::worker::Worker;

/// A connection manager that answers by itself, with more settings.
pub(crate) fn manager(context: &Context, more: &str) -> Arc<HttpConnectionManager> {
    let yaml = format!(
        r#"
stat_prefix: test
server_name: ferromesh-test
route_config:
  name: local
  virtual_hosts:
  - name: all
    domains: ["*"]
    routes:
    - match: {{ path: /old }}
      redirect: {{ path_redirect: /new }}
    - match: {{ prefix: /hello }}
      direct_response: {{ status: 200, body: {{ inline_string: "hello" }} }}
      response_headers_to_add:
      - header: {{ key: x-route, value: hello }}
    - match: {{ prefix: /gone }}
      route: {{ cluster: gone }}
http_filters:
- name: envoy.filters.http.router
  typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
{more}
"#
    );
    let message: hcm::HttpConnectionManager = ferromesh_proto::json::from_yaml(&yaml).expect("the test's YAML is good");
    let any = ferromesh_proto::Any::pack(&message);
    crate::supported::check(&any).expect("the test's fields are supported");
    HttpConnectionManager::decode(message, context).expect("the test's configuration is good")
}

pub(crate) fn connection() -> Rc<Connection> {
    let address = ([127, 0, 0, 1], 1234).into();
    Rc::new(Connection {
        id: 1,
        remote: address,
        direct_remote: address,
        direct_local: address,
        local: ([127, 0, 0, 1], 80).into(),
        original_dst: None,
        server_name: None,
        tls: None,
        peer: None,
        direction: 0,
        listener: "test".into(),
        filter_chain: "".into(),
        start: Instant::now(),
    })
}

/// A request at its begin, of a connection manager with more settings.
pub(crate) fn stream(more: &str, request: RequestHead) -> Stream {
    let context = Arc::new(Context::new(Local::default()));
    let manager = ManagerHandle::new(manager(&context, more));
    let session =
        Session { worker: Worker::new(0, context), manager, connection: connection(), drain: DrainSignal::never() };
    session.stream(request)
}

/// Serves one end of a pipe; gives the other.
pub(crate) fn start(more: &str, drain: DrainSignal) -> (DuplexStream, Arc<HttpConnectionManager>) {
    let context = Arc::new(Context::new(Local::default()));
    let manager = manager(&context, more);
    let (ours, client) = tokio::io::duplex(64 * 1024);
    let worker = Worker::new(0, context);
    tokio::task::spawn_local(serve(
        worker,
        ManagerHandle::new(manager.clone()),
        Io::plain(Socket::Duplex(ours)),
        connection(),
        drain,
    ));
    (client, manager)
}

/// Sends bytes, reads until the server closes (or, if `close`, after our side is closed).
async fn exchange(more: &str, bytes: &str) -> String {
    let more = more.to_owned();
    let bytes = bytes.to_owned();
    LocalSet::new()
        .run_until(async move {
            let (mut client, _) = start(&more, DrainSignal::never());
            client.write_all(bytes.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            String::from_utf8_lossy(&answer).into_owned()
        })
        .await
}

#[tokio::test]
async fn a_direct_response_has_route_headers_server_and_date() {
    let answer = exchange("", "GET /hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    for line in
        ["server: ferromesh-test\r\n", "content-length: 5\r\n", "x-route: hello\r\n", "date: ", "connection: close\r\n"]
    {
        assert!(answer.contains(line), "{line} in {answer}");
    }
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_the_connection_stays() {
    let get = "GET /hello HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = exchange("", &format!("{get}{get}HEAD /hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3, "{answer}");
    assert_eq!(answer.matches("\r\n\r\nhello").count(), 2, "{answer}");
    assert_eq!(answer.matches("content-length: 5").count(), 3, "{answer}");
}

#[tokio::test]
async fn redirects_missing_routes_and_clusters_have_their_status() {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n");
    let answer = exchange("", &get("/old")).await;
    assert!(answer.starts_with("HTTP/1.1 301 ") && answer.contains("location: http://a.test/new\r\n"), "{answer}");
    assert!(exchange("", &get("/none")).await.starts_with("HTTP/1.1 404 "));
    assert!(exchange("", &get("/gone")).await.starts_with("HTTP/1.1 503 "));
}

#[tokio::test]
async fn refused_requests_are_answered_and_the_connection_closed() {
    for (request, status) in [
        ("GET /hello HTTP/1.1\r\n\r\n", "400"),
        ("POST /hello HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
        ("POST /hello HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n", "501"),
        ("GET /hello HTTP/1.0\r\n\r\n", "426"),
        ("GET /hello#x HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
        ("\x16\x03\x01\x02\x00\x01\x00", "400"),
    ] {
        let answer = exchange("", &format!("{request}GET /hello HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert_eq!(answer.matches("date: ").count(), 1, "nothing after it is served: {answer}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(61 * 1024));
    assert!(exchange("", &long).await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn http_1_0_is_served_where_it_is_accepted() {
    let more = "http_protocol_options: { accept_http_10: true, default_host_for_http_10: a.test }";
    let answer = exchange(more, "GET /old HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 301 ") && answer.contains("http://a.test/new"), "{answer}");
}

#[tokio::test]
async fn a_body_that_nobody_reads_closes_the_connection_unless_it_is_here() {
    let answer = exchange("", "POST /hello HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n12345").await;
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    let whole = "POST /hello HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n12345";
    let answer = exchange("", &format!("{whole}GET /hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
}

#[tokio::test]
async fn upgrades_that_are_not_configured_are_forbidden() {
    let request = "GET /gone HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n";
    assert!(exchange("", request).await.starts_with("HTTP/1.1 403 "));
}

#[tokio::test]
async fn grpc_clients_get_grpc_answers() {
    let request = "POST /none HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\nconnection: close\r\n\r\n";
    let answer = exchange("", request).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("grpc-status: 12\r\n"), "{answer}");
}

#[tokio::test]
async fn slow_heads_time_out_with_408_and_idle_connections_are_closed() {
    let answer = exchange("request_headers_timeout: 0.05s", "GET /hello HT").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(exchange("common_http_protocol_options: { idle_timeout: 0.05s }", "").await, "");
}

#[tokio::test]
async fn a_draining_connection_closes_after_its_answer() {
    LocalSet::new()
        .run_until(async {
            let drain = Drain::new();
            let (mut client, manager) = start("", drain.signal());
            drain.start();
            client.write_all(b"GET /hello HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.contains("connection: close\r\n") && answer.ends_with("hello"), "{answer}");
            drop(manager);
        })
        .await;
}

#[tokio::test]
async fn a_closing_drain_ends_the_connection_at_once() {
    LocalSet::new()
        .run_until(async {
            let drain = Drain::new();
            let (mut client, _) = start("", drain.signal());
            client.write_all(b"GET /hel").await.unwrap();
            drain.close();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert!(answer.is_empty());
        })
        .await;
}

#[test]
fn a_field_that_is_not_implemented_is_refused_by_its_path() {
    let context = Context::new(Local::default());
    let message = hcm::HttpConnectionManager { stat_prefix: "x".into(), codec_type: 3, ..Default::default() };
    let error = HttpConnectionManager::decode(message, &context).err().expect("HTTP/3 is refused");
    assert_eq!(error.path, "codec_type");
}
