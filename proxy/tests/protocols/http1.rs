//! HTTP/1: versions, pipelining, informational heads, trailers, bodies that stream, ends in the wrong moment.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::config::{Hop, SHAPES, protocol};
use crate::peers::PATIENCE;
use crate::wire::{Server, Wire, header};

#[path = "http1/resting.rs"]
mod resting;

const GET: &str = "GET /a HTTP/1.1\r\nhost: a.test\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// Long enough to see that something does not come.
const MOMENT: Duration = Duration::from_millis(150);

/// A hop, and fields of its cluster, that carry the trailers of HTTP/1.
pub fn with_trailers() -> (Hop, Value) {
    let options = json!({"http_protocol_options": {"enable_trailers": true}});
    (Hop::http().terminal(options.clone()), protocol(json!({"explicit_http_config": options})))
}

fn none() -> Value {
    json!({})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_0_is_served_where_it_is_accepted_in_the_terms_of_http_1_0() {
    let server = Server::new().await;
    let old = json!({"http_protocol_options": {"accept_http_10": true, "default_host_for_http_10": "old.test"}});
    for shape in SHAPES {
        let way = shape.start(&Hop::http().terminal(old.clone()), server.address, &none()).await;
        let mut client = Wire::connect(way.address()).await;
        client.send("GET /a HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").await;
        let mut upstream = server.accept().await;
        let head = upstream.head().await;
        assert!(head.starts_with("GET /a HTTP/1.1\r\nhost: old.test\r\n"), "{head}");
        upstream.send("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n").await;
        upstream.send(OK).await;
        let (head, body) = client.message().await;
        assert!(head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200"), "no 1xx to HTTP/1.0: {head}");
        assert_eq!((header(&head, "connection"), &body[..]), (Some("keep-alive"), "ok"));
        client.send("GET /b HTTP/1.0\r\nhost: a.test\r\n\r\n").await;
        upstream.head().await;
        upstream.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await;
        let answer = client.rest().await;
        assert!(answer.ends_with("\r\n\r\nabc") && !answer.contains("chunked"), "{answer}");
        way.stop().await;
    }
    let node = Hop::http().to(server.address).start().await;
    let mut client = Wire::connect(node.address()).await;
    client.send("GET /a HTTP/1.0\r\nhost: a\r\n\r\n").await;
    assert!(client.rest().await.starts_with("HTTP/1.1 426 "));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_in_their_order() {
    let server = Server::new().await;
    for shape in SHAPES {
        let way = shape.start(&Hop::http(), server.address, &none()).await;
        let mut client = Wire::connect(way.address()).await;
        let request =
            |number: u32| format!("POST /{number} HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n{number:03}");
        client.send((0..20).map(request).collect::<String>()).await;
        let mut upstream = server.accept().await;
        for number in 0..20u32 {
            let (head, body) = upstream.message().await;
            assert!(head.starts_with(&format!("POST /{number} ")) && body == format!("{number:03}"), "{head}{body}");
            upstream.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{number:03}")).await;
        }
        for number in 0..20u32 {
            let (head, body) = client.message().await;
            assert!(head.starts_with("HTTP/1.1 200") && body == format!("{number:03}"), "{head}{body}");
        }
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /x HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\nGET /y HTTP/1.1\r\nhost: a\r\n\r\n").await;
        upstream.head().await;
        upstream.send(OK).await;
        assert!(client.message().await.0.starts_with("HTTP/1.1 200"));
        let rest = client.rest().await;
        assert!(
            rest.starts_with("HTTP/1.1 400")
                && rest.matches("HTTP/1.1 4").count() == 1
                && !rest.contains("HTTP/1.1 200"),
            "nothing after it: {rest}"
        );
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expect_100_continue_is_answered_here_or_left_to_the_server() {
    let server = Server::new().await;
    let request = "PUT /a HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
    for shape in SHAPES {
        let way = shape.start(&Hop::http(), server.address, &none()).await;
        let mut client = Wire::connect(way.address()).await;
        client.send(request).await;
        assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
        client.send("body").await;
        let mut upstream = server.accept().await;
        assert_eq!(upstream.message().await.1, "body");
        upstream.send(OK).await;
        assert!(client.message().await.0.starts_with("HTTP/1.1 200"));
        way.stop().await;
        let passing = Hop::http().terminal(json!({"proxy_100_continue": true}));
        let way = shape.start(&passing, server.address, &none()).await;
        let mut client = Wire::connect(way.address()).await;
        client.send(request).await;
        let mut upstream = server.accept().await;
        assert_eq!(header(&upstream.head().await, "expect"), Some("100-continue"));
        client.is_quiet(MOMENT).await;
        upstream.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert!(client.head().await.starts_with("HTTP/1.1 100 "));
        client.send("body").await;
        assert_eq!(upstream.exact(4).await, b"body");
        upstream.send(OK).await;
        assert!(client.message().await.0.starts_with("HTTP/1.1 200"));
        // A server that does not want the body says so at once.
        client.send(request).await;
        upstream.head().await;
        upstream.send("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        assert!(client.message().await.0.starts_with("HTTP/1.1 417"));
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn informational_heads_pass_as_they_come_but_not_without_end() {
    let server = Server::new().await;
    for shape in SHAPES {
        let way = shape.start(&Hop::http(), server.address, &none()).await;
        let mut client = Wire::connect(way.address()).await;
        client.send(GET).await;
        let mut upstream = server.accept().await;
        upstream.head().await;
        for (code, value) in [(102, "1"), (103, "2"), (103, "3")] {
            upstream.send(format!("HTTP/1.1 {code} Soon\r\nlink: {value}\r\n\r\n")).await;
            let head = client.head().await;
            assert!(head.starts_with(&format!("HTTP/1.1 {code} ")), "{head}");
            assert_eq!(header(&head, "link"), Some(value));
        }
        upstream.send(OK).await;
        assert_eq!(client.message().await.1, "ok");
        client.send(GET).await;
        upstream.head().await;
        upstream.send("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000)).await;
        let mut heads = 0;
        loop {
            let head = client.head().await;
            if head.starts_with("HTTP/1.1 502 ") {
                break;
            }
            heads += 1;
            assert!(head.starts_with("HTTP/1.1 103 ") && heads < 100, "{heads}: {head}");
        }
        upstream.rest().await;
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_pass_both_ways() {
    let server = Server::new().await;
    let (hop, of_cluster) = with_trailers();
    for shape in SHAPES {
        let way = shape.start(&hop, server.address, &of_cluster).await;
        let mut client = Wire::connect(way.address()).await;
        client
            .send("POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n")
            .await;
        let mut upstream = server.accept().await;
        let request = upstream.until("x-sum: 7\r\n\r\n").await;
        assert!(request.contains("transfer-encoding: chunked") && request.contains("2\r\nhi\r\n0\r\n"), "{request}");
        upstream
            .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nho\r\n0\r\nx-sum: 9\r\ncontent-length: 3\r\n\r\n")
            .await;
        let answer = client.until("x-sum: 9\r\n\r\n").await;
        assert!(answer.contains("2\r\nho\r\n0\r\n"), "{answer}");
        assert!(!answer.contains("content-length"), "a trailer must not frame: {answer}");
        client.send(GET).await;
        upstream.head().await;
        upstream.send(OK).await;
        assert_eq!(client.message().await.1, "ok", "both connections go on");
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_stream_both_ways_at_once_without_being_held() {
    let server = Server::new().await;
    for shape in SHAPES {
        let way = shape.start(&Hop::http(), server.address, &none()).await;
        let mut client = Wire::connect(way.address()).await;
        client.send("POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
        let mut upstream = server.accept().await;
        upstream.head().await;
        client.send("3\r\none\r\n").await;
        assert_eq!(upstream.until("one\r\n").await, "3\r\none\r\n");
        // The answer begins in the middle of the request.
        upstream.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        client.head().await;
        for round in 0..20 {
            let text = format!("3\r\n{round:03}\r\n");
            upstream.send(&text).await;
            assert_eq!(client.exact(text.len()).await, text.as_bytes());
            client.send(&text).await;
            assert_eq!(upstream.exact(text.len()).await, text.as_bytes());
        }
        client.send("0\r\n\r\n").await;
        upstream.until("0\r\n\r\n").await;
        upstream.send("0\r\n\r\n").await;
        client.until("0\r\n\r\n").await;
        client.send(GET).await;
        upstream.head().await;
        upstream.send(OK).await;
        assert_eq!(client.message().await.1, "ok");
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_does_not_read_stops_the_writer() {
    const SIZE: usize = 64 * 1024 * 1024;
    let server = Server::new().await;
    for shape in SHAPES {
        let way = shape.start(&Hop::http(), server.address, &none()).await;
        let mut client = Wire::connect(way.address()).await;
        client.send(GET).await;
        let mut upstream = server.accept().await;
        upstream.head().await;
        upstream.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n")).await;
        client.head().await;
        let block = vec![b'x'; 64 * 1024];
        let mut sent = 0;
        while let Ok(written) = tokio::time::timeout(Duration::from_secs(1), upstream.socket.write(&block)).await {
            sent += written.unwrap();
        }
        assert!(sent < SIZE / 2, "{sent} bytes are held somewhere");
        let rest = tokio::spawn(async move {
            while sent < SIZE {
                let count = block.len().min(SIZE - sent);
                sent += upstream.socket.write(&block[..count]).await.unwrap();
            }
            upstream
        });
        let body = tokio::time::timeout(PATIENCE, client.exact(SIZE)).await.expect("all of it in time");
        assert!(body.iter().all(|byte| *byte == b'x'));
        rest.await.unwrap();
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_before_the_end_of_the_request_reaches_the_client_and_its_connection_is_not_used_again() {
    let server = Server::new().await;
    for shape in SHAPES {
        for kept in ["", "connection: close\r\n"] {
            let way = shape.start(&Hop::http(), server.address, &none()).await;
            let mut client = Wire::connect(way.address()).await;
            client.send("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n").await;
            client.send(vec![b'x'; 1000]).await;
            let mut upstream = server.accept().await;
            upstream.head().await;
            upstream.send(format!("HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n{kept}\r\nbig")).await;
            let (head, body) = client.message().await;
            assert!(head.starts_with("HTTP/1.1 413") && body == "big", "{head}{body}");
            upstream.rest().await;
            // What is left of the body is never taken for a request, and never goes to anybody else.
            let _ = client.socket.write_all(&vec![b'x'; 998_000]).await;
            let _ = client.socket.write_all(GET.as_bytes()).await;
            let mut other = Wire::connect(way.address()).await;
            other.send(GET).await;
            let mut upstream = server.accept().await;
            assert!(upstream.head().await.starts_with("GET /a "));
            upstream.send(OK).await;
            assert_eq!(other.message().await.1, "ok");
            way.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_in_the_middle_ends_the_exchange_upstream() {
    let server = Server::new().await;
    for shape in SHAPES {
        let way = shape.start(&Hop::http(), server.address, &none()).await;
        let mut client = Wire::connect(way.address()).await;
        client.send("POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf").await;
        let mut upstream = server.accept().await;
        upstream.head().await;
        drop(client);
        assert!(upstream.rest().await.len() < 100, "the upstream must not take it for whole");
        way.first().logged(&["flags=DC", "path=/body"]).await;
        let mut client = Wire::connect(way.address()).await;
        client.send("GET /waiting HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut upstream = server.accept().await;
        upstream.head().await;
        drop(client);
        upstream.rest().await;
        way.first().logged(&["flags=DC", "path=/waiting"]).await;
        let mut client = Wire::connect(way.address()).await;
        client.send("GET /answer HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut upstream = server.accept().await;
        upstream.head().await;
        upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
        client.until("half").await;
        drop(client);
        upstream.rest().await;
        way.first().logged(&["flags=DC", "path=/answer"]).await;
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_breaks_off_is_seen_as_broken_by_the_client() {
    let server = Server::new().await;
    let answers = [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nZZ\r\nhalf",
    ];
    for shape in SHAPES {
        let way = shape.start(&Hop::http(), server.address, &none()).await;
        for answer in answers {
            let mut client = Wire::connect(way.address()).await;
            client.send(GET).await;
            let mut upstream = server.accept().await;
            upstream.head().await;
            upstream.send(answer).await;
            client.until("half").await;
            drop(upstream);
            let rest = client.rest().await;
            assert!(!rest.contains("0\r\n\r\n"), "it must not look whole: {rest:?}");
        }
        way.first().logged(&["200 flags=UC", "upstream_reset_after_response_started"]).await;
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_without_a_length_ends_with_its_connection() {
    let server = Server::new().await;
    for shape in SHAPES {
        let way = shape.start(&Hop::http(), server.address, &none()).await;
        let mut client = Wire::connect(way.address()).await;
        client.send(GET).await;
        let mut upstream = server.accept().await;
        upstream.head().await;
        upstream.send("HTTP/1.1 200 OK\r\n\r\nall of it").await;
        drop(upstream);
        let answer = client.until("0\r\n\r\n").await;
        assert!(answer.contains("9\r\nall of it\r\n"), "{answer}");
        client.send(GET).await;
        let mut upstream = server.accept().await;
        upstream.head().await;
        upstream.send(OK).await;
        assert_eq!(client.message().await.1, "ok", "the client's connection goes on");
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_have_no_body_leave_the_connections_in_step() {
    let server = Server::new().await;
    for shape in SHAPES {
        let way = shape.start(&Hop::http(), server.address, &none()).await;
        let mut client = Wire::connect(way.address()).await;
        client.send("HEAD /a HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut upstream = server.accept().await;
        for (request, answer, length) in [
            ("", "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", Some("1000")),
            (GET, "HTTP/1.1 204 No Content\r\n\r\n", None),
            (GET, "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\netag: x\r\n\r\n", Some("7")),
            (GET, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Some("0")),
        ] {
            client.send(request).await;
            upstream.head().await;
            upstream.send(answer).await;
            let head = client.head().await;
            assert_eq!(&head[..12], &answer[..12]);
            assert_eq!(header(&head, "content-length"), length, "{head}");
        }
        client.send(GET).await;
        upstream.head().await;
        upstream.send(OK).await;
        assert_eq!(client.message().await.1, "ok");
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_of_one_hop_stay_on_it() {
    let server = Server::new().await;
    for shape in SHAPES {
        let way = shape.start(&Hop::http(), server.address, &none()).await;
        let mut client = Wire::connect(way.address()).await;
        client
            .send("GET /a HTTP/1.1\r\nhost: a\r\nconnection: x-mine, keep-alive\r\nx-mine: 1\r\nkeep-alive: 5\r\nproxy-connection: x\r\nte: gzip\r\nx-stays: 1\r\n\r\n")
            .await;
        let mut upstream = server.accept().await;
        let head = upstream.head().await;
        for name in ["x-mine", "keep-alive", "proxy-connection", "te", "connection"] {
            assert_eq!(header(&head, name), None, "{head}");
        }
        assert_eq!(header(&head, "x-stays"), Some("1"));
        upstream
            .send("HTTP/1.1 200 OK\r\nconnection: x-its\r\nx-its: 1\r\nkeep-alive: 5\r\ncontent-length: 2\r\nx-stays: 1\r\n\r\nok")
            .await;
        let (head, _) = client.message().await;
        for name in ["x-its", "keep-alive", "connection"] {
            assert_eq!(header(&head, name), None, "{head}");
        }
        assert_eq!(header(&head, "x-stays"), Some("1"));
        // An upstream that closes costs the client nothing; a client that closes is told and obeyed.
        client.send(GET).await;
        upstream.head().await;
        upstream.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
        assert_eq!(header(&client.message().await.0, "connection"), None);
        client.send("GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        let mut upstream = server.accept().await;
        assert_eq!(header(&upstream.head().await, "connection"), None);
        upstream.send(OK).await;
        assert_eq!(header(&client.message().await.0, "connection"), Some("close"));
        assert_eq!(client.rest().await, "");
        way.stop().await;
    }
}
