//! What the connection manager does to heads before the route is chosen, and to responses before they are sent.

use http::HeaderValue;

use super::{LocalReply, ResponseHead};
use crate::stream::Stream;

/// Changes the request's head as the manager's settings say.
///
/// # Errors
/// With the answer, if the request must not go on.
pub fn request(_stream: &mut Stream) -> Result<(), Box<LocalReply>> {
    Ok(())
}

/// Changes the response's head as the manager's settings say.
pub fn response(stream: &Stream, head: &mut ResponseHead) {
    let _ = HeaderValue::from_maybe_shared(stream.manager.server_name.clone().into_bytes())
        .map(|value| head.headers.insert(http::header::SERVER, value));
}
