//! The status port: readiness, application probes, merged metrics, drain and end. Istio's paths.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ferromesh_proto::{Any, json};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::environment::{Environment, Scrape};
use super::{DnsProxy, Order, merge};
use crate::app::Proxy;
use crate::context::Context;
use crate::stats::render::{self, Selection};
use crate::xds::Kind;

/// Connections served at a time.
const MAX_CONNECTIONS: usize = 128;
/// Bytes of the application's metrics, at most.
const MAX_METRICS: usize = 32 << 20;
/// Longest time for the application's metrics, where the scraper names none.
const SCRAPE: Duration = Duration::from_secs(10);
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the pages need.
#[derive(Clone)]
pub(super) struct Status {
    environment: Arc<Environment>,
    context: Arc<Context>,
    ready: watch::Receiver<bool>,
    orders: mpsc::Sender<Order>,
    dns: Option<DnsProxy>,
    /// The application's metrics failed last time; said once.
    failed: Arc<AtomicBool>,
}

type Answer = Response<Full<Bytes>>;

impl Status {
    pub(super) fn new(environment: Arc<Environment>, proxy: &Proxy, orders: mpsc::Sender<Order>) -> Self {
        let (context, ready) = (proxy.context().clone(), proxy.readiness());
        Self { environment, context, ready, orders, dns: None, failed: Arc::default() }
    }

    /// Shows what the DNS proxy counts and knows, too.
    pub(super) fn with_dns(self, dns: Option<DnsProxy>) -> Self {
        Self { dns, ..self }
    }

    /// Serves until dropped.
    pub(super) async fn serve(self, listener: TcpListener) {
        let status = Rc::new(self);
        crate::pages::serve(listener, MAX_CONNECTIONS, move |request, peer| {
            let status = status.clone();
            async move { status.answer(request, peer).await }
        })
        .await;
    }

    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Answer {
        match request.uri().path() {
            "/healthz/ready" => self.ready(),
            "/stats/prometheus" | "/metrics" => self.metrics(request.headers()).await,
            "/drain" => self.order(&request, peer, Order::Drain),
            "/quitquitquit" => self.order(&request, peer, Order::Quit),
            "/debug/ndsz" => self.names(peer),
            path => match self.environment.probers.get(path) {
                Some(prober) => {
                    let (status, why) = prober.ask(self.environment.probed_ip(), request.headers()).await;
                    if !status.is_success() {
                        tracing::debug!(path, %status, why, "application probe");
                    }
                    text(status, format!("{why}\n"))
                }
                None => text(StatusCode::NOT_FOUND, format!("{path} is not served here\n")),
            },
        }
    }

    fn ready(&self) -> Answer {
        if self.context.is_draining() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "the proxy drains\n");
        }
        if self.context.fails_health_check() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "the proxy was told to fail its health check\n");
        }
        if *self.ready.borrow() {
            return text(StatusCode::OK, "");
        }
        text(StatusCode::SERVICE_UNAVAILABLE, "the first configuration has not come from the controller yet\n")
    }

    fn order(&self, request: &Request<Incoming>, peer: SocketAddr, order: Order) -> Answer {
        if request.method() != Method::POST || !peer.ip().to_canonical().is_loopback() {
            let why = format!("{} changes the proxy: send POST, from the loopback address\n", request.uri().path());
            return text(StatusCode::METHOD_NOT_ALLOWED, why);
        }
        match self.orders.try_send(order) {
            Ok(()) => text(StatusCode::OK, "OK\n"),
            Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "the proxy is busy with an earlier command\n"),
        }
    }

    /// The newest name table, as JSON.
    fn names(&self, peer: SocketAddr) -> Answer {
        if !peer.ip().to_canonical().is_loopback() {
            return text(StatusCode::FORBIDDEN, "names are shown to the loopback address only\n");
        }
        let newest = self.dns.as_ref().and_then(|dns| dns.names.borrow().clone());
        let Some(value) = newest else {
            return text(StatusCode::NOT_FOUND, "there is no DNS proxy, or no name table has come\n");
        };
        let shown = json::any_to_json(&Any { type_url: Kind::NameTable.type_url(), value }, true);
        let mut response = text(StatusCode::OK, shown.to_string());
        let json = header::HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }

    async fn metrics(&self, headers: &HeaderMap) -> Answer {
        let mut own = render::prometheus(&self.context.stats, &Selection::default());
        own.extend(self.dns.iter().map(|dns| dns.metrics.to_prometheus()));
        let application = match &self.environment.scrape {
            Some(scrape) => self.application(scrape, headers).await,
            None => String::new(),
        };
        let mut response = text(StatusCode::OK, merge::merge(&own, &application));
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(PROMETHEUS));
        response
    }

    /// The application's metrics; empty (and said in the log once) where they cannot be had.
    async fn application(&self, scrape: &Scrape, headers: &HeaderMap) -> String {
        let seconds = headers.get("x-prometheus-scrape-timeout-seconds");
        let seconds = seconds.and_then(|seconds| seconds.to_str().ok()?.parse::<f64>().ok());
        let timeout =
            seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or(SCRAPE).min(SCRAPE * 6);
        let fetched = tokio::time::timeout(timeout, fetch(scrape, headers)).await;
        match fetched.unwrap_or_else(|_| Err(format!("no answer in {timeout:?}"))) {
            Ok(text) => {
                self.failed.store(false, Ordering::Relaxed);
                text
            }
            Err(reason) => {
                if !self.failed.swap(true, Ordering::Relaxed) {
                    tracing::warn!(port = scrape.port, path = scrape.path, reason, "no metrics from the application");
                }
                String::new()
            }
        }
    }
}

/// Asks the application, as the scraper asked us, for the plain text format.
async fn fetch(scrape: &Scrape, headers: &HeaderMap) -> Result<String, String> {
    let to = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), scrape.port);
    let stream = TcpStream::connect(to).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let driver = tokio::task::spawn_local(async move {
        // How the connection ends is seen by the request.
        let _ = connection.await;
    });
    let mut request = Request::get(&scrape.path)
        .header(header::HOST, to.to_string())
        .header(header::ACCEPT, "text/plain;version=0.0.4;q=1,*/*;q=0.1")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    for name in [header::USER_AGENT, header::HeaderName::from_static("x-prometheus-scrape-timeout-seconds")] {
        if let Some(value) = headers.get(&name) {
            request.headers_mut().insert(name, value.clone());
        }
    }
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        if !response.status().is_success() {
            return Err(format!("it answers {}", response.status()));
        }
        let body =
            Limited::new(response.into_body(), MAX_METRICS).collect().await.map_err(|error| error.to_string())?;
        String::from_utf8(body.to_bytes().into()).map_err(|error| error.to_string())
    };
    let answer = answer.await;
    driver.abort();
    answer
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
