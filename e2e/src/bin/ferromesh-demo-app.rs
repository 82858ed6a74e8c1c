//! The demo application as an image: a stand-in for the one of the tutorial, and what end-to-end tests talk to.
//!
//! Environment: `HOST` (default 0.0.0.0), `PORT` (default 5678), `APP_NAME`, `GLOBAL_PREFIX` (paths outside it are 404). Answers
//! `<APP_NAME>` and a line end; with `Accept: application/json` an object with app, method, path and headers. `?delay=SECONDS` makes it
//! wait first, `?status=CODE` answers with that status. After a TERM it goes on with what it has begun, and ends.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Longest wait that a request can ask for.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Settings {
    app_name: String,
    prefix: String,
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve())
}

async fn serve() -> anyhow::Result<()> {
    let variable = |name: &str, otherwise: &str| {
        std::env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| otherwise.to_owned())
    };
    let settings = Settings {
        app_name: variable("APP_NAME", "demo"),
        prefix: variable("GLOBAL_PREFIX", "").trim_end_matches('/').to_owned(),
    };
    let address = format!("{}:{}", variable("HOST", "0.0.0.0"), variable("PORT", "5678"));
    let listener = TcpListener::bind(&address).await?;
    println!("{} listens at {address}", settings.app_name);
    let connections = GracefulShutdown::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    loop {
        let socket = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = term.recv() => break,
            _ = int.recv() => break,
        };
        let Ok((socket, _)) = socket else { continue };
        let settings = settings.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let settings = settings.clone();
            async move {
                tokio::time::sleep(delay(request.uri().query())).await;
                Ok::<_, Infallible>(answer(&settings, &request))
            }
        });
        let server = auto::Builder::new(TokioExecutor::new());
        let connection = server.serve_connection(TokioIo::new(socket), service).into_owned();
        let connection = connections.watch(connection);
        // What a client does to its own connection is its own affair.
        tokio::spawn(async move { drop(connection.await) });
    }
    drop(listener);
    connections.shutdown().await;
    Ok(())
}

fn parameter<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    query?.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name)).map(|(_, value)| value)
}

fn delay(query: Option<&str>) -> Duration {
    let seconds = parameter(query, "delay").and_then(|seconds| seconds.parse().ok());
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default().min(LONGEST)
}

fn answer<B>(settings: &Settings, request: &Request<B>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let below = path.strip_prefix(settings.prefix.as_str());
    if !below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return respond(StatusCode::NOT_FOUND, "text/plain", format!("{}: no such path\n", settings.app_name));
    }
    let status = parameter(request.uri().query(), "status").and_then(|status| status.parse().ok());
    let status = status.unwrap_or(StatusCode::OK);
    if request.headers().get(header::ACCEPT).is_none_or(|value| value != "application/json") {
        return respond(status, "text/plain", format!("{}\n", settings.app_name));
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
        "pod": std::env::var("HOSTNAME").unwrap_or_default(),
    });
    respond(status, "application/json", format!("{body}\n"))
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
