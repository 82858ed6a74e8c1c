//! What a connection that nobody uses costs: opened, with or without one request before, and left alone.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::Pair;
use super::relay::ChainOnly;

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

/// Measures a pair that has just served; both its proxies are warm.
///
/// # Errors
/// If a connection or a request on it fails.
pub fn measure(pair: &Pair, folder: &Path, count: usize) -> anyhow::Result<Idle> {
    let config = Arc::new(client(folder)?);
    let [outer, inner] = &pair.processes;
    let cost = |process: &crate::process::Process, address, tls: bool, used: bool| {
        let before = process.settled_rss()?;
        let config = tls.then(|| config.clone());
        let held: Vec<Box<dyn Stream>> =
            (0..count).map(|_| open(address, config.clone(), used)).collect::<anyhow::Result<_>>()?;
        let after = process.settled_rss()?;
        drop(held);
        Ok::<_, anyhow::Error>((after as f64 - before as f64) / count as f64)
    };
    Ok(Idle {
        name: pair.name.clone(),
        plain: cost(outer, pair.address, false, false)?,
        plain_used: cost(outer, pair.address, false, true)?,
        tls: cost(inner, pair.inner, true, false)?,
        tls_used: cost(inner, pair.inner, true, true)?,
    })
}

fn client(folder: &Path) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.pem"))?)?;
    let verifier =
        rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let chain = vec![CertificateDer::from_pem_file(folder.join("cert.pem"))?];
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ChainOnly::new(verifier)))
        .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(folder.join("key.pem"))?)?)
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
