//! Every limit on time: what is answered when it has passed, and what the log says.

use std::time::Duration;

use serde_json::json;

use crate::config::{Hop, route};
use crate::frames::{END_HEADERS, Frames, GOAWAY, HEADERS, RST_STREAM, request};
use crate::wire::{Server, Wire};

const GET: &str = "GET /a HTTP/1.1\r\nhost: a.test\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_does_not_come_whole_is_408() {
    let server = Server::new().await;
    let node = Hop::http()
        .terminal(json!({"request_headers_timeout": "0.3s", "request_timeout": "0.3s"}))
        .to(server.address)
        .start()
        .await;
    let mut client = Wire::connect(node.address()).await;
    client.send("GET /head HTTP/1.1\r\nhost: a").await;
    assert!(client.rest().await.starts_with("HTTP/1.1 408"));
    node.logged(&["408 flags=DT", "request_header_timeout"]).await;
    let mut client = Wire::connect(node.address()).await;
    client.send("POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf").await;
    assert!(client.rest().await.starts_with("HTTP/1.1 408"));
    node.logged(&["408 flags=DT", "request_overall_timeout", "/body"]).await;
    let mut client = Frames::client(node.address()).await;
    client.send(HEADERS, END_HEADERS, 1, &request("POST", "/h2")).await;
    client.until(HEADERS).await;
    node.logged(&["HTTP/2 408 flags=DT", "/h2"]).await;
    // A whole request is not held against its client, however long the answer takes.
    let mut client = Wire::connect(node.address()).await;
    client.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut upstream = loop {
        let mut upstream = server.accept().await;
        if upstream.head().await.starts_with("GET /slow ") {
            break upstream;
        }
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    upstream.send(OK).await;
    assert_eq!(client.message().await.1, "ok");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_a_byte_for_too_long_ends() {
    let server = Server::new().await;
    let node = Hop::http().terminal(json!({"stream_idle_timeout": "0.3s"})).to(server.address).start().await;
    let mut client = Wire::connect(node.address()).await;
    client.send("POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf").await;
    let mut upstream = server.accept().await;
    upstream.head().await;
    assert!(client.rest().await.starts_with("HTTP/1.1 408"));
    node.logged(&["408 flags=SI", "/up"]).await;
    let mut client = Wire::connect(node.address()).await;
    client.send("GET /down HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut upstream = server.accept().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
    assert!(client.rest().await.ends_with("half"), "it breaks off short of its length");
    node.logged(&["200 flags=SI", "/down"]).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_gives_its_server_so_much_time_and_each_try_its_share() {
    let server = Server::new().await;
    let whole = Hop::http().routes(json!([route("next", json!({"timeout": "0.3s"}))])).to(server.address).start().await;
    let mut client = Wire::connect(whole.address()).await;
    client.send(GET).await;
    let mut upstream = server.accept().await;
    upstream.head().await;
    let (head, body) = client.message().await;
    assert!(head.starts_with("HTTP/1.1 504") && body == "upstream request timeout", "{head}{body}");
    upstream.rest().await;
    whole.logged(&["504 flags=UT", "response_timeout"]).await;
    whole.stop().await;
    for (limit, more) in [("per_try_timeout", "0.2s"), ("per_try_idle_timeout", "0.2s")] {
        let policy = json!({"timeout": "20s", "retry_policy": {"retry_on": "5xx", "num_retries": 1, limit: more,
            "retry_back_off": {"base_interval": "0.001s"}}});
        let node = Hop::http().routes(json!([route("next", policy)])).to(server.address).start().await;
        let mut client = Wire::connect(node.address()).await;
        client.send(GET).await;
        let mut first = server.accept().await;
        first.head().await;
        let mut second = server.accept().await;
        second.head().await;
        second.send(OK).await;
        assert_eq!(client.message().await.1, "ok", "{limit}");
        node.logged(&["200", "tries=2"]).await;
        client.send(GET).await;
        second.head().await;
        let mut third = server.accept().await;
        third.head().await;
        assert!(client.message().await.0.starts_with("HTTP/1.1 504"), "{limit}");
        node.logged(&["504 flags=U", "tries=2"]).await;
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_finish_its_handshake_is_given_up_within_the_connect_timeout() {
    let server = Server::new().await;
    let pki = crate::pki::Pki::new();
    let context = pki.context("UpstreamTlsContext", &pki.workload("a", false), "b", &json!({"sni": "x"}));
    let slow = json!({"connect_timeout": "0.3s", "transport_socket": context});
    let node = Hop::http().cluster("next", &[server.address], slow).start().await;
    let mut client = Wire::connect(node.address()).await;
    client.send(GET).await;
    let (head, body) = client.message().await;
    assert!(head.starts_with("HTTP/1.1 503") && body.contains("connection timeout"), "{head}{body}");
    node.logged(&["503 flags=UF"]).await;
    assert_eq!(node.stat("cluster.next.upstream_cx_connect_timeout").await, 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_end_with_their_time_and_what_is_in_flight_is_finished() {
    let server = Server::new().await;
    let short = json!({"common_http_protocol_options": {"max_connection_duration": "0.5s"}, "drain_timeout": "0.1s"});
    let node = Hop::http().terminal(short).to(server.address).start().await;
    let mut resting = Wire::connect(node.address()).await;
    let mut frames = Frames::client(node.address()).await;
    let mut busy = Wire::connect(node.address()).await;
    busy.send(GET).await;
    let mut upstream = server.accept().await;
    upstream.head().await;
    let begun = std::time::Instant::now();
    assert_eq!(resting.rest().await, "", "it is closed without a word");
    assert_eq!(frames.until(GOAWAY).await.code(), 0);
    // The busy connection is younger than the others.
    crate::peers::eventually("its time is over, too", || async { begun.elapsed() > Duration::from_millis(600) }).await;
    upstream.send(OK).await;
    let (head, body) = busy.message().await;
    assert!(head.contains("connection: close") && body == "ok", "{head}{body}");
    assert_eq!(busy.rest().await, "");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_end_on_both_sides() {
    let server = Server::new().await;
    let idle = json!({"common_http_protocol_options": {"idle_timeout": "0.4s"}});
    let of_cluster = crate::config::protocol(json!({"explicit_http_config": {"http_protocol_options": {}},
        "common_http_protocol_options": {"idle_timeout": "0.4s"}}));
    let node = Hop::http().terminal(idle).cluster("next", &[server.address], of_cluster).start().await;
    let mut client = Wire::connect(node.address()).await;
    client.send(GET).await;
    let mut upstream = server.accept().await;
    upstream.head().await;
    upstream.send(OK).await;
    assert_eq!(client.message().await.1, "ok");
    assert_eq!((client.rest().await, upstream.rest().await), (String::new(), String::new()));
    let mut frames = Frames::client(node.address()).await;
    assert_eq!(frames.until(GOAWAY).await.code(), 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_lives_no_longer_than_it_may() {
    let server = Server::new().await;
    let short = json!({"common_http_protocol_options": {"max_stream_duration": "0.4s"}});
    let node = Hop::http().terminal(short).to(server.address).start().await;
    let mut frames = Frames::client(node.address()).await;
    frames.get(1, "/long").await;
    let mut upstream = server.accept().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n").await;
    assert_eq!(frames.until(RST_STREAM).await.stream, 1);
    upstream.rest().await;
    node.logged(&["200", "details=max_duration_timeout", "/long"]).await;
    node.stop().await;
}
