//! Where a CONNECT request ends: its bytes go to a host as they are, and the host's come back as its answer
//! (Envoy, "CONNECT support": `connect_config`).

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use tokio::io::AsyncWrite;

use super::lease::Active;
use super::{Pools, TcpUpstream, UpstreamError, Wanted};
use crate::body::{Body, BodyError, BodySource, Frame};
use crate::cause::Cause;
use crate::cluster::{Cluster, Host};
use crate::message::ResponseHead;
use crate::text::Text;

/// Bytes that one read takes.
const READ: usize = 16 * 1024;

impl Pools {
    /// Opens a connection to a host for the request's bytes; its answer is 200 and the host's bytes.
    ///
    /// # Errors
    /// Overflow, connect or TLS failure, timeout.
    pub(crate) async fn tunnel(
        self: &Rc<Self>,
        cluster: &Arc<Cluster>,
        host: &Arc<Host>,
        wanted: &Wanted,
    ) -> Result<(TcpUpstream, Active), UpstreamError> {
        let active = Active::begin(cluster, host, wanted.high_priority)?;
        Ok((self.connect(cluster, host, wanted).await?, active))
    }
}

impl TcpUpstream {
    /// Grants the CONNECT request whose bytes are `request`.
    pub(crate) fn into_answer(self, request: Body) -> (ResponseHead, Body) {
        let upgrade = Some(Text::from_static("CONNECT"));
        let head = ResponseHead { status: StatusCode::OK, headers: HeaderMap::new(), upgrade, names: None };
        let tunnel =
            Tunnel { upstream: self, request: Some(request), pending: Bytes::new(), shut: false, dirty: false };
        (head, Body::new(tunnel))
    }
}

struct Tunnel {
    upstream: TcpUpstream,
    /// What the client sends; `None` after its end.
    request: Option<Body>,
    pending: Bytes,
    shut: bool,
    dirty: bool,
}

impl Tunnel {
    /// Moves the client's bytes on, as far as it goes now; ready when its half is closed.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let broken = |error: std::io::Error| {
            BodyError::new(Cause::UpstreamTerminationAfterResponse, format!("the tunnel broke: {error}"))
        };
        loop {
            while !self.pending.is_empty() {
                let count = ready!(Pin::new(&mut self.upstream.io).poll_write(cx, &self.pending)).map_err(broken)?;
                self.pending.advance(count);
                self.dirty = true;
            }
            match self.request.as_mut().map(|request| request.poll_frame(cx)) {
                Some(Poll::Ready(Some(Ok(Frame::Data(data))))) => self.pending = data,
                Some(Poll::Ready(Some(Err(error)))) => return Poll::Ready(Err(error)),
                Some(Poll::Ready(Some(Ok(Frame::Trailers(_))) | None)) => self.request = None,
                Some(Poll::Pending) => {
                    if self.dirty {
                        ready!(Pin::new(&mut self.upstream.io).poll_flush(cx)).map_err(broken)?;
                        self.dirty = false;
                    }
                    return Poll::Pending;
                }
                None => {
                    if !self.shut {
                        ready!(Pin::new(&mut self.upstream.io).poll_shutdown(cx)).map_err(broken)?;
                        self.shut = true;
                    }
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl BodySource for Tunnel {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if let Poll::Ready(Err(error)) = self.poll_request(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        let mut buffer = BytesMut::with_capacity(READ);
        let read = ready!(tokio_util::io::poll_read_buf(Pin::new(&mut self.upstream.io), cx, &mut buffer));
        Poll::Ready(match read {
            Ok(0) => None,
            Ok(_) => Some(Ok(Frame::Data(buffer.freeze()))),
            Err(error) => Some(Err(BodyError::new(Cause::UpstreamTerminationAfterResponse, error.to_string()))),
        })
    }
}
