//! Redirects of a server that the proxy follows itself: what is needed for that, and what is counted.

use serde_json::{Value, json};

use crate::config::{Hop, Node, route};
use crate::frames::Frames;
use crate::wire::{Server, Wire, header};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const AWAY: &str = "HTTP/1.1 302 Found\r\nlocation: http://other/next\r\ncontent-length: 0\r\n\r\n";

/// `/` is redirected as `policy` says; `/next` is where to.
async fn start(server: &Server, policy: Value) -> Node {
    let next = json!({"match": {"path": "/next"}, "route": {"cluster": "next"}});
    let routes = json!([next, route("next", json!({"internal_redirect_policy": policy}))]);
    Hop::http().routes(routes).to(server.address).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_sent_again_whole_with_its_body_and_counted() {
    let server = Server::new().await;
    let node = start(&server, json!({"redirect_response_codes": [302]})).await;
    let body = "b".repeat(40_000);
    let request = format!("POST /first HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut client = Wire::connect(node.address()).await;
    client.send(&request).await;
    let mut upstream = server.accept().await;
    assert_eq!(upstream.message().await.1.len(), body.len());
    upstream.send(AWAY).await;
    let (head, again) = upstream.message().await;
    assert!(head.starts_with("POST /next HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "host"), Some("other"));
    assert_eq!(header(&head, "x-envoy-original-url"), Some("http://test/first"));
    assert_eq!(again, body);
    upstream.send(OK).await;
    assert_eq!(client.message().await.1, "ok");
    assert_eq!(node.stat("cluster.next.upstream_internal_redirect_succeeded_total").await, 1);
    assert_eq!(node.stat("http.in.downstream_rq_3xx").await, 1);
    // An answer is counted when its last byte is out, which the client may see before.
    node.until_stat("http.in.downstream_rq_2xx", 1).await;
    node.until_stat("http.in.downstream_rq_active", 0).await;
    assert_eq!(node.stat("cluster.next.upstream_cx_total").await, 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_sent_again_goes_to_the_client_with_its_redirect() {
    let server = Server::new().await;
    let node = start(&server, json!({})).await;
    // The request is not whole yet.
    let mut client = Wire::connect(node.address()).await;
    client.send("POST /first HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nhalf").await;
    let mut upstream = server.accept().await;
    upstream.until("half").await;
    upstream.send(AWAY).await;
    assert!(client.head().await.starts_with("HTTP/1.1 302"));
    // More than is kept.
    let body = "b".repeat(100_000);
    let request = format!("POST /first HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut client = Wire::connect(node.address()).await;
    client.send(&request).await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    upstream.send(AWAY).await;
    assert!(client.head().await.starts_with("HTTP/1.1 302"));
    assert_eq!(node.stat("cluster.next.upstream_internal_redirect_failed_total").await, 2);
    assert_eq!(node.stat("cluster.next.upstream_internal_redirect_succeeded_total").await, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_a_redirect_was_not_followed_is_counted() {
    let safe = "type.googleapis.com/envoy.extensions.internal_redirect.safe_cross_scheme.v3.SafeCrossSchemeConfig";
    let predicates = json!([{"name": "safe", "typed_config": {"@type": safe}}]);
    for (policy, location, counter) in [
        (json!({}), "/next", "bad_location"),
        (json!({}), "https://other/next", "unsafe_scheme"),
        (json!({"max_internal_redirects": 0}), "http://other/next", "too_many_redirects"),
        (json!({"allow_cross_scheme_redirect": true, "predicates": predicates}), "https://other/next", "predicate"),
    ] {
        let server = Server::new().await;
        let node = start(&server, policy).await;
        let mut client = Wire::connect(node.address()).await;
        client.send("GET /first HTTP/1.1\r\nhost: test\r\n\r\n").await;
        let mut upstream = server.accept().await;
        upstream.head().await;
        upstream.send(AWAY.replace("http://other/next", location)).await;
        assert!(client.head().await.contains(&format!("location: {location}\r\n")), "{counter}");
        assert_eq!(node.stat(&format!("http.in.passthrough_internal_redirect_{counter}")).await, 1, "{counter}");
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_over_http_2_is_redirected_within_its_stream() {
    let server = Server::new().await;
    let node = start(&server, json!({})).await;
    let mut frames = Frames::client(node.address()).await;
    frames.get(1, "/first").await;
    let mut upstream = server.accept().await;
    upstream.head().await;
    upstream.send(AWAY).await;
    assert!(upstream.head().await.starts_with("GET /next HTTP/1.1\r\n"));
    upstream.send(OK).await;
    let data = frames.until(crate::frames::DATA).await;
    assert_eq!((data.stream, &data.payload[..]), (1, &b"ok"[..]));
    node.stop().await;
}
