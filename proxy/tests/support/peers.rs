//! Peers of a proxy under test: upstreams that name themselves, a plain client, and patience with an end.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use ferromesh_proxy::app::{Options, Proxy};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

/// Longest that any condition is awaited.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Awaits a condition.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain: {what}");
}

/// Starts a proxy from bootstrap text.
pub fn proxy(bootstrap: &str) -> Proxy {
    let bootstrap = ferromesh_proxy::bootstrap::parse(bootstrap).expect("the test's bootstrap is good");
    Proxy::start(bootstrap, Options::default()).expect("the proxy starts")
}

/// Serves HTTP/1 and HTTP/2: the answer is the server's name.
pub async fn upstream(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let answer = hyper::service::service_fn(|_| async {
                    Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from_static(name.as_bytes()))))
                });
                let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(socket), answer)
                    .await;
            });
        }
    });
    address
}

/// One request on a connection of its own: status and body, 0 if there was no answer.
pub async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    tokio::time::timeout(PATIENCE, exchange(address, method, path))
        .await
        .expect("an answer in time")
        .unwrap_or_else(|error| (0, error.to_string()))
}

pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    ask(address, "GET", path).await
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(address: SocketAddr, method: &str, path: &str) -> Result<(u16, String), Failure> {
    let socket = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    tokio::spawn(connection);
    let request = http::Request::builder().method(method).uri(path).header("host", "test").body(Full::default())?;
    let request: http::Request<Full<Bytes>> = request;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
