//! Clients that ask without a pause until they are told to stop, by HTTP/1 and HTTP/2, plain and over TLS.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Running clients.
pub struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    good: AtomicUsize,
    bad: AtomicUsize,
    /// Answers that told the client to close.
    told_to_close: AtomicUsize,
    first_failure: Mutex<Option<String>>,
}

/// Where requests go.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Target {
    async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        let text = |error: std::io::Error| format!("connect: {error}");
        let socket = TcpStream::connect(self.address).await.map_err(text)?;
        let Some(config) = &self.tls else { return Ok(Box::new(socket)) };
        let connector = tokio_rustls::TlsConnector::from(config.clone());
        let name = ServerName::try_from("server.test").unwrap();
        Ok(Box::new(connector.connect(name, socket).await.map_err(text)?))
    }
}

enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Sender {
    async fn open(target: &Target, http2: bool) -> Result<Self, String> {
        let io = TokioIo::new(target.connect().await?);
        let text = |error: hyper::Error| format!("handshake: {error:?}");
        if http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(text)?;
            tokio::spawn(connection);
            return Ok(Self::Http2(sender));
        }
        let (sender, connection) = http1::handshake(io).await.map_err(text)?;
        tokio::spawn(connection);
        Ok(Self::Http1(sender))
    }

    /// Whether a request may be sent on it.
    async fn is_open(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// The answer; `None` if nothing was sent, because the connection had been told to end.
    async fn send(
        &mut self,
        request: http::Request<Empty<Bytes>>,
    ) -> Result<Option<http::Response<hyper::body::Incoming>>, hyper::Error> {
        let sent = match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender) => sender.try_send_request(request).await,
        };
        sent.map(Some).or_else(|mut error| match error.take_message() {
            Some(_) => Ok(None),
            None if was_not_processed(error.error()) => Ok(None),
            None => Err(error.into_error()),
        })
    }
}

/// The client had heard GOAWAY when it sent the request (the `h2` crate sends what is queued nevertheless); the last
/// GOAWAY then says that its stream was not processed, and that it may be sent again (RFC 9113, 6.8).
fn was_not_processed(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    source.is_some_and(|error| error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR))
}

impl Load {
    /// `clients` of each protocol to each target.
    pub fn start(targets: &[Target], clients: usize) -> Self {
        let shared = Arc::<Shared>::default();
        let mut running = JoinSet::new();
        for target in targets {
            for _ in 0..clients {
                for http2 in [false, true] {
                    running.spawn(client(target.clone(), http2, shared.clone()));
                }
            }
        }
        Self { shared, clients: running }
    }

    /// Answered well so far.
    pub fn good(&self) -> usize {
        self.shared.good.load(Ordering::SeqCst)
    }

    pub fn told_to_close(&self) -> usize {
        self.shared.told_to_close.load(Ordering::SeqCst)
    }

    /// Goes on for so many further requests.
    pub async fn further(&self, requests: usize) {
        let wanted = self.good() + requests;
        crate::peers::eventually("further requests", || async { self.good() >= wanted || self.failed() > 0 }).await;
    }

    fn failed(&self) -> usize {
        self.shared.bad.load(Ordering::SeqCst)
    }

    /// Stops; how many requests there were. Fails if one of them did.
    pub async fn finish(mut self) -> usize {
        self.shared.stop.store(true, Ordering::SeqCst);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
        let why = self.shared.first_failure.lock().unwrap().clone();
        assert_eq!(why, None, "{} of {} requests failed", self.failed(), self.good() + self.failed());
        self.good()
    }
}

async fn client(target: Target, http2: bool, shared: Arc<Shared>) {
    let mut kept = None;
    while !shared.stop.load(Ordering::SeqCst) {
        match once(&target, http2, &mut kept, &shared).await {
            Ok(()) => shared.good.fetch_add(1, Ordering::SeqCst),
            Err(why) => {
                let version = if http2 { "HTTP/2" } else { "HTTP/1" };
                shared.first_failure.lock().unwrap().get_or_insert(format!("{version}: {why}"));
                kept = None;
                shared.bad.fetch_add(1, Ordering::SeqCst)
            }
        };
    }
}

async fn once(target: &Target, http2: bool, kept: &mut Option<Sender>, shared: &Shared) -> Result<(), String> {
    loop {
        if let Some(sender) = kept
            && !sender.is_open().await
        {
            *kept = None;
        }
        let sender = match kept {
            Some(sender) => sender,
            None => kept.insert(Sender::open(target, http2).await?),
        };
        let uri = if http2 { "http://test/" } else { "/" };
        let request = http::Request::builder().uri(uri).header("host", "test").body(Empty::new()).unwrap();
        let response = match sender.send(request).await {
            Ok(Some(response)) => response,
            Ok(None) => {
                *kept = None;
                continue;
            }
            Err(error) => return Err(format!("{error:?}")),
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| format!("body: {error:?}"))?.to_bytes();
        if head.headers.get("connection").is_some_and(|value| value == "close") {
            shared.told_to_close.fetch_add(1, Ordering::SeqCst);
            *kept = None;
        }
        if head.status != 200 {
            return Err(format!("{} {:?}", head.status, String::from_utf8_lossy(&body)));
        }
        return Ok(());
    }
}
