//! HTTP/2 towards hosts: one connection shared by the requests of a worker, over the `h2` crate.

use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::uri::{Authority, PathAndQuery, Scheme};
use tokio::time::Instant;

use super::pool::Facts;
use super::{Race, UpstreamError};
use crate::body::{Body, BodyError, BodySource, Frame};
use crate::cause::Cause;
use crate::cluster::ClusterConfig;
use crate::codec::h2::Http2Options;
use crate::codec::h2::guard::{Guard, Seen};
use crate::io::Io;
use crate::message::{RequestHead, ResponseHead};
use crate::text::Text;

/// More 1xx heads than this before one answer are abuse.
const INFORMATIONAL: u32 = 32;

/// A shared connection.
pub(super) struct Multiplexed {
    sender: std::cell::RefCell<SendRequest<Bytes>>,
    pub(super) facts: Facts,
    most: usize,
    max_requests: u32,
    active: Cell<usize>,
    served: Cell<u32>,
    closing: Cell<bool>,
    idle_since: Cell<Instant>,
    seen: Rc<Seen>,
}

impl Multiplexed {
    /// Opens HTTP/2 on a fresh connection; its frames move in a task of their own. Comes back when the peer has said what
    /// it allows: a server refuses streams that it has not allowed.
    pub(super) async fn open(io: Io, config: &ClusterConfig, facts: Facts) -> Result<Rc<Self>, UpstreamError> {
        let options = &config.http2;
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(options.initial_stream_window)
            .initial_connection_window_size(options.initial_connection_window)
            .max_header_list_size(u32::try_from(config.max_response_headers_bytes).unwrap_or(u32::MAX))
            .enable_push(false)
            .max_send_buffer_size(config.buffer_limit.clamp(16 * 1024, 1024 * 1024));
        let seen = Rc::<Seen>::default();
        let io = Guard::client(io, seen.clone());
        let (sender, connection) = builder.handshake::<_, Bytes>(io).await.map_err(|error| {
            UpstreamError::early(Cause::UpstreamConnectionFailure, format!("HTTP/2 did not start: {error}"))
        })?;
        let opened = Rc::new(Self {
            sender: sender.into(),
            facts,
            most: options.max_concurrent_streams as usize,
            max_requests: config.max_requests_per_connection,
            active: Cell::new(0),
            served: Cell::new(0),
            closing: Cell::new(false),
            idle_since: Cell::new(Instant::now()),
            seen: seen.clone(),
        });
        let drive = drive(connection, options.clone(), seen.clone(), Rc::downgrade(&opened));
        let driving = tokio::task::spawn_local(drive);
        let failed = |cause, detail| Err(UpstreamError::early(cause, detail));
        tokio::select! {
            biased;
            () = seen.settled() => {}
            _ = driving => {
                let detail = "the endpoint closed the connection before its SETTINGS; does it speak HTTP/2?";
                return failed(Cause::UpstreamConnectionFailure, detail);
            }
            () = tokio::time::sleep(config.connect_timeout) => {
                return failed(Cause::UpstreamConnectTimeout, "the endpoint sent no SETTINGS in time; does it speak HTTP/2?");
            }
        }
        if !opened.has_room() {
            let detail = "the endpoint takes no requests (GOAWAY, or SETTINGS_MAX_CONCURRENT_STREAMS of 0)";
            return failed(Cause::UpstreamConnectionFailure, detail);
        }
        Ok(opened)
    }

    /// Whether a further request may go on it.
    pub(super) fn has_room(&self) -> bool {
        if self.closing.get() {
            return false;
        }
        let mut sender = self.sender.borrow_mut();
        if let Poll::Ready(Err(_)) = sender.poll_ready(&mut Context::from_waker(Waker::noop())) {
            // GOAWAY, or the connection has ended; what is in flight goes on.
            self.closing.set(true);
            return false;
        }
        self.active.get() < self.most.min(sender.current_max_send_streams())
    }

    /// Since when it has no request.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.active.get() == 0).then(|| self.idle_since.get())
    }

    /// Takes no further request; ends with the last in flight.
    pub(super) fn close(&self) {
        self.closing.set(true);
    }
}

/// The place of one request on a shared connection.
pub(super) struct Slot(Rc<Multiplexed>);

impl Slot {
    pub(super) fn new(connection: Rc<Multiplexed>) -> Self {
        connection.active.set(connection.active.get() + 1);
        connection.served.set(connection.served.get().saturating_add(1));
        if connection.max_requests > 0 && connection.served.get() >= connection.max_requests {
            // It ends with the last of its requests.
            connection.close();
            if let Some(pool) = connection.facts.pool() {
                pool.cluster.stats.upstream_cx_max_requests.inc();
                pool.forget(&connection);
            }
        }
        Self(connection)
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.0.facts
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get().saturating_sub(1));
        self.0.idle_since.set(Instant::now());
        if let Some(pool) = self.0.facts.pool() {
            pool.serve_waiting();
        }
    }
}

async fn drive(
    mut connection: h2::client::Connection<Guard, Bytes>,
    options: Http2Options,
    seen: Rc<Seen>,
    opened: Weak<Multiplexed>,
) {
    let pings = connection.ping_pong();
    let keepalive = async move {
        match (pings, options.keepalive_interval) {
            (Some(pings), Some(interval)) => keep_alive(pings, interval, options.keepalive_timeout).await,
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        result = until_flood(connection, &seen) => if let Err(error) = result {
            tracing::debug!(%error, "an upstream HTTP/2 connection ended");
        },
        () = keepalive => tracing::debug!("an upstream HTTP/2 connection does not answer PING"),
    }
    if let Some(opened) = opened.upgrade() {
        opened.close();
        if let Some(pool) = opened.facts.pool() {
            pool.forget(&opened);
        }
    }
}

/// Moves frames until the connection ends; one whose server floods us is dropped.
async fn until_flood(mut connection: h2::client::Connection<Guard, Bytes>, seen: &Seen) -> Result<(), h2::Error> {
    std::future::poll_fn(|cx| match std::pin::Pin::new(&mut connection).poll(cx) {
        Poll::Pending if seen.flood().is_some() => Poll::Ready(Err(Reason::ENHANCE_YOUR_CALM.into())),
        polled => polled,
    })
    .await
}

/// Ends when a PING has no answer in time.
async fn keep_alive(mut pings: h2::PingPong, interval: Duration, timeout: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        match tokio::time::timeout(timeout, pings.ping(h2::Ping::opaque())).await {
            Ok(Ok(_)) => {}
            _ => return,
        }
    }
}

/// Sends a request and waits for the head of its answer.
pub(super) async fn send(
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
            Some(last) if id > last => Self { before_request: true, ..self }.racing(Race::Unprocessed),
            _ => self,
        }
    }
}

/// The cause of a stream's end.
fn cause(error: &h2::Error, after_head: bool) -> Cause {
    match (error.reason(), after_head) {
        (Some(Reason::REFUSED_STREAM), false) if error.is_reset() => Cause::UpstreamRefusedStream,
        (_, false) if error.is_reset() && error.is_remote() => Cause::UpstreamRemoteReset,
        (_, true) if error.is_reset() && error.is_remote() => Cause::UpstreamResetAfterResponse,
        (_, false) if error.is_io() || error.is_go_away() => Cause::UpstreamConnectionTermination,
        (_, true) if error.is_io() || error.is_go_away() => Cause::UpstreamTerminationAfterResponse,
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
}

fn broken(error: &h2::Error) -> BodyError {
    BodyError { cause: cause(error, true), detail: error.to_string(), h2_reason: error.reason().map(u32::from) }
}
