//! The admin address: readiness, metrics, configuration and state, drain and exit. Envoy's paths.
//!
//! What changes something needs POST and a peer on the loopback. Plain HTTP/1 served by hyper: it is off the data path.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use tokio::net::TcpListener;

use crate::context::Context;
use crate::xds::dump::Dump;

mod clusters;
mod config_dump;
mod explain;
mod logging;
mod pages;
mod process;
mod server;

/// Connections served at a time; more are closed.
const MAX_CONNECTIONS: usize = 64;

/// Bytes of a form that a page takes.
const LONGEST_FORM: usize = 64 * 1024;

/// Changes the log filter if it is given another; the one that counts then, or what is wrong with the new one.
pub type SetLogLevel = Arc<dyn Fn(Option<&str>) -> Result<String, String> + Send + Sync>;

/// What the pages show and do.
#[derive(Clone)]
pub struct Admin {
    /// The proxy's shared state.
    pub context: Arc<Context>,
    /// Configuration as it came.
    pub dump: Arc<Dump>,
    /// Whether the first set of configuration serves.
    pub ready: tokio::sync::watch::Receiver<bool>,
    /// Asks the proxy to act.
    pub commands: tokio::sync::mpsc::Sender<Command>,
    /// Changes the log filter; says what is wrong with a new one.
    pub set_log_level: Option<SetLogLevel>,
    /// When the proxy started.
    pub started: std::time::Instant,
    /// Worker threads.
    pub concurrency: usize,
    /// Whether another process may take over.
    pub hot_restart: bool,
    /// Listeners: (name, bound address).
    pub listeners: tokio::sync::watch::Receiver<Vec<(String, SocketAddr)>>,
}

/// What an admin page asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Close listeners, as this says.
    DrainListeners(DrainListeners),
    /// Open the access logs anew.
    ReopenLogs,
    /// Exit.
    Quit,
    /// `/healthcheck/fail` and `/healthcheck/ok`.
    HealthCheck(bool),
}

/// The parameters of `/drain_listeners`; Envoy's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainListeners {
    /// Connections that come are served until the drain time is over.
    pub graceful: bool,
    /// Only listeners whose `traffic_direction` is INBOUND.
    pub inbound_only: bool,
    /// With `graceful`: listeners stay open after the drain time.
    pub skip_exit: bool,
}

impl Admin {
    /// Envoy's word for how far the proxy is; who fails its checks is taken out of service as well.
    fn state(&self) -> &'static str {
        if self.context.is_draining() || self.context.fails_health_check() {
            "DRAINING"
        } else if *self.ready.borrow() {
            "LIVE"
        } else {
            "INITIALIZING"
        }
    }

    /// Serves until dropped.
    pub async fn serve(self, listener: TcpListener) {
        let admin = Rc::new(self);
        crate::pages::serve(listener, MAX_CONNECTIONS, move |request, peer| {
            let admin = admin.clone();
            async move {
                let (head, body) = request.into_parts();
                match form(&head, body).await {
                    Some(form) => admin.answer(&head, &form, peer),
                    None => text(StatusCode::PAYLOAD_TOO_LARGE, format!("a form has {LONGEST_FORM} bytes at most\n")),
                }
            }
        })
        .await;
    }

    fn answer(&self, request: &Parts, form: &str, peer: SocketAddr) -> Response<Full<Bytes>> {
        let query = request.uri.query().filter(|query| !query.is_empty()).unwrap_or(form);
        let path = request.uri.path();
        let Some(page) = pages::PAGES.iter().find(|page| page.path == path) else {
            return match process::ABSENT.iter().find(|(absent, _)| *absent == path) {
                Some((_, why)) => text(StatusCode::NOT_IMPLEMENTED, format!("{path} is not implemented: {why}\n")),
                None => text(StatusCode::NOT_FOUND, pages::help()),
            };
        };
        if page.changes && (request.method != Method::POST || !peer.ip().is_loopback()) {
            let why = format!("{} changes the proxy: send POST, from the loopback address\n", page.path);
            return text(StatusCode::METHOD_NOT_ALLOWED, why);
        }
        (page.answer)(self, query)
    }
}

/// The form that a request carries, empty if none; `None` if it is too long.
async fn form<B: http_body::Body<Data = Bytes>>(head: &Parts, body: B) -> Option<String>
where
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let kind = head.headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    if head.method != Method::POST || kind != Some(b"application/x-www-form-urlencoded") {
        return Some(String::new());
    }
    let body = Limited::new(body, LONGEST_FORM).collect().await.ok()?;
    Some(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

/// A plain text answer.
fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    reply(status, "text/plain; charset=UTF-8", body)
}

/// A JSON answer.
fn json(value: &serde_json::Value) -> Response<Full<Bytes>> {
    json_with(StatusCode::OK, value)
}

fn json_with(status: StatusCode, value: &serde_json::Value) -> Response<Full<Bytes>> {
    reply(status, "application/json", format!("{value:#}\n"))
}

fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-cache, max-age=0"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
    response
}

/// The value of a query parameter.
fn parameter<'a>(query: &'a str, name: &str) -> Option<std::borrow::Cow<'a, str>> {
    pairs(query).find(|(key, _)| *key == name).map(|(_, value)| decoded(value))
}

/// Names and values of a query, as they are written.
fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn decoded(text: &str) -> std::borrow::Cow<'_, str> {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_parameter_is_found_and_decoded() {
        assert_eq!(parameter("a=1&filter=x%7Cy", "filter").as_deref(), Some("x|y"));
        assert_eq!(parameter("usedonly&format=json", "usedonly").as_deref(), Some(""));
        assert_eq!(parameter("a=1", "b"), None);
    }

    #[test]
    fn every_page_that_changes_something_is_listed_as_such() {
        for path in [
            "/drain_listeners",
            "/reopen_logs",
            "/quitquitquit",
            "/logging",
            "/healthcheck/fail",
            "/healthcheck/ok",
            "/reset_counters",
            "/runtime_modify",
        ] {
            let page = pages::PAGES.iter().find(|page| page.path == path).expect("listed");
            assert!(page.changes, "{path}");
        }
    }
}
