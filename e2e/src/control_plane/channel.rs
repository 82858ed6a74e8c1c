//! A connection of hyper's as the service that tonic's client takes.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tower_service::Service;

/// Bytes that may be on their way: what Envoy asks for.
const WINDOW: u32 = 1 << 20;

/// HTTP/2 without TLS.
#[derive(Clone)]
pub(super) struct Channel(SendRequest<tonic::body::Body>);

impl Channel {
    pub(super) async fn connect(to: SocketAddr) -> anyhow::Result<Self> {
        let socket = TokioIo::new(tokio::net::TcpStream::connect(to).await?);
        let mut builder = Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
        let (send, connection) = builder.handshake(socket).await?;
        // It ends with the last sender.
        tokio::spawn(connection);
        Ok(Self(send))
    }
}

impl Service<http::Request<tonic::body::Body>> for Channel {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
