//! A gRPC server with one method of each kind, for whatever client.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

pub type Bytes = Vec<u8>;
pub type Codec = ProstCodec<Bytes, Bytes>;
type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;
type Reply<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;

pub const LARGE: usize = 8 * 1024 * 1024;
/// As a client sees the largest message.
pub const LIMIT: usize = LARGE + 1024;

/// A server with one method of each kind.
#[derive(Clone, Default)]
pub struct Echo {
    /// Metadata of the calls.
    pub seen: Arc<Mutex<Vec<MetadataMap>>>,
    /// Calls that hang now.
    pub hanging: Arc<AtomicUsize>,
}

struct Hanging(Arc<AtomicUsize>);

impl Drop for Hanging {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A status with details and metadata of its own.
pub fn failure() -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert("x-why", "because".parse().unwrap());
    metadata.insert_bin("x-raw-bin", MetadataValue::from_bytes(&[0, 255, 7]));
    Status::with_details_and_metadata(Code::FailedPrecondition, "not now: 100% full", vec![1, 2, 3].into(), metadata)
}

impl Echo {
    fn note<T>(&self, request: &Request<T>) {
        self.seen.lock().unwrap().push(request.metadata().clone());
    }

    async fn hang(&self) {
        self.hanging.fetch_add(1, Ordering::SeqCst);
        let _hanging = Hanging(self.hanging.clone());
        std::future::pending::<()>().await;
    }
}

#[derive(Clone)]
struct Unary(Echo);

impl tonic::server::UnaryService<Bytes> for Unary {
    type Response = Bytes;
    type Future = Reply<Bytes>;
    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let echo = self.0.clone();
        Box::pin(async move {
            echo.note(&request);
            match &request.get_ref()[..] {
                b"fail" => Err(failure()),
                b"hang" => {
                    echo.hang().await;
                    Err(Status::internal("it hangs for ever"))
                }
                _ => {
                    let mut reply = Response::new(request.get_ref().clone());
                    reply.metadata_mut().insert("x-answer", "yes".parse().unwrap());
                    Ok(reply)
                }
            }
        })
    }
}

/// Sends as many messages as the request has bytes, then fails if it ends in `!`, and hangs if it ends in `?`.
#[derive(Clone)]
struct Down(Echo);

impl tonic::server::ServerStreamingService<Bytes> for Down {
    type Response = Bytes;
    type ResponseStream = Messages;
    type Future = Reply<Messages>;
    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let echo = self.0.clone();
        Box::pin(async move {
            echo.note(&request);
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            tokio::spawn(async move {
                let asked = request.into_inner();
                for byte in &asked {
                    if sender.send(Ok(vec![*byte; 1000])).await.is_err() {
                        return;
                    }
                }
                match asked.last() {
                    Some(b'!') => {
                        let _ = sender.send(Err(failure())).await;
                    }
                    Some(b'?') => tokio::select! {
                        () = echo.hang() => {}
                        () = sender.closed() => {}
                    },
                    _ => {}
                }
            });
            Ok(Response::new(Box::pin(ReceiverStream::new(receiver)) as Messages))
        })
    }
}

#[derive(Clone)]
struct Up(Echo);

impl tonic::server::ClientStreamingService<Bytes> for Up {
    type Response = Bytes;
    type Future = Reply<Bytes>;
    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let echo = self.0.clone();
        Box::pin(async move {
            echo.note(&request);
            let mut messages = request.into_inner();
            let (mut count, mut bytes) = (0, 0);
            while let Some(message) = messages.message().await? {
                (count, bytes) = (count + 1, bytes + message.len());
            }
            Ok(Response::new(format!("{count} {bytes}").into_bytes()))
        })
    }
}

#[derive(Clone)]
struct Both(Echo);

impl tonic::server::StreamingService<Bytes> for Both {
    type Response = Bytes;
    type ResponseStream = Messages;
    type Future = Reply<Messages>;
    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let echo = self.0.clone();
        Box::pin(async move {
            echo.note(&request);
            let answers = request.into_inner().map(|message| match message {
                Ok(message) if message == b"fail" => Err(failure()),
                other => other,
            });
            Ok(Response::new(Box::pin(answers) as Messages))
        })
    }
}

impl Echo {
    async fn serve(self, request: http::Request<hyper::body::Incoming>) -> http::Response<tonic::body::Body> {
        let mut grpc = tonic::server::Grpc::new(Codec::default())
            .max_decoding_message_size(LIMIT)
            .max_encoding_message_size(LIMIT);
        match request.uri().path() {
            "/test.Echo/Unary" => grpc.unary(Unary(self), request).await,
            "/test.Echo/Down" => grpc.server_streaming(Down(self), request).await,
            "/test.Echo/Up" => grpc.client_streaming(Up(self), request).await,
            _ => grpc.streaming(Both(self), request).await,
        }
    }

    pub async fn start(&self) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let echo = self.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let echo = echo.clone();
                connections.spawn(async move {
                    let call = hyper::service::service_fn(move |request| {
                        let echo = echo.clone();
                        async move { Ok::<_, Infallible>(echo.serve(request).await) }
                    });
                    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(socket), call)
                        .await;
                });
            }
        });
        (address, task)
    }
}
