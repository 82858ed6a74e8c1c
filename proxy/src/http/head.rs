//! What the connection manager does to heads before the route is chosen, and to responses before they are sent.
//!
//! Rules: Envoy, "HTTP header manipulation" and "HTTP header sanitizing".

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::manager::{HttpConnectionManager, ServerHeader};
use super::{LocalReply, RequestHead, ResponseHead};
use crate::cause::Cause;
use crate::http::stream::Stream;
use crate::text::Text;

mod forwarded;
mod joined;
pub(crate) mod path;
mod xfcc;

pub(super) use forwarded::append_for as append_forwarded_for;

#[cfg(test)]
mod tests;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
const FORCE_TRACE: HeaderName = HeaderName::from_static("x-envoy-force-trace");
const EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");

/// Headers that tell of earlier hops in the mesh; at its edge nobody may have set them.
const INNER_ONLY: [&str; 5] = [
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-original-path",
    "x-envoy-original-host",
];

/// Headers by which an internal client steers the proxy; others must not.
const INTERNAL_ONLY: [&str; 14] = [
    "x-envoy-retriable-status-codes",
    "x-envoy-retriable-header-names",
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-ip-tags",
    "x-envoy-original-url",
    "x-envoy-hedge-on-per-try-timeout",
];

/// Changes the request's head as the manager's settings say.
///
/// # Errors
/// With the answer, if the request must not go on.
pub fn request(stream: &mut Stream) -> Result<(), Box<LocalReply>> {
    let manager = stream.manager.clone();
    underscores(&manager, &mut stream.request.headers)?;
    normalize_path(&manager, &mut stream.request)?;
    normalize_host(&manager, stream.connection.local.port(), &mut stream.request);
    joined::join(&mut stream.request.headers);
    let secure = stream.connection.tls.is_some();
    let client = forwarded::client(&manager, stream.connection.remote, &stream.request.headers);
    let client = client.map_err(|status| {
        let mut reply = LocalReply::new(Cause::OriginalIpUnknown);
        reply.status = Some(status);
        Box::new(reply)
    })?;
    stream.remote = client.address;
    stream.internal = client.trusted && is_internal(&manager, client.address.ip());
    forwarded::apply(&manager, &stream.connection, client, secure, &mut stream.request.headers);
    if stream.request.scheme.is_empty() {
        stream.request.scheme = scheme(&stream.request.headers, secure);
    }
    let edge = !stream.internal && manager.use_remote_address;
    sanitize(&manager, &mut stream.request.headers, stream.internal, edge);
    if edge && let Ok(address) = HeaderValue::from_str(&client.address.ip().to_string()) {
        stream.request.headers.insert(EXTERNAL_ADDRESS, address);
    }
    request_id(&manager, &mut stream.request.headers, edge);
    xfcc::apply(&manager, stream.connection.tls.as_deref(), &mut stream.request.headers);
    append_via(&manager, &mut stream.request.headers);
    Ok(())
}

/// Changes the response's head as the manager's settings say.
pub fn response(stream: &Stream, head: &mut ResponseHead) {
    let manager = &stream.manager;
    let headers = &mut head.headers;
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE] {
        // Most answers have none of them, and looking at the names costs less than looking each up.
        if headers.keys().any(|found| *found == name) {
            headers.remove(name);
        }
    }
    if headers.keys().any(|name| matches!(name.as_str(), "keep-alive" | "proxy-connection")) {
        headers.remove("keep-alive");
        headers.remove("proxy-connection");
    }
    let ours = match manager.server_header {
        ServerHeader::Overwrite => true,
        ServerHeader::AppendIfAbsent => !headers.contains_key(header::SERVER),
        ServerHeader::PassThrough => false,
    };
    if ours && let Ok(name) = HeaderValue::from_maybe_shared(manager.server_name.clone().into_bytes()) {
        headers.insert(header::SERVER, name);
    }
    if !headers.contains_key(header::DATE)
        && let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(std::time::SystemTime::now()))
    {
        headers.insert(header::DATE, date);
    }
    if (manager.always_set_request_id_in_response || stream.request.headers.contains_key(FORCE_TRACE))
        && let Some(id) = stream.request.headers.get(REQUEST_ID)
    {
        headers.insert(REQUEST_ID, id.clone());
    }
    append_via(manager, headers);
}

fn refused(cause: Cause) -> Box<LocalReply> {
    Box::new(LocalReply::new(cause).body(cause.explain()))
}

fn underscores(manager: &HttpConnectionManager, headers: &mut HeaderMap) -> Result<(), Box<LocalReply>> {
    if manager.underscores_action == 0 {
        return Ok(());
    }
    let found: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().contains('_')).cloned().collect();
    if manager.underscores_action == 1 && !found.is_empty() {
        let mut reply = refused(Cause::InvalidHeader);
        reply.details = Some("http.unexpected_underscore".into());
        return Err(reply);
    }
    for name in found {
        headers.remove(name);
    }
    Ok(())
}

fn normalize_host(manager: &HttpConnectionManager, local_port: u16, head: &mut RequestHead) {
    if head.method == Method::CONNECT {
        return;
    }
    if manager.strip_port != 0 {
        let host = crate::route::table::without_port(&head.authority);
        let port = head.authority.get(host.len() + 1..).and_then(|port| port.parse().ok());
        if port.is_some_and(|port: u16| manager.strip_port == 2 || port == local_port) {
            head.authority = Text::from(host);
        }
    }
    if manager.strip_trailing_host_dot {
        let host = crate::route::table::without_port(&head.authority);
        if let Some(without) = host.strip_suffix('.') {
            let port = head.authority.get(host.len()..).unwrap_or_default();
            head.authority = Text::from(format!("{without}{port}"));
        }
    }
}

pub(super) fn normalize_path(manager: &HttpConnectionManager, head: &mut RequestHead) -> Result<(), Box<LocalReply>> {
    if head.method == Method::CONNECT && head.path.is_empty() {
        return Ok(());
    }
    if !head.path.starts_with('/') {
        return Err(refused(Cause::RelativePath));
    }
    if head.path.contains('#') {
        // Dropped by one reader and kept by the next, it would lead them to different routes.
        return Err(refused(Cause::InvalidPath));
    }
    let rules = path::Rules {
        normalize: manager.normalize_path,
        merge_slashes: manager.merge_slashes,
        escaped_slashes: manager.escaped_slashes_action,
    };
    match path::normalize(&head.path, rules) {
        path::Outcome::Same => {}
        path::Outcome::Changed(path) => head.path = Text::from(path),
        path::Outcome::Reject => return Err(refused(Cause::InvalidPath)),
        path::Outcome::Redirect(path) => {
            let mut reply = LocalReply::new(Cause::InvalidPath);
            reply.status = Some(StatusCode::TEMPORARY_REDIRECT);
            reply.details = Some("path_normalization_failed".into());
            let location = HeaderValue::from_str(&path).map_err(|_| refused(Cause::InvalidPath))?;
            reply.headers.insert(header::LOCATION, location);
            head.path = Text::from(path);
            return Err(Box::new(reply));
        }
    }
    Ok(())
}

fn is_internal(manager: &HttpConnectionManager, address: std::net::IpAddr) -> bool {
    manager.internal_addresses.iter().any(|net| crate::policy::contains(net, address))
}

fn scheme(headers: &HeaderMap, secure: bool) -> Text {
    match headers.get(FORWARDED_PROTO).map(HeaderValue::as_bytes) {
        Some(b"https") => Text::from_static("https"),
        Some(b"http") => Text::from_static("http"),
        _ if secure => Text::from_static("https"),
        _ => Text::from_static("http"),
    }
}

fn sanitize(manager: &HttpConnectionManager, headers: &mut HeaderMap, internal: bool, edge: bool) {
    if headers.get(header::REFERER).is_some_and(|referer| !is_referer(referer.as_bytes())) {
        headers.remove(header::REFERER);
    }
    remove_named(headers, |name| name == INTERNAL.as_str());
    if internal {
        headers.insert(INTERNAL, HeaderValue::from_static("true"));
        return;
    }
    remove_named(headers, |name| INTERNAL_ONLY.contains(&name) || (edge && INNER_ONLY.contains(&name)));
    manager.routes.internal_only_headers(|name| {
        headers.remove(name);
    });
}

/// Takes off the `x-envoy-` headers that `is_named` names. Heads are short: one look at each name costs less than looking
/// up each name that might be there.
pub(crate) fn remove_named(headers: &mut HeaderMap, is_named: impl Fn(&str) -> bool) {
    let named = |name: &&HeaderName| name.as_str().starts_with("x-envoy-") && is_named(name.as_str());
    if headers.keys().any(|name| named(&name)) {
        let found: Vec<HeaderName> = headers.keys().filter(named).cloned().collect();
        for name in found {
            headers.remove(name);
        }
    }
}

/// A path, or an absolute URI that names a host (RFC 9110, 10.1.3).
fn is_referer(value: &[u8]) -> bool {
    let after_scheme = || value.strip_prefix(b"http://").or_else(|| value.strip_prefix(b"https://"));
    value.starts_with(b"/") || after_scheme().is_some_and(|rest| !rest.is_empty())
}

fn request_id(manager: &HttpConnectionManager, headers: &mut HeaderMap, edge: bool) {
    if !manager.generate_request_id {
        return;
    }
    let kept = headers.contains_key(REQUEST_ID) && (!edge || manager.preserve_external_request_id);
    if kept {
        return;
    }
    let mut buffer = uuid::Uuid::encode_buffer();
    let id = uuid::Uuid::new_v4().hyphenated().encode_lower(&mut buffer);
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
}

fn append_via(manager: &HttpConnectionManager, headers: &mut HeaderMap) {
    if !manager.via.is_empty() {
        append(headers, &header::VIA, &manager.via, ", ");
    }
}

/// Appends to a header that is one comma-separated list.
fn append(headers: &mut HeaderMap, name: &HeaderName, value: &str, separator: &str) {
    let mut joined = Vec::new();
    for found in headers.get_all(name) {
        joined.extend_from_slice(found.as_bytes());
        joined.extend_from_slice(separator.as_bytes());
    }
    joined.extend_from_slice(value.as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(name, value);
    }
}
