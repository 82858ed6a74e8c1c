//! The DNS proxy beside an application, as Istio's agent has it: names of the mesh are answered from the controller's
//! name table (NDS), everything else by the name servers of the pod's `resolv.conf`.
//!
//! ```text
//! application ── port 53, redirected ──> 127.0.0.1:15053 UDP, TCP ── message ── table ──> answer
//!                                                                        └── upstream ──> name servers
//! controller ── ADS ── xds::store ── name table ──> table
//! ```
//!
//! Everything has a bound: questions that wait for a name server, connections, time for each. One thread, that of the
//! agent. Before the first name table every answer is SERVFAIL, as in Istio: to ask a name server could give an address
//! that the mesh does not have for the name.

mod message;
pub mod metrics;
pub mod resolv_conf;
pub mod table;
pub mod upstream;

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ferromesh_proto::istio::networking::nds::v1::NameTable;
use ferromesh_proto::prost::Message as _;
use hickory_resolver::proto::op::ResponseCode;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use message::{Incoming, Question, Transport};
use metrics::Metrics;
use table::{Place, Table};
use upstream::{Silent, Upstream};

/// Questions that wait for a name server at a time; one more is answered with SERVFAIL.
const MAX_ASKED: usize = 512;
/// Connections at a time; more wait until they are accepted.
const MAX_CONNECTIONS: usize = 128;
/// Bytes of a question over UDP; they have a few hundred.
const MAX_DATAGRAM: usize = 4096;
/// Time for the next question on a connection, and for an answer to be taken (RFC 7766: seconds).
const IDLE: Duration = Duration::from_secs(10);
/// Pause after a socket failed for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(50);

/// Why there is no DNS proxy.
#[derive(Debug, thiserror::Error)]
#[error("DNS proxy: cannot listen on {address} by {transport}: {source}")]
pub struct BindError {
    address: SocketAddr,
    transport: &'static str,
    source: std::io::Error,
}

/// Where the DNS proxy listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// On the loopback addresses of both families; IPv6 may be missing.
    Loopback(u16),
    /// On this address.
    At(SocketAddr),
}

/// How a DNS proxy answers.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the pod is.
    pub place: Place,
    /// Who is asked for what is not of the mesh.
    pub upstream: Upstream,
}

/// A DNS proxy that has its sockets.
pub struct Server {
    sockets: Vec<(UdpSocket, TcpListener)>,
    shared: Rc<Shared>,
}

struct Shared {
    config: Config,
    metrics: Arc<Metrics>,
    table: RefCell<Option<Table>>,
    asked: Arc<Semaphore>,
    random: RefCell<fastrand::Rng>,
    silent: Silent,
    /// There were too many questions; said once.
    full: Cell<bool>,
}

impl Server {
    /// Takes its sockets. Name servers that are the proxy itself are left out.
    ///
    /// # Errors
    /// If an address cannot be listened on.
    pub async fn bind(listen: Listen, mut config: Config, metrics: Arc<Metrics>) -> Result<Self, BindError> {
        let mut sockets = Vec::new();
        match listen {
            Listen::At(address) => sockets.push(bind(address).await?),
            Listen::Loopback(port) => {
                let first = bind((Ipv4Addr::LOCALHOST, port).into()).await?;
                // The same port for both families, also where the system chose it.
                let port = first.0.local_addr().map_or(port, |address| address.port());
                sockets.push(first);
                match bind((Ipv6Addr::LOCALHOST, port).into()).await {
                    Ok(second) => sockets.push(second),
                    Err(error) => tracing::info!(%error, "questions by IPv6 are not answered"),
                }
            }
        }
        let own: Vec<SocketAddr> = sockets.iter().filter_map(|(udp, _)| udp.local_addr().ok()).collect();
        config.upstream.servers.retain(|server| !own.contains(server));
        if config.upstream.servers.is_empty() {
            tracing::warn!("no name server is known: only names of the mesh are answered");
        }
        let shared = Shared {
            config,
            metrics,
            table: RefCell::new(None),
            asked: Arc::new(Semaphore::new(MAX_ASKED)),
            random: RefCell::new(fastrand::Rng::new()),
            silent: Silent::default(),
            full: Cell::new(false),
        };
        Ok(Self { sockets, shared: Rc::new(shared) })
    }

    /// Where it listens, by UDP and TCP.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|(udp, _)| udp.local_addr().ok()).collect()
    }

    /// Answers until dropped, on the current `LocalSet`, with the newest of `tables` (encoded `NameTable`s).
    pub async fn serve(self, mut tables: watch::Receiver<Option<Bytes>>) {
        let mut tasks = JoinSet::new();
        for (udp, tcp) in self.sockets {
            tasks.spawn_local(self.shared.clone().serve_udp(Rc::new(udp)));
            tasks.spawn_local(self.shared.clone().serve_tcp(tcp));
        }
        loop {
            let newest = tables.borrow_and_update().clone();
            if let Some(bytes) = newest {
                self.shared.learn(bytes);
            }
            if tables.changed().await.is_err() {
                // Nobody sends any more: the last table stays.
                std::future::pending::<()>().await;
            }
        }
    }
}

async fn bind(address: SocketAddr) -> Result<(UdpSocket, TcpListener), BindError> {
    let failed = |transport| move |source| BindError { address, transport, source };
    let tcp = TcpListener::bind(address).await.map_err(failed("TCP"))?;
    // The same port for both, also where the system chose it.
    let bound = tcp.local_addr().map_err(failed("TCP"))?;
    let udp = UdpSocket::bind(bound).await.map_err(failed("UDP"))?;
    Ok((udp, tcp))
}

/// What is done with what came.
enum Step {
    Answer(Vec<u8>),
    Ask(Box<Question>),
    Nothing,
}

impl Shared {
    fn learn(&self, bytes: Bytes) {
        match NameTable::decode(bytes) {
            Ok(names) => {
                let table = Table::new(&names, &self.config.place);
                tracing::debug!(names = names.table.len(), forms = table.len(), "name table");
                *self.table.borrow_mut() = Some(table);
            }
            // The client that took it in has read it, so this does not happen.
            Err(error) => tracing::warn!(%error, "a name table that cannot be read; the last one stays"),
        }
    }

    /// What can be said without asking anybody.
    fn step(&self, bytes: &[u8], transport: Transport) -> Step {
        let question = match message::read(bytes, transport) {
            Incoming::Question(question) => question,
            Incoming::Refused(answer) => {
                self.metrics.requests.inc();
                return Step::Answer(answer);
            }
            Incoming::Nothing => return Step::Nothing,
        };
        self.metrics.requests.inc();
        let table = self.table.borrow();
        let Some(table) = table.as_ref() else { return Step::Answer(question.failure(ResponseCode::ServFail)) };
        let host = question.is_for_addresses().then(|| question.host()).flatten();
        match host.as_deref().and_then(|host| table.find(host)) {
            Some(found) => Step::Answer(question.answer(&found, &mut self.random.borrow_mut())),
            None => Step::Ask(question),
        }
    }

    /// What the name servers say.
    async fn ask(&self, question: &Question) -> Vec<u8> {
        self.metrics.upstream_requests.inc();
        let started = Instant::now();
        let answer = self.config.upstream.ask(question, &self.silent).await;
        self.metrics.answered_after(started.elapsed());
        answer.unwrap_or_else(|| self.failed(question))
    }

    fn failed(&self, question: &Question) -> Vec<u8> {
        self.metrics.upstream_failures.inc();
        question.failure(ResponseCode::ServFail)
    }

    /// The answer where too many questions wait already.
    fn too_many(&self, question: &Question) -> Vec<u8> {
        if !self.full.replace(true) {
            tracing::warn!("{MAX_ASKED} questions wait for name servers: more are answered with SERVFAIL");
        }
        self.failed(question)
    }

    async fn serve_udp(self: Rc<Self>, socket: Rc<UdpSocket>) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            match self.step(buffer.get(..length).unwrap_or_default(), Transport::Udp) {
                Step::Answer(answer) => send(&socket, &answer, client).await,
                Step::Ask(question) => match self.asked.clone().try_acquire_owned() {
                    Ok(place) => {
                        let (shared, socket) = (self.clone(), socket.clone());
                        tokio::task::spawn_local(async move {
                            let answer = shared.ask(&question).await;
                            send(&socket, &answer, client).await;
                            drop(place);
                        });
                    }
                    Err(_) => send(&socket, &self.too_many(&question), client).await,
                },
                Step::Nothing => {}
            }
        }
    }

    async fn serve_tcp(self: Rc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            // It is never closed.
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let shared = self.clone();
            tokio::task::spawn_local(async move {
                shared.connection(stream).await;
                drop(place);
            });
        }
    }

    /// One question after the other.
    async fn connection(&self, mut stream: TcpStream) {
        while let Ok(Ok(bytes)) = tokio::time::timeout(IDLE, upstream::read_message(&mut stream)).await {
            let answer = match self.step(&bytes, Transport::Tcp) {
                Step::Answer(answer) => answer,
                Step::Ask(question) => match self.asked.try_acquire() {
                    Ok(_place) => self.ask(&question).await,
                    Err(_) => self.too_many(&question),
                },
                Step::Nothing => return,
            };
            let written = tokio::time::timeout(IDLE, upstream::write_message(&mut stream, &answer)).await;
            if !matches!(written, Ok(Ok(()))) {
                return;
            }
        }
    }
}

/// A client that is gone is no failure of ours.
async fn send(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    if !answer.is_empty()
        && let Err(error) = socket.send_to(answer, client).await
    {
        tracing::debug!(%client, %error, "answer");
    }
}

/// Reads `localhost:15053` or an address with its port (Istio's `DNS_PROXY_ADDR`).
pub fn listen(text: &str) -> Option<Listen> {
    if let Some(port) = text.strip_prefix("localhost:") {
        return port.parse().ok().map(Listen::Loopback);
    }
    text.parse().ok().map(Listen::At)
}
