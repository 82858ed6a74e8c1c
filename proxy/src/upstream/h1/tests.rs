//! Tests of the client's side of HTTP/1: exchanges with a peer that the test plays.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, Method, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::Connection;
use crate::body::{Body, Frame};
use crate::cause::Cause;
use crate::codec::h1::Settings;
use crate::io::{Io, Socket};
use crate::message::{RequestHead, ResponseHead};

fn get(path: &'static str) -> RequestHead {
    RequestHead {
        method: Method::GET,
        scheme: "http".into(),
        authority: "up.test".into(),
        path: path.into(),
        version: Version::HTTP_11,
        headers: HeaderMap::new(),
        upgrade: None,
        names: None,
    }
}

type Back = Rc<RefCell<Vec<Option<Connection>>>>;

/// A connection to a peer that the test plays, and what it is given back to.
fn client() -> (Connection, DuplexStream, Back) {
    let (ours, peer) = tokio::io::duplex(64 * 1024);
    (Connection::new(Io::plain(Socket::Duplex(ours)), Settings::default()), peer, Back::default())
}

fn done(back: &Back) -> super::Done {
    let back = back.clone();
    Box::new(move |connection| back.borrow_mut().push(connection))
}

async fn text(mut body: Body) -> Result<String, Cause> {
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Frame::Data(data) = frame.map_err(|error| error.cause)? {
            text.extend_from_slice(&data);
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test]
async fn a_client_connection_comes_back_after_a_whole_answer() {
    let (connection, mut peer, back) = client();
    peer.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
        .await
        .unwrap();
    let seen = RefCell::new(Vec::new());
    let inform = |head: ResponseHead| seen.borrow_mut().push(head.status.as_u16());
    let body = Body::from(Bytes::from_static(b"hello"));
    let (head, answer) = connection.send(&get("/p"), body, Some(&inform), done(&back)).await.unwrap();
    assert_eq!(head.status, 200);
    assert_eq!(text(answer).await.unwrap(), "hi");
    assert_eq!(*seen.borrow(), [103]);
    let mut sent = [0; 256];
    let count = peer.read(&mut sent).await.unwrap();
    let sent = String::from_utf8_lossy(&sent[..count]).into_owned();
    assert_eq!(sent, "GET /p HTTP/1.1\r\nhost: up.test\r\ncontent-length: 5\r\n\r\nhello");
    let mut again = back.borrow_mut().pop().flatten().expect("reusable");
    assert!(again.is_usable());
    drop(peer);
    assert!(!again.is_usable());
}

#[tokio::test]
async fn bad_answers_destroy_the_connection() {
    for (answer, cause) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", Cause::UpstreamProtocolError),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n", Cause::UpstreamProtocolError),
        ("HTTP/1.1 200 OK\ncontent-length: 1\n\n", Cause::UpstreamProtocolError),
        ("garbage\r\n\r\n", Cause::UpstreamProtocolError),
        ("HTTP/1.1 101 Switching\r\nconnection: upgrade\r\n\r\n", Cause::UpstreamProtocolError),
        ("HTTP/1.1 20", Cause::UpstreamConnectionTermination),
    ] {
        let (connection, mut peer, back) = client();
        peer.write_all(answer.as_bytes()).await.unwrap();
        peer.shutdown().await.unwrap();
        let error = connection.send(&get("/"), Body::Empty, None, done(&back)).await.unwrap_err();
        assert_eq!(error.cause, cause, "{answer}");
        assert!(matches!(back.borrow_mut().pop(), Some(None)), "{answer}");
    }
}

#[tokio::test]
async fn bytes_after_an_answer_or_a_broken_body_destroy_the_connection() {
    for (answer, result) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhiHTTP/1.1 200", Ok("hi")),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi", Ok("hi")),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", Ok("hi")),
        ("HTTP/1.1 200 OK\r\n\r\nuntil the end", Ok("until the end")),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhi", Err(Cause::UpstreamTerminationAfterResponse)),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi", Err(Cause::UpstreamTerminationAfterResponse)),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\nhi\r\n", Err(Cause::UpstreamProtocolError)),
    ] {
        let (connection, mut peer, back) = client();
        peer.write_all(answer.as_bytes()).await.unwrap();
        peer.shutdown().await.unwrap();
        let (_, body) = connection.send(&get("/"), Body::Empty, None, done(&back)).await.unwrap();
        assert_eq!(text(body).await, result.map(str::to_owned), "{answer}");
        assert!(matches!(back.borrow_mut().pop(), Some(None)), "{answer}");
    }
}
