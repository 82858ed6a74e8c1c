//! CONNECT and extended CONNECT (RFC 9110, 9.3.6; RFC 8441).

use bytes::Bytes;
use h2::ext::Protocol;
use http::Request;
use serde_json::json;

use super::{ENABLE_CONNECT_PROTOCOL, MOMENT, before, client, end};
use crate::config::{Hop, Shape, http2};
use crate::frames::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM, block};
use crate::peers::eventually;
use crate::wire::{Server, Wire, header};

fn upgrades() -> Hop {
    Hop::http().terminal(json!({"http2_protocol_options": {"allow_connect": true},
        "upgrade_configs": [{"upgrade_type": "websocket"}, {"upgrade_type": "CONNECT"}]}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extended_connect_is_an_upgrade_over_http_1_and_stays_itself_over_http_2() {
    let server = Server::new().await;
    let extended = || {
        let mut request = Request::connect("http://a.test/chat").body(()).unwrap();
        request.extensions_mut().insert(Protocol::from_static("websocket"));
        request
    };
    let node = upgrades().to(server.address).start().await;
    let (send, _connection) = client(node.address()).await;
    let mut ready = send.ready().await.unwrap();
    eventually("SETTINGS come", || async { ready.is_extended_connect_protocol_enabled() }).await;
    let (answer, mut up) = ready.send_request(extended(), false).unwrap();
    let mut upstream = server.accept().await;
    let head = upstream.head().await;
    assert!(head.starts_with("GET /chat HTTP/1.1") && header(&head, "upgrade") == Some("websocket"), "{head}");
    upstream.send("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n").await;
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut down = answer.into_body();
    up.send_data(Bytes::from_static(b"ping"), false).unwrap();
    assert_eq!(upstream.exact(4).await, b"ping");
    upstream.send("pong").await;
    assert_eq!(down.data().await.unwrap().unwrap(), "pong");
    up.send_data(Bytes::new(), true).unwrap();
    assert_eq!(upstream.rest().await, "", "the end of the stream is the end of the tunnel's half");
    upstream.send("last").await;
    drop(upstream);
    assert_eq!(down.data().await.unwrap().unwrap(), "last");
    assert!(end(&mut down).await);
    node.stop().await;

    let node = before(&server, upgrades(), json!({"allow_connect": true})).await;
    let (send, _connection) = client(node.address()).await;
    let mut ready = send.ready().await.unwrap();
    eventually("SETTINGS come", || async { ready.is_extended_connect_protocol_enabled() }).await;
    let (answer, mut up) = ready.send_request(extended(), false).unwrap();
    let mut upstream = Frames::server(&server, &[(ENABLE_CONNECT_PROTOCOL, 1)]).await;
    let stream = upstream.until(HEADERS).await.stream;
    upstream.send(HEADERS, END_HEADERS, stream, &block(&[(":status", "200")])).await;
    let mut down = answer.await.unwrap().into_body();
    up.send_data(Bytes::from_static(b"ping"), false).unwrap();
    assert_eq!(upstream.until(DATA).await.payload, b"ping");
    upstream.send(DATA, END_STREAM, stream, b"pong").await;
    assert_eq!(down.data().await.unwrap().unwrap(), "pong");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extended_connect_is_refused_where_it_is_not_allowed() {
    let server = Server::new().await;
    let node = before(&server, Hop::http(), json!({})).await;
    let mut client = Frames::client(node.address()).await;
    let head =
        [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
    client.send(HEADERS, END_HEADERS, 1, &block(&head)).await;
    assert_eq!(client.until(RST_STREAM).await.stream, 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_is_passed_on_in_the_next_hops_version() {
    let server = Server::new().await;
    let any = json!([{"match": {"connect_matcher": {}}, "route": {"cluster": "next"}}]);
    // HTTP/1 to HTTP/1.
    let node = upgrades().routes(any.clone()).to(server.address).start().await;
    let mut old = Wire::connect(node.address()).await;
    old.send("CONNECT db.test:5432 HTTP/1.1\r\nhost: db.test:5432\r\n\r\nearly").await;
    let mut upstream = server.accept().await;
    let head = upstream.head().await;
    assert!(head.starts_with("CONNECT db.test:5432 HTTP/1.1\r\nhost: db.test:5432\r\n"), "{head}");
    upstream.is_quiet(MOMENT).await;
    upstream.send("HTTP/1.1 200 OK\r\n\r\nhello").await;
    assert!(old.head().await.starts_with("HTTP/1.1 200"));
    assert_eq!((old.exact(5).await, upstream.exact(5).await), (b"hello".to_vec(), b"early".to_vec()));
    drop(old);
    upstream.rest().await;
    // HTTP/2 to HTTP/1.
    let (send, _connection) = client(node.address()).await;
    let mut ready = send.ready().await.unwrap();
    let (answer, mut up) = ready.send_request(Request::connect("db.test:5432").body(()).unwrap(), false).unwrap();
    let mut upstream = server.accept().await;
    assert!(upstream.head().await.starts_with("CONNECT db.test:5432 "));
    upstream.send("HTTP/1.1 200 OK\r\n\r\nhello").await;
    let mut down = answer.await.unwrap().into_body();
    assert_eq!(down.data().await.unwrap().unwrap(), "hello");
    up.send_data(Bytes::from_static(b"query"), true).unwrap();
    assert_eq!(upstream.rest().await, "query");
    node.stop().await;
    // HTTP/1 to HTTP/2, refused first.
    let node = before(&server, upgrades().routes(any), json!({})).await;
    let mut old = Wire::connect(node.address()).await;
    old.send("CONNECT db.test:5432 HTTP/1.1\r\nhost: db.test:5432\r\n\r\n").await;
    let mut upstream = Frames::server(&server, &[]).await;
    let stream = upstream.until(HEADERS).await.stream;
    upstream.answer(stream, "403", b"no").await;
    let (head, body) = old.message().await;
    assert!(head.starts_with("HTTP/1.1 403") && body == "no" || head.contains("chunked"), "{head}{body}");
    let mut old = Wire::connect(node.address()).await;
    old.send("CONNECT db.test:5432 HTTP/1.1\r\nhost: db.test:5432\r\n\r\n").await;
    let stream = upstream.until(HEADERS).await.stream;
    upstream.send(HEADERS, END_HEADERS, stream, &block(&[(":status", "200")])).await;
    assert!(old.head().await.starts_with("HTTP/1.1 200"));
    old.send("query").await;
    assert_eq!(upstream.until(DATA).await.payload, b"query");
    upstream.send(DATA, END_STREAM, stream, b"rows").await;
    assert_eq!(old.rest().await, "rows");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_ends_here_where_the_route_says_so_and_its_bytes_go_on_as_tcp() {
    let server = Server::new().await;
    let ends = json!([{"match": {"connect_matcher": {}}, "route": {"cluster": "next",
        "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}}]);
    for shape in [Shape::Single, Shape::Pair] {
        // In a pair the first proxy passes the CONNECT on, and the second ends it.
        let last = upgrades().routes(ends.clone()).to(server.address).start().await;
        let first = match shape {
            Shape::Single => None,
            Shape::Pair => {
                let any = json!([{"match": {"connect_matcher": {}}, "route": {"cluster": "next"}}]);
                Some(upgrades().routes(any).cluster("next", &[last.address()], http2(json!({}))).start().await)
            }
        };
        let address = first.as_ref().map_or(last.address(), |first| first.address());
        let mut old = Wire::connect(address).await;
        old.send("CONNECT db.test:5432 HTTP/1.1\r\nhost: db.test:5432\r\n\r\nearly").await;
        let mut upstream = server.accept().await;
        assert!(old.head().await.starts_with("HTTP/1.1 200"));
        assert_eq!(upstream.exact(5).await, b"early", "not a byte of HTTP comes before it");
        upstream.send("hello").await;
        assert_eq!(old.exact(5).await, b"hello");
        drop(old);
        upstream.rest().await;
        drop(upstream);
        let (send, _connection) = client(address).await;
        let mut ready = send.ready().await.unwrap();
        let (answer, mut up) = ready.send_request(Request::connect("db.test:5432").body(()).unwrap(), false).unwrap();
        let mut upstream = server.accept().await;
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut down = answer.into_body();
        up.send_data(Bytes::from_static(b"query"), true).unwrap();
        assert_eq!(upstream.rest().await, "query");
        upstream.send("rows").await;
        drop(upstream);
        assert_eq!(down.data().await.unwrap().unwrap(), "rows");
        assert!(end(&mut down).await);
        last.until_stat("cluster.next.upstream_rq_active", 0).await;
        if let Some(first) = first {
            first.stop().await;
        }
        last.stop().await;
    }
    let gone = Server::new().await.address;
    let node = upgrades().routes(ends).to(gone).start().await;
    let mut old = Wire::connect(node.address()).await;
    old.send("CONNECT db.test:5432 HTTP/1.1\r\nhost: db.test:5432\r\n\r\n").await;
    assert!(old.head().await.starts_with("HTTP/1.1 503"));
    node.stop().await;
}
