//! A connection as the request's body and the answer share it.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::body::{BodyError, BodySource, Frame};
use crate::cause::Cause;
use crate::codec::h1::Settings;
use crate::codec::h1::framing::{Decoder, Framing, Step};
use crate::codec::h1::wire::Wire;
use crate::http::exchange::Meter;

/// A connection's state; borrowed only within a poll.
pub(super) struct Shared {
    pub(super) wire: Wire,
    pub(super) decoder: Decoder,
    pub(super) settings: Settings,
    /// The client waits for `100 Continue`.
    pub(super) owes_continue: bool,
    pub(super) tunnel: Tunnel,
    /// Nobody will read the rest of the request's body.
    pub(super) dropped: bool,
    /// Bytes of the request: its head, and what was taken of its body.
    pub(super) taken: (u64, u64),
}

/// A tunnel that the request asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tunnel {
    No,
    /// Asked for; not a byte goes either way before it is granted.
    Asked,
    Open,
}

impl Shared {
    pub(super) fn new(wire: Wire, settings: Settings) -> Self {
        Self {
            wire,
            decoder: Decoder::new(Framing::None, settings),
            settings,
            owes_continue: false,
            tunnel: Tunnel::No,
            dropped: false,
            taken: (0, 0),
        }
    }

    /// Takes what is already here of a body that nobody wants.
    pub(super) fn drain_buffered(&mut self) {
        while let Ok(Step::Frame(_)) = self.decoder.decode(&mut self.wire.input) {}
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, meter: &Meter) -> Poll<Option<Result<Frame, BodyError>>> {
        let failed = |cause: Cause, detail: String| {
            meter.failure.set(Some(cause));
            Poll::Ready(Some(Err(BodyError::new(cause, detail))))
        };
        if self.tunnel == Tunnel::Asked {
            return Poll::Pending;
        }
        if std::mem::take(&mut self.owes_continue) {
            self.wire.tail().put(b"HTTP/1.1 100 Continue\r\n\r\n");
            // What the socket does not take now is written by the exchange.
            let _ = self.wire.poll_flush(cx);
        }
        loop {
            let before = self.wire.input.len();
            let step = self.decoder.decode(&mut self.wire.input);
            self.taken.1 += (before - self.wire.input.len()) as u64;
            match step {
                Ok(Step::Frame(frame)) => {
                    if let Frame::Data(data) = &frame {
                        meter.add(data.len());
                    }
                    meter.set_complete(self.decoder.is_done());
                    return Poll::Ready(Some(Ok(frame)));
                }
                Ok(Step::End) => {
                    meter.set_complete(true);
                    return Poll::Ready(None);
                }
                Ok(Step::More) => {}
                Err(refusal) => return failed(refusal.cause, refusal.detail.to_owned()),
            }
            match ready!(self.wire.poll_fill_body(cx, self.decoder.expects())) {
                Ok(true) => {}
                Ok(false) if self.tunnel == Tunnel::Open => {
                    meter.left.set(true);
                    meter.set_complete(true);
                    return Poll::Ready(None);
                }
                Ok(false) => {
                    return failed(
                        Cause::DownstreamRemoteDisconnect,
                        "the client closed in the middle of its body".into(),
                    );
                }
                Err(error) => return failed(Cause::DownstreamRemoteDisconnect, error.to_string()),
            }
        }
    }
}

/// The body of the request that is served.
pub(super) struct RequestBody {
    pub(super) shared: Rc<RefCell<Shared>>,
    pub(super) meter: Rc<Meter>,
}

impl BodySource for RequestBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.shared.borrow_mut().poll_body(cx, &self.meter)
    }

    fn remaining(&self) -> Option<u64> {
        let shared = self.shared.borrow();
        if shared.tunnel == Tunnel::No { shared.decoder.remaining() } else { None }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.shared.borrow_mut().dropped = true;
    }
}
