//! The HTTPS server: bounded in connections, bytes and time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use ferromesh_core::runtime::drain;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::server::ResolvesServerCert;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use super::metrics::InjectorMetrics;
use super::review;
use crate::settings::Mesh;

/// The API server keeps a few connections; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;
/// Twice what an object may have in etcd, as the review may hold it twice.
const MAX_BODY: usize = 6 * 1024 * 1024;
/// For the handshake, and for a request's head.
const PATIENCE: Duration = Duration::from_secs(5);

struct Shared {
    mesh: Arc<ArcSwap<Mesh>>,
    metrics: InjectorMetrics,
}

/// A running webhook.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
}

impl Server {
    /// Listens on `address` and serves `/inject` until the drain begins.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn start(
        address: SocketAddr,
        certificate: Arc<dyn ResolvesServerCert>,
        mesh: Arc<ArcSwap<Mesh>>,
        metrics: InjectorMetrics,
        watch: drain::Watch,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let mut tls = rustls::ServerConfig::builder_with_provider(ferromesh_core::tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(certificate);
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let router = Router::new()
            .route("/inject", post(inject))
            .route("/inject/{*parameters}", post(inject))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(Arc::new(Shared { mesh, metrics }));
        tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(tls)), router, watch));
        Ok(Self { address })
    }

    /// The address that was bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn inject(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    match review::answer(&body, &shared.mesh.load(), &shared.metrics) {
        Ok(answer) => axum::Json(answer).into_response(),
        Err(reason) => (StatusCode::BAD_REQUEST, reason).into_response(),
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, router: Router, watch: drain::Watch) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = watch.signaled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, tls.clone(), router.clone(), slot, watch.clone()));
            }
            // Out of file descriptors, most likely: do not spin on it.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, router: Router, _slot: OwnedSemaphorePermit, watch: drain::Watch) {
    let _guard = watch.guard();
    let stream = match tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "handshake"),
        Err(_) => return,
    };
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(30)).max_concurrent_streams(250);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = watch.signaled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection");
    }
}
