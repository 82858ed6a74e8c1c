//! Opening one connection: TCP or Unix socket, its options, and TLS, all within `connect_timeout`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use bytes::Bytes;
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use super::{UpstreamError, Wanted};
use crate::cause::Cause;
use crate::cluster::{ClusterConfig, Host, HostAddress};
use crate::connection::TlsInfo;
use crate::io::{Io, Rewind, Socket};
use crate::linux::{DescriptorShare, is_of_the_reserve};

/// An open connection.
pub(crate) struct Dialled {
    pub io: Io,
    pub local: Option<SocketAddr>,
    pub tls: Option<TlsInfo>,
}

/// Opens a connection to `address` as the host's transport says. May run on any thread.
pub(crate) async fn connect(
    config: &ClusterConfig,
    host: &Host,
    address: &HostAddress,
    wanted: &Wanted,
) -> Result<Dialled, UpstreamError> {
    match tokio::time::timeout(config.connect_timeout, open(config, host, address, wanted)).await {
        Ok(result) => result,
        Err(_) => {
            let detail = format!("{address} did not accept a connection within {:?}", config.connect_timeout);
            Err(UpstreamError::early(Cause::UpstreamConnectTimeout, detail))
        }
    }
}

async fn open(
    config: &ClusterConfig,
    host: &Host,
    address: &HostAddress,
    wanted: &Wanted,
) -> Result<Dialled, UpstreamError> {
    let refused = |error: io::Error| {
        // As people know it, without the number that Rust adds.
        let text = error.to_string();
        let detail = format!("delayed connect error: {}", text.split(" (os error").next().unwrap_or_default());
        UpstreamError::early(Cause::UpstreamConnectionFailure, detail)
    };
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
    let Some(tls) = config.transports.get(host.transport).and_then(|transport| transport.tls.as_ref()) else {
        return Ok(Dialled { io: Io::plain(socket), local, tls: None });
    };
    let failed =
        |error: crate::tls::TlsError| UpstreamError::early(Cause::UpstreamTlsFailure, format!("TLS_error: {error}"));
    let stream = Rewind::new(Bytes::new(), socket);
    let fallback = fallback_alpn(tls.alpn().is_empty(), wanted);
    let (stream, info) = match fallback {
        None => tls.connect(stream, wanted, host).await.map_err(failed)?,
        Some(alpn) => {
            let wanted = Wanted { alpn: Some(alpn), ..wanted.clone() };
            tls.connect(stream, &wanted, host).await.map_err(failed)?
        }
    };
    Ok(Dialled { io: Io::Opened(stream), local, tls: Some(info) })
}

/// The ALPN list of a context that has none of its own.
fn fallback_alpn(none_of_its_own: bool, wanted: &Wanted) -> Option<std::sync::Arc<[Vec<u8>]>> {
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
