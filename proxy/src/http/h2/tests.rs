//! Tests of the HTTP/2 server, with h2's own client over a pipe.

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use tokio::task::LocalSet;

use crate::http::serve::tests::start;
use crate::http::serve::{Drain, DrainSignal};

async fn connect(
    more: &str,
    drain: DrainSignal,
) -> (SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let (client, _) = start(more, drain);
    let (send, connection) = h2::client::handshake(client).await.unwrap();
    (send, tokio::task::spawn_local(connection))
}

fn get(path: &str) -> http::request::Builder {
    Request::get(format!("http://a.test{path}"))
}

async fn status(send: &SendRequest<Bytes>, request: Request<()>) -> Result<(u16, HeaderMap, Bytes), h2::Error> {
    let mut send = send.clone().ready().await?;
    let (answer, _) = send.send_request(request, true)?;
    let (head, mut body) = answer.await?.into_parts();
    let mut whole = Vec::new();
    while let Some(data) = body.data().await {
        whole.extend_from_slice(&data?);
    }
    Ok((head.status.as_u16(), head.headers, whole.into()))
}

#[tokio::test]
async fn requests_by_prior_knowledge_are_answered() {
    LocalSet::new()
        .run_until(async {
            let (send, _connection) = connect("", DrainSignal::never()).await;
            let (code, headers, body) = status(&send, get("/hello").body(()).unwrap()).await.unwrap();
            assert_eq!((code, &body[..]), (200, &b"hello"[..]));
            assert_eq!(headers["server"], "ferromesh-test");
            assert_eq!(headers["x-route"], "hello");
            let (code, ..) = status(&send, get("/none").body(()).unwrap()).await.unwrap();
            assert_eq!(code, 404);
            let grpc = get("/none").header("content-type", "application/grpc").body(()).unwrap();
            let (code, headers, _) = status(&send, grpc).await.unwrap();
            assert_eq!((code, headers["grpc-status"].as_bytes()), (200, &b"12"[..]));
        })
        .await;
}

#[tokio::test]
async fn too_many_headers_are_431_and_bad_hosts_400() {
    LocalSet::new()
        .run_until(async {
            let (send, _connection) = connect("", DrainSignal::never()).await;
            let mut many = get("/hello");
            for index in 0..120 {
                many = many.header(format!("x-{index}"), "y");
            }
            assert_eq!(status(&send, many.body(()).unwrap()).await.unwrap().0, 431);
            let space = get("/hello").header("x", " y").body(()).unwrap();
            assert_eq!(status(&send, space).await.unwrap().0, 400);
            let user = Request::get("http://u@a/hello").body(()).unwrap();
            assert_eq!(status(&send, user).await.unwrap().0, 400);
        })
        .await;
}

#[tokio::test]
async fn a_drain_finishes_the_streams_and_closes_with_goaway() {
    LocalSet::new()
        .run_until(async {
            let drain = Drain::new();
            let (send, connection) = connect("", drain.signal()).await;
            assert_eq!(status(&send, get("/hello").body(()).unwrap()).await.unwrap().0, 200);
            drain.start();
            connection.await.unwrap().unwrap();
            assert!(send.ready().await.is_err());
        })
        .await;
}

#[tokio::test]
async fn max_requests_per_connection_ends_it_gracefully() {
    LocalSet::new()
        .run_until(async {
            let more = "common_http_protocol_options: { max_requests_per_connection: 1 }";
            let (send, connection) = connect(more, DrainSignal::never()).await;
            assert_eq!(status(&send, get("/hello").body(()).unwrap()).await.unwrap().0, 200);
            connection.await.unwrap().unwrap();
        })
        .await;
}
