//! Opening one connection: TCP or Unix socket, its options, and TLS, all within `connect_timeout`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use crate::cause::Cause;
use crate::cluster::{ClusterConfig, Host, HostAddress};
use crate::connection::{Dial, TlsInfo};
use crate::io::{Io, Rewind, Socket};
use crate::linux::{DescriptorShare, is_of_the_reserve};
use crate::text::Text;
use crate::tls::{TlsError, TransportSocketOptions};

/// What a connection must be like, beyond its host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// HTTP/2 (else HTTP/1.1); decided by the caller from the cluster's protocol and the request's.
    pub http2: bool,
    /// HTTP/2 or HTTP/1.1, as ALPN says; goes over `http2`.
    pub auto: bool,
    /// High priority breakers.
    pub high_priority: bool,
    /// ALPN list over the cluster's (`istio.alpn`).
    pub alpn: Option<Arc<[Vec<u8>]>>,
    /// SNI over the cluster's (auto SNI).
    pub sni: Option<Text>,
    /// Bind to this source address (original source, `127.0.0.6`).
    pub source: Option<SocketAddr>,
    /// Take a connection of its own and never pool it (upgrades over HTTP/1).
    pub exclusive: bool,
    /// May take a descriptor of the reserve (the control plane's connection).
    pub reserve: bool,
}

/// Why a connection could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{cause}: {detail}")]
pub(crate) struct DialError {
    /// Connect failure, connect timeout or TLS failure.
    pub cause: Cause,
    /// What happened, in words (`upstream_transport_failure_reason`).
    pub detail: String,
}

impl DialError {
    fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into() }
    }
}

/// An open connection.
pub(crate) struct Dialled {
    pub io: Io,
    pub local: Option<SocketAddr>,
    pub tls: Option<TlsInfo>,
    pub times: Dial,
}

/// Opens a connection to `address` as the host's transport says. May run on any thread.
pub(crate) async fn connect(
    config: &ClusterConfig,
    host: &Host,
    address: &HostAddress,
    wanted: &Wanted,
) -> Result<Dialled, DialError> {
    match tokio::time::timeout(config.connect_timeout, open(config, host, address, wanted)).await {
        Ok(result) => result,
        Err(_) => {
            let detail = format!("{address} did not accept a connection within {:?}", config.connect_timeout);
            Err(DialError::new(Cause::UpstreamConnectTimeout, detail))
        }
    }
}

async fn open(
    config: &ClusterConfig,
    host: &Host,
    address: &HostAddress,
    wanted: &Wanted,
) -> Result<Dialled, DialError> {
    let refused = |error: io::Error| {
        // As people know it, without the number that Rust adds.
        let text = error.to_string();
        let detail = format!("delayed connect error: {}", text.split(" (os error").next().unwrap_or_default());
        DialError::new(Cause::UpstreamConnectionFailure, detail)
    };
    let began = crate::timer::now();
    let (socket, local) = match address {
        HostAddress::Tcp(address) => {
            let stream = tcp(config, *address, wanted).await.map_err(refused)?;
            let local = stream.local_addr().ok();
            (Socket::Tcp(stream), local)
        }
        HostAddress::Unix(path) => {
            let stream = UnixStream::connect(path.as_str()).await.map_err(refused)?;
            (Socket::Unix(stream), None)
        }
    };
    let times = Dial { began, connected: crate::timer::now(), secured: None };
    let Some(tls) = config.transports.get(host.transport).and_then(|transport| transport.tls.as_ref()) else {
        return Ok(Dialled { io: Io::plain(socket), local, tls: None, times });
    };
    let failed = |error: TlsError| DialError::new(Cause::UpstreamTlsFailure, format!("TLS_error: {error}"));
    let stream = Rewind::new(Bytes::new(), socket);
    let fallback = fallback_alpn(tls.alpn().is_empty(), wanted);
    let options = TransportSocketOptions {
        application_protocols: fallback.as_deref().or(wanted.alpn.as_deref()),
        server_name: wanted.sni.as_deref(),
        host_name: &host.hostname,
    };
    let (stream, info) = tls.connect(stream, options).await.map_err(failed)?;
    let times = Dial { secured: Some(crate::timer::now()), ..times };
    Ok(Dialled { io: Io::Opened(stream), local, tls: Some(info), times })
}

/// The ALPN list of a context that has none of its own.
fn fallback_alpn(none_of_its_own: bool, wanted: &Wanted) -> Option<Arc<[Vec<u8>]>> {
    let names: &[&[u8]] = match wanted {
        Wanted { alpn: Some(_), .. } => return None,
        _ if !none_of_its_own => return None,
        Wanted { auto: true, .. } => &[b"h2", b"http/1.1"],
        Wanted { http2: true, .. } => &[b"h2"],
        // HTTP/1 and TCP ask for nothing.
        _ => return None,
    };
    Some(names.iter().map(|name| name.to_vec()).collect())
}

async fn tcp(config: &ClusterConfig, address: SocketAddr, wanted: &Wanted) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if !wanted.reserve && is_of_the_reserve(socket.as_raw_fd(), DescriptorShare::Upstream) {
        return Err(io::Error::other("the proxy's descriptors are used up (RLIMIT_NOFILE)"));
    }
    if let Some(source) = wanted.source.or(config.bind).filter(|source| source.is_ipv4() == address.is_ipv4()) {
        socket.bind(source)?;
    }
    socket.set_nodelay(true)?;
    let stream = socket.connect(address).await?;
    if let Some((time, interval, probes)) = config.keepalive {
        let keepalive = socket2::TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(probes);
        socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    }
    Ok(stream)
}
