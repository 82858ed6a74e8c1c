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

/// A page of one daemon, beside those that every daemon has.
#[derive(Clone)]
pub struct Page {
    /// `GET` for what only tells; `POST` for what changes something: that is served to loopback peers only, and not to
    /// web pages (which send `Origin`).
    pub method: Method,
    /// Path, such as `/roots`.
    pub path: &'static str,
    /// Makes the JSON of the answer; an error is a 409 with its text. Runs between requests, so it must be quick.
    pub answer: Arc<dyn Fn() -> Result<serde_json::Value, String> + Send + Sync>,
}

/// What the server tells.
#[derive(Clone)]
struct Pages {
    health: Health,
    metrics: Metrics,
    own: Arc<[Page]>,
}

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
        Self::start_with(addr, health, metrics, Vec::new()).await
    }

    /// The same with further pages.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn start_with(
        addr: SocketAddr,
        health: Health,
        metrics: Metrics,
        own: Vec<Page>,
    ) -> std::io::Result<Self> {
        let pages = Pages { health, metrics, own: own.into() };
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let (signal, watch) = drain::channel();
        tokio::spawn(accept(listener, watch, pages));
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

async fn accept(listener: TcpListener, watch: drain::Watch, pages: Pages) {
    let _guard = watch.guard();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = watch.signaled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors, most likely: do not spin on it.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // Above the bound, a connection is closed at once.
        if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
            tokio::spawn(serve(stream, peer, slot, watch.clone(), pages.clone()));
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, _slot: OwnedSemaphorePermit, watch: drain::Watch, pages: Pages) {
    let _guard = watch.guard();
    let service = service_fn(move |request: Request<Incoming>| {
        let response = match pages.own.iter().find(|page| page.path == request.uri().path()) {
            Some(page) => own_page(page, &request, peer),
            None => answer(request.method(), request.uri().path(), &pages),
        };
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

fn own_page(page: &Page, request: &Request<Incoming>, peer: SocketAddr) -> Response<Full<Bytes>> {
    if request.method() != page.method {
        return reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, format!("{} takes {} only\n", page.path, page.method));
    }
    let changes = page.method != Method::GET;
    if changes && (!peer.ip().to_canonical().is_loopback() || request.headers().contains_key(header::ORIGIN)) {
        let why = "what changes something is served to this machine's own commands only\n";
        return reply(StatusCode::FORBIDDEN, TEXT, why.into());
    }
    match (page.answer)() {
        Ok(json) => reply(StatusCode::OK, "application/json", format!("{json}\n")),
        Err(error) => reply(StatusCode::CONFLICT, TEXT, format!("{error}\n")),
    }
}

fn answer(method: &Method, path: &str, pages: &Pages) -> Response<Full<Bytes>> {
    let Pages { health, metrics, own } = pages;
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
        _ => {
            let own: String = own.iter().map(|page| format!(", {}", page.path)).collect();
            let text = format!("try /metrics, /healthz/ready, /healthz/live, /version{own}\n");
            reply(StatusCode::NOT_FOUND, TEXT, text)
        }
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
        ask(addr, "GET", path, "").await
    }

    async fn ask(addr: SocketAddr, method: &str, path: &str, header: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: a\r\n{header}connection: close\r\n\r\n");
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

    #[tokio::test]
    async fn a_page_that_changes_something_takes_post_and_no_web_page() {
        let counter = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let seen = Arc::clone(&counter);
        let change = move || match seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => Ok(serde_json::json!({"done": true})),
            _ => Err("it was done before".to_owned()),
        };
        let page = Page { method: Method::POST, path: "/change", answer: Arc::new(change) };
        let (health, metrics) = (Health::new(), Metrics::new());
        let server = AdminServer::start_with(([127, 0, 0, 1], 0).into(), health, metrics, vec![page]).await.unwrap();
        let addr = server.addr();
        assert!(ask(addr, "GET", "/change", "").await.starts_with("HTTP/1.1 405"));
        assert!(ask(addr, "POST", "/change", "origin: http://a\r\n").await.starts_with("HTTP/1.1 403"));
        let done = ask(addr, "POST", "/change", "").await;
        assert!(done.starts_with("HTTP/1.1 200") && done.ends_with("{\"done\":true}\n"), "{done}");
        let again = ask(addr, "POST", "/change", "").await;
        assert!(again.starts_with("HTTP/1.1 409") && again.ends_with("it was done before\n"), "{again}");
        assert!(get(addr, "/").await.contains("/change"));
    }
}
