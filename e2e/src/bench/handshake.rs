//! New connections with mTLS, none of them resumed: what one costs the server.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::backend::Backend;
use super::peers::{self, Protocol};
use super::{Plan, relay};
use crate::process::Process;

/// Costs of a peer.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Handshakes {
    /// Its name.
    pub name: String,
    /// CPU microseconds of the server for a connection, from accept to close; one for each run.
    pub cpu_us: Vec<f64>,
}

/// Measures every peer, interleaved.
///
/// # Errors
/// If a peer that is there does not start, or a handshake fails.
pub fn run(plan: &Plan, folder: &Path) -> anyhow::Result<Vec<Handshakes>> {
    let backend = Backend::start(Protocol::Http1)?;
    let pairs = super::start(peers::all(plan, Protocol::Http1), folder, backend.address())?;
    let config = Arc::new(relay::client(folder)?);
    let mut all: Vec<Handshakes> =
        pairs.iter().map(|pair| Handshakes { name: pair.name.clone(), cpu_us: Vec::new() }).collect();
    for _ in 0..plan.runs {
        for (pair, peer) in pairs.iter().zip(&mut all) {
            let [_, server] = &pair.processes;
            let cost = measure(server, pair.inner, &config, plan.duration).with_context(|| pair.name.clone())?;
            eprintln!("{:>10} new mTLS connection {cost:.0} us CPU", pair.name);
            peer.cpu_us.push(cost);
        }
    }
    Ok(all)
}

fn measure(
    server: &Process,
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    duration: Duration,
) -> anyhow::Result<f64> {
    connect(address, config)?;
    let (begin, before) = (Instant::now(), server.cpu_seconds()?);
    let mut count = 0;
    while begin.elapsed() < duration {
        connect(address, config)?;
        count += 1;
    }
    Ok((server.cpu_seconds()? - before) * 1e6 / f64::from(count))
}

/// A whole handshake; the server closes after us, so that it has checked our certificate by then.
fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> anyhow::Result<()> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut session = ClientConnection::new(config.clone(), ServerName::try_from("bench.local")?)?;
    while session.is_handshaking() {
        session.complete_io(&mut socket).context("TLS handshake")?;
    }
    session.send_close_notify();
    while session.wants_write() {
        session.write_tls(&mut socket)?;
    }
    socket.shutdown(std::net::Shutdown::Write)?;
    let mut rest = [0; 4096];
    loop {
        match socket.read(&mut rest) {
            Ok(1..) => {}
            Ok(0) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error).context("the server does not close"),
        }
    }
}
