//! One request from its head to its log line, whatever codec carries it.
//!
//! ```text
//! stream + body -> head rules -> route -> filters -> action -> filters back -> sink -> finish (filters, logs, stats)
//! ```
//! The codec gives a [`Sink`]; the timers of the whole exchange and the watch on the client are here.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;

use super::{LocalReply, RequestHead, Response, ResponseHead, local_reply, respond};
use crate::body::{Body, BodyError, Frame};
use crate::cause::Cause;
use crate::http::stream::Stream;
use crate::overload::Action;
use crate::stream::Traffic;

pub use crate::timer::Timer;

/// gRPC's status of a call whose time is over.
const DEADLINE_EXCEEDED: u32 = 4;

/// What a request's body tells about itself while it is read, and how long the exchange may take.
#[derive(Debug)]
pub struct Meter {
    /// Payload bytes from the client.
    pub received: Cell<u64>,
    /// When bytes last moved, either way.
    pub touched: Cell<Instant>,
    /// The whole request was read.
    complete: Cell<Option<Instant>>,
    /// Longest time without bytes.
    pub idle: Cell<Option<Duration>>,
    /// Longest time in all.
    pub duration: Cell<Option<Duration>>,
    /// The client ended the tunnel, before the upstream did.
    pub left: Cell<bool>,
    /// Causes of failure that the codec saw (client gone, bad framing).
    pub failure: Cell<Option<Cause>>,
}

impl Meter {
    /// A meter for a request that begins now; `complete` if it has no body.
    pub fn new(complete: bool, now: Instant) -> Rc<Self> {
        Rc::new(Self {
            received: Cell::new(0),
            touched: Cell::new(now),
            complete: Cell::new(complete.then_some(now)),
            idle: Cell::new(None),
            duration: Cell::new(None),
            left: Cell::new(false),
            failure: Cell::new(None),
        })
    }

    /// Notes payload.
    pub fn add(&self, count: usize) {
        self.received.set(self.received.get() + count as u64);
        self.touch();
    }

    /// Notes whether the whole request was read.
    pub fn set_complete(&self, complete: bool) {
        if complete && !self.is_complete() {
            self.complete.set(Some(Instant::now()));
        }
    }

    /// Whether the whole request was read.
    pub fn is_complete(&self) -> bool {
        self.complete.get().is_some()
    }

    /// Notes that bytes moved.
    pub fn touch(&self) {
        self.touched.set(Instant::now());
    }
}

/// Where a response goes: one request's place in a codec.
pub trait Sink {
    /// Ready when the client is gone; watched while the answer is made and sent.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Cause>;

    /// Queues the head. `end` says that nothing follows.
    ///
    /// # Errors
    /// If the client is gone.
    fn head(&mut self, head: &ResponseHead, body: &Body, end: bool) -> Result<(), BodyError>;

    /// The connection serves no further request, if the codec serves them one after another. Called before `head`.
    fn close(&mut self);

    /// Whether the next frame may be queued.
    fn has_room(&self) -> bool;

    /// Queues payload; `end` says that nothing follows.
    ///
    /// # Errors
    /// If the body is not what the head announced.
    fn data(&mut self, data: Bytes, end: bool) -> Result<(), BodyError>;

    /// Queues the end.
    ///
    /// # Errors
    /// If the body is not what the head announced.
    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), BodyError>;

    /// Sends what is queued.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>>;

    /// Bytes of this exchange on the connection, where they can be told.
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }

    /// Breaks off, so that the client can tell that the response is not whole.
    fn abort(&mut self, cause: Cause);
}

/// Serves one request to its end; the stream is complete then, logged and counted. It stays with the caller, so that
/// the future does not hold it twice.
pub async fn run<S: Sink>(stream: &mut Stream, body: Body, sink: &mut S, meter: &Rc<Meter>, timer: &mut Timer) {
    let manager = stream.manager.clone();
    meter.idle.set(manager.stream_idle_timeout);
    meter.duration.set(manager.max_stream_duration);
    manager.stats.begin(stream.request.version);
    let passed = Cell::new(0);
    let response = if stream.worker.context.overload.meets(Action::StopAcceptingRequests) {
        Ok(respond::reply(stream, LocalReply::new(Cause::Overload).body("envoy overloaded"), 0))
    } else {
        answer(stream, body, sink, meter, timer, &passed).await
    };
    match response {
        Ok(response) => {
            if let Err(error) = send(stream, response, sink, meter, timer).await {
                stream.note(error.cause);
                stream.termination_details = Some(error.detail.into());
                sink.abort(error.cause);
            } else if let Some(cause) = end_of_tunnel(stream, meter) {
                stream.note(cause);
            }
        }
        Err(cause) => {
            stream.note(cause);
            sink.abort(cause);
        }
    }
    stream.wire = sink.traffic();
    finish(stream, meter);
}

/// Who ended a tunnel over HTTP/1, where an end is that of the connection.
fn end_of_tunnel(stream: &Stream, meter: &Meter) -> Option<Cause> {
    stream.response.as_ref()?.upgrade.as_ref()?;
    if meter.left.get() {
        return Some(Cause::DownstreamRemoteDisconnect);
    }
    let plain = stream.upstream.version.is_some_and(|version| version < http::Version::HTTP_2);
    plain.then_some(Cause::UpstreamTerminationAfterResponse)
}

/// Answers a request whose head could not be read, and logs it.
pub async fn refuse<S: Sink>(
    stream: &mut Stream,
    reply: LocalReply,
    sink: &mut S,
    meter: &Rc<Meter>,
    timer: &mut Timer,
) {
    stream.manager.clone().stats.begin(stream.request.version);
    meter.idle.set(Some(Duration::from_secs(5)));
    let mut response = local_reply::response(stream, reply);
    super::head::response(stream, &mut response.head);
    if let Err(error) = send(stream, response, sink, meter, timer).await {
        sink.abort(error.cause);
    }
    stream.wire = sink.traffic();
    finish(stream, meter);
}

/// Waits for the response: by route and filters, or by a timer. `Err` if the client is gone.
async fn answer<S: Sink>(
    stream: &mut Stream,
    body: Body,
    sink: &mut S,
    meter: &Rc<Meter>,
    timer: &mut Timer,
    passed: &Cell<usize>,
) -> Result<Response, Cause> {
    let start = stream.start;
    let request_timeout = stream.manager.request_timeout;
    let outcome = {
        let mut respond = pin!(respond::respond(stream, body, meter, passed));
        std::future::poll_fn(|cx| {
            if let Poll::Ready(response) = respond.as_mut().poll(cx) {
                return Poll::Ready(Ok(response));
            }
            // Informational heads, and requests for the body.
            if let Poll::Ready(Err(error)) = sink.poll_flush(cx) {
                return Poll::Ready(Err(error.cause));
            }
            if let Poll::Ready(cause) = sink.poll_gone(cx) {
                return Poll::Ready(Err(cause));
            }
            poll_deadlines(cx, start, request_timeout, meter, timer).map(Err)
        })
        .await
    };
    match outcome {
        Ok(response) => match meter.failure.get() {
            // The request's body broke off; whatever was made of that is not the answer.
            Some(cause) if cause.status() == 0 => Err(cause),
            Some(cause) => Ok(respond::reply(stream, LocalReply::new(cause).body(cause.explain()), passed.get())),
            None => Ok(response),
        },
        Err(cause @ (Cause::StreamIdleTimeout | Cause::RequestTimeout | Cause::MaxDurationTimeout)) => {
            Ok(respond::reply(stream, timeout_reply(cause, meter.is_complete()), passed.get()))
        }
        Err(cause) => Err(cause),
    }
}

/// Envoy answers 408 as long as the request was not whole, then 504.
fn timeout_reply(cause: Cause, complete: bool) -> LocalReply {
    let status = if complete { http::StatusCode::GATEWAY_TIMEOUT } else { http::StatusCode::REQUEST_TIMEOUT };
    let text = match cause {
        Cause::StreamIdleTimeout => "stream timeout",
        Cause::MaxDurationTimeout => "downstream duration timeout",
        _ => "request timeout",
    };
    let mut reply = LocalReply::new(cause).body(text);
    reply.status = Some(status);
    reply.grpc_status = (cause == Cause::MaxDurationTimeout).then_some(DEADLINE_EXCEEDED);
    reply
}

fn poll_deadlines(
    cx: &mut Context<'_>,
    start: Instant,
    request_timeout: Option<Duration>,
    meter: &Meter,
    timer: &mut Timer,
) -> Poll<Cause> {
    let request = request_timeout.filter(|_| !meter.is_complete()).map(|limit| (start + limit, Cause::RequestTimeout));
    let idle = meter.idle.get().map(|limit| (meter.touched.get() + limit, Cause::StreamIdleTimeout));
    let whole = meter.duration.get().map(|limit| (start + limit, Cause::MaxDurationTimeout));
    let first = [request, idle, whole].into_iter().flatten().min_by_key(|(deadline, _)| *deadline);
    let Some((deadline, cause)) = first else { return Poll::Pending };
    timer.poll_until(cx, deadline).map(|()| cause)
}

/// Sends the response as it comes.
async fn send<S: Sink>(
    stream: &mut Stream,
    response: Response,
    sink: &mut S,
    meter: &Rc<Meter>,
    timer: &mut Timer,
) -> Result<(), BodyError> {
    let Response { head, mut body } = response;
    let bodyless = stream.request.method == http::Method::HEAD && head.upgrade.is_none();
    let mut ended = bodyless || (body.is_empty() && head.upgrade.is_none());
    stream.status = Some(head.status.as_u16());
    if stream.closes {
        sink.close();
    }
    sink.head(&head, &body, ended)?;
    stream.first_sent = Some(Instant::now());
    stream.response = Some(head);
    if ended {
        stream.upstream.times.last_received = stream.upstream.times.first_received;
        sink.end(None)?;
        // A source that is at its end may still have to give its connection back; its drop does that.
        body = Body::Empty;
    }
    let start = stream.start;
    std::future::poll_fn(|cx| {
        loop {
            let mut waiting = ended;
            while !waiting && sink.has_room() {
                match body.poll_frame(cx) {
                    Poll::Pending => waiting = true,
                    Poll::Ready(frame) => {
                        meter.touch();
                        match take(stream, frame, &body, sink) {
                            Ok(last) => {
                                ended = last;
                                let times = &mut stream.upstream.times;
                                times.last_received = times.first_received.and(Some(meter.touched.get()));
                            }
                            Err(error) => {
                                // What came before the break still goes out, as far as it goes now.
                                let _ = sink.poll_flush(cx);
                                return Poll::Ready(Err(error));
                            }
                        }
                        waiting = ended;
                    }
                }
            }
            match sink.poll_flush(cx)? {
                Poll::Ready(()) if ended => return Poll::Ready(Ok(())),
                Poll::Ready(()) if !waiting => {}
                _ => break,
            }
        }
        if let Poll::Ready(cause) = sink.poll_gone(cx) {
            return Poll::Ready(Err(BodyError::new(cause, "the client went away before it had the whole response")));
        }
        poll_deadlines(cx, start, None, meter, timer).map(|cause| Err(BodyError::new(cause, cause.explain())))
    })
    .await
}

/// Queues one frame; whether it was the last.
fn take<S: Sink>(
    stream: &mut Stream,
    frame: Option<Result<Frame, BodyError>>,
    rest: &Body,
    sink: &mut S,
) -> Result<bool, BodyError> {
    match frame {
        Some(Ok(Frame::Data(data))) => {
            stream.bytes_sent += data.len() as u64;
            let last = rest.is_empty();
            sink.data(data, last)?;
            if last {
                sink.end(None)?;
            }
            Ok(last)
        }
        Some(Ok(Frame::Trailers(trailers))) => {
            stream.trailers = Some(trailers.clone());
            sink.end(Some(trailers))?;
            Ok(true)
        }
        Some(Err(error)) => Err(error),
        None => {
            sink.end(None)?;
            Ok(true)
        }
    }
}

fn finish(stream: &mut Stream, meter: &Meter) {
    stream.inform = None;
    complete(stream, meter);
    stream.manager.clone().stats.end(stream);
    respond::log(stream);
}

/// The end of a request that begins anew where it was redirected to.
pub(super) fn finish_pass(stream: &mut Stream, meter: &Meter) {
    stream.details = "internal_redirect".into();
    complete(stream, meter);
    stream.manager.clone().stats.end_pass(stream);
    respond::log(stream);
}

/// Every filter hears of the end, whoever answered: what counts requests counts those that were refused before it, too.
fn complete(stream: &mut Stream, meter: &Meter) {
    stream.bytes_received = meter.received.get();
    stream.duration = Some(stream.start.elapsed());
    stream.request_duration = meter.complete.get().map(|at| at.saturating_duration_since(stream.start));
    let manager = stream.manager.clone();
    for entry in manager.filters.iter() {
        if entry.applies(stream) {
            entry.filter.on_complete(stream);
        }
    }
}

/// The head that stands for a request that could not be read, in logs.
pub fn unread_head() -> RequestHead {
    RequestHead {
        method: http::Method::from_bytes(b"-").unwrap_or(http::Method::GET),
        scheme: Default::default(),
        authority: Default::default(),
        path: Default::default(),
        version: http::Version::HTTP_11,
        headers: HeaderMap::new(),
        upgrade: None,
        names: None,
    }
}
