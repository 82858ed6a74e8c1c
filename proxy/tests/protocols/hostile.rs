//! Messages that two parsers could read differently: from clients they are refused and go nowhere, from servers they cost
//! the connection and never another client's answer.

use std::time::Duration;

use serde_json::json;

use crate::config::{Hop, SHAPES};
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
