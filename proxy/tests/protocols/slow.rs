//! Clients that are slow on purpose: each is given up when its time is over, however it keeps itself alive.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::config::{Hop, Node, route};
use crate::frames::{END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PREFACE, SETTINGS, block, frame, request};
use crate::wire::{Server, Wire};

const LIMIT: &str = "0.3s";

async fn node(server: &Server, idle: &str) -> Node {
    let direct = json!({"match": {"path": "/direct"}, "direct_response": {"status": 200}});
    let limits = json!({"request_headers_timeout": LIMIT, "request_timeout": LIMIT, "stream_idle_timeout": idle,
        "common_http_protocol_options": {"idle_timeout": LIMIT}});
    let routes = json!([direct, route("next", json!({"timeout": "0s"}))]);
    Hop::http().routes(routes).terminal(limits).to(server.address).start().await
}

/// Sends byte by byte until the proxy closes; what it answered.
async fn drip(node: &Node, begin: &[u8], crumb: &[u8]) -> String {
    let mut client = Wire::connect(node.address()).await;
    client.send(begin).await;
    let (mut reader, mut writer) = client.socket.into_split();
    let dripping = async {
        use tokio::io::AsyncWriteExt;
        while writer.write_all(crumb).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    tokio::select! {
        _ = tokio::time::timeout(crate::peers::PATIENCE, reader.read_to_end(&mut answer)) => {}
        () = dripping => {}
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_and_bodies_that_drip_are_408_although_something_comes_all_the_time() {
    let server = Server::new().await;
    let node = node(&server, LIMIT).await;
    let head = drip(&node, b"GET / HTTP/1.1\r\nhost: a\r\nx: ", b"y").await;
    assert!(head.starts_with("HTTP/1.1 408"), "{head}");
    node.logged(&["408 flags=DT", "details=request_header_timeout"]).await;
    let body = drip(&node, b"POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n", b"x").await;
    assert!(body.starts_with("HTTP/1.1 408"), "{body}");
    node.logged(&["408 flags=DT", "details=request_overall_timeout", "path=/body"]).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_preface_and_half_a_head_of_http_2_are_given_up() {
    let server = Server::new().await;
    let node = node(&server, "30s").await;
    assert_eq!(drip(&node, &PREFACE[..10], b"").await, "", "half a preface");
    for (name, half) in [
        ("a head without its end", frame(HEADERS, END_STREAM, 3, &request("GET", "/direct"))),
        ("a frame without its end", frame(HEADERS, END_HEADERS | END_STREAM, 3, &request("GET", "/"))[..20].to_vec()),
    ] {
        let mut client = Frames::client(node.address()).await;
        // A request that waits: it is told why.
        client.get(1, "/held").await;
        let mut upstream = server.accept().await;
        upstream.head().await;
        client.wire.send(half).await;
        let end = client.until(GOAWAY).await;
        assert_ne!(end.code(), 0, "{name}");
        assert_eq!(client.find(GOAWAY).await, None, "{name}: the connection ends");
        node.logged(&["details=request_header_timeout", "path=/held"]).await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_its_answer_is_given_up() {
    let server = Server::new().await;
    let node = node(&server, LIMIT).await;
    let large = "x".repeat(32 << 20);
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{large}", large.len());
    let give = async |server: &Server| {
        use tokio::io::AsyncWriteExt;
        let mut upstream = server.accept().await;
        upstream.head().await;
        // It is not taken whole: the proxy holds no more of it than its buffers do.
        let _ = upstream.socket.write_all(answer.as_bytes()).await;
        upstream.rest().await;
    };
    let mut client = Wire::connect(node.address()).await;
    client.send("GET /h1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    give(&server).await;
    node.logged(&["200 flags=SI", "path=/h1"]).await;
    drop(client);
    // Over HTTP/2 a window of nothing.
    let mut client = Wire::connect(node.address()).await;
    let settings = [&4u16.to_be_bytes()[..], &0u32.to_be_bytes()].concat();
    let head = frame(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", "/h2"));
    client.send([PREFACE, &frame(SETTINGS, 0, 0, &settings), &head].concat()).await;
    give(&server).await;
    node.logged(&["200 flags=SI", "path=/h2"]).await;
    node.stop().await;
}

/// Cookies count whole, in crumbs too, and a head counts as it is when it is decoded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_have_their_limits_over_both_versions() {
    let server = Server::new().await;
    let (kilobyte, names) = ("c".repeat(1000), (0..200).map(|number| format!("x-{number}")).collect::<Vec<_>>());
    let many: Vec<(&str, &str)> = names.iter().map(|name| (&name[..], "y")).collect();
    let large: Vec<(&str, &str)> = (0..70).map(|_| ("cookie", &kilobyte[..])).collect();
    let node = Hop::http().to(server.address).start().await;
    for (name, headers) in [("many", &many), ("large", &large)] {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut client = Wire::connect(node.address()).await;
        client.send(format!("GET / HTTP/1.1\r\nhost: a\r\n{lines}\r\n")).await;
        assert!(client.rest().await.starts_with("HTTP/1.1 431"), "{name}");
        let mut client = Frames::client(node.address()).await;
        let pseudo = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
        let head = block(&[&pseudo, &headers[..]].concat());
        let mut kind = HEADERS;
        let last = head.chunks(16_000).count() - 1;
        for (at, piece) in head.chunks(16_000).enumerate() {
            client.send(kind, if at == last { END_HEADERS | END_STREAM } else { END_STREAM }, 1, piece).await;
            kind = crate::frames::CONTINUATION;
        }
        client.until(HEADERS).await;
    }
    node.logged(&["HTTP/2 431 flags=DPE", "details=http1.too_many_headers"]).await;
    assert_eq!(node.stat("cluster.next.upstream_rq_total").await, 0);
    node.stop().await;
}
