//! A closed loop of requests from a network namespace, every failure of which is told with its cause. Nothing is sent a second time,
//! unless not one byte of it was sent.
//!
//! ```text
//! Aim ─> thread in the namespace ─> connections: request, whole answer, pause, request … ─> Outcome
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Serialize;
use tokio::net::{TcpSocket, TcpStream};

use crate::cluster::network;

/// Whatever of a request takes longer has failed.
const LONGEST: Duration = Duration::from_secs(15);
/// Bytes of an answer, at most.
const MAX_BODY: usize = 1 << 20;
/// Causes that are told apart.
const MAX_CAUSES: usize = 20;

/// How requests travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, many requests on a connection.
    Http1,
    /// HTTP/1.1, a new connection for each request.
    Http1Anew,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// Whence, where to, and how much.
#[derive(Debug, Clone)]
pub struct Aim {
    /// What it is called in the table.
    pub name: &'static str,
    /// Sockets are made in this process's network namespace.
    pub process: i32,
    /// Whom it asks.
    pub address: SocketAddr,
    /// Host of the requests.
    pub host: String,
    /// Path of the requests.
    pub path: String,
    /// How.
    pub protocol: Protocol,
    /// Requests at a time.
    pub connections: usize,
    /// Between an answer and the next request of a connection.
    pub pause: Duration,
}

/// Failures of one kind.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Cause {
    /// Status and sentence, or what became of the connection.
    pub what: String,
    /// How many.
    pub count: u64,
    /// When the first was, seconds since the load began.
    pub first: f64,
    /// When the last was.
    pub last: f64,
}

/// What an aim saw.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The aim's name.
    pub name: &'static str,
    /// Requests, with those that failed.
    pub requests: u64,
    /// Those that had no answer, or another status than 200.
    pub failed: u64,
    /// The longest time to an answer, seconds.
    pub longest: f64,
    /// Why they failed.
    pub causes: Vec<Cause>,
}

#[derive(Debug)]
struct Counts {
    begin: Instant,
    requests: AtomicU64,
    longest_us: AtomicU64,
    causes: Mutex<BTreeMap<String, Cause>>,
}

/// A load that runs until it is ended.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    running: Vec<(&'static str, Arc<Counts>, JoinHandle<()>)>,
}

impl Load {
    /// Begins.
    ///
    /// # Errors
    /// If a namespace cannot be entered.
    pub fn start(aims: Vec<Aim>) -> anyhow::Result<Self> {
        let (stop, begin) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let mut running = Vec::new();
        for aim in aims {
            let counts = Arc::new(Counts {
                begin,
                requests: AtomicU64::default(),
                longest_us: AtomicU64::default(),
                causes: Mutex::default(),
            });
            let (name, ours, theirs) = (aim.name, counts.clone(), stop.clone());
            let namespace = network::Namespace::of(aim.process)?;
            let run = move || match namespace.enter() {
                Ok(()) => drive(aim, &ours, &theirs),
                Err(error) => ours.failed(format!("{error:#}")),
            };
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run).context("a thread")?;
            running.push((name, counts, thread));
        }
        Ok(Self { stop, running })
    }

    /// Requests of all aims so far.
    pub fn requests(&self) -> u64 {
        self.running.iter().map(|(_, counts, _)| counts.requests.load(Ordering::Relaxed)).sum()
    }

    /// Failures of all aims so far.
    pub fn failed(&self) -> u64 {
        self.running.iter().map(|(_, counts, _)| counts.causes().iter().map(|cause| cause.count).sum::<u64>()).sum()
    }

    /// Ends it: requests that were begun get their answers.
    pub fn end(self) -> Vec<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        let end = |(name, counts, thread): (&'static str, Arc<Counts>, JoinHandle<()>)| {
            if thread.join().is_err() {
                counts.failed("the load itself ended before its time".to_owned());
            }
            let causes = counts.causes();
            Outcome {
                name,
                requests: counts.requests.load(Ordering::Relaxed),
                failed: causes.iter().map(|cause| cause.count).sum(),
                longest: counts.longest_us.load(Ordering::Relaxed) as f64 / 1e6,
                causes,
            }
        };
        self.running.into_iter().map(end).collect()
    }
}

impl Counts {
    fn answered(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.longest_us.fetch_max(micros, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    fn failed(&self, what: String) {
        let at = self.begin.elapsed().as_secs_f64();
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        let what = if causes.len() < MAX_CAUSES || causes.contains_key(&what) { what } else { "others".to_owned() };
        let cause = causes.entry(what.clone()).or_insert(Cause { what, count: 0, first: at, last: at });
        cause.count += 1;
        cause.last = at;
    }

    fn causes(&self) -> Vec<Cause> {
        self.causes.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

fn drive(aim: Aim, counts: &Arc<Counts>, stop: &Arc<AtomicBool>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return counts.failed(format!("a runtime: {error}")),
    };
    let aim = Arc::new(aim);
    runtime.block_on(async {
        let mut connections = tokio::task::JoinSet::new();
        for _ in 0..aim.connections {
            let (aim, counts, stop) = (aim.clone(), counts.clone(), stop.clone());
            connections.spawn(async move {
                let mut connection = None;
                while !stop.load(Ordering::Relaxed) {
                    let begin = Instant::now();
                    match ask(&aim, &mut connection).await {
                        Ok(()) => counts.answered(begin.elapsed()),
                        Err(why) => {
                            connection = None;
                            counts.failed(why);
                        }
                    }
                    tokio::time::sleep(aim.pause).await;
                }
            });
        }
        connections.join_all().await
    });
}

/// The sending half of a connection.
enum Sender {
    One(hyper::client::conn::http1::SendRequest<Empty<Bytes>>),
    Two(hyper::client::conn::http2::SendRequest<Empty<Bytes>>),
}

/// What has not happened after [`LONGEST`] is said.
async fn within<T>(what: &str, future: impl Future<Output = T>) -> Result<T, String> {
    tokio::time::timeout(LONGEST, future).await.map_err(|_| format!("{what} in {LONGEST:?}"))
}

/// One request, on the connection that there is, or on a new one.
async fn ask(aim: &Aim, connection: &mut Option<Sender>) -> Result<(), String> {
    loop {
        // A connection whose end was announced takes nothing any more.
        let usable = match connection {
            Some(Sender::One(sender)) => within("neither end nor readiness", sender.ready()).await?.is_ok(),
            Some(Sender::Two(sender)) => within("neither end nor readiness", sender.ready()).await?.is_ok(),
            None => false,
        };
        if !usable {
            *connection = Some(within("no connection", connect(aim)).await??);
        }
        let sent = match connection {
            Some(Sender::One(sender)) => within("no answer", sender.send_request(request(aim)?)).await?,
            Some(Sender::Two(sender)) => within("no answer", sender.send_request(request(aim)?)).await?,
            None => return Err("no connection".into()),
        };
        let answer = match sent {
            Ok(answer) => answer,
            // Nothing of it was sent: the connection ended between two requests.
            Err(error) if error.is_canceled() => {
                *connection = None;
                continue;
            }
            Err(error) => return Err(told(&error)),
        };
        let status = answer.status();
        let body = within("no end of the body", Limited::new(answer.into_body(), MAX_BODY).collect()).await?;
        let body = body.map_err(|error| format!("{status}, then the body ended: {error}"))?.to_bytes();
        if aim.protocol == Protocol::Http1Anew {
            // The client closes, as browsers do. A server that closed first would keep its half for a minute, and the node's
            // address translation may give the same pair of addresses to another connection meanwhile: it gets no answer.
            *connection = None;
        }
        if status == http::StatusCode::OK {
            return Ok(());
        }
        let said =
            String::from_utf8_lossy(&body).lines().next().unwrap_or_default().chars().take(160).collect::<String>();
        return Err(format!("{status}: {said}"));
    }
}

/// An error of hyper with what is behind it.
fn told(error: &hyper::Error) -> String {
    let behind = std::error::Error::source(error);
    behind.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// Source ports of connections that serve one request: none comes again while the node, which translates addresses, may still
/// remember the connection that had it before. A client of its own would take one again within seconds.
const SOURCES: std::ops::Range<u16> = 20_000..60_000;

/// A new connection from the next source port that is free.
async fn from_next_port(address: SocketAddr) -> std::io::Result<TcpStream> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    for _ in SOURCES {
        let place = NEXT.fetch_add(1, Ordering::Relaxed) % SOURCES.len() as u64;
        let (socket, any): (_, IpAddr) = match address {
            SocketAddr::V4(_) => (TcpSocket::new_v4()?, Ipv4Addr::UNSPECIFIED.into()),
            SocketAddr::V6(_) => (TcpSocket::new_v6()?, Ipv6Addr::UNSPECIFIED.into()),
        };
        match socket.bind(SocketAddr::new(any, SOURCES.start + place as u16)) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
            Ok(()) => return socket.connect(address).await,
        }
    }
    Err(std::io::ErrorKind::AddrInUse.into())
}

async fn connect(aim: &Aim) -> Result<Sender, String> {
    let socket = match aim.protocol {
        Protocol::Http1Anew => from_next_port(aim.address).await,
        Protocol::Http1 | Protocol::Http2 => TcpStream::connect(aim.address).await,
    };
    let socket = socket.map_err(|error| format!("connecting: {error}"))?;
    socket.set_nodelay(true).map_err(|error| error.to_string())?;
    let socket = TokioIo::new(socket);
    if aim.protocol == Protocol::Http2 {
        let (sender, driver) = hyper::client::conn::http2::handshake(TokioExecutor::new(), socket)
            .await
            .map_err(|error| format!("handshake: {}", told(&error)))?;
        // How the connection ends is seen by its requests.
        tokio::spawn(async move { drop(driver.await) });
        return Ok(Sender::Two(sender));
    }
    let (sender, driver) = hyper::client::conn::http1::handshake(socket).await.map_err(|error| told(&error))?;
    tokio::spawn(async move { drop(driver.await) });
    Ok(Sender::One(sender))
}

fn request(aim: &Aim) -> Result<Request<Empty<Bytes>>, String> {
    let uri = match aim.protocol {
        Protocol::Http2 => format!("http://{}{}", aim.host, aim.path),
        Protocol::Http1 | Protocol::Http1Anew => aim.path.clone(),
    };
    let mut request = Request::get(uri);
    if aim.protocol != Protocol::Http2 {
        request = request.header(header::HOST, &aim.host);
    }
    request.body(Empty::new()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
