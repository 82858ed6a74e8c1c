//! The floor: a bare relay of hyper and rustls with no feature at all, for each protocol.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::Context;
use hyper::body::Incoming;
use hyper::client::conn::{http1 as http1_client, http2 as http2_client};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::peers::Protocol;

/// Bytes that a tunnel reads at once.
const COPY: usize = 64 * 1024;

/// Runs a future to its end on this thread, with tasks of its own.
pub(super) fn local(future: impl Future<Output = ()>) {
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
        tokio::task::LocalSet::new().block_on(&runtime, future);
    }
}

/// Runs tasks of a connection on its own thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct LocalTasks;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalTasks {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// Which side of a pair a relay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Side {
    /// Takes plain text, sends TLS.
    Client,
    /// Takes TLS, sends plain text.
    Server,
}

/// Relays until the process ends.
///
/// # Errors
/// If certificates or the address cannot be used.
pub fn run(
    listen: SocketAddr,
    upstream: SocketAddr,
    side: Side,
    protocol: Protocol,
    certificates: &Path,
) -> anyhow::Result<()> {
    let next =
        Next { upstream, connector: (side == Side::Client).then(|| connector(protocol, certificates)).transpose()? };
    let acceptor = (side == Side::Server).then(|| acceptor(protocol, certificates)).transpose()?;
    let listener = std::net::TcpListener::bind(listen).with_context(|| listen.to_string())?;
    listener.set_nonblocking(true)?;
    local(async move {
        let Ok(listener) = TcpListener::from_std(listener) else { return };
        let relay = Rc::new(Relay { next, protocol, pool: RefCell::default(), shared: RefCell::default() });
        while let Ok((socket, _)) = listener.accept().await {
            let _ = socket.set_nodelay(true);
            let (relay, acceptor) = (relay.clone(), acceptor.clone());
            tokio::task::spawn_local(async move {
                match acceptor {
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(socket).await {
                            relay.serve(stream).await;
                        }
                    }
                    None => relay.serve(socket).await,
                }
            });
        }
    });
    Ok(())
}

fn alpn(protocol: Protocol) -> Vec<Vec<u8>> {
    if protocol == Protocol::Http2 { vec![b"h2".to_vec()] } else { Vec::new() }
}

fn files(
    certificates: &Path,
) -> anyhow::Result<(Arc<rustls::RootCertStore>, Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificates.join("ca.pem"))?)?;
    let chain = vec![CertificateDer::from_pem_file(certificates.join("cert.pem"))?];
    Ok((Arc::new(roots), chain, PrivateKeyDer::from_pem_file(certificates.join("key.pem"))?))
}

fn connector(protocol: Protocol, certificates: &Path) -> anyhow::Result<TlsConnector> {
    let mut client = client(certificates)?;
    client.alpn_protocols = alpn(protocol);
    Ok(TlsConnector::from(Arc::new(client)))
}

/// A TLS client with the workload's certificate, which checks no name and resumes nothing.
pub(super) fn client(certificates: &Path) -> anyhow::Result<rustls::ClientConfig> {
    let (roots, chain, key) = files(certificates)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build()?;
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ChainOnly(verifier)))
        .with_client_auth_cert(chain, key)?;
    client.resumption = rustls::client::Resumption::disabled();
    Ok(client)
}

fn acceptor(protocol: Protocol, certificates: &Path) -> anyhow::Result<TlsAcceptor> {
    let (roots, chain, key) = files(certificates)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build()?;
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    server.alpn_protocols = alpn(protocol);
    Ok(TlsAcceptor::from(Arc::new(server)))
}

/// Where connections go.
struct Next {
    upstream: SocketAddr,
    connector: Option<TlsConnector>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

impl Next {
    async fn connect(&self) -> anyhow::Result<Box<dyn Stream>> {
        let socket = TcpStream::connect(self.upstream).await?;
        socket.set_nodelay(true)?;
        Ok(match &self.connector {
            Some(connector) => Box::new(connector.connect(ServerName::try_from("bench.local")?, socket).await?),
            None => Box::new(socket),
        })
    }
}

struct Relay {
    next: Next,
    protocol: Protocol,
    /// HTTP/1: connections at rest.
    pool: RefCell<Vec<http1_client::SendRequest<Incoming>>>,
    /// HTTP/2: the one that all streams share.
    shared: RefCell<Option<http2_client::SendRequest<Incoming>>>,
}

impl Relay {
    async fn serve(self: Rc<Self>, stream: impl Stream + 'static) {
        match self.protocol {
            Protocol::Http1 => {
                let service = service_fn(move |request| self.clone().http1(request));
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            }
            Protocol::Http2 => {
                let service = service_fn(move |request| self.clone().http2(request));
                let mut server = http2::Builder::new(LocalTasks);
                server.max_concurrent_streams(1024);
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            }
            Protocol::Tcp => {
                let mut stream = stream;
                if let Ok(mut next) = self.next.connect().await {
                    let _ = tokio::io::copy_bidirectional_with_sizes(&mut stream, &mut next, COPY, COPY).await;
                }
            }
        }
    }

    async fn http1(self: Rc<Self>, request: Request<Incoming>) -> anyhow::Result<Response<Incoming>> {
        let mut sender = self.rested().await?;
        let response = sender.send_request(request).await?;
        self.pool.borrow_mut().push(sender);
        Ok(response)
    }

    async fn rested(&self) -> anyhow::Result<http1_client::SendRequest<Incoming>> {
        loop {
            let pooled = self.pool.borrow_mut().pop();
            let Some(mut sender) = pooled else { break };
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let (sender, connection) = http1_client::handshake(TokioIo::new(self.next.connect().await?)).await?;
        tokio::task::spawn_local(connection);
        Ok(sender)
    }

    async fn http2(self: Rc<Self>, request: Request<Incoming>) -> anyhow::Result<Response<Incoming>> {
        let shared = self.shared.borrow().clone();
        let mut sender = match shared.filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => {
                let stream = TokioIo::new(self.next.connect().await?);
                let (sender, connection) = http2_client::handshake(LocalTasks, stream).await?;
                tokio::task::spawn_local(connection);
                *self.shared.borrow_mut() = Some(sender.clone());
                sender
            }
        };
        sender.ready().await?;
        Ok(sender.send_request(request).await?)
    }
}

/// Checks handshake signatures and nothing else: the floor pays for cryptography, not for policy.
#[derive(Debug)]
struct ChainOnly(Arc<rustls::client::WebPkiServerVerifier>);

impl rustls::client::danger::ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
