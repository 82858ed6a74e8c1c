//! HTTPS for the API server: a few connections, small bodies, an answer in time or none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::review;
use crate::app::{Compile, Published};
use crate::index::Kind;

/// Connections at a time; the API server keeps a few open.
const CONNECTIONS: usize = 64;
/// Reviews at a time: each may take a moment of a processor.
const AT_ONCE: usize = 4;
/// Bytes of a review: the largest object and its old version.
const BODY: usize = 8 << 20;
const HANDSHAKE: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Webhook {
    views: watch::Receiver<Published>,
    compile: Arc<dyn Compile>,
    slots: Arc<Semaphore>,
}

/// Serves `/validate` until dropped.
///
/// # Errors
/// If the address cannot be bound.
pub async fn serve(
    address: SocketAddr,
    tls: rustls::ServerConfig,
    views: watch::Receiver<Published>,
    compile: Arc<dyn Compile>,
) -> std::io::Result<impl Future<Output = ()>> {
    let listener = TcpListener::bind(address).await?;
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let webhook = Webhook { views, compile, slots: Arc::new(Semaphore::new(AT_ONCE)) };
    let router =
        Router::new().route("/validate", post(validate)).layer(DefaultBodyLimit::max(BODY)).with_state(webhook);
    Ok(accept(listener, acceptor, router))
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, router: Router) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Above the bound, connections wait in the kernel's queue.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, acceptor.clone(), router.clone(), slot));
            }
            Err(error) => {
                tracing::warn!(%error, "webhook accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, router: Router, _slot: OwnedSemaphorePermit) {
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::info!(%error, "webhook handshake"),
        Err(_) => return tracing::info!("a webhook handshake took too long"),
    };
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(100);
    let served = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
    if let Err(error) = served {
        tracing::debug!(error, "webhook connection");
    }
}

async fn validate(State(webhook): State<Webhook>, body: Bytes) -> Response {
    let Ok(review) = serde_json::from_slice::<Value>(&body) else {
        return (StatusCode::BAD_REQUEST, "the body is no JSON, or nested too deep\n").into_response();
    };
    let Ok(_slot) = webhook.slots.clone().acquire_owned().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let published = webhook.views.borrow().clone();
    let answer = tokio::task::spawn_blocking(move || {
        // Only an EnvoyFilter changes what becomes of patches, and to find that out is dear.
        let facts = |view: &crate::index::View, kind: Kind| match kind {
            Kind::EnvoyFilter => webhook.compile.facts(view),
            _ => (*published.facts).clone(),
        };
        review::answer(&review, &published.view, facts)
    });
    match answer.await {
        Ok(Ok(answer)) => Json(answer).into_response(),
        Ok(Err(reason)) => (StatusCode::BAD_REQUEST, format!("no AdmissionReview: {reason}\n")).into_response(),
        Err(error) => {
            tracing::error!(%error, "a review failed unexpectedly");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
