//! The router: forwards a request to a cluster (retries, timeouts, mirrors).

use super::{LocalReply, Response, local_reply};
use crate::body::Body;
use crate::cause::Cause;
use crate::stream::Stream;

/// Forwards the request of `stream` as its route says.
pub async fn forward(stream: &mut Stream, _body: Body) -> Response {
    local_reply::response(stream, LocalReply::new(Cause::ClusterNotFound))
}
