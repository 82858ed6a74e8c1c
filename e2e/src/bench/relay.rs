//! The floor: a bare HTTP/1 relay of hyper and rustls with no feature at all, and the backend that all peers share.

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::{cell::RefCell, convert::Infallible};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// Answers 1 KiB to everything, in a thread of its own.
pub struct Backend {
    address: SocketAddr,
}

impl Backend {
    /// Starts it; it serves as long as the process lives.
    ///
    /// # Errors
    /// If there is no free port.
    pub fn start() -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        std::thread::Builder::new().name("backend".into()).spawn(move || {
            let answer = Bytes::from(vec![b'x'; 1024]);
            local(async move {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                while let Ok((socket, _)) = listener.accept().await {
                    let _ = socket.set_nodelay(true);
                    let answer = answer.clone();
                    let service = service_fn(move |_: Request<Incoming>| {
                        let response = Response::new(Full::new(answer.clone()));
                        async move { Ok::<_, Infallible>(response) }
                    });
                    tokio::task::spawn_local(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
                }
            });
        })?;
        Ok(Self { address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Runs a future to its end on this thread, with tasks of its own.
pub(super) fn local(future: impl Future<Output = ()>) {
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
        tokio::task::LocalSet::new().block_on(&runtime, future);
    }
}

/// Which side of a pair a relay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Takes plain text, sends TLS.
    Client,
    /// Takes TLS, sends plain text.
    Server,
}

type Pool = Rc<RefCell<Vec<SendRequest<Incoming>>>>;

/// Relays until the process ends.
///
/// # Errors
/// If certificates or the address cannot be used.
pub fn run(listen: SocketAddr, upstream: SocketAddr, side: Side, certificates: &Path) -> anyhow::Result<()> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificates.join("ca.pem"))?)?;
    let roots = Arc::new(roots);
    let chain = vec![CertificateDer::from_pem_file(certificates.join("cert.pem"))?];
    let key = PrivateKeyDer::from_pem_file(certificates.join("key.pem"))?;
    let verifier =
        rustls::client::WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
    let client = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ChainOnly(verifier)))
        .with_client_auth_cert(chain.clone(), key.clone_key())?;
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build()?;
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    let connector = (side == Side::Client).then(|| tokio_rustls::TlsConnector::from(Arc::new(client)));
    let acceptor = (side == Side::Server).then(|| tokio_rustls::TlsAcceptor::from(Arc::new(server)));
    let listener = std::net::TcpListener::bind(listen).with_context(|| listen.to_string())?;
    listener.set_nonblocking(true)?;
    local(async move {
        let Ok(listener) = TcpListener::from_std(listener) else { return };
        let pool = Pool::default();
        while let Ok((socket, _)) = listener.accept().await {
            let _ = socket.set_nodelay(true);
            let (pool, connector, acceptor) = (pool.clone(), connector.clone(), acceptor.clone());
            tokio::task::spawn_local(async move {
                match acceptor {
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(socket).await {
                            serve(stream, upstream, pool, connector).await;
                        }
                    }
                    None => serve(socket, upstream, pool, connector).await,
                }
            });
        }
    });
    Ok(())
}

async fn serve<S>(stream: S, upstream: SocketAddr, pool: Pool, connector: Option<tokio_rustls::TlsConnector>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (pool, connector) = (pool.clone(), connector.clone());
        async move {
            let mut sender = take(upstream, &pool, connector).await?;
            let response = sender.send_request(request).await?;
            pool.borrow_mut().push(sender);
            Ok::<_, anyhow::Error>(response)
        }
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn take(
    upstream: SocketAddr,
    pool: &Pool,
    connector: Option<tokio_rustls::TlsConnector>,
) -> anyhow::Result<SendRequest<Incoming>> {
    loop {
        let pooled = pool.borrow_mut().pop();
        let Some(mut sender) = pooled else { break };
        if sender.ready().await.is_ok() {
            return Ok(sender);
        }
    }
    let socket = TcpStream::connect(upstream).await?;
    socket.set_nodelay(true)?;
    match connector {
        Some(connector) => {
            let stream = connector.connect(ServerName::try_from("bench.local")?, socket).await?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await?;
            tokio::task::spawn_local(connection);
            Ok(sender)
        }
        None => {
            let (sender, connection) = handshake(TokioIo::new(socket)).await?;
            tokio::task::spawn_local(connection);
            Ok(sender)
        }
    }
}

/// Checks handshake signatures and nothing else: the floor pays for cryptography, not for policy.
#[derive(Debug)]
pub(super) struct ChainOnly(Arc<rustls::client::WebPkiServerVerifier>);

impl ChainOnly {
    pub(super) fn new(verifier: Arc<rustls::client::WebPkiServerVerifier>) -> Self {
        Self(verifier)
    }
}

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
