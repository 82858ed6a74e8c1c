//! Heads of messages: [`RequestHead`] and [`ResponseHead`] to bytes, with how the body is framed.

use http::header;
use http::{HeaderMap, Method, StatusCode, Version};

use super::framing::Framing;
use super::names::{NameFormat, Names};
use super::wire::{Tail, Wire};
use crate::body::Body;
use crate::message::{PreservedNames, RequestHead, ResponseHead};

/// Appends one header line.
pub(super) fn header(tail: &mut Tail<'_>, names: Names<'_>, name: &str, value: &[u8]) {
    names.put(tail, name);
    tail.put(b": ");
    tail.put(value);
    tail.put(b"\r\n");
}

fn headers(tail: &mut Tail<'_>, names: Names<'_>, headers: &HeaderMap, keep_length: bool) {
    for (name, value) in headers {
        if *name == header::CONTENT_LENGTH && !keep_length {
            continue;
        }
        self::header(tail, names, name.as_str(), value.as_bytes());
    }
}

fn length(tail: &mut Tail<'_>, names: Names<'_>, length: u64) {
    header(tail, names, "content-length", itoa::Buffer::new().format(length).as_bytes());
}

fn framing(tail: &mut Tail<'_>, names: Names<'_>, framing: Framing) {
    match framing {
        Framing::Length(count) => length(tail, names, count),
        Framing::Chunked => header(tail, names, "transfer-encoding", b"chunked"),
        Framing::None | Framing::UntilClose => {}
    }
}

/// Exact length of the body: what the body knows, else what its head says.
fn length_of(body: &Body, headers: &HeaderMap) -> Option<u64> {
    body.remaining().or_else(|| headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok())
}

/// Appends a request's head; gives how its body is to be framed.
pub fn request(wire: &mut Wire, head: &RequestHead, body: &Body, format: NameFormat) -> Framing {
    let names = Names::of(head.names.as_ref(), format);
    let upgrade = head.upgrade.as_deref();
    let connect = upgrade == Some("CONNECT") || head.method == Method::CONNECT && upgrade.is_none();
    let tail = &mut wire.tail();
    tail.reserve(512);
    let framed = match length_of(body, &head.headers) {
        _ if upgrade.is_some() => Framing::None,
        Some(0) if needs_length(head) => Framing::Length(0),
        Some(0) => Framing::None,
        Some(count) => Framing::Length(count),
        None => Framing::Chunked,
    };
    // WebSocket over HTTP/2 is an extended CONNECT; over HTTP/1 it is a GET.
    let method =
        if upgrade.is_some() && !connect && head.method == Method::CONNECT { "GET" } else { head.method.as_str() };
    tail.put(method.as_bytes());
    tail.put(b" ");
    tail.put(if connect { head.authority.as_bytes() } else { head.path.as_bytes() });
    tail.put(b" HTTP/1.1\r\n");
    header(tail, names, "host", head.authority.as_bytes());
    headers(tail, names, &head.headers, false);
    if let Some(protocol) = upgrade.filter(|_| !connect) {
        // As browsers write it, for servers that heed the case of what has none.
        header(tail, names, "connection", b"Upgrade");
        header(tail, names, "upgrade", protocol.as_bytes());
    }
    framing(tail, names, framed);
    tail.put(b"\r\n");
    framed
}

/// A bodyless request that says so: all but the methods that have no meaning with a body, or a client that sent the
/// length.
fn needs_length(head: &RequestHead) -> bool {
    !matches!(head.method, Method::GET | Method::HEAD | Method::DELETE | Method::CONNECT | Method::TRACE)
        || head.headers.contains_key(header::CONTENT_LENGTH)
}

/// What a response goes out on.
#[derive(Debug, Clone, Copy)]
pub struct ResponseOn {
    /// The client's version.
    pub version: Version,
    /// The request is HEAD.
    pub head: bool,
    /// The request is CONNECT.
    pub connect: bool,
    /// The connection stays open after it.
    pub keep_alive: bool,
    /// How names are written, unless the response keeps its own.
    pub names: NameFormat,
}

/// Says what a GET would have got where a response to HEAD tells no length.
fn would_be_chunked(head: &ResponseHead, status: StatusCode, on: ResponseOn) -> bool {
    let may = !status.is_informational() && status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED;
    on.head && may && on.version == Version::HTTP_11 && !head.headers.contains_key(header::CONTENT_LENGTH)
}

/// Appends a response's head; gives how its body is framed and whether the connection can stay open.
pub fn response(wire: &mut Wire, head: &ResponseHead, body: &Body, on: ResponseOn) -> (Framing, bool) {
    let upgraded = head.upgrade.is_some();
    let status = if upgraded && !on.connect { StatusCode::SWITCHING_PROTOCOLS } else { head.status };
    let bodyless = on.head || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let framed = match length_of(body, &head.headers) {
        _ if upgraded => Framing::UntilClose,
        _ if bodyless => Framing::None,
        Some(count) => Framing::Length(count),
        None if on.version == Version::HTTP_10 => Framing::UntilClose,
        None => Framing::Chunked,
    };
    let keep_alive = on.keep_alive && framed != Framing::UntilClose;
    let tail = &mut wire.tail();
    tail.reserve(512);
    let names = Names::of(head.names.as_ref(), on.names);
    status_line(tail, on.version, status, head.names.as_deref());
    headers(tail, names, &head.headers, on.head || status == StatusCode::NOT_MODIFIED);
    framing(tail, names, if would_be_chunked(head, status, on) { Framing::Chunked } else { framed });
    match &head.upgrade {
        Some(protocol) if !on.connect => {
            header(tail, names, "connection", b"upgrade");
            header(tail, names, "upgrade", protocol.as_bytes());
        }
        Some(_) => {}
        None if !keep_alive => header(tail, names, "connection", b"close"),
        None if on.version == Version::HTTP_10 => header(tail, names, "connection", b"keep-alive"),
        None => {}
    }
    tail.put(b"\r\n");
    (framed, keep_alive)
}

/// Appends a 1xx head.
pub fn informational(wire: &mut Wire, head: &ResponseHead, format: NameFormat) {
    let names = Names::of(head.names.as_ref(), format);
    let tail = &mut wire.tail();
    status_line(tail, Version::HTTP_11, head.status, head.names.as_deref());
    headers(tail, names, &head.headers, false);
    tail.put(b"\r\n");
}

fn status_line(tail: &mut Tail<'_>, version: Version, status: StatusCode, preserved: Option<&PreservedNames>) {
    tail.put(if version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    tail.put(status.as_str().as_bytes());
    tail.put(b" ");
    let standard = || status.canonical_reason().unwrap_or("Unknown").as_bytes();
    tail.put(preserved.and_then(|preserved| preserved.reason.as_deref()).unwrap_or_else(standard));
    tail.put(b"\r\n");
}
