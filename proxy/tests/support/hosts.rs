//! Upstream hosts of a test: they name themselves, and fail, wait or check their health as they are told.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// A host.
pub struct Host {
    pub address: SocketAddr,
    pub state: Arc<State>,
    task: JoinHandle<()>,
}

/// How a host behaves.
pub struct State {
    pub name: String,
    /// Status of its answers.
    pub status: AtomicU16,
    /// Status of `/healthz`, and whether the gRPC health service says that it serves (200).
    pub health: AtomicU16,
    /// Requests wait for [`State::release`].
    pub holds: AtomicBool,
    /// The connection is closed in place of an answer.
    pub hangs_up: AtomicBool,
    /// Requests other than health checks.
    pub requests: AtomicUsize,
    /// Health checks.
    pub checks: AtomicUsize,
    waiting: AtomicUsize,
    released: Semaphore,
}

impl State {
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Lets all requests go on that wait, and those that come.
    pub fn release(&self) {
        self.holds.store(false, Ordering::SeqCst);
        self.released.add_permits(self.waiting());
    }
}

impl Host {
    pub async fn start(name: &str) -> Self {
        Self::at(name, TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub fn at(name: &str, listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            name: name.to_owned(),
            status: AtomicU16::new(200),
            health: AtomicU16::new(200),
            holds: AtomicBool::new(false),
            hangs_up: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            checks: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            released: Semaphore::new(0),
        });
        let task = tokio::spawn(serve(listener, state.clone()));
        Self { address, state, task }
    }

    pub fn says(&self, status: u16) {
        self.state.status.store(status, Ordering::SeqCst);
    }

    pub fn health(&self, status: u16) {
        self.state.health.store(status, Ordering::SeqCst);
    }

    /// Nobody listens any more, and open connections are closed.
    pub async fn stop(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.address
    }
}

/// Hosts at several addresses of one port.
pub async fn hosts_at(addresses: &[&str]) -> (u16, Vec<Host>) {
    'port: loop {
        let first = TcpListener::bind((addresses[0], 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut listeners = vec![first];
        for address in &addresses[1..] {
            match TcpListener::bind((address.parse::<IpAddr>().unwrap(), port)).await {
                Ok(listener) => listeners.push(listener),
                // Somebody else has this port there.
                Err(_) => continue 'port,
            }
        }
        let hosts = addresses.iter().zip(listeners).map(|(address, listener)| Host::at(address, listener));
        return (port, hosts.collect());
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let state = state.clone();
        connections.spawn(async move {
            let answer = hyper::service::service_fn(|request| answer(state.clone(), request));
            let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), answer)
                .await;
        });
    }
}

type Answer = http::Response<BoxBody<Bytes, Infallible>>;

async fn answer(state: Arc<State>, request: http::Request<Incoming>) -> Result<Answer, &'static str> {
    let text = |status: u16| {
        let body = Full::new(Bytes::from(state.name.clone())).boxed();
        let mut response = http::Response::new(body);
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        response
    };
    match request.uri().path() {
        "/healthz" => {
            state.checks.fetch_add(1, Ordering::SeqCst);
            return Ok(text(state.health.load(Ordering::SeqCst)));
        }
        "/grpc.health.v1.Health/Check" => {
            state.checks.fetch_add(1, Ordering::SeqCst);
            let serves = state.health.load(Ordering::SeqCst) == 200;
            return Ok(grpc_health(serves));
        }
        _ => {}
    }
    let _ = request.into_body().collect().await;
    state.requests.fetch_add(1, Ordering::SeqCst);
    if state.holds.load(Ordering::SeqCst) {
        state.waiting.fetch_add(1, Ordering::SeqCst);
        // Who was released between the two lines is not waited for again.
        if state.holds.load(Ordering::SeqCst) {
            state.released.acquire().await.unwrap().forget();
        }
        state.waiting.fetch_sub(1, Ordering::SeqCst);
    }
    if state.hangs_up.load(Ordering::SeqCst) {
        return Err("told to hang up");
    }
    Ok(text(state.status.load(Ordering::SeqCst)))
}

/// `grpc.health.v1.HealthCheckResponse` in one frame, and the status in trailers.
fn grpc_health(serves: bool) -> Answer {
    let message = Bytes::from_iter([0, 0, 0, 0, 2, 8, if serves { 1 } else { 2 }]);
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let frames = [Ok(Frame::data(message)), Ok(Frame::trailers(trailers))];
    let mut response = http::Response::new(StreamBody::new(tokio_stream::iter(frames)).boxed());
    response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    response
}

/// A client that keeps its connection.
pub struct Client {
    address: SocketAddr,
    sender: Option<hyper::client::conn::http1::SendRequest<Empty<Bytes>>>,
}

/// Status, headers and body.
pub type Got = (u16, http::HeaderMap, String);

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, sender: None }
    }

    pub async fn get(&mut self, path: &str) -> Result<Got, String> {
        self.ask(path, &[]).await
    }

    /// A request with headers. A connection that the server has ended meanwhile is replaced.
    pub async fn ask(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<Got, String> {
        let text = |error: hyper::Error| format!("{error:?}");
        let mut kept = self.sender.take();
        if let Some(sender) = &mut kept
            && sender.ready().await.is_err()
        {
            kept = None;
        }
        let mut sender = match kept {
            Some(sender) => sender,
            None => {
                let socket = TcpStream::connect(self.address).await.map_err(|error| error.to_string())?;
                let (sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(text)?;
                tokio::spawn(connection);
                sender
            }
        };
        let mut request = http::Request::builder().uri(path).header("host", "test");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = sender.send_request(request.body(Empty::new()).unwrap()).await.map_err(text)?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(text)?.to_bytes();
        if head.headers.get("connection").is_none_or(|value| value != "close") {
            self.sender = Some(sender);
        }
        Ok((head.status.as_u16(), head.headers, String::from_utf8_lossy(&body).into_owned()))
    }

    /// How often each answer came: `200 name`, or `503` alone for others.
    pub async fn count(&mut self, requests: usize, path: &str) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        for _ in 0..requests {
            let (status, _, body) = self.get(path).await.unwrap();
            let key = if status == 200 { body } else { status.to_string() };
            *found.entry(key).or_default() += 1;
        }
        found
    }
}
