//! Where an answer over HTTP/1 goes.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;

use super::End;
use super::shared::{Shared, Tunnel};
use crate::body::{Body, BodyError};
use crate::cause::Cause;
use crate::codec::h1::framing::{Decoder, Encoder, Framing};
use crate::codec::h1::write::{self, ResponseOn};
use crate::http::exchange::{Meter, Sink};
use crate::http::serve::Session;
use crate::message::ResponseHead;
use crate::stream::Traffic;

/// While a request is served, so much of what its client sends ahead is read.
const READ_AHEAD: usize = 16 * 1024;

/// One answer on its way to the client.
pub(super) struct H1Sink {
    session: Rc<Session>,
    shared: Rc<RefCell<Shared>>,
    meter: Rc<Meter>,
    on: ResponseOn,
    encoder: Option<Encoder>,
    /// What was queued when the request came, and when the head of its answer was.
    queued: (u64, u64),
    keep_alive: bool,
    /// The connection is to be closed, whatever the client wants.
    closing: bool,
    ended: bool,
    aborted: bool,
}

impl H1Sink {
    pub(super) fn new(session: Rc<Session>, shared: Rc<RefCell<Shared>>, meter: Rc<Meter>, on: ResponseOn) -> Self {
        let queued = shared.borrow().wire.queued();
        Self {
            session,
            shared,
            queued: (queued, queued),
            meter,
            on,
            encoder: None,
            keep_alive: false,
            closing: false,
            ended: false,
            aborted: false,
        }
    }

    /// What becomes of the connection.
    pub(super) fn finish(self) -> End {
        let shared = &mut *self.shared.borrow_mut();
        if self.aborted || !self.ended {
            return End::Abort;
        }
        if self.keep_alive && shared.tunnel == Tunnel::No {
            shared.drain_buffered();
            if shared.decoder.is_done() {
                return End::KeepAlive;
            }
        }
        End::Close
    }

    fn gone(error: &std::io::Error) -> BodyError {
        BodyError::new(Cause::DownstreamRemoteDisconnect, error.to_string())
    }
}

impl Sink for H1Sink {
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Cause> {
        let shared = &mut *self.shared.borrow_mut();
        let watch = match shared.tunnel {
            Tunnel::No => shared.decoder.is_done(),
            Tunnel::Asked => true,
            Tunnel::Open => false,
        };
        while watch && shared.wire.input.len() < READ_AHEAD {
            match ready!(shared.wire.poll_fill_head(cx)) {
                Ok(true) => {}
                Ok(false) | Err(_) => return Poll::Ready(Cause::DownstreamRemoteDisconnect),
            }
        }
        Poll::Pending
    }

    fn head(&mut self, head: &ResponseHead, body: &Body, _end: bool) -> Result<(), BodyError> {
        let shared = &mut *self.shared.borrow_mut();
        if shared.dropped && shared.tunnel == Tunnel::No {
            shared.drain_buffered();
        }
        let unread = shared.dropped && !shared.decoder.is_done();
        let mut on = self.on;
        on.keep_alive &= !unread && !self.closing && !self.session.ends_with_answer();
        let asked = shared.tunnel == Tunnel::Asked;
        if asked && head.upgrade.is_some() {
            shared.tunnel = Tunnel::Open;
            shared.decoder = Decoder::new(Framing::UntilClose, shared.settings);
        } else if asked {
            // What follows an upgrade that was not granted may be the tunnel's: it is never read as HTTP.
            on.keep_alive = false;
            shared.tunnel = Tunnel::No;
            self.meter.set_complete(true);
        }
        shared.owes_continue = false;
        let (framing, keep_alive) = write::response(&mut shared.wire, head, body, on);
        self.queued.1 = shared.wire.queued();
        self.keep_alive = keep_alive;
        self.encoder = Some(Encoder::new(framing, shared.settings));
        Ok(())
    }

    fn close(&mut self) {
        self.closing = true;
    }

    fn has_room(&self) -> bool {
        self.shared.borrow().wire.has_room()
    }

    fn data(&mut self, data: Bytes, _end: bool) -> Result<(), BodyError> {
        let wire = &mut self.shared.borrow_mut().wire;
        let Some(encoder) = &mut self.encoder else { return Ok(()) };
        encoder.data(data, wire).map_err(|error| BodyError::new(Cause::UpstreamProtocolError, error.to_string()))
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), BodyError> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        let wire = &mut self.shared.borrow_mut().wire;
        let Some(encoder) = &mut self.encoder else { return Ok(()) };
        let ended = encoder.end(trailers.as_ref(), wire);
        ended.map_err(|error| BodyError::new(Cause::UpstreamTerminationAfterResponse, error.to_string()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        self.shared.borrow_mut().wire.poll_flush(cx).map_err(|error| Self::gone(&error))
    }

    fn traffic(&self) -> Traffic {
        let shared = self.shared.borrow();
        let (head, body) = shared.taken;
        Traffic {
            received: head + body,
            head_received: head,
            sent: shared.wire.queued() - self.queued.0,
            head_sent: self.queued.1 - self.queued.0,
        }
    }

    fn abort(&mut self, _cause: Cause) {
        self.aborted = true;
    }
}
