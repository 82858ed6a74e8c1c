//! HTTP/2 towards clients (RFC 9113): a connection in, one task for each of its streams out.
//!
//! Frames, HPACK, flow control and most limits on abuse are the `h2` crate's; the reader under it counts the frames
//! whose rate h2 does not limit ([`crate::codec::h2::guard`]).

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use tokio::io::AsyncWriteExt;

use crate::cause::Cause;
use crate::codec::h2::guard::{Guard, Seen};
use crate::http::serve::Session;
use crate::io::Io;
use crate::timer::Timer;

mod stream;

#[cfg(test)]
mod tests;

/// Bytes of responses that one stream may hold.
const SEND_BUFFER: usize = 128 * 1024;

/// Serves a connection to its end; `ahead` was read from it to detect its protocol.
pub async fn serve(session: Rc<Session>, ahead: Bytes, io: Io) {
    let seen = Rc::<Seen>::default();
    let delay = session.manager().delayed_close;
    let limit = session.manager().request_headers_timeout.unwrap_or(Duration::from_secs(10));
    let by = tokio::time::Instant::now() + limit;
    let limits = session.manager().http2.limits;
    let mut guard = Guard::server(ahead, io, delay, limits, seen.clone());
    match tokio::time::timeout_at(by, guard.has_preface()).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => {
            session.manager().stats.protocol_error();
            // h2 would drop the connection, which resets it.
            let _ = guard.shutdown().await;
            return;
        }
        Ok(Err(_)) | Err(_) => return,
    }
    let handshake = builder(&session).handshake::<_, Bytes>(guard);
    let Ok(Ok(mut connection)) = tokio::time::timeout_at(by, handshake).await else { return };
    let keepalive = KeepAlive::new(&session, connection.ping_pong());
    Driver {
        connection,
        keepalive,
        session,
        seen,
        cut: Rc::default(),
        cut_by: None,
        streams: Rc::new(Streams { active: Cell::new(0), ended: Cell::new(Instant::now()) }),
        idle_since: Instant::now(),
        timer: Timer::default(),
        lasting: Timer::default(),
        heading: Timer::default(),
        draining: false,
        requests: 0,
    }
    .await;
}

fn builder(session: &Session) -> Builder {
    let manager = session.manager();
    let options = &manager.http2;
    let mut builder = Builder::new();
    builder
        .initial_window_size(options.initial_stream_window)
        .initial_connection_window_size(options.initial_connection_window)
        .max_concurrent_streams(options.max_concurrent_streams)
        .max_header_list_size(u32::try_from(manager.max_request_headers_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER);
    if options.allow_connect {
        builder.enable_connect_protocol();
    }
    builder
}

/// Drives one connection; ready when it is closed.
struct Driver {
    connection: Connection<Guard, Bytes>,
    keepalive: Option<KeepAlive>,
    session: Rc<Session>,
    seen: Rc<Seen>,
    /// Why the connection was cut; what its streams log.
    cut: Rc<Cell<Option<Cause>>>,
    /// A connection that was cut is closed then, whether its client reads or not.
    cut_by: Option<Instant>,
    streams: Rc<Streams>,
    idle_since: Instant,
    timer: Timer,
    lasting: Timer,
    heading: Timer,
    draining: bool,
    requests: u32,
}

impl Driver {
    fn drain(&mut self) {
        if !std::mem::replace(&mut self.draining, true) {
            self.connection.graceful_shutdown();
        }
    }

    fn begin(&mut self, request: http::Request<RecvStream>, respond: SendResponse<Bytes>) {
        self.requests += 1;
        if self.session.is_last(self.requests) || self.session.ends_with_answer() {
            self.drain();
        }
        let active = Active::new(&self.streams);
        let serving = stream::serve(self.session.clone(), request, respond, self.cut.clone());
        tokio::task::spawn_local(async move {
            let _active = active;
            serving.await;
        });
    }

    /// Ready when the head of a request has not come whole in its time: until it has, its connection serves nothing else.
    fn poll_late_head(&mut self, cx: &mut Context<'_>) -> bool {
        let limit = self.session.manager().request_headers_timeout;
        let Some((since, limit)) = self.seen.head_since().zip(limit) else { return false };
        self.heading.poll_until(cx, since + limit).is_ready()
    }

    /// Tells a client that floods us, or lets us wait for a head, to go away. Ready when it has had the time to hear it.
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let begins = self.cut_by.is_none();
        if begins {
            let flood = self.seen.flood();
            if flood.is_none() && !self.poll_late_head(cx) {
                return Poll::Ready(false);
            }
            let cause = if flood.is_some() { Cause::DownstreamFlood } else { Cause::RequestHeaderTimeout };
            self.cut.set(Some(cause));
            if let Some(flood) = flood {
                self.session.manager().stats.flood(flood);
            }
            tracing::debug!(remote = %self.session.connection.remote, ?flood, "cut off: {cause}");
            self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
        let delay = self.session.manager().delayed_close;
        let by = *self.cut_by.get_or_insert_with(|| Instant::now() + delay);
        if begins {
            cx.waker().wake_by_ref();
        }
        self.timer.poll_until(cx, by).map(|()| true)
    }

    /// Notes why h2 broke the connection off, before its streams are told so: they could not tell it from a reset.
    fn note_dismissal(&self) {
        if let (None, Some(code)) = (self.cut.get(), self.seen.dismissed()) {
            let flood = code == u32::from(Reason::ENHANCE_YOUR_CALM);
            let cause = if flood { Cause::DownstreamFlood } else { Cause::DownstreamH2Error };
            self.cut.set(Some(cause));
            self.session.manager().stats.protocol_error();
            tracing::debug!(remote = %self.session.connection.remote, code, "closed: {cause}");
        }
    }

    /// Drains a connection that has lived long enough.
    fn poll_age(&mut self, cx: &mut Context<'_>) -> bool {
        self.session.ends_at().is_some_and(|at| self.lasting.poll_until(cx, at).is_ready())
    }

    /// Ready when the connection has been without a stream for too long.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.streams.active.get() > 0 {
            self.idle_since = Instant::now();
        }
        self.idle_since = self.idle_since.max(self.streams.ended.get());
        let limit = self.session.manager().idle_timeout;
        match limit {
            Some(limit) => self.timer.poll_until(cx, self.idle_since + limit),
            None => Poll::Pending,
        }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            let accepted = this.connection.poll_accept(cx);
            this.note_dismissal();
            match accepted {
                Poll::Ready(Some(Ok((request, respond)))) => this.begin(request, respond),
                Poll::Ready(Some(Err(error))) => {
                    // The client may be gone before GOAWAY was written.
                    if error.is_go_away() && !error.is_remote() && this.cut.get().is_none() {
                        this.session.manager().stats.protocol_error();
                    }
                    tracing::debug!(remote = %this.session.connection.remote, %error, "an HTTP/2 connection ended");
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        match this.poll_cut(cx) {
            Poll::Ready(true) => return Poll::Ready(()),
            Poll::Ready(false) => {}
            Poll::Pending => return Poll::Pending,
        }
        let mut again = false;
        if !this.draining && (this.session.poll_drained(cx).is_ready() || this.poll_age(cx)) {
            this.drain();
            again = true;
        }
        if let Some(keepalive) = &mut this.keepalive
            && keepalive.poll_dead(cx).is_ready()
        {
            return Poll::Ready(());
        }
        while this.poll_idle(cx).is_ready() {
            if this.streams.active.get() > 0 {
                continue;
            }
            if this.draining {
                // The client was told, and had all of the idle time again.
                return Poll::Ready(());
            }
            this.drain();
            this.idle_since = Instant::now();
            again = true;
        }
        if again {
            // What was just queued is written by the connection's own poll.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

/// The streams of a connection.
struct Streams {
    active: Cell<usize>,
    /// When the last of them ended.
    ended: Cell<Instant>,
}

/// Counts a stream as long as it lives.
struct Active(Rc<Streams>);

impl Active {
    fn new(streams: &Rc<Streams>) -> Self {
        streams.active.set(streams.active.get() + 1);
        Self(streams.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get().saturating_sub(1));
        self.0.ended.set(Instant::now());
    }
}

/// Pings a client in intervals, and finds out whether it is still there.
struct KeepAlive {
    ping: Option<PingPong>,
    interval: Duration,
    timeout: Duration,
    timer: Timer,
    last: Instant,
    waiting: bool,
}

impl KeepAlive {
    fn new(session: &Session, ping: Option<PingPong>) -> Option<Self> {
        let manager = session.manager();
        let options = &manager.http2;
        let interval = options.keepalive_interval.filter(|interval| !interval.is_zero())?;
        let timeout = options.keepalive_timeout;
        Some(Self { ping, interval, timeout, timer: Timer::default(), last: Instant::now(), waiting: false })
    }

    fn poll_dead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.waiting
                && let Some(ping) = &mut self.ping
                && ping.poll_pong(cx).is_ready()
            {
                self.waiting = false;
                self.last = Instant::now();
            }
            let wait = if self.waiting { self.timeout } else { self.interval };
            if self.timer.poll_until(cx, self.last + wait).is_pending() {
                return Poll::Pending;
            }
            if self.waiting {
                return Poll::Ready(());
            }
            self.last = Instant::now();
            self.waiting = self.ping.as_mut().is_some_and(|ping| ping.send_ping(Ping::opaque()).is_ok());
        }
    }
}
