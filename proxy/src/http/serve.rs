//! A downstream connection: which codec serves it, when it ends, how it drains.

use std::cell::{Cell, Ref, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use rustc_hash::FxHashMap;

use super::manager::Codec;
use super::{HttpConnectionManager, RequestHead, h1, h2};
use crate::codec::h1::Settings;
use crate::codec::h1::wire::Wire;
use crate::codec::h2::PREFACE;
use crate::connection::Connection;
use crate::http::stream::Stream;
use crate::io::Io;
use crate::overload::Action;
use crate::stream::{FilterState, Traffic, Upstream};
use crate::timer::Timer;
use crate::worker::Worker;

mod current;

pub use current::ManagerHandle;

/// A draining connection at rest is closed at once, but not so soon after its last answer: the client may be sending
/// its next request, which is still answered, with `connection: close`.
pub(super) const IDLE_GRACE: Duration = Duration::from_secs(1);

/// Tells connections of one worker to drain; the owner's end.
#[derive(Debug, Default)]
pub struct Drain(Rc<DrainState>);

/// A connection's end of [`Drain`].
#[derive(Debug)]
pub struct DrainSignal {
    state: Rc<DrainState>,
    place: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    #[default]
    Serving,
    Draining,
    Closing,
}

#[derive(Debug, Default)]
struct DrainState {
    phase: Cell<Phase>,
    /// Also `/healthcheck/fail` drains (`drain_type` DEFAULT).
    with_health: Cell<bool>,
    next: Cell<u64>,
    wakers: RefCell<FxHashMap<u64, Waker>>,
}

impl Drain {
    /// A drain that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// A signal for one connection.
    pub fn signal(&self) -> DrainSignal {
        DrainSignal::of(&self.0)
    }

    /// Whether `/healthcheck/fail` drains, too: then each connection ends with its next answer (`Listener.drain_type`).
    pub fn with_health(&self, with: bool) {
        self.0.with_health.set(with);
    }

    /// Begins: every connection finishes its requests, then closes.
    pub fn start(&self) {
        self.advance(Phase::Draining);
    }

    /// The time is over: connections end now, whatever they do.
    pub fn close(&self) {
        self.advance(Phase::Closing);
    }

    /// How many connections listen.
    pub fn listening(&self) -> usize {
        Rc::strong_count(&self.0) - 1
    }

    fn advance(&self, to: Phase) {
        self.0.phase.set(self.0.phase.get().max(to));
        let wakers = std::mem::take(&mut *self.0.wakers.borrow_mut());
        wakers.into_values().for_each(Waker::wake);
    }

    /// Whether it has begun.
    pub fn is_started(&self) -> bool {
        self.0.phase.get() >= Phase::Draining
    }
}

impl DrainSignal {
    fn of(state: &Rc<DrainState>) -> Self {
        let place = state.next.get();
        state.next.set(place + 1);
        Self { state: state.clone(), place }
    }

    /// A signal that never comes.
    pub fn never() -> Self {
        Drain::new().signal()
    }

    /// Whether draining has begun.
    pub fn is_draining(&self) -> bool {
        self.state.phase.get() >= Phase::Draining
    }

    /// Whether `/healthcheck/fail` drains, too.
    fn is_with_health(&self) -> bool {
        self.state.with_health.get()
    }

    /// Ready once draining has begun. A signal wakes one task: the last that polled it.
    pub fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_phase(cx, Phase::Draining)
    }

    /// Ready once connections must end.
    pub fn poll_closing(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_phase(cx, Phase::Closing)
    }

    /// Waits until connections must end.
    pub async fn closing(&self) {
        std::future::poll_fn(|cx| self.poll_closing(cx)).await;
    }

    fn poll_phase(&self, cx: &mut Context<'_>, phase: Phase) -> Poll<()> {
        if self.state.phase.get() >= phase {
            return Poll::Ready(());
        }
        let mut wakers = self.state.wakers.borrow_mut();
        match wakers.get_mut(&self.place) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => {
                wakers.insert(self.place, cx.waker().clone());
            }
        }
        Poll::Pending
    }

    /// Waits until draining begins.
    pub async fn drained(&self) {
        std::future::poll_fn(|cx| self.poll_drained(cx)).await;
    }
}

impl Clone for DrainSignal {
    fn clone(&self) -> Self {
        Self::of(&self.state)
    }
}

impl Drop for DrainSignal {
    fn drop(&mut self) {
        self.state.wakers.borrow_mut().remove(&self.place);
    }
}

/// What all requests of one connection share.
pub struct Session {
    /// The worker.
    pub worker: Rc<Worker>,
    manager: ManagerHandle,
    /// The connection.
    pub connection: Rc<Connection>,
    drain: DrainSignal,
}

impl Session {
    /// The connection manager as it is configured now. Not to be held over an `await`.
    pub fn manager(&self) -> Ref<'_, Arc<HttpConnectionManager>> {
        self.manager.get()
    }

    /// Whether this connection shall end after the requests that it has.
    pub fn is_draining(&self) -> bool {
        self.drain.is_draining()
            || self.worker.context.is_draining()
            || self.worker.context.overload.meets(Action::DisableHttpKeepalive)
            || self.manager().max_connection_duration.is_some_and(|limit| self.connection.start.elapsed() >= limit)
    }

    /// Whether this connection ends with the answer that goes out now. One that waits for its next request is left alone,
    /// as in Envoy, where the proxy as a whole does not drain but fails its health check.
    pub fn ends_with_answer(&self) -> bool {
        self.is_draining() || (self.drain.is_with_health() && self.worker.context.fails_health_check())
    }

    /// When this connection has lived long enough.
    pub fn ends_at(&self) -> Option<Instant> {
        self.manager().max_connection_duration.map(|limit| self.connection.start + limit)
    }

    /// Ready once this connection drains.
    pub fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_draining() { Poll::Ready(()) } else { self.drain.poll_drained(cx) }
    }

    /// Whether the `count`th request is the last of its connection.
    pub fn is_last(&self, count: u32) -> bool {
        let most = self.manager().max_requests_per_connection;
        most != 0 && count >= most
    }

    /// Settings of HTTP/1.
    pub fn http1(&self) -> Settings {
        self.manager().http1
    }

    /// The state of a new request.
    pub fn stream(&self, request: RequestHead) -> Stream {
        Stream {
            worker: self.worker.clone(),
            connection: self.connection.clone(),
            manager: self.manager().clone(),
            request,
            remote: self.connection.remote,
            internal: false,
            route: None,
            start: Instant::now(),
            start_time: SystemTime::now(),
            upstream: Upstream::default(),
            causes: smallvec::SmallVec::new(),
            details: std::borrow::Cow::Borrowed(""),
            termination_details: None,
            status: None,
            is_answered_here: false,
            response: None,
            trailers: None,
            bytes_received: 0,
            bytes_sent: 0,
            duration: None,
            request_duration: None,
            first_sent: None,
            wire: Traffic::default(),
            state: FilterState::default(),
            metadata: std::collections::BTreeMap::new(),
            closes: false,
            inform: None,
        }
    }
}

/// Serves a downstream connection to its end.
pub async fn serve(worker: Rc<Worker>, manager: ManagerHandle, io: Io, connection: Rc<Connection>, drain: DrainSignal) {
    let closing = drain.clone();
    let session = Rc::new(Session { worker, manager, connection, drain });
    let counted = session.manager().stats.connection();
    let mut serving = Box::pin(serve_codec(session, io));
    std::future::poll_fn(|cx| match serving.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => closing.poll_closing(cx),
    })
    .await;
    drop(counted);
}

async fn serve_codec(session: Rc<Session>, io: Io) {
    let alpn = session.connection.tls.as_ref().and_then(|tls| tls.alpn.clone());
    let mut wire = Wire::new(io);
    let codec = session.manager().codec;
    let http2 = match (codec, alpn.as_deref()) {
        (Codec::Http1, _) => false,
        (Codec::Http2, _) => true,
        (Codec::Auto, Some("h2")) => true,
        (Codec::Auto, Some("http/1.1" | "http/1.0")) => false,
        (Codec::Auto, _) => match detect(&session, &mut wire).await {
            Some(http2) => http2,
            None => return,
        },
    };
    session.manager().stats.codec(http2);
    if http2 {
        let (io, ahead) = wire.into_parts();
        Box::pin(h2::serve(session, ahead, io)).await;
    } else {
        Box::pin(h1::serve(session, wire)).await;
    }
}

/// Looks whether the first bytes are HTTP/2's; `None` if the client is gone or too slow.
async fn detect(session: &Session, wire: &mut Wire) -> Option<bool> {
    let start = Instant::now();
    let mut timer = Timer::default();
    std::future::poll_fn(|cx| {
        loop {
            let length = wire.input.len().min(PREFACE.len());
            if wire.input.get(..length) != PREFACE.get(..length) {
                return Poll::Ready(Some(false));
            }
            if length == PREFACE.len() {
                return Poll::Ready(Some(true));
            }
            match wire.poll_fill_head(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false) | Err(_)) => return Poll::Ready(None),
                Poll::Pending => break,
            }
        }
        let manager = session.manager();
        let limit = if wire.input.is_empty() { manager.idle_timeout } else { manager.request_headers_timeout };
        drop(manager);
        let drained = wire.input.is_empty() && session.poll_drained(cx).is_ready();
        let limit = if drained { Some(limit.map_or(IDLE_GRACE, |limit| limit.min(IDLE_GRACE))) } else { limit };
        let ends_at = if wire.input.is_empty() { session.ends_at() } else { None };
        let Some(by) = limit.map(|limit| start + limit).into_iter().chain(ends_at).min() else { return Poll::Pending };
        timer.poll_until(cx, by).map(|()| None)
    })
    .await
}

#[cfg(test)]
pub(crate) mod tests;
