//! Heads of requests and responses, the same for HTTP/1 and HTTP/2, and the answers that the proxy makes itself.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version};

use crate::body::Body;
use crate::cause::Cause;
use crate::text::Text;

/// The head of a request, the same for HTTP/1 and HTTP/2.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// Method.
    pub method: Method,
    /// `http` or `https`.
    pub scheme: Text,
    /// Host and port; what `:authority` or `Host` said. Not among `headers`.
    pub authority: Text,
    /// Path with query; `*` for OPTIONS; empty for CONNECT. Always starts with `/` otherwise.
    pub path: Text,
    /// What the client speaks.
    pub version: Version,
    /// The other headers, names in lower case, hop-by-hop ones taken out.
    pub headers: HeaderMap,
    /// The protocol that the request asks to switch to (`websocket`; `CONNECT` for CONNECT), hop-by-hop headers aside.
    pub upgrade: Option<Text>,
    /// Names of headers as the client wrote them, if they are kept.
    pub names: Option<Arc<PreservedNames>>,
}

impl RequestHead {
    /// The path without its query and fragment.
    pub fn path_only(&self) -> &str {
        let path = self.path.as_str();
        path.split(['?', '#']).next().unwrap_or(path)
    }

    /// The query without its `?`, if there is one.
    pub fn query(&self) -> Option<&str> {
        self.path.as_str().split_once('?').map(|(_, query)| query)
    }

    /// What of the head cannot be written: a target, authority or protocol that would end its line or begin another.
    ///
    /// Header names and values are safe by their types; these three are texts that routes rewrite.
    pub fn unwritable(&self) -> Option<&'static str> {
        let breaks = |text: &Text| text.as_bytes().iter().any(|byte| *byte <= b' ' || *byte == 0x7f);
        match self {
            head if breaks(&head.authority) => Some("authority"),
            head if breaks(&head.path) => Some("path"),
            head if head
                .upgrade
                .as_ref()
                .is_some_and(|protocol| protocol.bytes().any(|byte| byte.is_ascii_control())) =>
            {
                Some("upgrade")
            }
            _ => None,
        }
    }

    /// Whether this is a gRPC request, by its content type.
    pub fn is_grpc(&self) -> bool {
        self.headers.get(http::header::CONTENT_TYPE).is_some_and(|value| {
            let value = value.as_bytes();
            value.starts_with(b"application/grpc") && matches!(value.get(16), None | Some(b'+' | b';'))
        })
    }
}

/// The head of a response.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// Status.
    pub status: StatusCode,
    /// Headers, names in lower case, hop-by-hop ones taken out.
    pub headers: HeaderMap,
    /// The response switches protocols: its body and the request's are raw bytes until the end.
    pub upgrade: Option<Text>,
    /// Names of headers as the upstream wrote them, if they are kept.
    pub names: Option<Arc<PreservedNames>>,
}

/// Names of headers as a message of HTTP/1 had them, and its reason phrase, for whoever writes it on.
#[derive(Debug)]
pub struct PreservedNames {
    /// Those that would be written otherwise.
    pub names: Vec<Bytes>,
    /// The reason phrase.
    pub reason: Option<Bytes>,
    /// Names that the message did not have are written as words.
    pub proper: bool,
}

/// A response on its way to the client.
#[derive(Debug)]
pub struct Response {
    /// Head.
    pub head: ResponseHead,
    /// Body.
    pub body: Body,
}

/// An answer that the proxy makes itself.
#[derive(Debug, Clone)]
pub struct LocalReply {
    /// Why.
    pub cause: Cause,
    /// Status, unless the cause's own.
    pub status: Option<StatusCode>,
    /// Text of the body; for gRPC it becomes `grpc-message`.
    pub body: Text,
    /// Further headers.
    pub headers: HeaderMap,
    /// gRPC status, unless the one that belongs to the HTTP status.
    pub grpc_status: Option<u32>,
    /// Details, unless the cause's own.
    pub details: Option<Cow<'static, str>>,
}

impl LocalReply {
    /// A reply with the cause's status and no body.
    pub fn new(cause: Cause) -> Self {
        Self { cause, status: None, body: Text::default(), headers: HeaderMap::new(), grpc_status: None, details: None }
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Text>) -> Self {
        self.body = body.into();
        self
    }
}

/// The gRPC status that belongs to an HTTP status (gRPC, "HTTP to gRPC Status Code Mapping").
pub fn grpc_status(status: StatusCode) -> u32 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}
