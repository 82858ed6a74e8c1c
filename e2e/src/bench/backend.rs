//! What stands behind all pairs alike.

use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::peers::Protocol;
use super::relay::{LocalTasks, local};

/// Payload of an answer.
pub const ANSWER: usize = 1024;

/// A server in a thread of its own; it serves as long as the process lives.
pub struct Backend {
    address: SocketAddr,
}

impl Backend {
    /// Answers 1 KiB to every request (a gRPC call with a message of that size), or sends zeros for ever.
    ///
    /// # Errors
    /// If there is no free port.
    pub fn start(protocol: Protocol) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let thread = std::thread::Builder::new().name("backend".into());
        match protocol {
            Protocol::Tcp => thread.spawn(move || send_zeros(&listener))?,
            Protocol::Http1 | Protocol::Http2 => {
                listener.set_nonblocking(true)?;
                thread.spawn(move || local(serve(listener, protocol)))?
            }
        };
        Ok(Self { address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn serve(listener: std::net::TcpListener, protocol: Protocol) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    while let Ok((socket, _)) = listener.accept().await {
        let _ = socket.set_nodelay(true);
        tokio::task::spawn_local(serve_one(socket, protocol));
    }
}

async fn serve_one(socket: TcpStream, protocol: Protocol) {
    let (io, service) = (TokioIo::new(socket), service_fn(answer));
    if protocol == Protocol::Http2 {
        let mut server = http2::Builder::new(LocalTasks);
        server.max_concurrent_streams(1024);
        let _ = server.serve_connection(io, service).await;
    } else {
        let _ = http1::Builder::new().serve_connection(io, service).await;
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, Infallible> {
    static PAYLOAD: [u8; ANSWER] = [b'x'; ANSWER];
    static MESSAGE: [u8; 5 + ANSWER] = {
        let mut message = [b'x'; 5 + ANSWER];
        [message[0], message[1], message[2]] = [0; 3];
        [message[3], message[4]] = (ANSWER as u16).to_be_bytes();
        message
    };
    let is_grpc = request.headers().get(http::header::CONTENT_TYPE).is_some_and(|kind| kind == "application/grpc");
    if !is_grpc {
        return Ok(Response::new(Full::new(Bytes::from_static(&PAYLOAD)).boxed_unsync()));
    }
    // Read to its end: an answer before that would reset the stream.
    let _ = request.into_body().collect().await;
    let trailers =
        HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let body = Full::new(Bytes::from_static(&MESSAGE)).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}

fn send_zeros(listener: &std::net::TcpListener) {
    for socket in listener.incoming().flatten() {
        std::thread::spawn(move || {
            let (mut socket, zeros) = (socket, [0; 64 * 1024]);
            while socket.write_all(&zeros).is_ok() {}
        });
    }
}
