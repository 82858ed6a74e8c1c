//! One HTTP/2 stream: its head and body to the exchange, the response back.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, COOKIE, EXPECT, HOST};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use crate::body::{Body, BodyError, BodySource, Frame};
use crate::cause::Cause;
use crate::codec::h1::target::is_authority;
use crate::http::exchange::{self, Meter, Sink};
use crate::http::serve::Session;
use crate::message::{LocalReply, RequestHead, ResponseHead};
use crate::text::Text;
use crate::timer::Timer;
use crate::worker::Worker;

type Respond = Rc<RefCell<SendResponse<Bytes>>>;

/// Serves one stream to its end.
/// `cut` says why, should its connection be cut off.
pub async fn serve(
    session: Rc<Session>,
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
    cut: Rc<Cell<Option<Cause>>>,
) {
    let respond: Respond = Rc::new(RefCell::new(respond));
    let mut timer = Lent { timer: session.worker.timers.take(), worker: session.worker.clone() };
    let timer = &mut timer.timer;
    let (parts, receive) = request.into_parts();
    let complete = receive.is_end_stream();
    let meter = Meter::new(complete, Instant::now());
    let mut sink = H2Sink::new(respond.clone(), cut);
    let mut head = match request_head(&session, parts) {
        Ok(head) => head,
        Err(cause) => {
            let unread = RequestHead { version: Version::HTTP_2, ..exchange::unread_head() };
            let mut stream = session.stream(unread);
            let reply = LocalReply::new(cause).body(cause.explain());
            return exchange::refuse(&mut stream, reply, &mut sink, &meter, timer).await;
        }
    };
    let expects = head.headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let owes_continue = expects && !complete && !session.manager().proxy_100_continue;
    if owes_continue {
        head.headers.remove(EXPECT);
    }
    let remaining = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = if complete && head.upgrade.is_none() {
        Body::Empty
    } else {
        let owed = owes_continue.then(|| respond.clone());
        Body::new(StreamBody { receive, meter: meter.clone(), unreleased: 0, remaining, owed })
    };
    let mut stream = session.stream(head);
    stream.inform = Some(Rc::new(move |head| inform(&respond, head)));
    exchange::run(&mut stream, body, &mut sink, &meter, timer).await;
}

/// A timer of the worker's, given back at the end of the stream.
struct Lent {
    timer: Timer,
    worker: Rc<Worker>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.worker.timers.give(std::mem::take(&mut self.timer));
    }
}

fn inform(respond: &Respond, head: ResponseHead) {
    let mut response = http::Response::new(());
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    // A client that is gone is noticed by the sink.
    let _ = respond.borrow_mut().send_informational(response);
}

/// h2 has checked pseudo-headers and connection-specific headers (RFC 9113, 8.2.2 and 8.3).
fn request_head(session: &Session, parts: http::request::Parts) -> Result<RequestHead, Cause> {
    let mut headers = parts.headers;
    if headers.len() > session.manager().max_headers_count {
        return Err(Cause::TooManyHeaders);
    }
    let edge = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if headers.values().any(|value| edge(value.as_bytes().first()) || edge(value.as_bytes().last())) {
        return Err(Cause::InvalidHeader);
    }
    let authority = authority(&mut headers, &parts.uri)?;
    join_cookies(&mut headers);
    let protocol = parts.extensions.get::<h2::ext::Protocol>();
    let path = parts.uri.path_and_query().map(http::uri::PathAndQuery::as_str).unwrap_or_default();
    let (method, upgrade) = match protocol {
        // As over HTTP/1, so that routes and filters see one form (RFC 8441).
        Some(protocol) => (Method::GET, Some(Text::from(protocol.as_str().to_ascii_lowercase()))),
        None if parts.method == Method::CONNECT => (Method::CONNECT, Some(Text::from_static("CONNECT"))),
        None => (parts.method, None),
    };
    let path = if method == Method::CONNECT { Text::default() } else { Text::from(path) };
    if method != Method::CONNECT && !path.starts_with('/') && !(path.as_str() == "*" && method == Method::OPTIONS) {
        return Err(Cause::InvalidPath);
    }
    let scheme = parts.uri.scheme_str().map(Text::from).unwrap_or_default();
    Ok(RequestHead { method, scheme, authority, path, version: Version::HTTP_2, headers, upgrade, names: None })
}

fn authority(headers: &mut HeaderMap, uri: &http::Uri) -> Result<Text, Cause> {
    let host = headers.remove(HOST);
    let authority = match uri.authority() {
        Some(authority) => Text::from(authority.as_str()),
        None => {
            let host = host.ok_or(Cause::InvalidHost)?;
            Text::from_utf8(Bytes::copy_from_slice(host.as_bytes())).map_err(|_| Cause::InvalidHost)?
        }
    };
    if is_authority(authority.as_bytes()) { Ok(authority) } else { Err(Cause::InvalidHost) }
}

/// Cookies may come in crumbs (RFC 9113, 8.2.3); elsewhere they are one header.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let mut joined = BytesMut::new();
    for crumb in headers.get_all(COOKIE) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_maybe_shared(joined.freeze()) {
        headers.insert(COOKIE, joined);
    }
}

/// Why a stream or its connection ended: what the client did, or what h2 or we did not take.
fn cause_of(error: &h2::Error) -> Cause {
    match error {
        error if error.is_reset() && error.is_remote() => Cause::DownstreamRemoteReset,
        error if error.is_io() || (error.is_go_away() && error.is_remote()) => Cause::DownstreamRemoteDisconnect,
        error if error.reason() == Some(Reason::ENHANCE_YOUR_CALM) => Cause::DownstreamFlood,
        // What we say on a stream is not taken, because the client has closed it.
        error if error.reason().is_none() => Cause::DownstreamRemoteReset,
        _ => Cause::DownstreamH2Error,
    }
}

fn failure(error: &h2::Error) -> BodyError {
    let cause = cause_of(error);
    BodyError { h2_reason: error.reason().map(u32::from), ..BodyError::new(cause, error.to_string()) }
}

struct StreamBody {
    receive: RecvStream,
    meter: Rc<Meter>,
    /// Bytes given on whose window is not yet given back; done when the next frame is asked for.
    unreleased: usize,
    remaining: Option<u64>,
    owed: Option<Respond>,
}

impl StreamBody {
    fn fail(&mut self, error: &h2::Error) -> Poll<Option<Result<Frame, BodyError>>> {
        let error = failure(error);
        self.meter.failure.set(Some(error.cause));
        Poll::Ready(Some(Err(error)))
    }
}

impl BodySource for StreamBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if let Some(respond) = self.owed.take() {
            let head =
                ResponseHead { status: StatusCode::CONTINUE, headers: HeaderMap::new(), upgrade: None, names: None };
            inform(&respond, head);
        }
        let unreleased = std::mem::take(&mut self.unreleased);
        if unreleased > 0 {
            let _ = self.receive.flow_control().release_capacity(unreleased);
        }
        match ready!(self.receive.poll_data(cx)) {
            Some(Ok(data)) => {
                self.meter.add(data.len());
                self.unreleased = data.len();
                self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(data.len() as u64));
                self.meter.set_complete(self.receive.is_end_stream());
                return Poll::Ready(Some(Ok(Frame::Data(data))));
            }
            Some(Err(error)) => return self.fail(&error),
            None => {}
        }
        match ready!(self.receive.poll_trailers(cx)) {
            Ok(trailers) => {
                self.meter.set_complete(true);
                Poll::Ready(trailers.map(|trailers| Ok(Frame::Trailers(trailers))))
            }
            Err(error) => self.fail(&error),
        }
    }

    fn remaining(&self) -> Option<u64> {
        if self.receive.is_end_stream() { Some(0) } else { self.remaining.filter(|remaining| *remaining > 0) }
    }
}

struct H2Sink {
    respond: Respond,
    send: Option<SendStream<Bytes>>,
    pending: Bytes,
    trailers: Option<HeaderMap>,
    /// Nothing comes after what is pending.
    end: bool,
    /// The end is with h2.
    ended: bool,
    cut: Rc<Cell<Option<Cause>>>,
}

impl H2Sink {
    fn new(respond: Respond, cut: Rc<Cell<Option<Cause>>>) -> Self {
        Self { respond, send: None, pending: Bytes::new(), trailers: None, end: false, ended: false, cut }
    }
}

impl Sink for H2Sink {
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Cause> {
        let reset = match &mut self.send {
            Some(send) => send.poll_reset(cx),
            None => self.respond.borrow_mut().poll_reset(cx),
        };
        reset.map(|reset| {
            let cause = || reset.map_or_else(|error| cause_of(&error), |_| Cause::DownstreamRemoteReset);
            self.cut.get().unwrap_or_else(cause)
        })
    }

    fn head(&mut self, head: &ResponseHead, _body: &Body, end: bool) -> Result<(), BodyError> {
        let mut response = http::Response::new(());
        let switched = head.upgrade.is_some() && head.status == StatusCode::SWITCHING_PROTOCOLS;
        *response.status_mut() = if switched { StatusCode::OK } else { head.status };
        *response.headers_mut() = head.headers.clone();
        *response.version_mut() = Version::HTTP_2;
        let sent = self.respond.borrow_mut().send_response(response, end);
        self.send = Some(sent.map_err(|error| failure(&error))?);
        self.end = end;
        self.ended = end;
        Ok(())
    }

    fn close(&mut self) {}

    fn has_room(&self) -> bool {
        self.pending.is_empty() && !self.end
    }

    fn data(&mut self, data: Bytes, end: bool) -> Result<(), BodyError> {
        self.pending = data;
        self.end = end;
        Ok(())
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), BodyError> {
        self.trailers = trailers;
        self.end = true;
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let Some(send) = &mut self.send else { return Poll::Ready(Ok(())) };
        while !self.pending.is_empty() {
            send.reserve_capacity(self.pending.len());
            let mut room = send.capacity();
            if room == 0 {
                room = match ready!(send.poll_capacity(cx)) {
                    Some(Ok(room)) => room,
                    Some(Err(error)) => return Poll::Ready(Err(failure(&error))),
                    None => {
                        let error = BodyError::new(Cause::DownstreamRemoteReset, "the client closed the stream");
                        return Poll::Ready(Err(error));
                    }
                };
            }
            let data = self.pending.split_to(room.min(self.pending.len()));
            let last = self.end && self.pending.is_empty() && self.trailers.is_none();
            send.send_data(data, last).map_err(|error| failure(&error))?;
            self.ended |= last;
        }
        if self.end && !self.ended {
            self.ended = true;
            match self.trailers.take() {
                Some(trailers) => send.send_trailers(trailers),
                None => send.send_data(Bytes::new(), true),
            }
            .map_err(|error| failure(&error))?;
        }
        Poll::Ready(Ok(()))
    }

    fn abort(&mut self, cause: Cause) {
        let reason = match cause {
            Cause::DownstreamH2Error => Reason::PROTOCOL_ERROR,
            Cause::DownstreamFlood => Reason::ENHANCE_YOUR_CALM,
            Cause::DownstreamRemoteReset | Cause::DownstreamRemoteDisconnect => Reason::CANCEL,
            _ => Reason::INTERNAL_ERROR,
        };
        match &mut self.send {
            Some(send) if !self.ended => send.send_reset(reason),
            Some(_) => {}
            None => self.respond.borrow_mut().send_reset(reason),
        }
    }
}
