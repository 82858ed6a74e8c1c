//! HTTP/2 on both sides: GOAWAY, keepalive, resets, trailers; limits on streams and CONNECT in files of their own.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::config::{Hop, SHAPES, http2, protocol};
use crate::frames::{
    CANCEL, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, REFUSED_STREAM, RST_STREAM, block,
};
use crate::peers::{PATIENCE, eventually};
use crate::wire::{Server, Wire};

#[path = "http2/connect.rs"]
mod connect;
#[path = "http2/streams.rs"]
mod streams;

/// Long enough to see that something does not come.
const MOMENT: Duration = Duration::from_millis(150);
const MAX_CONCURRENT_STREAMS: u16 = 3;
const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// A client's connection; the task ends with it.
async fn client(address: SocketAddr) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let socket = TcpStream::connect(address).await.unwrap();
    let (send, connection) = h2::client::handshake(socket).await.unwrap();
    (send, tokio::spawn(connection))
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://a.test{path}")).body(()).unwrap()
}

type Whole = (u16, HeaderMap, Vec<u8>, HeaderMap);

/// The whole of an answer: status, headers, body, trailers.
async fn whole(answer: Response<RecvStream>) -> Result<Whole, h2::Error> {
    let (head, mut body) = answer.into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    Ok((head.status.as_u16(), head.headers, bytes, trailers))
}

/// Whether the body ends now; an empty frame may mark the end.
async fn end(body: &mut RecvStream) -> bool {
    match body.data().await {
        Some(Ok(data)) if data.is_empty() => body.data().await.is_none(),
        data => data.is_none(),
    }
}

/// Sends a request with a body, and awaits the answer.
async fn call(send: &SendRequest<Bytes>, request: Request<()>, body: &'static [u8]) -> Result<Whole, h2::Error> {
    let work = async {
        let mut send = send.clone().ready().await?;
        let (answer, mut stream) = send.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            stream.send_data(Bytes::from_static(body), true)?;
        }
        whole(answer.await?).await
    };
    tokio::time::timeout(PATIENCE, work).await.expect("an answer in time")
}

fn spawn(send: &SendRequest<Bytes>, request: Request<()>, body: &'static [u8]) -> JoinHandle<Result<Whole, h2::Error>> {
    let send = send.clone();
    tokio::spawn(async move { call(&send, request, body).await })
}

async fn status(call: JoinHandle<Result<Whole, h2::Error>>) -> u16 {
    call.await.unwrap().unwrap().0
}

/// A proxy in front of a server that the test plays in frames.
async fn before(server: &Server, hop: Hop, more: Value) -> crate::config::Node {
    hop.cluster("next", &[server.address], http2(more)).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_that_goes_away_has_not_processed_is_sent_again_and_the_rest_is_finished() {
    let server = Server::new().await;
    let node = before(&server, Hop::http(), json!({})).await;
    let (send, _connection) = client(node.address()).await;
    let first = spawn(&send, get("/first"), b"");
    let mut one = Frames::server(&server, &[]).await;
    assert_eq!(one.until(HEADERS).await.stream, 1);
    let post = Request::post("http://a.test/second").body(()).unwrap();
    let second = spawn(&send, post, b"hello");
    assert_eq!(one.until(DATA).await.payload, b"hello");
    one.go_away(1, 0).await;
    let mut two = Frames::server(&server, &[]).await;
    let again = two.until(HEADERS).await;
    assert_eq!(two.until(DATA).await.payload, b"hello", "the body goes with it");
    two.answer(again.stream, "200", b"two").await;
    assert_eq!(status(second).await, 200, "a POST, too: the server says that it has not processed it");
    let third = spawn(&send, get("/third"), b"");
    let stream = two.until(HEADERS).await.stream;
    two.answer(stream, "200", b"").await;
    assert_eq!(status(third).await, 200, "new requests go on the new connection");
    one.answer(1, "200", b"one").await;
    assert_eq!(first.await.unwrap().unwrap().2, b"one", "what it has processed is finished");
    assert!(one.find(HEADERS).await.is_none(), "then the old connection ends");
    assert_eq!(node.stat("cluster.next.upstream_rq_retry").await, 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_may_have_processed_when_it_ended_is_not_sent_again() {
    let server = Server::new().await;
    let node = before(&server, Hop::http(), json!({})).await;
    let (send, _connection) = client(node.address()).await;
    let call = spawn(&send, get("/maybe"), b"");
    let mut one = Frames::server(&server, &[]).await;
    one.until(HEADERS).await;
    one.go_away(1, 0).await;
    drop(one);
    assert_eq!(status(call).await, 503);
    assert!(server.nobody_within(MOMENT).await);
    node.logged(&["503 flags=UC"]).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_tells_clients_to_go_away_and_finishes_what_they_have_asked() {
    for shape in SHAPES {
        let server = Server::new().await;
        let way = shape.start(&Hop::http(), server.address, &http2(json!({}))).await;
        let (send, connection) = client(way.address()).await;
        let inflight = spawn(&send, get("/slow"), b"");
        let mut upstream = Frames::server(&server, &[]).await;
        let stream = upstream.until(HEADERS).await.stream;
        for node in &way.nodes {
            node.proxy.drain();
        }
        eventually("the client is told", || async { send.clone().ready().await.is_err() }).await;
        upstream.answer(stream, "200", b"late").await;
        assert_eq!(inflight.await.unwrap().unwrap().2, b"late");
        drop(send);
        tokio::time::timeout(PATIENCE, connection).await.expect("the end in time").unwrap().unwrap();
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_answers_no_ping_is_left_and_one_that_does_is_kept() {
    let server = Server::new().await;
    let alive = json!({"connection_keepalive": {"interval": "0.1s", "timeout": "0.2s"}});
    let node = before(&server, Hop::http(), alive).await;
    let (send, _connection) = client(node.address()).await;
    let call = spawn(&send, get("/"), b"");
    let mut one = Frames::server(&server, &[]).await;
    let stream = one.until(HEADERS).await.stream;
    for _ in 0..5 {
        let ping = one.until(PING).await;
        one.send(PING, 1, 0, &ping.payload).await;
    }
    one.answer(stream, "200", b"").await;
    assert_eq!(status(call).await, 200);
    let call = spawn(&send, get("/"), b"");
    one.until(HEADERS).await;
    assert_eq!(status(call).await, 503, "the one that waited for it fails");
    assert!(one.find(HEADERS).await.is_none(), "it is closed");
    let call = spawn(&send, get("/"), b"");
    let mut two = Frames::server(&server, &[]).await;
    let stream = two.until(HEADERS).await.stream;
    two.answer(stream, "200", b"").await;
    assert_eq!(status(call).await, 200);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_answers_no_ping_is_left_and_one_that_does_is_kept() {
    let server = Server::new().await;
    let alive = json!({"http2_protocol_options": {"connection_keepalive": {"interval": "0.1s", "timeout": "0.2s"}}});
    let node = before(&server, Hop::http().terminal(alive), json!({})).await;
    let mut client = Frames::client(node.address()).await;
    for _ in 0..5 {
        let ping = client.until(PING).await;
        client.send(PING, 1, 0, &ping.payload).await;
    }
    client.get(1, "/").await;
    let mut upstream = Frames::server(&server, &[]).await;
    upstream.until(HEADERS).await;
    while client.next().await.is_some() {}
    assert_eq!(upstream.until(RST_STREAM).await.code(), CANCEL, "its request ends with it");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_of_the_server_are_told_in_each_clients_terms() {
    let server = Server::new().await;
    let node = before(&server, Hop::http(), json!({})).await;
    let (send, _connection) = client(node.address()).await;
    let warm = spawn(&send, get("/"), b"");
    let mut upstream = Frames::server(&server, &[]).await;
    let stream = upstream.until(HEADERS).await.stream;
    upstream.answer(stream, "200", b"").await;
    status(warm).await;
    for (code, text) in [(REFUSED_STREAM, "remote refused stream reset"), (2, "remote reset"), (CANCEL, "remote reset")]
    {
        let call = spawn(&send, get("/"), b"");
        let stream = upstream.until(HEADERS).await.stream;
        upstream.reset(stream, code).await;
        let (status, _, body, _) = call.await.unwrap().unwrap();
        assert_eq!(status, 503);
        assert!(String::from_utf8_lossy(&body).ends_with(text), "{code}: {}", String::from_utf8_lossy(&body));
    }
    // After the head: the client's stream is reset, its connection goes on.
    let call = spawn(&send, get("/"), b"");
    let stream = upstream.until(HEADERS).await.stream;
    upstream.send(HEADERS, END_HEADERS, stream, &block(&[(":status", "200")])).await;
    upstream.send(DATA, 0, stream, b"half").await;
    upstream.reset(stream, 2).await;
    assert!(call.await.unwrap().unwrap_err().is_reset());
    let mut old = Wire::connect(node.address()).await;
    old.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let stream = upstream.until(HEADERS).await.stream;
    upstream.send(HEADERS, END_HEADERS, stream, &block(&[(":status", "200"), ("content-length", "10")])).await;
    upstream.send(DATA, 0, stream, b"half").await;
    old.until("half").await;
    upstream.reset(stream, 2).await;
    assert_eq!(old.rest().await, "", "an HTTP/1 client sees the connection end short of the length");
    let call = spawn(&send, get("/"), b"");
    let stream = upstream.until(HEADERS).await.stream;
    upstream.answer(stream, "200", b"").await;
    assert_eq!(status(call).await, 200, "none of it cost the connection");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_of_the_client_cancels_the_request_upstream_and_nothing_else() {
    let server = Server::new().await;
    let node = before(&server, Hop::http(), json!({})).await;
    let mut client = Frames::client(node.address()).await;
    client.get(1, "/").await;
    client.send(HEADERS, END_HEADERS, 3, &crate::frames::request("POST", "/")).await;
    client.send(DATA, 0, 3, b"begun").await;
    let mut upstream = Frames::server(&server, &[]).await;
    let first = upstream.until(HEADERS).await.stream;
    let second = upstream.until(HEADERS).await.stream;
    assert_eq!(upstream.until(DATA).await.payload, b"begun");
    client.reset(3, CANCEL).await;
    let reset = upstream.until(RST_STREAM).await;
    assert_eq!((reset.stream, reset.code()), (second, CANCEL));
    upstream.answer(first, "200", b"fine").await;
    assert_eq!(client.until(DATA).await.payload, b"fine");
    node.logged(&["flags=DR"]).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_and_informational_heads_pass_between_the_versions() {
    let server = Server::new().await;
    let (hop, of_cluster) = crate::http1::with_trailers();
    for shape in SHAPES {
        let way = shape.start(&hop, server.address, &http2(json!({}))).await;
        let mut old = Wire::connect(way.address()).await;
        old.send("POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n")
            .await;
        let mut upstream = Frames::server(&server, &[]).await;
        let stream = upstream.until(HEADERS).await.stream;
        assert_eq!(upstream.until(DATA).await.payload, b"hi");
        let trailers = upstream.until(HEADERS).await;
        assert_eq!(trailers.flags & END_STREAM, END_STREAM);
        upstream.send(HEADERS, END_HEADERS, stream, &block(&[(":status", "103"), ("link", "x")])).await;
        assert!(old.head().await.starts_with("HTTP/1.1 103 "));
        upstream.send(HEADERS, END_HEADERS, stream, &block(&[(":status", "200")])).await;
        upstream.send(DATA, 0, stream, b"ho").await;
        upstream.send(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[("x-sum", "9")])).await;
        let answer = old.until("x-sum: 9\r\n\r\n").await;
        assert!(answer.contains("2\r\nho\r\n0\r\n"), "{answer}");
        way.stop().await;

        let way = shape.start(&hop, server.address, &of_cluster).await;
        let (send, _connection) = client(way.address()).await;
        let mut ready = send.clone().ready().await.unwrap();
        let (answer, mut body) = ready.send_request(Request::post("http://a.test/").body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::from_static(b"hi"), false).unwrap();
        body.send_trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())])).unwrap();
        let mut upstream = server.accept().await;
        let request = upstream.until("x-sum: 7\r\n\r\n").await;
        assert!(request.contains("2\r\nhi\r\n0\r\n"), "{request}");
        upstream.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nho\r\n0\r\nx-sum: 9\r\n\r\n").await;
        let (status, _, body, trailers) = whole(answer.await.unwrap()).await.unwrap();
        assert_eq!((status, &body[..], trailers["x-sum"].as_bytes()), (200, &b"ho"[..], &b"9"[..]));
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn informational_heads_of_an_http_2_server_do_not_come_without_end() {
    let server = Server::new().await;
    let node = before(&server, Hop::http(), json!({})).await;
    let (send, _connection) = client(node.address()).await;
    let call = spawn(&send, get("/"), b"");
    let mut upstream = Frames::server(&server, &[]).await;
    let stream = upstream.until(HEADERS).await.stream;
    let early = crate::frames::frame(HEADERS, END_HEADERS, stream, &block(&[(":status", "103")]));
    upstream.try_send(&early.repeat(1000)).await;
    assert_eq!(status(call).await, 502);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_request_and_answers_without_a_body_keep_their_headers() {
    let server = Server::new().await;
    let node = before(&server, Hop::http(), json!({})).await;
    let (send, _connection) = client(node.address()).await;
    let head = spawn(&send, Request::head("http://a.test/").body(()).unwrap(), b"");
    let mut upstream = Frames::server(&server, &[]).await;
    let stream = upstream.until(HEADERS).await.stream;
    let answer = block(&[(":status", "200"), ("content-length", "1000")]);
    upstream.send(HEADERS, END_HEADERS | END_STREAM, stream, &answer).await;
    let (status, headers, body, _) = head.await.unwrap().unwrap();
    assert_eq!((status, headers["content-length"].as_bytes(), body.len()), (200, &b"1000"[..], 0));
    let call = spawn(&send, get("/"), b"");
    let stream = upstream.until(HEADERS).await.stream;
    upstream.send(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[(":status", "304"), ("etag", "x")])).await;
    assert_eq!(call.await.unwrap().unwrap().1["etag"], "x");
    // An answer that is longer or shorter than it says is broken off.
    for (data, flags) in [(&b"12345"[..], END_STREAM), (b"123", END_STREAM)] {
        let call = spawn(&send, get("/"), b"");
        let stream = upstream.until(HEADERS).await.stream;
        upstream.send(HEADERS, END_HEADERS, stream, &block(&[(":status", "200"), ("content-length", "4")])).await;
        upstream.send(DATA, flags, stream, data).await;
        assert!(call.await.unwrap().is_err(), "{data:?}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_nobody_reads_does_not_stop_the_others() {
    let server = Server::new().await;
    for shape in SHAPES {
        let way = shape.start(&Hop::http(), server.address, &http2(json!({}))).await;
        let mut ready = client(way.address()).await.0.ready().await.unwrap();
        let (stuck, _) = ready.send_request(get("/stuck"), true).unwrap();
        let mut upstream = Frames::server(&server, &[]).await;
        let stream = upstream.until(HEADERS).await.stream;
        upstream.send(HEADERS, END_HEADERS, stream, &block(&[(":status", "200")])).await;
        upstream.send(DATA, 0, stream, &[b'x'; 16_000]).await;
        upstream.send(DATA, 0, stream, &[b'x'; 16_000]).await;
        let stuck = stuck.await.unwrap();
        for _ in 0..20 {
            let call = spawn(&ready, get("/"), b"");
            let stream = upstream.until(HEADERS).await.stream;
            upstream.answer(stream, "200", b"fine").await;
            assert_eq!(call.await.unwrap().unwrap().2, b"fine");
        }
        drop(stuck);
        assert_eq!(upstream.until(RST_STREAM).await.stream, stream);
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_alpn_each_server_is_spoken_to_in_its_own_version() {
    let server = Server::new().await;
    let pki = crate::pki::Pki::new();
    let auto = protocol(json!({"auto_config": {"http2_protocol_options": {}}}));
    for (alpn, version) in [(json!(["h2", "http/1.1"]), "HTTP/2"), (json!(["http/1.1"]), "HTTP/1.1")] {
        let require = json!({"require_client_certificate": true});
        let mut context = pki.context("DownstreamTlsContext", &pki.workload("server", false), "client", &require);
        context["typed_config"]["common_tls_context"]["alpn_protocols"] = alpn;
        let inner = Hop::http().chain(json!({"transport_socket": context})).to(server.address).start().await;
        let mut towards = auto.clone();
        towards["transport_socket"] =
            pki.context("UpstreamTlsContext", &pki.workload("client", false), "server", &json!({"sni": "x"}));
        let outer = Hop::http().cluster("next", &[inner.address()], towards).start().await;
        let mut old = Wire::connect(outer.address()).await;
        old.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut upstream = server.accept().await;
        upstream.head().await;
        upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        assert_eq!(old.message().await.1, "ok");
        inner.logged(&[version]).await;
        outer.stop().await;
        inner.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_stream_is_reset_and_the_others_go_on() {
    let server = Server::new().await;
    let node = before(&server, Hop::http(), json!({})).await;
    let mut client = Frames::client(node.address()).await;
    client.get(1, "/good").await;
    let mut upstream = Frames::server(&server, &[]).await;
    let good = upstream.until(HEADERS).await.stream;
    let usual = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
    let bad: [&[(&str, &str)]; 5] = [
        &[("connection", "close")],
        &[("transfer-encoding", "chunked")],
        &[("te", "gzip")],
        &[(":status", "200")],
        &[("host", "other"), ("content-length", "nonsense")],
    ];
    for (number, more) in bad.iter().enumerate() {
        let stream = 3 + 2 * number as u32;
        client.send(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[&usual, *more].concat())).await;
        let frame = loop {
            let frame = client.next().await.unwrap_or_else(|| panic!("the connection ended: {more:?}"));
            if frame.stream == stream {
                break frame;
            }
        };
        assert!([RST_STREAM, HEADERS].contains(&frame.kind), "{more:?}: {frame:?}");
        if frame.kind == HEADERS && frame.flags & END_STREAM == 0 {
            client.until(DATA).await;
        }
    }
    upstream.answer(good, "200", b"fine").await;
    assert_eq!(client.until(DATA).await.payload, b"fine");
    assert!(!client.passed.iter().any(|frame| frame.kind == GOAWAY));
    assert_eq!(node.stat("cluster.next.upstream_rq_total").await, 1, "none of them went on");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn characters_that_no_header_may_have_never_go_on() {
    let server = Server::new().await;
    let node = before(&server, Hop::http(), json!({})).await;
    let usual = [(":method", "GET"), (":scheme", "http"), (":authority", "a")];
    let bad: [&[(&str, &str)]; 8] = [
        &[(":path", "/"), ("X-Upper", "x")],
        &[(":path", "/"), ("x-cr", "a\rb")],
        &[(":path", "/"), ("x-lf", "a\nb")],
        &[(":path", "/"), ("x-nul", "a\0b")],
        &[(":path", "/"), ("x y", "space")],
        &[(":path", "/"), ("x:y", "colon")],
        &[(":path", "/a b"), ("x", "y")],
        &[(":path", "/\r\nx: y"), ("x", "y")],
    ];
    for more in bad {
        let mut client = Frames::client(node.address()).await;
        client.send(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[&usual, more].concat())).await;
        loop {
            let frame = client.next().await.unwrap_or_else(|| panic!("closed without a word: {more:?}"));
            if [HEADERS, RST_STREAM, GOAWAY].contains(&frame.kind) {
                break;
            }
        }
    }
    assert_eq!(node.stat("cluster.next.upstream_rq_total").await, 0);
    node.stop().await;
}
