//! Messages that two parsers could read differently: from clients they are refused and go nowhere, from servers they cost
//! the connection and never another client's answer.

use std::time::Duration;

use serde_json::json;

use crate::config::{Hop, SHAPES, http2};
use crate::frames::{CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, block, frame};
use crate::wire::{Server, Wire};

const GET: &str = "GET /a HTTP/1.1\r\nhost: a.test\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ambiguous_requests_are_refused_with_the_connection_closed_and_nothing_goes_on() {
    let server = Server::new().await;
    let old = json!({"http_protocol_options": {"accept_http_10": true}});
    let node = Hop::http().terminal(old).to(server.address).start().await;
    let requests: &[&[u8]] = &[
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 1\r\n\r\nx",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\nx",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\nx",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\nhost: a\n\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: u@a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\0\r\n\r\n",
        b"GET /admin#x HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1 \r\nhost: a\r\n\r\n",
        b"GET / HTTP/2.0\r\nhost: a\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\ncontent-length: 1\r\n\r\nx",
    ];
    for bytes in requests {
        let shown = String::from_utf8_lossy(bytes);
        let mut client = Wire::connect(node.address()).await;
        client.send(bytes).await;
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 501"), "{shown:?}: {answer}");
        assert!(answer.contains("connection: close"), "{shown:?}: {answer}");
    }
    assert_eq!(node.stat("cluster.next.upstream_rq_total").await, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_the_chunked_coding_ends_both_connections() {
    let server = Server::new().await;
    let node = Hop::http().to(server.address).start().await;
    for chunks in [
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "x\r\nabc\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "-1\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
    ] {
        let mut client = Wire::connect(node.address()).await;
        client.send("POST /body HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
        let mut upstream = server.accept().await;
        upstream.until("first\r\n").await;
        client.send(chunks).await;
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{chunks:?}: {answer}");
        assert!(!upstream.rest().await.contains("0\r\n\r\n"), "{chunks:?}: the upstream must not take it for whole");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_answer_is_ambiguous_is_left_with_502() {
    let server = Server::new().await;
    let large = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(300));
    let answers = [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
        "HTTP/1.1 200 OK\r\nx: a\r\n b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx y: a\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH_9\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        &large,
        &many,
    ];
    for shape in SHAPES {
        let way = shape.start(&Hop::http(), server.address, &json!({})).await;
        let mut client = Wire::connect(way.address()).await;
        for answer in answers {
            let shown: String = answer.chars().take(80).collect();
            client.send(GET).await;
            let mut upstream = server.accept().await;
            upstream.head().await;
            upstream.send(answer).await;
            let (head, _) = client.message().await;
            assert!(head.starts_with("HTTP/1.1 502"), "{shown:?}: {head}");
            upstream.rest().await;
        }
        client.send(GET).await;
        let mut upstream = server.accept().await;
        upstream.head().await;
        upstream.send(OK).await;
        assert_eq!(client.message().await.1, "ok", "the client's connection goes on");
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_nobody_asked_for_reaches_nobody() {
    let server = Server::new().await;
    for shape in SHAPES {
        let way = shape.start(&Hop::http(), server.address, &json!({})).await;
        let mut client = Wire::connect(way.address()).await;
        // Behind the answer, and while the connection rests.
        for late in [false, true] {
            client.send(GET).await;
            let mut upstream = server.accept().await;
            upstream.head().await;
            let evil = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
            upstream.send(if late { OK.to_owned() } else { format!("{OK}{evil}") }).await;
            assert_eq!(client.message().await.1, "ok");
            if late {
                upstream.send(evil).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            client.send(GET).await;
            let mut fresh = server.accept().await;
            fresh.head().await;
            fresh.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\ngood").await;
            assert_eq!(client.message().await.1, "good");
        }
        way.stop().await;
    }
}

/// Envoy writes what the header says; here nothing that would end a line, or a word of the first one, is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rewritten_head_that_cannot_be_written_is_answered_with_500_and_nothing_goes_on() {
    let server = crate::peers::upstream("server").await;
    for more in [json!({}), crate::config::http2(json!({}))] {
        let routes = json!([crate::config::route("next", json!({"host_rewrite_header": "x-host"}))]);
        let node = Hop::http().routes(routes).cluster("next", &[server], more).start().await;
        for value in ["a b", "a\tb"] {
            let mut client = Wire::connect(node.address()).await;
            client.send(format!("GET / HTTP/1.1\r\nhost: a\r\nx-host: {value}\r\nconnection: close\r\n\r\n")).await;
            let answer = client.rest().await;
            assert!(answer.starts_with("HTTP/1.1 500"), "{value:?}: {answer}");
            node.logged(&["details=upstream_request_not_writable"]).await;
        }
        assert_eq!(node.stat("cluster.next.upstream_rq_200").await, 0);
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_http_2_answer_is_malformed_is_answered_for_with_502() {
    let ok = (":status", "200");
    let headers = |list: &[(&str, &str)]| frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(list));
    let rows = [
        ("no status", headers(&[("x", "y")])),
        ("two of them", headers(&[ok, ok])),
        ("no number", headers(&[(":status", "abc")])),
        ("behind a header", headers(&[("x", "y"), ok])),
        ("an upper-case name", headers(&[ok, ("X-Upper", "y")])),
        ("connection", headers(&[ok, ("connection", "close")])),
        ("transfer-encoding", headers(&[ok, ("transfer-encoding", "chunked")])),
        ("CR", headers(&[ok, ("x", "a\rb")])),
        ("LF", headers(&[ok, ("x", "a\nb: c")])),
        ("NUL", headers(&[ok, ("x", "a\0b")])),
        ("a space in a name", headers(&[ok, ("x y", "z")])),
        ("two lengths", headers(&[ok, ("content-length", "1"), ("content-length", "2")])),
        ("no length", headers(&[ok, ("content-length", "x")])),
        ("a length without a body", headers(&[ok, ("content-length", "5")])),
        ("101", headers(&[(":status", "101")])),
        ("101 before the answer", frame(HEADERS, END_HEADERS, 1, &block(&[(":status", "101")]))),
        ("103 and the end", headers(&[(":status", "103")])),
        ("a body first", frame(DATA, END_STREAM, 1, b"early")),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &block(&[ok]))),
    ];
    for (name, answer) in rows {
        let server = Server::new().await;
        let node = Hop::http().cluster("next", &[server.address], http2(json!({}))).start().await;
        let mut client = Wire::connect(node.address()).await;
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
        let mut upstream = Frames::server(&server, &[]).await;
        upstream.until(HEADERS).await;
        upstream.wire.send(answer).await;
        let mut head = client.head().await;
        if head.starts_with("HTTP/1.1 103") {
            head = client.head().await;
        }
        assert!(head.starts_with("HTTP/1.1 502"), "{name}: {head}");
        node.logged(&["502 flags=UPE"]).await;
        node.stop().await;
    }
}

/// Who refuses an upgrade reads HTTP on: what stands behind the request must not be taken for a tunnel's bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_behind_an_upgrade_reach_no_server_that_has_not_switched() {
    let server = Server::new().await;
    let upgrades = json!({"upgrade_configs": [{"upgrade_type": "websocket"}]});
    for answer in [OK, "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"] {
        let node = Hop::http().terminal(upgrades.clone()).to(server.address).start().await;
        let mut client = Wire::connect(node.address()).await;
        let upgrade = "GET /up HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        client.send(format!("{upgrade}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let mut upstream = server.accept().await;
        upstream.head().await;
        upstream.is_quiet(Duration::from_millis(50)).await;
        upstream.send(answer).await;
        client.head().await;
        assert!(!upstream.rest().await.contains("smuggled"), "{answer:?}");
        node.stop().await;
    }
}

/// The authority of an absolute target is the request's, for routes, policies and the next hop alike.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absolute_target_goes_before_host() {
    let server = Server::new().await;
    let hosts = json!([
        {"name": "a", "domains": ["a.test"], "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 403}}]},
        {"name": "b", "domains": ["b.test"], "routes": [crate::config::route("next", json!({}))]},
    ]);
    let node = Hop::http()
        .terminal(json!({"route_config": {"name": "local", "virtual_hosts": hosts}}))
        .to(server.address)
        .start()
        .await;
    let mut client = Wire::connect(node.address()).await;
    client.send("GET http://b.test/x HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
    let mut upstream = server.accept().await;
    let head = upstream.head().await;
    assert!(head.starts_with("GET /x HTTP/1.1\r\n") && head.contains("host: b.test\r\n"), "{head}");
    assert!(!head.contains("a.test"), "{head}");
    upstream.send(OK).await;
    assert_eq!(client.message().await.1, "ok");
    client.send("GET http://a.test/x HTTP/1.1\r\nhost: b.test\r\n\r\n").await;
    assert!(client.message().await.0.starts_with("HTTP/1.1 403"));
    node.stop().await;
}
