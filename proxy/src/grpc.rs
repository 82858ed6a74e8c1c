//! gRPC on an HTTP/2 connection that we opened ourselves, in a thread of our own.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::client::conn::http2::SendRequest;

/// Spawns in the `LocalSet` of the caller.
#[derive(Clone, Copy)]
pub(crate) struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// An HTTP/2 connection as tonic's stubs want it.
#[derive(Clone)]
pub(crate) struct Channel(SendRequest<tonic::body::Body>);

impl Channel {
    /// Calls go out on this connection.
    pub(crate) fn new(sender: SendRequest<tonic::body::Body>) -> Self {
        Self(sender)
    }
}

impl tower_service::Service<http::Request<tonic::body::Body>> for Channel {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
