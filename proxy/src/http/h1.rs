//! The server's side of HTTP/1: reads requests one after the other, serves each to its end, closes or goes on.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Version};

use crate::body::{Body, BodyError, BodySource, Frame};
use crate::cause::Cause;
use crate::codec::h1::framing::{Decoder, Encoder, Framing, Step};
use crate::codec::h1::parse::{self, ParsedRequest};
use crate::codec::h1::wire::Wire;
use crate::codec::h1::write::{self, ResponseOn};
use crate::codec::h1::{Refusal, Settings};
use crate::http::exchange::{self, Meter, Sink};
use crate::http::serve::{IDLE_GRACE, Session};
use crate::http::stream::Stream;
use crate::message::{LocalReply, RequestHead, ResponseHead};
use crate::stream::Traffic;
use crate::timer::Timer;

/// While a request is served, so much of what its client sends ahead is read.
const READ_AHEAD: usize = 16 * 1024;
/// For so many bytes a closed connection is still read, so that its last answer is not lost to a RST.
const LINGER: usize = 256 * 1024;

/// Serves a connection to its end.
pub async fn serve(session: Rc<Session>, wire: Wire) {
    let shared = Rc::new(RefCell::new(Shared::new(wire, session.http1())));
    let mut timer = Timer::default();
    let mut requests = 0;
    loop {
        let linger = match next_head(&session, &shared, &mut timer).await {
            Next::Head(head) => {
                requests += 1;
                let last = session.is_last(requests);
                // In a box, so that a connection at rest does not hold the room of a request.
                match Box::pin(serve_one(&session, &shared, &mut timer, head, last)).await {
                    End::KeepAlive => continue,
                    End::Close => true,
                    End::Abort => false,
                }
            }
            Next::Refused(refusal) => {
                matches!(Box::pin(refuse(&session, &shared, &mut timer, None, refusal)).await, End::Close)
            }
            Next::Closed => false,
        };
        if linger {
            let delay = session.manager().delayed_close;
            close(&shared, &mut timer, delay).await;
        }
        return;
    }
}

/// A connection's state; borrowed only within a poll.
struct Shared {
    wire: Wire,
    decoder: Decoder,
    settings: Settings,
    /// The client waits for `100 Continue`.
    owes_continue: bool,
    tunnel: Tunnel,
    /// Nobody will read the rest of the request's body.
    dropped: bool,
    /// Bytes of the request: its head, and what was taken of its body.
    taken: (u64, u64),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tunnel {
    No,
    /// Asked for; not a byte goes either way before it is granted.
    Asked,
    Open,
}

impl Shared {
    fn new(wire: Wire, settings: Settings) -> Self {
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
    fn drain_buffered(&mut self) {
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

enum Next {
    Head(Bytes),
    Refused(Refusal),
    Closed,
}

/// Waits for the next request's head.
async fn next_head(session: &Session, shared: &RefCell<Shared>, timer: &mut Timer) -> Next {
    let mut scanned = 0;
    let idle_since = Instant::now();
    let mut first_byte = None;
    std::future::poll_fn(|cx| {
        let shared = &mut *shared.borrow_mut();
        shared.settings = session.http1();
        // Answers to requests that were pipelined are written by their own exchange; nothing is left here.
        loop {
            match parse::take_head(&mut shared.wire.input, &mut scanned, shared.settings) {
                Ok(Some(head)) => return Poll::Ready(Next::Head(head)),
                Ok(None) => {}
                Err(refusal) => return Poll::Ready(Next::Refused(refusal)),
            }
            match shared.wire.poll_fill_head(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false) | Err(_)) => return Poll::Ready(Next::Closed),
                Poll::Pending => break,
            }
        }
        if shared.wire.input.is_empty() {
            shared.wire.release();
            first_byte = None;
            let drained = session.poll_drained(cx).is_ready();
            let manager = session.manager();
            let idle = manager.idle_timeout.map(|limit| idle_since + limit);
            let grace = manager.drain_timeout.min(IDLE_GRACE);
            drop(manager);
            let drain =
                if drained { Some(idle_since + grace) } else { session.ends_at().map(|at| at.max(idle_since + grace)) };
            let Some(deadline) = [idle, drain].into_iter().flatten().min() else { return Poll::Pending };
            return timer.poll_until(cx, deadline).map(|()| Next::Closed);
        }
        let Some(limit) = session.manager().request_headers_timeout else { return Poll::Pending };
        let began: Instant = *first_byte.get_or_insert_with(Instant::now);
        timer
            .poll_until(cx, began + limit)
            .map(|()| Next::Refused(Refusal::new(Cause::RequestHeaderTimeout, "the request head did not come in time")))
    })
    .await
}

enum End {
    KeepAlive,
    Close,
    Abort,
}

async fn serve_one(
    session: &Rc<Session>,
    shared: &Rc<RefCell<Shared>>,
    timer: &mut Timer,
    head: Bytes,
    last: bool,
) -> End {
    match begin(session, shared, head, last) {
        Ok(Begun { mut stream, body, mut sink, meter }) => {
            exchange::run(&mut stream, body, &mut sink, &meter, timer).await;
            sink.finish()
        }
        Err(unread) => refuse(session, shared, timer, unread.head, unread.refusal).await,
    }
}

/// A request that is to be served.
struct Begun {
    stream: Stream,
    body: Body,
    sink: H1Sink,
    meter: Rc<Meter>,
}

/// A request that must be refused; `head` is what could be read of it.
struct Unread {
    head: Option<RequestHead>,
    refusal: Refusal,
}

/// Reads a request's head and makes all that it needs, before anything waits: what the future does not hold costs nothing.
fn begin(session: &Rc<Session>, shared: &Rc<RefCell<Shared>>, head: Bytes, last: bool) -> Result<Begun, Box<Unread>> {
    let settings = shared.borrow().settings;
    shared.borrow_mut().taken = (head.len() as u64, 0);
    let unread = |refusal| Box::new(Unread { head: None, refusal });
    let parsed = parse::request(&head, settings).and_then(|parsed| accept_version(session, parsed)).map_err(unread)?;
    if let Some(refusal) = parsed.bad_host {
        return Err(Box::new(Unread { head: Some(parsed.head), refusal }));
    }
    let mut request = parsed.head;
    let tunnel = request.upgrade.is_some();
    let bodyless = parsed.framing == Framing::None && !tunnel;
    let passed_on = parsed.expect_continue && session.manager().proxy_100_continue;
    if passed_on {
        request.headers.insert(http::header::EXPECT, http::HeaderValue::from_static("100-continue"));
    }
    {
        let shared = &mut *shared.borrow_mut();
        shared.decoder = Decoder::new(parsed.framing, settings);
        shared.owes_continue = parsed.expect_continue && !passed_on;
        shared.tunnel = if tunnel { Tunnel::Asked } else { Tunnel::No };
        shared.dropped = bodyless;
    }
    let meter = Meter::new(bodyless, Instant::now());
    let on = ResponseOn {
        version: request.version,
        head: request.method == Method::HEAD,
        connect: request.method == Method::CONNECT,
        keep_alive: parsed.keep_alive && !last,
        names: settings.names,
    };
    let body =
        if bodyless { Body::Empty } else { Body::new(RequestBody { shared: shared.clone(), meter: meter.clone() }) };
    let mut stream = session.stream(request);
    if stream.request.version == Version::HTTP_11 {
        let shared = shared.clone();
        let names = settings.names;
        stream.inform = Some(Rc::new(move |head| write::informational(&mut shared.borrow_mut().wire, &head, names)));
    }
    let sink = H1Sink::new(session.clone(), shared.clone(), meter.clone(), on);
    Ok(Begun { stream, body, sink, meter })
}

/// HTTP/1.0 only where it is wanted.
fn accept_version(session: &Session, mut parsed: ParsedRequest) -> Result<ParsedRequest, Refusal> {
    if parsed.head.version == Version::HTTP_10 {
        if !session.manager().accept_http_10 {
            return Err(Refusal::new(Cause::LowVersion, "HTTP/1.0 is not accepted here"));
        }
        if parsed.head.authority.is_empty() {
            parsed.head.authority = session.manager().default_host_for_http_10.clone();
            if parsed.head.authority.is_empty() {
                parsed.bad_host = Some(Refusal::new(Cause::MissingHost, "no Host"));
            }
        }
    }
    Ok(parsed)
}

/// Answers what cannot be served; `head` is what could be read of it.
async fn refuse(
    session: &Rc<Session>,
    shared: &Rc<RefCell<Shared>>,
    timer: &mut Timer,
    head: Option<RequestHead>,
    refusal: Refusal,
) -> End {
    shared.borrow_mut().wire.input.clear();
    shared.borrow_mut().dropped = true;
    let meter = Meter::new(true, Instant::now());
    let head = head.unwrap_or_else(exchange::unread_head);
    let version = head.version;
    let names = session.http1().names;
    let on = ResponseOn { version, head: head.method == Method::HEAD, connect: false, keep_alive: false, names };
    let mut sink = H1Sink::new(session.clone(), shared.clone(), meter.clone(), on);
    let mut stream = session.stream(head);
    stream.termination_details = Some(refusal.detail.into());
    let reply = LocalReply::new(refusal.cause).body(refusal.cause.explain());
    exchange::refuse(&mut stream, reply, &mut sink, &meter, timer).await;
    sink.finish()
}

/// Closes our side, then waits a moment for the client to close its own.
async fn close(shared: &RefCell<Shared>, timer: &mut Timer, delay: Duration) {
    let until = Instant::now() + delay;
    let mut budget = LINGER;
    let mut shut = false;
    std::future::poll_fn(|cx| {
        let wire = &mut shared.borrow_mut().wire;
        if !shut {
            match wire.poll_shutdown(cx) {
                Poll::Ready(Ok(())) => shut = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        if shut && wire.poll_discard_input(cx, &mut budget).is_ready() {
            return Poll::Ready(());
        }
        timer.poll_until(cx, until)
    })
    .await;
}

struct RequestBody {
    shared: Rc<RefCell<Shared>>,
    meter: Rc<Meter>,
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

struct H1Sink {
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
    fn new(session: Rc<Session>, shared: Rc<RefCell<Shared>>, meter: Rc<Meter>, on: ResponseOn) -> Self {
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
    fn finish(self) -> End {
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
        on.keep_alive &= !unread && !self.closing && !self.session.is_draining();
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
