//! The xDS port: connections come in over TCP or a Unix socket, are authenticated, and become ADS streams over HTTP/2.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ferromesh_core::identity::spiffe_id_of_der;
use ferromesh_core::runtime::drain;
use ferromesh_core::{TrustDomain, tls};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::server::ResolvesServerCert;
use rustls::server::danger::ClientCertVerifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::client::Peer;
use super::lanes::Lanes;
use super::names::NameLists;
use super::session::Limits;
use super::stream::{Shared, Timing};
use super::{Hub, grpc};
use crate::metrics::Metrics;

/// Bytes of a stream's responses that wait for the client to read, at most; more are made when it has.
const SEND_BUFFER: usize = 16 << 10;
/// Streams on one connection; a proxy opens one.
const STREAMS_PER_CONNECTION: u32 = 8;
const HANDSHAKE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How the two ends of a connection prove who they are. Both parts may rotate inside.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// The server's certificate.
    pub certificate: Arc<dyn ResolvesServerCert>,
    /// Checks the chains of clients; must ask for a certificate and require it.
    pub client_verifier: Arc<dyn ClientCertVerifier>,
    /// The identities that are let in.
    pub trust_domain: TrustDomain,
}

/// How much the port takes on.
#[derive(Clone, Copy, Debug)]
pub struct ServerConfig {
    /// Open streams.
    pub max_streams: usize,
    /// Open connections.
    pub max_connections: usize,
    /// Open connections from one address.
    pub max_connections_per_address: usize,
    /// Bounds of one stream.
    pub limits: Limits,
    /// Times of one stream.
    pub timing: Timing,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            max_streams: 16_384,
            max_connections: 16_384,
            max_connections_per_address: 1024,
            limits: Limits::default(),
            timing: Timing::default(),
        }
    }
}

/// Why the port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("xDS address {address}: {source}; choose another with --xds-address")]
    Listen {
        /// The address.
        address: Address,
        /// What the system said.
        source: std::io::Error,
    },
    /// Without TLS nobody proves who they are.
    #[error("xDS address {0} has no TLS: give certificates, or listen on loopback with plaintext allowed")]
    Plaintext(Address),
    /// No thread could be started to serve on.
    #[error("xDS address {0}: no thread to serve it on: {1}; raise the limit of processes or threads")]
    Threads(Address, std::io::Error),
    /// The TLS settings do not work together.
    #[error("xDS TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// The open port; it accepts until `drain` begins.
pub struct Server {
    address: Address,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// What every connection needs.
struct Port {
    shared: Arc<Shared>,
    tls: Option<(TlsAcceptor, TrustDomain)>,
    connections: Arc<Semaphore>,
    lanes: Lanes,
    per_address: Mutex<HashMap<IpAddr, usize>>,
    max_per_address: usize,
    drain: drain::Watch,
}

impl Server {
    /// Opens the port and serves the views of `hub`; it accepts on the caller's runtime, and serves on threads of its own.
    ///
    /// # Errors
    /// If the address is taken, no thread is to be had, or plaintext is asked for where others could reach it.
    pub async fn start(
        address: Address,
        security: Option<ServerTls>,
        allow_plaintext_loopback: bool,
        config: ServerConfig,
        (hub, metrics, drain): (Hub, Metrics, drain::Watch),
    ) -> Result<Self, ServerError> {
        let loopback = match &address {
            Address::Tcp(address) => address.ip().is_loopback(),
            Address::Unix(_) => true,
        };
        if security.is_none() && !(loopback && allow_plaintext_loopback) {
            return Err(ServerError::Plaintext(address));
        }
        let tls = security.map(|security| acceptor(&security).map(|tls| (tls, security.trust_domain))).transpose()?;
        let (socket, address) = bind(&address).await.map_err(|source| ServerError::Listen { address, source })?;
        let lanes = Lanes::start().map_err(|error| ServerError::Threads(address.clone(), error))?;
        let shared = Arc::new(Shared {
            hub,
            metrics,
            limits: config.limits,
            timing: config.timing,
            streams: Arc::new(Semaphore::new(config.max_streams)),
            translations: Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from))),
            drain: drain.clone(),
            names: NameLists::default(),
        });
        let port = Arc::new(Port {
            shared,
            tls,
            lanes,
            connections: Arc::new(Semaphore::new(config.max_connections)),
            per_address: Mutex::default(),
            max_per_address: config.max_connections_per_address,
            drain,
        });
        tokio::spawn(accept(socket, port));
        Ok(Self { address })
    }

    /// Where it listens, with the port that the system chose.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

fn acceptor(security: &ServerTls) -> Result<TlsAcceptor, rustls::Error> {
    let mut config = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(Arc::clone(&security.client_verifier))
        .with_cert_resolver(Arc::clone(&security.certificate));
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn bind(address: &Address) -> std::io::Result<(Socket, Address)> {
    match address {
        Address::Tcp(address) => {
            let listener = TcpListener::bind(address).await?;
            let address = Address::Tcp(listener.local_addr()?);
            Ok((Socket::Tcp(listener), address))
        }
        Address::Unix(path) => Ok((Socket::Unix(bind_unix(path)?), address.clone())),
    }
}

fn bind_unix(path: &Path) -> std::io::Result<UnixListener> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    // A socket that a killed controller left behind; anything else stays and gives an error.
    if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn accept(socket: Socket, port: Arc<Port>) {
    loop {
        let accepted = tokio::select! {
            () = port.drain.signaled() => return,
            accepted = socket.accept() => accepted,
        };
        let (connection, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: connections that end give some back.
                tracing::warn!(%error, "xDS accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(slot) = Slot::take(&port, address.map(|address| address.ip())) else {
            tracing::warn!(?address, "xDS connection refused: too many are open");
            continue;
        };
        let serving = Arc::clone(&port);
        let guard = port.drain.guard();
        port.lanes.spawn(async move {
            let _held = (slot, guard);
            if let Err(error) = connection.serve(&serving, address).await {
                tracing::debug!(?address, error, "xDS connection ended");
            }
        });
    }
}

/// As the system knows it: the thread that serves it makes it one of its own.
enum Connection {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Socket {
    async fn accept(&self) -> std::io::Result<(Connection, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Connection::Tcp(stream.into_std()?), Some(address)))
            }
            Self::Unix(listener) => Ok((Connection::Unix(listener.accept().await?.0.into_std()?), None)),
        }
    }
}

impl Connection {
    async fn serve(self, port: &Port, address: Option<SocketAddr>) -> Result<(), String> {
        let lost = |error: std::io::Error| error.to_string();
        match self {
            Self::Tcp(stream) => authenticate(TcpStream::from_std(stream).map_err(lost)?, port, address).await,
            Self::Unix(stream) => authenticate(UnixStream::from_std(stream).map_err(lost)?, port, address).await,
        }
    }
}

async fn authenticate<I>(stream: I, port: &Port, address: Option<SocketAddr>) -> Result<(), String>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some((acceptor, trust_domain)) = &port.tls else {
        return http2(stream, port, Peer { address, identity: None }).await;
    };
    let handshake = timeout(HANDSHAKE, acceptor.accept(stream)).await.map_err(|_| "TLS handshake took too long")?;
    let stream = handshake.map_err(|error| format!("TLS handshake: {error}"))?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let leaf = certificates.first().ok_or("the client sent no certificate")?;
    let identity = spiffe_id_of_der(leaf).map_err(|error| format!("client certificate: {error}"))?;
    if !identity.is_member_of(trust_domain) {
        return Err(format!("{identity:?} is not of trust domain {}", trust_domain.as_str()));
    }
    http2(stream, port, Peer { address, identity: Some(identity) }).await
}

async fn http2<I>(stream: I, port: &Port, peer: Peer) -> Result<(), String>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shared = Arc::clone(&port.shared);
    let call = move |request| std::future::ready(Ok::<_, Infallible>(grpc::call(&shared, &peer, request)));
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .max_header_list_size(16 << 10)
        .max_send_buf_size(SEND_BUFFER)
        .serve_connection(TokioIo::new(stream), hyper::service::service_fn(call));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        end = connection.as_mut() => return end.map_err(|error| error.to_string()),
        () = port.drain.signaled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await.map_err(|error| error.to_string())
}

/// One of the connections that may be open.
struct Slot {
    port: Arc<Port>,
    address: Option<IpAddr>,
    _permit: OwnedSemaphorePermit,
}

impl Slot {
    fn take(port: &Arc<Port>, address: Option<IpAddr>) -> Option<Self> {
        let permit = Arc::clone(&port.connections).try_acquire_owned().ok()?;
        if let Some(address) = address {
            let mut per_address = port.per_address.lock();
            let count = per_address.entry(address).or_default();
            if *count >= port.max_per_address {
                return None;
            }
            *count += 1;
        }
        Some(Self { port: Arc::clone(port), address, _permit: permit })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut per_address = self.port.per_address.lock();
        if let Some(count) = per_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                per_address.remove(&address);
            }
        }
    }
}
