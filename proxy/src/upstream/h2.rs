//! HTTP/2 towards hosts: one connection shared by the requests of a worker, over the `h2` crate.

use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::time::Instant;

use super::UpstreamError;
use super::pool::Facts;
use crate::cause::Cause;
use crate::cluster::ClusterConfig;
use crate::codec::h2::Http2Options;
use crate::codec::h2::guard::{Guard, Seen};
use crate::io::Io;

mod exchange;

pub(super) use exchange::send;

/// A shared connection.
pub(super) struct Multiplexed {
    sender: std::cell::RefCell<SendRequest<Bytes>>,
    pub(super) facts: Facts,
    most: usize,
    max_requests: u32,
    most_headers: usize,
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
        let io = Guard::client(io, options.limits, seen.clone());
        let (sender, connection) = builder.handshake::<_, Bytes>(io).await.map_err(|error| {
            UpstreamError::early(Cause::UpstreamConnectionFailure, format!("HTTP/2 did not start: {error}"))
        })?;
        let opened = Rc::new(Self {
            sender: sender.into(),
            facts,
            most: options.max_concurrent_streams as usize,
            max_requests: config.max_requests_per_connection,
            most_headers: config.max_response_headers_count,
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
        result = connection => if let Err(error) = result {
            let violation = seen.flood().is_some() || (error.is_go_away() && !error.is_remote());
            if let Some(pool) = opened.upgrade().and_then(|opened| opened.facts.pool()).filter(|_| violation) {
                pool.cluster.stats.upstream_cx_protocol_error.inc();
            }
            tracing::debug!(%error, flood = ?seen.flood(), "an upstream HTTP/2 connection ended");
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
