//! The dashboard's server: `/api/edges` and a page, for a browser on this machine.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use ferromesh_core::runtime::drain;
use serde::Serialize;
use tokio::net::TcpListener;

use crate::model::{Edge, edges};
use crate::scrape::scrape;

const PAGE: &str = include_str!("server/page.html");
/// Proxies that are asked at one time.
const AT_ONCE: usize = 16;
/// The page has everything in itself and talks to its own server only.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'";

/// How the dashboard is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen: a loopback address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Admin addresses of the proxies.
    pub proxies: Vec<SocketAddr>,
}

/// Why the dashboard could not start.
#[derive(Debug, thiserror::Error)]
pub enum DashboardError {
    /// It would be open to others.
    #[error("the dashboard has no login, so it listens on loopback only, not on {0}")]
    NotLoopback(SocketAddr),
    /// The address cannot be bound.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A running dashboard.
#[derive(Debug)]
pub struct Dashboard {
    addr: SocketAddr,
    proxies: Arc<RwLock<Vec<SocketAddr>>>,
    drain: drain::Signal,
}

#[derive(Clone)]
struct App {
    addr: SocketAddr,
    proxies: Arc<RwLock<Vec<SocketAddr>>>,
}

#[derive(Serialize)]
struct Answer {
    edges: Vec<Edge>,
    /// Proxies that told nothing, and why.
    missing: Vec<String>,
}

impl Dashboard {
    /// Listens and serves until shut down.
    ///
    /// # Errors
    /// If the address is not loopback, or cannot be bound.
    pub async fn start(config: Config) -> Result<Self, DashboardError> {
        if !config.listen.ip().is_loopback() {
            return Err(DashboardError::NotLoopback(config.listen));
        }
        let listen_error = |source| DashboardError::Listen { addr: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen_error)?;
        let addr = listener.local_addr().map_err(listen_error)?;
        let proxies = Arc::new(RwLock::new(config.proxies));
        let app = App { addr, proxies: Arc::clone(&proxies) };
        let router = Router::new()
            .route("/", get(page))
            .route("/api/edges", get(api_edges))
            .layer(from_fn_with_state(app.clone(), own_origin_only))
            .with_state(app);
        let (drain, watch) = drain::channel();
        tokio::spawn(async move {
            let _guard = watch.guard();
            let stop = watch.clone();
            let served = axum::serve(listener, router).with_graceful_shutdown(async move { stop.signaled().await });
            if let Err(error) = served.await {
                tracing::error!(%error, "the dashboard ended");
            }
        });
        Ok(Self { addr, proxies, drain })
    }

    /// The address that was bound.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Asks these proxies from now on.
    pub fn set_proxies(&self, proxies: Vec<SocketAddr>) {
        *self.proxies.write().unwrap_or_else(PoisonError::into_inner) = proxies;
    }

    /// Stops listening and lets answers in progress finish, for some seconds at most.
    pub async fn shutdown(self) {
        self.drain.drain(Duration::from_secs(2)).await;
    }
}

async fn page() -> impl IntoResponse {
    ([(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY))], Html(PAGE))
}

async fn api_edges(State(app): State<App>) -> Json<Answer> {
    let proxies = app.proxies.read().unwrap_or_else(PoisonError::into_inner).clone();
    let (mut texts, mut missing) = (Vec::new(), Vec::new());
    for some in proxies.chunks(AT_ONCE) {
        let mut tasks = tokio::task::JoinSet::new();
        some.iter().for_each(|addr| drop(tasks.spawn(scrape(*addr))));
        while let Some(done) = tasks.join_next().await {
            match done {
                Ok(Ok(text)) => texts.push(text),
                Ok(Err(error)) => missing.push(error.to_string()),
                Err(error) => missing.push(error.to_string()),
            }
        }
    }
    missing.sort();
    Json(Answer { edges: edges(texts.iter().map(String::as_str)), missing })
}

/// A page of another site can neither read the dashboard (Origin) nor reach it under its own name (Host).
async fn own_origin_only(State(app): State<App>, request: Request, next: Next) -> Response {
    if let Err(text) = check_origin(request.headers(), app.addr.port()) {
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    next.run(request).await
}

fn check_origin(headers: &HeaderMap, port: u16) -> Result<(), &'static str> {
    let own = ["127.0.0.1", "localhost", "[::1]"].map(|host| format!("{host}:{port}"));
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
    if !text(header::HOST).is_some_and(|host| own.iter().any(|own| own == host)) {
        return Err("open the dashboard by its loopback address (127.0.0.1 or localhost)\n");
    }
    match text(header::ORIGIN) {
        Some(origin) if !own.iter().any(|own| origin.strip_prefix("http://") == Some(own)) => {
            Err("requests from other sites' pages are refused\n")
        }
        _ => Ok(()),
    }
}
