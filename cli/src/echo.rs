//! The built-in stand-in for the tutorial's image: says who it is and shows what it received.
//!
//! Environment: HOST, PORT, APP_NAME, GLOBAL_PREFIX (paths outside it are 404), as the image has them.
//! Answers `<APP_NAME>` and a line end as text; with `Accept: application/json` an object with app, method, path and headers.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What the stand-in is told by its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name that it answers with.
    pub app_name: String,
    /// Path that it serves below.
    pub prefix: String,
}

impl Settings {
    /// From a container's environment.
    pub fn from_env(env: &BTreeMap<String, String>) -> Self {
        let get = |name: &str| env.get(name).cloned().unwrap_or_default();
        let app_name = Some(get("APP_NAME")).filter(|name| !name.is_empty()).unwrap_or_else(|| "echo".to_owned());
        Self { app_name, prefix: get("GLOBAL_PREFIX").trim_end_matches('/').to_owned() }
    }
}

/// Serves until dropped. Speaks HTTP/1.1 and HTTP/2 with prior knowledge.
pub async fn serve(listener: TcpListener, settings: Settings) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((socket, peer)) = listener.accept().await else { return };
        while connections.try_join_next().is_some() {}
        let settings = settings.clone();
        connections.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer(&settings, &request, peer);
                async move { Ok::<_, Infallible>(answer) }
            });
            // What a client does to its own connection is its own affair.
            let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

fn answer<B>(settings: &Settings, request: &Request<B>, peer: SocketAddr) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let below = path.strip_prefix(settings.prefix.as_str());
    if !below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return respond(StatusCode::NOT_FOUND, "text/plain", format!("{}: no such path\n", settings.app_name));
    }
    let wants_json = request.headers().get(header::ACCEPT).is_some_and(|value| value == "application/json");
    if !wants_json {
        return respond(StatusCode::OK, "text/plain", format!("{}\n", settings.app_name));
    }
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in request.headers() {
        headers.entry(name.to_string()).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    let body = json!({
        "app": settings.app_name,
        "method": request.method().as_str(),
        "path": request.uri().path_and_query().map_or("/", |path| path.as_str()),
        "headers": headers,
        "peer": peer.to_string(),
    });
    respond(StatusCode::OK, "application/json", format!("{body}\n"))
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(prefix: &str, path: &str) -> StatusCode {
        let settings = Settings { app_name: "a".into(), prefix: prefix.into() };
        let request = Request::builder().uri(path).body(()).expect("a valid request");
        answer(&settings, &request, "127.0.0.1:1".parse().expect("an address")).status()
    }

    #[test]
    fn paths_outside_the_prefix_are_not_found() {
        assert_eq!(ask("/other", "/other"), StatusCode::OK);
        assert_eq!(ask("/other", "/other/x?y"), StatusCode::OK);
        assert_eq!(ask("/other", "/others"), StatusCode::NOT_FOUND);
        assert_eq!(ask("/other", "/"), StatusCode::NOT_FOUND);
        assert_eq!(ask("", "/anything"), StatusCode::OK);
    }
}
