//! What the proxy of a pod says to the proxy of its caller when it could not give a request to its application: nobody has
//! processed it, so that another pod may be asked.
//!
//! A pod that ends is sent requests until the last caller has heard of it, while its application listens no longer. The pod's
//! proxy is the one who knows that a request of that time did no harm; in HTTP/1 only a header can say so. It goes from one
//! proxy to the next, over mTLS, and never further.

use http::{HeaderName, Method, StatusCode};

use super::retry::is_idempotent;
use crate::cause::Cause;
use crate::connection::Connection;
use crate::http::ResponseHead;
use crate::upstream::UpstreamError;

/// On a 503: the request may be sent to somebody else.
pub(super) const UNPROCESSED: HeaderName = HeaderName::from_static("x-ferromesh-unprocessed");
/// `traffic_direction` of the listeners in front of an application.
const INBOUND: i32 = 1;

/// Whether an answer says so to this proxy. What an application itself says is not believed.
pub(super) fn is_told(connection: &Connection, head: &ResponseHead) -> bool {
    connection.direction != INBOUND
        && head.status == StatusCode::SERVICE_UNAVAILABLE
        && head.headers.contains_key(&UNPROCESSED)
}

/// Whether this failure is one to tell: nothing was sent, or what was sent may be sent twice and the connection ended without
/// one byte of an answer.
pub(super) fn is_to_tell(connection: &Connection, method: &Method, error: &UpstreamError) -> bool {
    let unanswered = matches!(error.cause, Cause::UpstreamConnectionTermination | Cause::UpstreamRemoteReset);
    let harmless =
        super::failure::is_transport(error.cause) || (unanswered && (error.before_request || is_idempotent(method)));
    connection.direction == INBOUND && connection.tls.is_some() && harmless
}
