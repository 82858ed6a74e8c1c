//! What a connection that nobody uses costs: opened, with or without one request before, and left alone.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::Plan;
use super::backend::Backend;
use super::peers::{self, Peer, Protocol};
use super::relay::client;

/// Memory of idle connections, bytes each.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Idle {
    /// The peer.
    pub name: String,
    /// Plain text, no request.
    pub plain: f64,
    /// Plain text, after a request.
    pub plain_used: f64,
    /// Mutual TLS, no request.
    pub tls: f64,
    /// Mutual TLS, after a request.
    pub tls_used: f64,
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// Measures every peer that is here.
///
/// # Errors
/// If a connection or a request on it fails.
pub fn run(plan: &Plan, folder: &Path) -> anyhow::Result<Vec<Idle>> {
    let backend = Backend::start(Protocol::Http1)?;
    let mut all = Vec::new();
    for peer in peers::all(plan, Protocol::Http1) {
        let of_peer = measure(&peer, folder, backend.address(), plan.idle_connections);
        all.extend(of_peer.with_context(|| peer.name.clone())?);
    }
    Ok(all)
}

/// Measures a peer, each kind of connection on a pair of its own that has served one request; `None` if it is not here.
fn measure(peer: &Peer, folder: &Path, backend: SocketAddr, count: usize) -> anyhow::Result<Option<Idle>> {
    let config = Arc::new(client(folder)?);
    let cost = |tls: bool, used: bool| -> anyhow::Result<Option<f64>> {
        let Some(pair) = peer.start(folder, backend)? else { return Ok(None) };
        drop(open(pair.address, None, true)?);
        let [outer, inner] = &pair.processes;
        let (process, address) = if tls { (inner, pair.inner) } else { (outer, pair.address) };
        drop(open(address, tls.then(|| config.clone()), true)?);
        let before = process.settled_rss()?;
        let held: Vec<Box<dyn Stream>> =
            (0..count).map(|_| open(address, tls.then(|| config.clone()), used)).collect::<anyhow::Result<_>>()?;
        let after = process.settled_rss()?;
        drop(held);
        Ok(Some((after as f64 - before as f64) / count as f64))
    };
    let Some(plain) = cost(false, false)? else { return Ok(None) };
    let of = |tls, used| Ok::<_, anyhow::Error>(cost(tls, used)?.unwrap_or(f64::NAN));
    let (plain_used, tls, tls_used) = (of(false, true)?, of(true, false)?, of(true, true)?);
    Ok(Some(Idle { name: peer.name.clone(), plain, plain_used, tls, tls_used }))
}

fn open(address: SocketAddr, tls: Option<Arc<ClientConfig>>, used: bool) -> anyhow::Result<Box<dyn Stream>> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut stream: Box<dyn Stream> = match tls {
        None => Box::new(socket),
        Some(config) => {
            let mut session = ClientConnection::new(config, ServerName::try_from("bench.local")?)?;
            while session.is_handshaking() {
                session.complete_io(&mut socket).context("TLS handshake")?;
            }
            Box::new(StreamOwned::new(session, socket))
        }
    };
    if used {
        request(&mut stream)?;
    }
    Ok(stream)
}

/// One GET, answered with 1 KiB; the connection stays open.
fn request(stream: &mut dyn Stream) -> anyhow::Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: bench.local\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk).context("the answer")?;
        anyhow::ensure!(read > 0, "the connection closed before the answer was whole");
        answer.extend_from_slice(&chunk[..read]);
        let head = answer.windows(4).position(|window| window == b"\r\n\r\n");
        if head.is_some_and(|head| answer.len() >= head + 4 + 1024) {
            anyhow::ensure!(answer.starts_with(b"HTTP/1.1 200"), "not answered with 200");
            return Ok(());
        }
    }
}
