//! The registry of a cluster: what was loaded can be pulled, so that `imagePullPolicy: Always` works where nothing can leave.
//!
//! The part of <https://github.com/opencontainers/distribution-spec> that pulling needs, read-only, from a folder.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::image::store::Store;

/// Serves for ever.
///
/// # Errors
/// If the address is taken.
pub(super) async fn serve(address: SocketAddr, folder: PathBuf) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let store = Store::at(folder.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer(&store, request.method(), request.uri());
                async move { Ok::<_, Infallible>(answer) }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

/// What is asked for, and where it is.
fn answer(store: &Store, method: &Method, uri: &http::Uri) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return respond(StatusCode::METHOD_NOT_ALLOWED, "text/plain", Vec::new(), None);
    }
    // The registry that the image's name says; the client asks this one in its place.
    let namespace =
        uri.query().into_iter().flat_map(|query| query.split('&')).find_map(|pair| pair.strip_prefix("ns="));
    let Some(path) = uri.path().strip_prefix("/v2/") else {
        return respond(StatusCode::NOT_FOUND, "text/plain", Vec::new(), None);
    };
    if path.is_empty() {
        return respond(StatusCode::OK, "application/json", b"{}".to_vec(), None);
    }
    let found = if let Some((name, reference)) = path.split_once("/manifests/") {
        store.manifest(namespace.unwrap_or_default(), name, reference)
    } else if let Some((_, digest)) = path.split_once("/blobs/") {
        store.blob(digest).map(|bytes| ("application/octet-stream".to_owned(), digest.to_owned(), bytes))
    } else {
        None
    };
    match found {
        Some((kind, digest, bytes)) => respond(StatusCode::OK, &kind, bytes, Some(&digest)),
        None => {
            let body = br#"{"errors":[{"code":"NAME_UNKNOWN","message":"not loaded; use: ferromesh-e2e cluster load-image"}]}"#;
            respond(StatusCode::NOT_FOUND, "application/json", body.to_vec(), None)
        }
    }
}

/// hyper sends no body to a HEAD, but the length that it would have.
fn respond(status: StatusCode, kind: &str, body: Vec<u8>, digest: Option<&str>) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(status).header(header::CONTENT_TYPE, kind);
    if let Some(digest) = digest {
        response = response.header("docker-content-digest", digest);
    }
    response.body(Full::new(Bytes::from(body))).unwrap_or_default()
}
