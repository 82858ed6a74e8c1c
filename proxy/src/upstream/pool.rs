//! The connections of one worker to one host of one kind.
//!
//! HTTP/1 connections rest in a last-in-first-out list; HTTP/2 connections are shared. A request that finds none waits
//! in order, within `max_pending_requests`; connections are opened within `max_connections`, but each pool may always
//! have one (Envoy, "Circuit breaking").

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::h1::Connection;
use super::h2::{Multiplexed, Slot};
use super::lease::{Http1Lease, Lease};
use super::{UpstreamError, Wanted};
use crate::cause::Cause;
use crate::cluster::breaker::Permit;
use crate::cluster::{Cluster, Host, dial};
use crate::connection::{Dial, TlsInfo};

/// What is known of an open connection; counts it until it is dropped.
pub(super) struct Facts {
    pub(super) shared: Rc<Shared>,
    born: Instant,
    pool: Weak<Pool>,
    _permit: Permit,
}

/// What streams of a connection show.
pub(super) struct Shared {
    pub(super) id: u64,
    pub(super) local: Option<SocketAddr>,
    pub(super) tls: Option<Rc<TlsInfo>>,
    pub(super) dial: Dial,
}

impl Facts {
    /// The pool, if it is still there.
    pub(super) fn pool(&self) -> Option<Rc<Pool>> {
        self.pool.upgrade()
    }
}

impl Drop for Facts {
    fn drop(&mut self) {
        let Some(pool) = self.pool.upgrade() else { return };
        pool.open.set(pool.open.get().saturating_sub(1));
        pool.cluster.stats.upstream_cx_active.dec();
        pool.cluster.stats.upstream_cx_destroy.inc();
        pool.host.stats.cx_active.dec();
        pool.grow();
    }
}

pub(super) struct Idle {
    connection: Connection,
    facts: Facts,
    since: Instant,
}

/// The connections to one host of one kind.
pub(super) struct Pool {
    me: Weak<Pool>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) host: Arc<Host>,
    pub(super) wanted: Wanted,
    /// The newest connection's id, of all pools.
    ids: Arc<AtomicU64>,
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Vec<Rc<Multiplexed>>>,
    waiting: RefCell<VecDeque<oneshot::Sender<Result<Lease, UpstreamError>>>>,
    connecting: Cell<usize>,
    open: Cell<usize>,
    /// The host is reached in another way now: connections end once they rest.
    left: Cell<bool>,
}

impl Pool {
    pub(super) fn new(cluster: Arc<Cluster>, host: Arc<Host>, wanted: Wanted, ids: Arc<AtomicU64>) -> Rc<Self> {
        Rc::new_cyclic(|me| Self {
            me: me.clone(),
            cluster,
            host,
            wanted,
            ids,
            idle: RefCell::default(),
            shared: RefCell::default(),
            waiting: RefCell::default(),
            connecting: Cell::new(0),
            open: Cell::new(0),
            left: Cell::new(false),
        })
    }

    /// Whether its connections are made as the host, as it is now, wants them: an update may have given the same address
    /// another transport (its mTLS was turned on or off) or another name.
    pub(super) fn reaches(&self, host: &Host) -> bool {
        self.host.transport == host.transport && self.host.hostname == host.hostname
    }

    /// Says whether its host is reached in another way now.
    pub(super) fn leave(&self, left: bool) {
        if self.left.replace(left) != left && left {
            self.close_idle(|_| true);
        }
    }

    /// A connection that can take a request now.
    pub(super) fn ready(&self) -> Option<Lease> {
        if !self.waiting.borrow().is_empty() {
            // Those that wait go first.
            return None;
        }
        let shared = self.shared.borrow().iter().find(|connection| connection.has_room()).cloned();
        if let Some(connection) = shared {
            return Some(Lease::Http2(Slot::new(connection)));
        }
        if self.wanted.exclusive {
            return None;
        }
        loop {
            let Idle { mut connection, facts, .. } = self.idle.borrow_mut().pop()?;
            if connection.is_usable() {
                return Some(self.lease(connection, facts));
            }
        }
    }

    fn lease(&self, connection: Connection, facts: Facts) -> Lease {
        // `me` cannot be gone while `self` is borrowed.
        let pool = self.me.upgrade().expect("a pool outlives the call of its own method");
        Lease::Http1(Http1Lease { connection: Some(connection), facts: Some(facts), pool })
    }

    pub(super) async fn wait(&self) -> Result<Lease, UpstreamError> {
        let stats = &self.cluster.stats;
        let breakers = &self.cluster.breakers[usize::from(self.wanted.high_priority)];
        let Some(_pending) = breakers.pending.take() else {
            stats.upstream_rq_pending_overflow.inc();
            return Err(UpstreamError::early(Cause::MaxPendingRequests, "max_pending_requests is reached"));
        };
        stats.upstream_rq_pending_total.inc();
        stats.upstream_rq_pending_active.inc();
        let _counted = scopeguard(|| stats.upstream_rq_pending_active.dec());
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().push_back(sender);
        self.grow();
        receiver
            .await
            .unwrap_or_else(|_| Err(UpstreamError::early(Cause::UpstreamConnectionFailure, "the worker stops")))
    }

    /// Opens connections for those that wait, as far as the breakers let it.
    fn grow(&self) {
        loop {
            self.waiting.borrow_mut().retain(|sender| !sender.is_closed());
            let waiting = self.waiting.borrow().len();
            let enough = if self.wanted.http2 || self.wanted.auto { waiting.min(1) } else { waiting };
            if self.connecting.get() >= enough {
                return;
            }
            let connections = &self.cluster.breakers[usize::from(self.wanted.high_priority)].connections;
            let permit = match connections.take() {
                Some(permit) => permit,
                None if self.open.get() + self.connecting.get() == 0 => connections.take_always(),
                None => {
                    self.cluster.stats.upstream_cx_overflow.inc();
                    return;
                }
            };
            let Some(pool) = self.me.upgrade() else { return };
            self.connecting.set(self.connecting.get() + 1);
            tokio::task::spawn_local(pool.open_one(permit));
        }
    }

    async fn open_one(self: Rc<Self>, permit: Permit) {
        let _counted = scopeguard({
            let pool = self.clone();
            move || pool.connecting.set(pool.connecting.get().saturating_sub(1))
        });
        self.cluster.stats.upstream_cx_total.inc();
        self.host.stats.cx_total.inc();
        let dialled = dial::connect(&self.cluster.config, &self.host, &self.host.address, &self.wanted).await;
        let opened = match dialled {
            Ok(dialled) => {
                self.cluster.stats.upstream_cx_connect_ms.record(dialled.times.took());
                self.establish(dialled, permit).await
            }
            Err(error) => Err(error.into()),
        };
        drop(_counted);
        match opened {
            Ok(()) => self.grow(),
            Err(error) => {
                count_failure(&self.cluster, &self.host, &error);
                // One failure answers all that wait, as in Envoy: they would each wait for the next one.
                let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
                self.cluster.stats.upstream_rq_pending_failure_eject.add(waiting.len() as u64);
                for sender in waiting {
                    let _ = sender.send(Err(error.clone()));
                }
            }
        }
    }

    async fn establish(&self, dialled: dial::Dialled, permit: Permit) -> Result<(), UpstreamError> {
        let config = &self.cluster.config;
        let by_alpn =
            dialled.tls.as_ref().and_then(|tls| tls.alpn.as_ref()).is_some_and(|alpn| alpn.as_bytes() == b"h2");
        let http2 = if self.wanted.auto { by_alpn } else { self.wanted.http2 };
        let id = self.ids.fetch_add(1, Ordering::Relaxed) + 1;
        let tls = dialled.tls.map(Rc::new);
        let shared = Rc::new(Shared { id, local: dialled.local, tls, dial: dialled.times });
        self.open.set(self.open.get() + 1);
        self.cluster.stats.upstream_cx_active.inc();
        self.host.stats.cx_active.inc();
        let facts = Facts { shared, born: Instant::now(), pool: self.me.clone(), _permit: permit };
        if http2 {
            self.cluster.stats.upstream_cx_http2_total.inc();
            let connection = Multiplexed::open(dialled.io, config, facts).await?;
            self.shared.borrow_mut().push(connection);
            self.serve_waiting();
        } else {
            self.cluster.stats.upstream_cx_http1_total.inc();
            self.hand_on(Connection::new(dialled.io, config.http1), facts);
        }
        Ok(())
    }

    /// An HTTP/1 connection has served its request.
    pub(super) fn give_back(&self, connection: Connection, facts: Facts) {
        let config = &self.cluster.config;
        let most = config.max_requests_per_connection;
        if most > 0 && connection.requests() >= most {
            self.cluster.stats.upstream_cx_max_requests.inc();
            return;
        }
        if self.wanted.exclusive || self.is_unwanted(&facts, Instant::now()) {
            return;
        }
        self.hand_on(connection, facts);
    }

    /// To the first that waits, else to rest.
    fn hand_on(&self, connection: Connection, facts: Facts) {
        let mut lease = self.lease(connection, facts);
        while let Some(sender) = self.next_waiting() {
            match sender.send(Ok(lease)) {
                Ok(()) => return,
                Err(Ok(returned)) => lease = returned,
                Err(Err(_)) => return,
            }
        }
        if let Lease::Http1(mut lease) = lease
            && let (Some(connection), Some(facts)) = (lease.connection.take(), lease.facts.take())
        {
            self.idle.borrow_mut().push(Idle { connection, facts, since: Instant::now() });
        }
    }

    fn next_waiting(&self) -> Option<oneshot::Sender<Result<Lease, UpstreamError>>> {
        self.waiting.borrow_mut().pop_front()
    }

    /// Gives those that wait streams of shared connections.
    pub(super) fn serve_waiting(&self) {
        loop {
            let room = self.shared.borrow().iter().find(|connection| connection.has_room()).cloned();
            let Some(connection) = room else { break };
            let Some(sender) = self.next_waiting() else { break };
            // What comes back was for one that has gone; the next is served.
            drop(sender.send(Ok(Lease::Http2(Slot::new(connection)))));
        }
        self.grow();
    }

    /// A shared connection takes no more streams.
    pub(super) fn forget(&self, connection: &Multiplexed) {
        self.shared.borrow_mut().retain(|found| !std::ptr::eq(&**found, connection));
        self.grow();
    }

    fn is_unwanted(&self, facts: &Facts, now: Instant) -> bool {
        let config = &self.cluster.config;
        let too_old = config.max_connection_duration.is_some_and(|most| now.duration_since(facts.born) >= most);
        let sick = config.close_on_host_health_failure && !self.host.health.is_healthy();
        too_old || sick || self.left.get() || self.host.health.is_removed()
    }

    pub(super) fn sweep(&self, now: Instant) {
        let limit = self.cluster.config.idle_timeout;
        let too_long = |since: Instant| limit.is_some_and(|limit| now.duration_since(since) >= limit);
        self.close_idle(|idle| {
            let rested = too_long(idle.since);
            if rested {
                self.cluster.stats.upstream_cx_idle_timeout.inc();
            }
            rested || self.is_unwanted(&idle.facts, now) || !idle.connection.is_usable()
        });
        let unwanted: Vec<Rc<Multiplexed>> = {
            let shared = self.shared.borrow();
            let close = |connection: &&Rc<Multiplexed>| {
                let rested = connection.idle_since().is_some_and(too_long);
                if rested {
                    self.cluster.stats.upstream_cx_idle_timeout.inc();
                }
                rested || self.is_unwanted(&connection.facts, now)
            };
            shared.iter().filter(close).cloned().collect()
        };
        for connection in unwanted {
            connection.close();
            self.forget(&connection);
        }
    }

    /// Closes the resting connections that `close` names.
    pub(super) fn close_idle(&self, mut close: impl FnMut(&mut Idle) -> bool) {
        let mut closed = Vec::new();
        let mut kept = Vec::new();
        for mut idle in std::mem::take(&mut *self.idle.borrow_mut()) {
            if close(&mut idle) { closed.push(idle) } else { kept.push(idle) }
        }
        *self.idle.borrow_mut() = kept;
        // Dropped outside of the borrow: a closed connection makes room, and the pool may grow.
        drop(closed);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.get() == 0 && self.connecting.get() == 0 && self.waiting.borrow().is_empty()
    }
}

/// Counts a connection that was not made.
pub(super) fn count_failure(cluster: &Cluster, host: &Host, error: &UpstreamError) {
    cluster.stats.upstream_cx_connect_fail.inc();
    host.stats.cx_connect_fail.inc();
    if error.cause == Cause::UpstreamConnectTimeout {
        cluster.stats.upstream_cx_connect_timeout.inc();
    }
}

/// Runs something when dropped.
fn scopeguard<F: FnMut()>(run: F) -> impl Drop {
    struct Guard<F: FnMut()>(F);
    impl<F: FnMut()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    Guard(run)
}
