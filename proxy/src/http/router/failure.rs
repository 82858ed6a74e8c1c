//! What a client is told of an upstream that gave no answer.

use http::{HeaderName, HeaderValue, StatusCode};

use super::unprocessed::{self, UNPROCESSED};
use crate::cause::Cause;
use crate::http::LocalReply;
use crate::http::stream::Stream;
use crate::upstream::UpstreamError;

const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");

/// The answer of our own that stands for a failure; `late` is the status of a request that took too long.
pub(super) fn reply(stream: &Stream, error: &UpstreamError, retried: bool, late: Option<StatusCode>) -> LocalReply {
    let cause = error.cause;
    let mut reply = LocalReply::new(cause);
    if let Some(reason) = reset_reason(cause) {
        let transport = is_transport(cause).then_some(error.detail.as_str()).filter(|detail| !detail.is_empty());
        // Why the connection failed is for logs only: it tells of the network behind the proxy.
        let which = if retried { "retried and the latest reset reason" } else { "reset reason" };
        let text = format!("upstream connect error or disconnect/reset before headers. {which}: {reason}");
        let mut details = format!("upstream_reset_before_response_started{{{reason}");
        if let Some(transport) = transport {
            details.push('|');
            details.push_str(transport);
        }
        details.push('}');
        reply = reply.body(text);
        reply.details = Some(details.replace(char::is_whitespace, "_").into());
    } else if matches!(cause, Cause::ResponseTimeout | Cause::PerTryTimeout) {
        reply.status = late;
        if reply.status.is_none() {
            reply = reply.body("upstream request timeout");
        }
    } else if cause == Cause::UpstreamMaxStreamDuration {
        reply = reply.body("upstream max stream duration reached");
    }
    if matches!(cause, Cause::MaxConnections | Cause::MaxPendingRequests | Cause::MaxRequests) {
        reply.headers.insert(OVERLOADED, HeaderValue::from_static("true"));
    }
    if unprocessed::is_to_tell(&stream.connection, &stream.request.method, error) {
        reply.headers.insert(UNPROCESSED, HeaderValue::from_static("true"));
    }
    reply
}

/// Envoy's word for why there is no answer.
fn reset_reason(cause: Cause) -> Option<&'static str> {
    Some(match cause {
        Cause::UpstreamConnectionFailure | Cause::UpstreamTlsFailure => "remote connection failure",
        Cause::UpstreamConnectTimeout => "connection timeout",
        Cause::UpstreamConnectionTermination => "connection termination",
        Cause::UpstreamRemoteReset => "remote reset",
        Cause::UpstreamRefusedStream => "remote refused stream reset",
        Cause::UpstreamProtocolError | Cause::ResponseHeadersTooLarge => "protocol error",
        Cause::MaxConnections | Cause::MaxPendingRequests | Cause::MaxRequests => "overflow",
        _ => return None,
    })
}

/// The connection itself was not made.
pub(super) fn is_transport(cause: Cause) -> bool {
    matches!(cause, Cause::UpstreamConnectionFailure | Cause::UpstreamTlsFailure | Cause::UpstreamConnectTimeout)
}
