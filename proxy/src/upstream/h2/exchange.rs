//! One request on a shared HTTP/2 connection: its head and body out, the answer's in.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::uri::{Authority, PathAndQuery, Scheme};

use super::Slot;
use crate::body::{Body, BodyError, BodySource, Frame};
use crate::cause::Cause;
use crate::codec::h2::guard::Seen;
use crate::message::{RequestHead, ResponseHead};
use crate::text::Text;
use crate::upstream::{Race, UpstreamError};

/// More 1xx heads than this before one answer are abuse.
const INFORMATIONAL: u32 = 32;

/// Sends a request and waits for the head of its answer.
pub(in crate::upstream) async fn send(
    slot: Slot,
    head: &RequestHead,
    body: Body,
    inform: Option<&dyn Fn(ResponseHead)>,
) -> Result<(ResponseHead, Body), UpstreamError> {
    let request = request(head)?;
    let mut sender = slot.0.sender.borrow().clone();
    if is_extended(head) {
        check_extended_connect(&sender)?;
    }
    std::future::poll_fn(|cx| sender.poll_ready(cx)).await.map_err(|error| before(&error))?;
    let ends = head.upgrade.is_none() && matches!(body, Body::Empty);
    let (response, stream) = sender.send_request(request, ends).map_err(|error| before(&error))?;
    let id = response.stream_id().as_u32();
    let (now, held) = if head.upgrade.is_some() { (Body::Empty, Some(body)) } else { (body, None) };
    let mut upload = Upload { body: (!ends && held.is_none()).then_some(now), stream, pending: None };
    let mut response = response;
    let mut informed = 0;
    let head_of = std::future::poll_fn(|cx| poll_head(cx, &mut upload, &mut response, inform, &mut informed));
    let response = head_of.await.map_err(|error| error.of_stream(id, &slot.0.seen))?;
    let (parts, receive) = response.into_parts();
    if parts.status.is_informational() {
        return Err(UpstreamError::late(Cause::UpstreamProtocolError, "the answer ends with a 1xx head"));
    }
    if parts.headers.len() > slot.0.most_headers {
        return Err(UpstreamError::late(Cause::ResponseHeadersTooLarge, "the answer has too many headers"));
    }
    let mut answer = ResponseHead { status: parts.status, headers: parts.headers, upgrade: None, names: None };
    if let Some(body) = held {
        if answer.status.is_success() {
            accept_upgrade(head, &mut answer);
            upload.body = Some(body);
        } else {
            upload.body = Some(Body::Empty);
        }
    }
    if receive.is_end_stream() && upload.body.is_none() {
        return Ok((answer, Body::Empty));
    }
    Ok((answer, Body::new(Download { receive, upload, data_done: false, _slot: slot })))
}

/// HTTP/1 says 101 where HTTP/2 says 200 (RFC 8441, 5).
fn accept_upgrade(head: &RequestHead, answer: &mut ResponseHead) {
    answer.upgrade.clone_from(&head.upgrade);
    if is_extended(head) {
        answer.status = http::StatusCode::SWITCHING_PROTOCOLS;
    }
}

fn is_extended(head: &RequestHead) -> bool {
    head.upgrade.as_ref().is_some_and(|protocol| !protocol.eq_ignore_ascii_case("CONNECT"))
}

/// The peer allows extended CONNECT in its first SETTINGS, which have come.
fn check_extended_connect(sender: &SendRequest<Bytes>) -> Result<(), UpstreamError> {
    if sender.is_extended_connect_protocol_enabled() {
        return Ok(());
    }
    let detail = "the endpoint does not allow extended CONNECT (RFC 8441), which an upgrade over HTTP/2 needs";
    Err(UpstreamError::early(Cause::UpstreamProtocolError, detail))
}

fn request(head: &RequestHead) -> Result<http::Request<()>, UpstreamError> {
    if let Some(what) = head.unwritable() {
        return Err(UpstreamError::unwritable(what));
    }
    let unfit = |what: &str| {
        UpstreamError::early(Cause::InvalidPath, format!("the request's {what} cannot be sent over HTTP/2"))
    };
    let authority =
        Authority::from_maybe_shared(head.authority.clone().into_bytes()).map_err(|_| unfit("authority"))?;
    let mut parts = http::uri::Parts::default();
    parts.authority = Some(authority);
    let mut request = http::Request::new(());
    *request.method_mut() = head.method.clone();
    if head.method != http::Method::CONNECT || is_extended(head) {
        let path = PathAndQuery::from_maybe_shared(head.path.clone().into_bytes()).map_err(|_| unfit("path"))?;
        parts.path_and_query = Some(path);
        parts.scheme = Some(if head.scheme.as_str() == "https" { Scheme::HTTPS } else { Scheme::HTTP });
    }
    if is_extended(head) {
        *request.method_mut() = http::Method::CONNECT;
        let protocol = head.upgrade.as_ref().map_or("", Text::as_str);
        request.extensions_mut().insert(h2::ext::Protocol::from(protocol));
    }
    *request.uri_mut() = http::Uri::from_parts(parts).map_err(|_| unfit("target"))?;
    *request.version_mut() = http::Version::HTTP_2;
    *request.headers_mut() = head.headers.clone();
    Ok(request)
}

/// HTTP/2 has no 101 (RFC 9113, 8.6); the client would take what follows for bytes of a tunnel.
fn check_status(status: http::StatusCode) -> Result<(), UpstreamError> {
    if status == http::StatusCode::SWITCHING_PROTOCOLS {
        return Err(UpstreamError::late(Cause::UpstreamProtocolError, "101 over HTTP/2"));
    }
    Ok(())
}

fn poll_head(
    cx: &mut Context<'_>,
    upload: &mut Upload,
    response: &mut ResponseFuture,
    inform: Option<&dyn Fn(ResponseHead)>,
    informed: &mut u32,
) -> Poll<Result<http::Response<RecvStream>, UpstreamError>> {
    if let Err(error) = upload.pump(cx) {
        return Poll::Ready(Err(UpstreamError::late(error.cause, error.detail)));
    }
    while let Poll::Ready(Some(Ok(early))) = response.poll_informational(cx) {
        check_status(early.status())?;
        *informed += 1;
        if *informed > INFORMATIONAL {
            return Poll::Ready(Err(UpstreamError::late(Cause::UpstreamProtocolError, "too many 1xx heads")));
        }
        if let Some(inform) = inform {
            let (parts, ()) = early.into_parts();
            inform(ResponseHead { status: parts.status, headers: parts.headers, upgrade: None, names: None });
        }
    }
    std::pin::Pin::new(response).poll(cx).map_err(|error| {
        let cause = cause(&error, false);
        // A refused stream was not processed (RFC 9113, 8.7).
        let before_request = cause == Cause::UpstreamRefusedStream;
        UpstreamError { before_request, ..UpstreamError::late(cause, error.to_string()) }
    })
}

/// Nothing was sent: the connection ended, or was told to end, just before.
fn before(error: &h2::Error) -> UpstreamError {
    let race = if error.is_io() || error.is_go_away() { Race::Unprocessed } else { Race::None };
    UpstreamError::early(cause(error, false), error.to_string()).racing(race)
}

impl UpstreamError {
    /// What GOAWAY said of the stream `id` (RFC 9113, 6.8).
    fn of_stream(self, id: u32, seen: &Seen) -> Self {
        match seen.last_stream() {
            _ if seen.flood().is_some() => Self { cause: Cause::UpstreamProtocolError, ..self },
            Some(last) if id > last => Self { before_request: true, ..self }.racing(Race::Unprocessed),
            _ => self,
        }
    }
}

/// The server ended the connection; where we do, for what it sent, that is its error.
fn ended(error: &h2::Error) -> bool {
    error.is_io() || (error.is_go_away() && error.is_remote())
}

/// The cause of a stream's end.
fn cause(error: &h2::Error, after_head: bool) -> Cause {
    match (error.reason(), after_head) {
        (Some(Reason::REFUSED_STREAM), false) if error.is_reset() => Cause::UpstreamRefusedStream,
        (_, false) if error.is_reset() && error.is_remote() => Cause::UpstreamRemoteReset,
        (_, true) if error.is_reset() && error.is_remote() => Cause::UpstreamResetAfterResponse,
        (_, false) if ended(error) => Cause::UpstreamConnectionTermination,
        (_, true) if ended(error) => Cause::UpstreamTerminationAfterResponse,
        _ => Cause::UpstreamProtocolError,
    }
}

/// The request's body on its way.
struct Upload {
    /// `None` when all is sent, or the peer wants no more.
    body: Option<Body>,
    stream: SendStream<Bytes>,
    pending: Option<Bytes>,
}

impl Upload {
    /// Moves the body on, as far as it goes now; an error is the body's own.
    fn pump(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        loop {
            if self.pending.is_some() {
                match self.send_pending(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(true) => continue,
                    Poll::Ready(false) => {
                        // The peer has reset the stream or answers early; what it says comes on the other side.
                        self.stop();
                        return Ok(());
                    }
                }
            }
            let Some(body) = &mut self.body else { return Ok(()) };
            let sent = match body.poll_frame(cx) {
                Poll::Pending => {
                    if let Poll::Ready(Ok(_)) = self.stream.poll_reset(cx) {
                        self.stop();
                    }
                    return Ok(());
                }
                Poll::Ready(Some(Ok(Frame::Data(data)))) => {
                    self.stream.reserve_capacity(data.len());
                    self.pending = (!data.is_empty()).then_some(data);
                    continue;
                }
                Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => self.stream.send_trailers(trailers),
                Poll::Ready(None) => self.stream.send_data(Bytes::new(), true),
                Poll::Ready(Some(Err(error))) => {
                    self.stream.send_reset(Reason::CANCEL);
                    self.body = None;
                    return Err(error);
                }
            };
            drop(sent);
            self.body = None;
        }
    }

    fn stop(&mut self) {
        self.body = None;
        self.pending = None;
    }

    /// Sends what the window lets through; false if the stream takes no more.
    fn send_pending(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(data) = &mut self.pending else { return Poll::Ready(true) };
        if self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                _ => return Poll::Ready(false),
            }
        }
        let length = self.stream.capacity().min(data.len());
        if length == 0 {
            return Poll::Ready(true);
        }
        let part = data.split_to(length);
        if data.is_empty() {
            self.pending = None;
        }
        Poll::Ready(self.stream.send_data(part, false).is_ok())
    }
}

/// The response's body; drives the request's.
struct Download {
    receive: RecvStream,
    upload: Upload,
    data_done: bool,
    _slot: Slot,
}

impl BodySource for Download {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if let Err(error) = self.upload.pump(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        if !self.data_done {
            match ready!(self.receive.poll_data(cx)) {
                Some(Ok(data)) => {
                    // A failure means that the stream has ended; the next poll says so.
                    let _ = self.receive.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::Data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(broken(&error)))),
                None => self.data_done = true,
            }
        }
        match ready!(self.receive.poll_trailers(cx)) {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::Trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(broken(&error)))),
        }
    }

    fn remaining(&self) -> Option<u64> {
        // Known with the last bytes, so that the end goes on with them and not in a frame of its own.
        (self.upload.body.is_none() && self.receive.is_end_stream()).then_some(0)
    }
}

fn broken(error: &h2::Error) -> BodyError {
    BodyError { cause: cause(error, true), detail: error.to_string(), h2_reason: error.reason().map(u32::from) }
}
