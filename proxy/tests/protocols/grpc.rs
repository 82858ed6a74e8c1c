//! gRPC: a tonic client and server, all four kinds of calls, trailers, deadlines, large messages, cancellation.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use http::uri::PathAndQuery;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::config::{Hop, SHAPES, Shape, Way, http2, route};
use crate::echo::{Bytes, Codec, Echo, LARGE, LIMIT};
use crate::peers::{PATIENCE, eventually};

fn is_failure(status: &Status) -> bool {
    status.code() == Code::FailedPrecondition
        && status.message() == "not now: 100% full"
        && status.details() == [1, 2, 3]
        && status.metadata().get("x-why").is_some_and(|why| why == "because")
        && status.metadata().get_bin("x-raw-bin").is_some_and(|raw| *raw == [0u8, 255, 7][..])
}

/// An HTTP/2 connection as tonic wants it.
#[derive(Clone)]
struct Channel(SendRequest<tonic::body::Body>);

impl tower_service::Service<http::Request<tonic::body::Body>> for Channel {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }
    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

struct Client(tonic::client::Grpc<Channel>);

fn path(method: &str) -> PathAndQuery {
    format!("/test.Echo/{method}").parse().unwrap()
}

impl Client {
    async fn new(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
        tokio::spawn(connection);
        let origin = "http://echo.test".parse().unwrap();
        let grpc = tonic::client::Grpc::with_origin(Channel(sender), origin);
        Self(grpc.max_decoding_message_size(LIMIT).max_encoding_message_size(LIMIT))
    }

    async fn unary(&mut self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        self.0.ready().await.unwrap();
        let call = self.0.unary(request, path("Unary"), Codec::default());
        tokio::time::timeout(PATIENCE, call).await.expect("an answer in time")
    }

    async fn down(&mut self, asked: &[u8]) -> Result<Streaming<Bytes>, Status> {
        self.0.ready().await.unwrap();
        let call = self.0.server_streaming(Request::new(asked.to_vec()), path("Down"), Codec::default());
        Ok(tokio::time::timeout(PATIENCE, call).await.expect("an answer in time")?.into_inner())
    }

    async fn up(&mut self, messages: Vec<Bytes>) -> Result<Bytes, Status> {
        self.0.ready().await.unwrap();
        let messages = Request::new(tokio_stream::iter(messages));
        let call = self.0.client_streaming(messages, path("Up"), Codec::default());
        Ok(tokio::time::timeout(PATIENCE, call).await.expect("an answer in time")?.into_inner())
    }

    async fn both(&mut self, messages: impl Stream<Item = Bytes> + Send + 'static) -> Result<Streaming<Bytes>, Status> {
        self.0.ready().await.unwrap();
        let call = self.0.streaming(Request::new(messages), path("Both"), Codec::default());
        Ok(tokio::time::timeout(PATIENCE, call).await.expect("an answer in time")?.into_inner())
    }
}

async fn next(stream: &mut Streaming<Bytes>) -> Result<Option<Bytes>, Status> {
    tokio::time::timeout(PATIENCE, stream.message()).await.expect("a message in time")
}

/// Messages until the end, and the status that is not OK.
async fn all(mut stream: Streaming<Bytes>) -> (usize, Option<Status>) {
    let mut count = 0;
    loop {
        match next(&mut stream).await {
            Ok(Some(message)) => count += message.len(),
            Ok(None) => return (count, None),
            Err(status) => return (count, Some(status)),
        }
    }
}

async fn through(shape: Shape, hop: &Hop) -> (Way, Echo, Client) {
    let echo = Echo::default();
    let (address, _) = echo.start().await;
    let way = shape.start(hop, address, &http2(json!({}))).await;
    let client = Client::new(way.address()).await;
    (way, echo, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_four_kinds_of_calls_go_through() {
    for shape in SHAPES {
        let (way, echo, mut client) = through(shape, &Hop::http()).await;
        let mut request = Request::new(b"hello".to_vec());
        request.metadata_mut().insert("x-ask", "me".parse().unwrap());
        request.metadata_mut().insert_bin("x-ask-bin", MetadataValue::from_bytes(&[0, 1, 254]));
        let answer = client.unary(request).await.unwrap();
        assert_eq!(answer.metadata().get("x-answer").unwrap(), "yes");
        assert_eq!(answer.into_inner(), b"hello");
        let seen = echo.seen.lock().unwrap()[0].clone();
        assert_eq!(seen.get("x-ask").unwrap(), "me");
        assert_eq!(*seen.get_bin("x-ask-bin").unwrap(), [0u8, 1, 254][..]);
        assert_eq!(seen.get("te").unwrap(), "trailers", "a server may insist on it");
        assert_eq!(all(client.down(&[7; 100]).await.unwrap()).await.0, 100_000);
        assert_eq!(client.up(vec![vec![1; 500]; 200]).await.unwrap(), b"200 100000");
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let mut answers = client.both(ReceiverStream::new(receiver)).await.unwrap();
        for round in 0..50u8 {
            // The next message goes out only when the answer to the last has come: nothing may be held back.
            sender.send(vec![round; 10]).await.unwrap();
            assert_eq!(next(&mut answers).await.unwrap().unwrap(), vec![round; 10]);
        }
        drop(sender);
        assert!(next(&mut answers).await.unwrap().is_none());
        way.first().logged(&["HTTP/2 200", "/test.Echo/Both"]).await;
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_comes_with_details_and_metadata_before_and_after_messages() {
    for shape in SHAPES {
        let (way, _, mut client) = through(shape, &Hop::http()).await;
        let trailers_only = client.unary(Request::new(b"fail".to_vec())).await.unwrap_err();
        assert!(is_failure(&trailers_only), "{trailers_only:?}");
        let (bytes, status) = all(client.down(b"abc!").await.unwrap()).await;
        assert_eq!(bytes, 4000);
        assert!(is_failure(&status.unwrap()));
        let messages = tokio_stream::iter([b"one".to_vec(), b"fail".to_vec()]);
        let (bytes, status) = all(client.both(messages).await.unwrap()).await;
        assert_eq!(bytes, 3);
        assert!(is_failure(&status.unwrap()));
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_eight_megabytes_go_both_ways() {
    for shape in SHAPES {
        let (way, _, mut client) = through(shape, &Hop::http()).await;
        let large: Bytes = (0..LARGE).map(|index| (index % 251) as u8).collect();
        assert!(client.unary(Request::new(large.clone())).await.unwrap().into_inner() == large);
        let mut answers = client.both(tokio_stream::iter(vec![large.clone(); 2])).await.unwrap();
        for _ in 0..2 {
            assert!(next(&mut answers).await.unwrap().unwrap() == large);
        }
        assert!(next(&mut answers).await.unwrap().is_none());
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_ends_the_call_at_the_proxy_and_is_passed_on_to_the_server() {
    let heeded = json!({"timeout": "0s", "max_stream_duration": {"grpc_timeout_header_max": "0s"}});
    let hop = Hop::http().routes(json!([route("next", heeded)]));
    for shape in SHAPES {
        let (way, echo, mut client) = through(shape, &hop).await;
        let mut request = Request::new(b"hang".to_vec());
        request.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
        let status = client.unary(request).await.unwrap_err();
        assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Unavailable), "{status:?}");
        assert!(echo.seen.lock().unwrap()[0].contains_key("grpc-timeout"), "the server knows it, too");
        eventually("the server stops", || async { echo.hanging.load(Ordering::SeqCst) == 0 }).await;
        if shape == Shape::Single {
            // In a pair either may be the first whose clock runs out.
            way.first().logged(&["HTTP/2 200", "details=max_duration_timeout", "/test.Echo/Unary"]).await;
        }
        // Far longer than any clock: served, not overflown.
        let mut request = Request::new(b"hello".to_vec());
        request.metadata_mut().insert("grpc-timeout", "99999999H".parse().unwrap());
        assert_eq!(client.unary(request).await.unwrap().into_inner(), b"hello");
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_call_is_cancelled_at_the_server() {
    for shape in SHAPES {
        let (way, echo, mut client) = through(shape, &Hop::http()).await;
        let hangs = |count| {
            let hanging = echo.hanging.clone();
            async move { eventually("calls hang", || async { hanging.load(Ordering::SeqCst) == count }).await }
        };
        let mut other = Client(client.0.clone());
        let call = tokio::spawn(async move { other.unary(Request::new(b"hang".to_vec())).await });
        hangs(1).await;
        call.abort();
        hangs(0).await;
        let mut stream = client.down(b"ab?").await.unwrap();
        assert!(next(&mut stream).await.unwrap().is_some());
        hangs(1).await;
        drop(stream);
        hangs(0).await;
        way.first().logged(&["flags=DR"]).await;
        assert_eq!(
            client.unary(Request::new(b"on".to_vec())).await.unwrap().into_inner(),
            b"on",
            "the connection stays"
        );
        for node in &way.nodes {
            node.until_stat("cluster.next.upstream_rq_active", 0).await;
            assert_eq!(node.stat("cluster.next.upstream_cx_total").await, 1, "a cancel costs no connection");
        }
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_in_mid_stream_is_an_error_and_never_ok() {
    for shape in SHAPES {
        let echo = Echo::default();
        let (address, server) = echo.start().await;
        let way = shape.start(&Hop::http(), address, &http2(json!({}))).await;
        let mut client = Client::new(way.address()).await;
        let mut stream = client.down(b"ab?").await.unwrap();
        assert!(next(&mut stream).await.unwrap().is_some());
        server.abort();
        let (_, status) = all(stream).await;
        let status = status.expect("the stream did not end well");
        assert_ne!(status.code(), Code::Ok);
        let status = client.unary(Request::new(b"x".to_vec())).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_spread_over_a_connection_and_none_is_lost() {
    for shape in SHAPES {
        let (way, _, client) = through(shape, &Hop::http()).await;
        let calls = (0..200u32).map(|number| {
            let mut client = Client(client.0.clone());
            async move {
                let text = number.to_string().into_bytes();
                assert_eq!(client.unary(Request::new(text.clone())).await.unwrap().into_inner(), text);
            }
        });
        tokio::time::timeout(PATIENCE, futures_util::future::join_all(calls)).await.expect("all answers in time");
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_nobody_can_serve_is_unavailable_in_the_terms_of_grpc() {
    let hop = Hop::http().cluster("next", &[], json!({}));
    let node = hop.start().await;
    let mut client = Client::new(node.address()).await;
    let status = client.unary(Request::new(b"x".to_vec())).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "no healthy upstream"));
    node.stop().await;
}
