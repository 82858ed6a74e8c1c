//! Answers that the proxy makes itself: plain, or in gRPC's form where the client speaks gRPC.

use std::borrow::Cow;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::body::Body;
use crate::http::stream::Stream;
use crate::message::{LocalReply, Response, ResponseHead, grpc_status};

/// Makes the response, and notes its cause on the stream.
pub fn response(stream: &mut Stream, reply: LocalReply) -> Response {
    stream.note(reply.cause);
    if let Some(details) = &reply.details {
        stream.details = details.clone();
    }
    let status = reply.status.or_else(|| StatusCode::from_u16(reply.cause.status()).ok());
    let status = status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    // Envoy takes each 400 of its own for a sign of bad framing.
    stream.closes |= status == StatusCode::BAD_REQUEST && !stream.manager.keep_after_bad_request;
    if stream.request.is_grpc() {
        return grpc(reply, status);
    }
    let mut headers = HeaderMap::with_capacity(8);
    if !reply.body.is_empty() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(reply.body.len()));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    } else if may_have_length(status) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    extend(&mut headers, reply.headers);
    Response { head: ResponseHead { status, headers, upgrade: None }, body: Body::from(reply.body.into_bytes()) }
}

fn may_have_length(status: StatusCode) -> bool {
    !status.is_informational() && status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED
}

fn extend(headers: &mut HeaderMap, more: HeaderMap) {
    let mut last = None;
    for (name, value) in more {
        // A map gives the name only with the first of its values.
        let first = name.is_some();
        let Some(name) = name.or(last) else { return };
        if first {
            headers.insert(name.clone(), value);
        } else {
            headers.append(name.clone(), value);
        }
        last = Some(name);
    }
}

/// Trailers-only form (gRPC over HTTP/2, "Responses").
fn grpc(reply: LocalReply, status: StatusCode) -> Response {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let code = reply.grpc_status.unwrap_or_else(|| grpc_status(status));
    headers.insert("grpc-status", HeaderValue::from(code));
    if !reply.body.is_empty()
        && let Ok(message) = HeaderValue::from_str(&grpc_message(&reply.body))
    {
        headers.insert("grpc-message", message);
    }
    extend(&mut headers, reply.headers);
    Response { head: ResponseHead { status: StatusCode::OK, headers, upgrade: None }, body: Body::Empty }
}

/// Percent-encodes what `grpc-message` cannot carry.
fn grpc_message(text: &str) -> Cow<'_, str> {
    const RESERVED: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%');
    percent_encoding::utf8_percent_encode(text, RESERVED).into()
}
