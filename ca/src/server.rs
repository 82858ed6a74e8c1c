//! The running CA: TLS connections in, `CreateCertificate` answers out.

mod authority;
mod follow;
mod service;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ferromesh_core::runtime::drain;
use ferromesh_proto::istio::v1::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use http::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use self::authority::Authority;
use self::service::CertificateService;
use crate::csr::MAX_CSR_LEN;
use crate::metrics::CaMetrics;
use crate::{AuthoritySource, CaError, Config, Phase};

const MAX_CONNECTIONS: usize = 4096;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
/// What a connection that was told to close gets for its requests in progress.
const CLOSE_DEADLINE: Duration = Duration::from_secs(60);
/// A proxy asks once for each certificate: an idle connection is worth nothing.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(15 * 60);
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// The certificate authority.
#[derive(Debug)]
pub struct Ca;

/// A CA that serves.
pub struct RunningCa {
    addr: SocketAddr,
    authority: Arc<Authority>,
    drain: drain::Signal,
}

/// The address that the connection comes from.
#[derive(Debug, Clone, Copy)]
struct Peer(IpAddr);

/// The certificate that the client of a connection showed, verified by the handshake.
#[derive(Debug, Clone)]
struct ClientCert(Option<CertificateDer<'static>>);

impl Ca {
    /// Reads or makes the signing key, listens, and serves until shut down.
    ///
    /// # Errors
    /// If key, certificates or store are not usable, or the address cannot be bound.
    pub async fn start(config: Config) -> Result<RunningCa, CaError> {
        let metrics = config.metrics.register(CaMetrics::new);
        let authority = Arc::new(Authority::open(&config, metrics.clone()).await?);
        let listen_error = |source| CaError::Listen { addr: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen_error)?;
        let addr = listener.local_addr().map_err(listen_error)?;
        let (signal, watch) = drain::channel();
        tokio::spawn(renew(Arc::clone(&authority), watch.clone()));
        match &config.authority {
            AuthoritySource::Secret(store) => {
                tokio::spawn(follow::secret(Arc::clone(&authority), store.clone(), watch.clone()));
            }
            AuthoritySource::Files(folder) => {
                tokio::spawn(follow::files(Arc::clone(&authority), folder.clone(), watch.clone()));
            }
            AuthoritySource::Memory | AuthoritySource::Store(_) => {}
        }
        let service = CertificateService::new(config, Arc::clone(&authority), metrics);
        tokio::spawn(accept(listener, watch, service, Arc::clone(&authority)));
        tracing::info!(%addr, "the CA serves");
        Ok(RunningCa { addr, authority, drain: signal })
    }
}

impl RunningCa {
    /// The address that was bound.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The root that signs now, as PEM.
    pub fn root_pem(&self) -> String {
        self.authority.active().root_pem()
    }

    /// All roots that are trusted now, as PEM; while a rotation is under way, the old and the new.
    pub fn trust_bundle_pem(&self) -> String {
        self.authority.active().bundle_pem().to_owned()
    }

    /// Tells of each new trust bundle (PEM).
    pub fn bundles(&self) -> tokio::sync::watch::Receiver<Arc<str>> {
        self.authority.bundles()
    }

    /// Where the rotation of the root stands.
    pub fn phase(&self) -> Phase {
        self.authority.active().phase()
    }

    /// Takes the next step of the root's rotation and tells where it stands then; take the one after when every
    /// workload has renewed its certificate (half of their lifetime later, at least).
    ///
    /// # Errors
    /// If the keys are given files, or the new state cannot be stored; then nothing changed.
    pub fn rotate_step(&self) -> Result<Phase, CaError> {
        self.authority.rotate_step()
    }

    /// What rotates the root while the CA serves.
    pub fn rotation(&self) -> Rotation {
        Rotation(Arc::clone(&self.authority))
    }

    /// Stops listening, lets requests in progress finish (for some seconds at most), and ends.
    pub async fn shutdown(self) {
        self.shutdown_within(DRAIN_DEADLINE).await;
    }

    /// The same, for `deadline` at most; says what was left.
    pub async fn shutdown_within(self, deadline: Duration) -> drain::Drained {
        self.drain.drain(deadline).await
    }
}

/// The rotation of the root of a CA that serves elsewhere. Clones are of the same.
#[derive(Clone)]
pub struct Rotation(Arc<Authority>);

impl Rotation {
    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.0.active().phase()
    }

    /// All roots that are trusted now, as PEM.
    pub fn trust_bundle_pem(&self) -> String {
        self.0.active().bundle_pem().to_owned()
    }

    /// As [`RunningCa::rotate_step`].
    ///
    /// # Errors
    /// As there.
    pub fn step(&self) -> Result<Phase, CaError> {
        self.0.rotate_step()
    }
}

/// Keeps the CA's own server certificate young.
async fn renew(authority: Arc<Authority>, watch: drain::Watch) {
    loop {
        tokio::select! {
            () = watch.signaled() => return,
            () = tokio::time::sleep(authority::SERVING_TTL / 2) => {}
        }
        if let Err(error) = authority.renew_serving() {
            tracing::error!(%error, "the CA's own certificate was not renewed");
        }
    }
}

async fn accept(listener: TcpListener, watch: drain::Watch, service: CertificateService, authority: Arc<Authority>) {
    let _guard = watch.guard();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // Above the bound, connections wait in the kernel's queue.
        let slot = tokio::select! {
            () = watch.signaled() => return,
            slot = Arc::clone(&slots).acquire_owned() => slot,
        };
        let Ok(slot) = slot else { return };
        let accepted = tokio::select! {
            () = watch.signaled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let acceptor = TlsAcceptor::from(authority.active().tls());
                tokio::spawn(connection(stream, peer, acceptor, slot, watch.clone(), service.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: TlsAcceptor,
    _slot: OwnedSemaphorePermit,
    watch: drain::Watch,
    service: CertificateService,
) {
    let _guard = watch.guard();
    let stream = tokio::select! {
        () = watch.signaled() => return,
        result = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)) => match result {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::info!(%peer, %error, "TLS handshake"),
            Err(_) => return tracing::info!(%peer, "TLS handshake took too long"),
        }
    };
    let certs = stream.get_ref().1.peer_certificates();
    let client = ClientCert(certs.and_then(|certs| certs.first()).map(|cert| cert.clone().into_owned()));
    let grpc = IstioCertificateServiceServer::new(service).max_decoding_message_size(2 * MAX_CSR_LEN);
    let grpc = TowerToHyperService::new(grpc);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(client.clone());
        request.extensions_mut().insert(Peer(peer.ip()));
        grpc.call(request)
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(32)
        .max_header_list_size(32 * 1024)
        .keep_alive_interval(KEEP_ALIVE)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = async { tokio::select! { () = watch.signaled() => {}, () = tokio::time::sleep(MAX_CONNECTION_AGE) => {} } } => {
            connection.as_mut().graceful_shutdown();
            // How long that may take is known to whoever drains; a connection that is only old gets as long as any.
            match tokio::time::timeout(CLOSE_DEADLINE, connection).await {
                Ok(result) => result,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "connection");
    }
}
