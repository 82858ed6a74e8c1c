//! The small admin server of a daemon: requests in; metrics, readiness and version out.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{BUILD, Health, drain};
use crate::telemetry::Metrics;

const MAX_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const TEXT: &str = "text/plain; charset=utf-8";

/// A running admin server: `/metrics` (OpenMetrics), `/healthz/ready` (200, or 503 with what is waited for),
/// `/healthz/live` and `/version` (JSON).
#[derive(Debug)]
pub struct AdminServer {
    addr: SocketAddr,
    drain: drain::Signal,
}

impl AdminServer {
    /// Listens on `addr` (port 0 takes a free one) and serves until shut down.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn start(addr: SocketAddr, health: Health, metrics: Metrics) -> std::io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let (signal, watch) = drain::channel();
        tokio::spawn(accept(listener, watch, health, metrics));
        Ok(Self { addr, drain: signal })
    }

    /// The address that was bound.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops listening and lets the answers in progress finish.
    pub async fn shutdown(self) {
        self.drain.drain(Duration::from_secs(2)).await;
    }
}

async fn accept(listener: TcpListener, watch: drain::Watch, health: Health, metrics: Metrics) {
    let _guard = watch.guard();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = watch.signaled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, most likely: do not spin on it.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // Above the bound, a connection is closed at once.
        if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
            tokio::spawn(serve(stream, slot, watch.clone(), health.clone(), metrics.clone()));
        }
    }
}

async fn serve(stream: TcpStream, _slot: OwnedSemaphorePermit, watch: drain::Watch, health: Health, metrics: Metrics) {
    let _guard = watch.guard();
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), &health, &metrics);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = watch.signaled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "admin connection");
    }
}

fn answer(method: &Method, path: &str, health: &Health, metrics: &Metrics) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD are served here\n".into());
    }
    match path {
        "/metrics" => match metrics.encode() {
            Ok(text) => reply(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", text),
            Err(error) => reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        },
        "/healthz/live" => reply(StatusCode::OK, TEXT, "live\n".into()),
        "/healthz/ready" | "/ready" => match health.waiting_for() {
            waiting if waiting.is_empty() => reply(StatusCode::OK, TEXT, "ready\n".into()),
            waiting => {
                let lines = waiting.iter().map(|(name, reason)| format!("{name}: {reason}\n")).collect();
                reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, lines)
            }
        },
        "/version" => {
            let json = serde_json::to_string(&BUILD).unwrap_or_default();
            reply(StatusCode::OK, "application/json", json + "\n")
        }
        _ => reply(StatusCode::NOT_FOUND, TEXT, "try /metrics, /healthz/ready, /healthz/live or /version\n".into()),
    }
}

fn reply(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn get(addr: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn the_admin_server_tells_metrics_readiness_and_version_and_then_ends() {
        let (health, metrics) = (Health::new(), Metrics::new());
        let counter: Counter = Counter::default();
        metrics.register(|registry| registry.register("greetings", "How often.", counter.clone()));
        counter.inc_by(7);
        let source = health.check("source");
        let server = AdminServer::start(([127, 0, 0, 1], 0).into(), health, metrics).await.unwrap();
        let addr = server.addr();

        assert!(get(addr, "/metrics").await.contains("greetings_total 7"));
        let waiting = get(addr, "/healthz/ready").await;
        assert!(waiting.starts_with("HTTP/1.1 503") && waiting.contains("source: not started"), "{waiting}");
        source.ready();
        assert!(get(addr, "/healthz/ready").await.starts_with("HTTP/1.1 200"));
        assert!(get(addr, "/version").await.contains(BUILD.version));
        assert!(get(addr, "/nothing").await.starts_with("HTTP/1.1 404"));

        server.shutdown().await;
        assert!(TcpStream::connect(addr).await.is_err());
    }
}
