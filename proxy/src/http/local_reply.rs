//! Answers that the proxy makes itself: plain, or in gRPC's form where the client speaks gRPC.
//!
//! ```text
//! the route's headers, the reply's own -> local_reply_config (status, body, headers) -> plain | gRPC
//! ```

use std::borrow::Cow;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use crate::body::Body;
use crate::cause::Cause;
use crate::http::stream::Stream;
use crate::message::{LocalReply, Response, ResponseHead, grpc_status};
use crate::text::Text;

mod rewrite;

pub use rewrite::{Rewrite, SUPPORTED};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Makes the response, and notes its cause on the stream. The route's rules for response headers are applied in it.
pub fn response(stream: &mut Stream, reply: LocalReply) -> Response {
    let LocalReply { cause, status, body, headers, grpc_status, details } = reply;
    stream.is_answered_here = true;
    stream.note(cause);
    if let Some(details) = details {
        stream.details = details;
    }
    // Envoy's codecs answer first and tell of the client's error then: mappers do not see its flag.
    let flag = if cause.flag() == "DPE" { stream.causes.pop() } else { None };
    let status = status.or_else(|| StatusCode::from_u16(cause.status()).ok());
    let status = status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    // Envoy takes each 400 of its own for a sign of bad framing.
    stream.closes |= status == StatusCode::BAD_REQUEST && !stream.manager.keep_after_bad_request;
    let mut head = ResponseHead { status, headers: HeaderMap::with_capacity(8), upgrade: None, names: None };
    let mut shown = Shown { body, made_as: TEXT, keeps_type: true };
    if cause == Cause::CorsPreflight {
        // The filter writes it as an upstream would: it is none of a route's answers, and is not rewritten.
        extend(&mut head.headers, headers);
    } else {
        own_headers(stream, cause, headers, &mut head);
        stream.status = Some(status.as_u16());
        let manager = stream.manager.clone();
        if let Some(rewrite) = &manager.local_reply {
            rewrite.apply(stream, &mut head, &mut shown);
        }
    }
    stream.causes.extend(flag);
    if stream.request.is_grpc() {
        grpc(stream, head, &shown, grpc_status)
    } else {
        plain(stream.request.version, head, shown)
    }
}

/// What is shown of a reply, as it is rewritten.
pub(super) struct Shown {
    /// The body.
    body: Text,
    /// The body's type, by the format that has made it.
    made_as: HeaderValue,
    /// A type that the headers say is right, whatever the format's.
    keeps_type: bool,
}

/// The headers of the route and those of the reply itself. A route that answers by itself goes last, so that it can
/// change what it says; one that forwards goes before whoever answers in its place.
fn own_headers(stream: &Stream, cause: Cause, headers: HeaderMap, head: &mut ResponseHead) {
    let direct = cause == Cause::DirectResponse;
    let route = |head: &mut ResponseHead| {
        if let Some(route) = &stream.route {
            route.apply_response_headers(stream, head);
        }
    };
    if !direct {
        route(head);
    }
    extend(&mut head.headers, headers);
    if direct {
        route(head);
    }
}

fn plain(version: Version, mut head: ResponseHead, shown: Shown) -> Response {
    let Shown { body, made_as, keeps_type } = shown;
    // A format may make a body for a status that has none.
    let body = if may_have_length(head.status) { body } else { Text::default() };
    let headers = &mut head.headers;
    if !body.is_empty() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        if !keeps_type || !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, made_as);
        }
    } else {
        headers.remove(CONTENT_TYPE);
        headers.remove(CONTENT_LENGTH);
        // HTTP/2 ends such an answer with its head.
        if may_have_length(head.status) && version != Version::HTTP_2 {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
    }
    Response { head, body: Body::from(body.into_bytes()) }
}

fn may_have_length(status: StatusCode) -> bool {
    !status.is_informational() && status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED
}

fn extend(headers: &mut HeaderMap, more: HeaderMap) {
    let mut last = None;
    for (name, value) in more {
        // A map gives the name only with the first of its values.
        let Some(name) = name.or(last) else { return };
        headers.append(name.clone(), value);
        last = Some(name);
    }
}

/// Trailers-only form (gRPC over HTTP/2, "Responses").
fn grpc(stream: &Stream, mut head: ResponseHead, shown: &Shown, status: Option<u32>) -> Response {
    let headers = &mut head.headers;
    // A JSON format ends its line, which a header does not need.
    let body = shown.body.strip_suffix('\n').filter(|_| shown.made_as == JSON).unwrap_or(&shown.body);
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if !headers.contains_key("grpc-status") {
        headers.insert("grpc-status", HeaderValue::from(status.unwrap_or_else(|| grpc_status(head.status))));
    }
    if !body.is_empty()
        && stream.request.method != Method::HEAD
        && let Ok(message) = HeaderValue::from_str(&grpc_message(body))
    {
        headers.insert("grpc-message", message);
    }
    head.status = StatusCode::OK;
    Response { head, body: Body::Empty }
}

/// Percent-encodes what `grpc-message` cannot carry, and the tilde, as Envoy does.
fn grpc_message(text: &str) -> Cow<'_, str> {
    const RESERVED: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%').add(b'~');
    percent_encoding::utf8_percent_encode(text, RESERVED).into()
}
