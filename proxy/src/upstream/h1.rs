//! The client's side of HTTP/1: one connection, one request at a time.
//!
//! ```text
//! Connection::send(head, body, done) -> response head, response Body -> done(Some(connection)) | done(None)
//! ```
//! Nothing runs beside the caller: the future of `send`, then the response's body, move the request's bytes too.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::Method;

use super::{Race, UpstreamError};
use crate::body::{Body, BodyError, BodySource, Frame};
use crate::cause::Cause;
use crate::codec::h1::framing::{Decoder, Encoder, Framing, Step};
use crate::codec::h1::parse::{self, ParsedResponse};
use crate::codec::h1::wire::Wire;
use crate::codec::h1::{Settings, write};
use crate::io::Io;
use crate::message::{RequestHead, ResponseHead};
use crate::stream::{Meter, Traffic};

/// More 1xx heads than this before one answer are abuse.
const INFORMATIONAL: u32 = 32;

/// A connection at rest, good for a request.
#[derive(Debug)]
pub struct Connection {
    wire: Box<Wire>,
    settings: Settings,
    requests: u32,
    /// Bytes of the exchange that is on it.
    meter: Meter,
}

/// Called once when the exchange is over: with the connection if it can serve another request, else (it is closed,
/// its answer broke off, or somebody dropped the body) with `None`.
pub type Done = Box<dyn FnOnce(Option<Connection>)>;

impl Connection {
    /// Takes over a fresh connection.
    pub fn new(io: Io, settings: Settings) -> Self {
        Self { wire: Box::new(Wire::new(io)), settings, requests: 0, meter: Meter::default() }
    }

    /// What counts the next exchange's bytes. The log of the one before may still read the old one.
    pub fn fresh_meter(&mut self) -> Meter {
        match Rc::get_mut(&mut self.meter) {
            Some(unread) => unread.set(Traffic::default()),
            None => self.meter = Meter::default(),
        }
        self.meter.clone()
    }

    fn count(&self, change: impl FnOnce(&mut Traffic)) {
        let mut traffic = self.meter.get();
        change(&mut traffic);
        self.meter.set(traffic);
    }

    /// How many requests it has served.
    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// Watches a connection at rest: ready when the peer has closed it, or sent what nobody asked for. Drop it then.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.wire.input.is_empty() {
            let _ = ready!(self.wire.poll_fill_head(cx));
        }
        Poll::Ready(())
    }

    /// Whether it looks usable now, without waiting.
    pub fn is_usable(&mut self) -> bool {
        self.poll_closed(&mut Context::from_waker(std::task::Waker::noop())).is_pending()
    }

    /// Sends a request and waits for the head of its answer; 1xx heads other than 101 go to `inform`.
    /// With `head.upgrade` the request's body is polled only after the answer has accepted the upgrade.
    ///
    /// # Errors
    /// If the head cannot be written, the connection ends or breaks, the peer speaks no HTTP, or the request's body fails.
    pub async fn send(
        self,
        head: &RequestHead,
        body: Body,
        inform: Option<&dyn Fn(ResponseHead)>,
        done: Done,
    ) -> Result<(ResponseHead, Body), UpstreamError> {
        if let Some(what) = head.unwritable() {
            // Nothing was written: the connection is as good as before.
            done(Some(self));
            return Err(UpstreamError::unwritable(what));
        }
        let mut exchange = Exchange::new(self, head, body, done);
        let parsed = exchange.response_head(&head.method, inform).await?;
        Ok(exchange.into_response(parsed))
    }
}

struct Finish {
    done: Option<Done>,
}

impl Drop for Finish {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done(None);
        }
    }
}

struct Exchange {
    /// Before `finish`, so that the socket is closed when `done` hears of it.
    connection: Option<Connection>,
    finish: Finish,
    /// What is still to be sent; `None` when all is queued or nothing more can be sent.
    request: Option<Body>,
    /// Body of an upgrade, held back until the answer.
    held: Option<Body>,
    encoder: Encoder,
    decoder: Decoder,
    written_before: u64,
    queued_before: u64,
    keep_alive: bool,
    /// The peer takes no more bytes; its answer may still come.
    broken: bool,
    tunnel: bool,
    /// A 1xx head has come.
    informed: bool,
}

impl Exchange {
    fn new(mut connection: Connection, head: &RequestHead, body: Body, done: Done) -> Self {
        connection.requests += 1;
        let queued_before = connection.wire.queued();
        let framing = write::request(&mut connection.wire, head, &body, connection.settings.names);
        connection.count(|traffic| traffic.sent = connection.wire.queued() - queued_before);
        let upgrade = head.upgrade.is_some();
        let (request, held) = if upgrade { (None, Some(body)) } else { (Some(body), None) };
        Self {
            written_before: connection.wire.written(),
            queued_before,
            decoder: Decoder::new(Framing::None, connection.settings),
            encoder: Encoder::new(framing, connection.settings),
            connection: Some(connection),
            finish: Finish { done: Some(done) },
            request,
            held,
            keep_alive: !upgrade,
            broken: false,
            tunnel: false,
            informed: false,
        }
    }

    /// Moves the request on, as far as it goes now.
    fn pump_request(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let wire = &mut *connection.wire;
        while !self.broken {
            let mut waiting = self.request.is_none();
            while let Some(body) = self.request.as_mut().filter(|_| wire.has_room()) {
                let mismatch =
                    |_| BodyError::new(Cause::DownstreamProtocolError, "the request's body has a wrong length");
                match body.poll_frame(cx) {
                    Poll::Pending => {
                        waiting = true;
                        break;
                    }
                    Poll::Ready(Some(Ok(Frame::Data(data)))) => self.encoder.data(data, wire).map_err(mismatch)?,
                    Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => {
                        self.encoder.end(Some(&trailers), wire).map_err(mismatch)?;
                        self.request = None;
                        waiting = true;
                    }
                    Poll::Ready(Some(Err(error))) => return Err(error),
                    Poll::Ready(None) => {
                        self.encoder.end(None, wire).map_err(mismatch)?;
                        self.request = None;
                        waiting = true;
                    }
                }
            }
            // Before what is queued may have to be forgotten.
            connection.meter.set(Traffic { sent: wire.queued() - self.queued_before, ..connection.meter.get() });
            match wire.poll_flush(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(())) if waiting => break,
                Poll::Ready(Ok(())) => {}
                // The peer may have answered before it stopped reading.
                Poll::Ready(Err(_)) => {
                    wire.discard_output();
                    self.broken = true;
                    self.keep_alive = false;
                    self.request = None;
                }
            }
        }
        if self.tunnel && self.request.is_none() && !self.broken {
            // The client has closed its side of the tunnel.
            if let Some(connection) = &mut self.connection
                && connection.wire.poll_shutdown(cx).is_ready()
            {
                self.broken = true;
            }
        }
        Ok(())
    }

    async fn response_head(
        &mut self,
        method: &Method,
        inform: Option<&dyn Fn(ResponseHead)>,
    ) -> Result<ParsedResponse, UpstreamError> {
        let (mut scanned, mut informed) = (0, 0);
        std::future::poll_fn(|cx| {
            if let Err(error) = self.pump_request(cx) {
                return Poll::Ready(Err(self.error(error.cause, error.detail)));
            }
            loop {
                match self.poll_head(cx, method, &mut scanned) {
                    Poll::Ready(Ok(parsed)) if parsed.head.upgrade.is_some() && self.held.is_none() => {
                        let detail = "an upgrade that was not asked for".into();
                        return Poll::Ready(Err(self.error(Cause::UpstreamProtocolError, detail)));
                    }
                    Poll::Ready(Ok(parsed))
                        if parsed.head.status.is_informational() && parsed.head.upgrade.is_none() =>
                    {
                        informed += 1;
                        self.informed = true;
                        if informed > INFORMATIONAL {
                            return Poll::Ready(Err(
                                self.error(Cause::UpstreamProtocolError, "too many 1xx heads".into())
                            ));
                        }
                        if let Some(inform) = inform {
                            inform(parsed.head);
                        }
                    }
                    other => return other,
                }
            }
        })
        .await
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
        scanned: &mut usize,
    ) -> Poll<Result<ParsedResponse, UpstreamError>> {
        loop {
            // Set from `new` to `complete`, and the head comes before that.
            let Some(connection) = &mut self.connection else { return Poll::Pending };
            let settings = connection.settings;
            let before = connection.wire.input.len();
            let parsed = parse::take_head(&mut connection.wire.input, scanned, settings)
                .and_then(|head| head.map(|head| parse::response(&head, method, settings)).transpose());
            let taken = (before - connection.wire.input.len()) as u64;
            connection.count(|traffic| traffic.received += taken);
            match parsed {
                Ok(Some(parsed)) => return Poll::Ready(Ok(parsed)),
                Ok(None) => {}
                Err(refusal) => {
                    let cause = match refusal.cause {
                        Cause::HeadersTooLarge | Cause::TooManyHeaders => Cause::ResponseHeadersTooLarge,
                        _ => Cause::UpstreamProtocolError,
                    };
                    return Poll::Ready(Err(self.error(cause, refusal.detail.into())));
                }
            }
            let detail = match ready!(connection.wire.poll_fill_head(cx)) {
                Ok(true) => continue,
                Ok(false) => "the connection was closed before the response head was whole".into(),
                Err(error) => error.to_string(),
            };
            let race = if self.is_stale() { Race::Stale } else { Race::None };
            return Poll::Ready(Err(self.error(Cause::UpstreamConnectionTermination, detail).racing(race)));
        }
    }

    /// Whether a connection that had served before has ended without a byte of this answer.
    fn is_stale(&self) -> bool {
        let served = |connection: &Connection| connection.requests > 1 && connection.wire.input.is_empty();
        !self.informed && self.connection.as_ref().is_some_and(served)
    }

    fn error(&self, cause: Cause, detail: String) -> UpstreamError {
        let written = self.connection.as_ref().map_or(0, |connection| connection.wire.written());
        UpstreamError { before_request: written == self.written_before, ..UpstreamError::late(cause, detail) }
    }

    fn into_response(mut self, parsed: ParsedResponse) -> (ResponseHead, Body) {
        let Some(connection) = &self.connection else { return (parsed.head, Body::Empty) };
        self.decoder = Decoder::new(parsed.framing, connection.settings);
        self.keep_alive &= parsed.keep_alive;
        if parsed.head.upgrade.is_some() {
            self.tunnel = true;
            self.request = self.held.take();
            self.encoder = Encoder::new(Framing::UntilClose, connection.settings);
        } else {
            self.held = None;
        }
        if self.decoder.is_done() {
            self.complete();
            return (parsed.head, Body::Empty);
        }
        (parsed.head, Body::new(self))
    }

    /// The response is whole: the connection goes back, or is closed.
    fn complete(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let sent = self.request.is_none() && connection.wire.is_flushed();
        let clean = self.keep_alive && sent && connection.wire.input.is_empty() && !connection.wire.is_eof();
        self.request = None;
        let Some(done) = self.finish.done.take() else { return };
        if clean {
            connection.wire.release();
            done(Some(connection));
        } else {
            drop(connection);
            done(None);
        }
    }

    fn fail(&mut self, cause: Cause, detail: impl Into<String>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.connection = None;
        Poll::Ready(Some(Err(BodyError::new(cause, detail))))
    }
}

impl BodySource for Exchange {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if let Err(error) = self.pump_request(cx) {
            self.connection = None;
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
            let before = connection.wire.input.len();
            let step = self.decoder.decode(&mut connection.wire.input);
            let taken = (before - connection.wire.input.len()) as u64;
            connection.count(|traffic| traffic.received += taken);
            match step {
                Ok(Step::Frame(frame)) => {
                    if self.decoder.is_done() {
                        self.complete();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Ok(Step::End) => {
                    self.complete();
                    return Poll::Ready(None);
                }
                Ok(Step::More) => {}
                Err(refusal) => return self.fail(Cause::UpstreamProtocolError, refusal.detail),
            }
            match ready!(connection.wire.poll_fill_body(cx, self.decoder.expects())) {
                Ok(true) => {}
                Ok(false) if self.decoder.is_until_close() => {
                    self.complete();
                    return Poll::Ready(None);
                }
                Ok(false) => {
                    let detail = "the connection was closed in the middle of the response";
                    return self.fail(Cause::UpstreamTerminationAfterResponse, detail);
                }
                Err(error) => return self.fail(Cause::UpstreamTerminationAfterResponse, error.to_string()),
            }
        }
    }

    fn remaining(&self) -> Option<u64> {
        self.decoder.remaining()
    }
}

#[cfg(test)]
mod tests;
