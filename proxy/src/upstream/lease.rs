//! The right to send one request on a pooled connection, and what goes back to the pool when it is used or dropped.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::UpstreamError;
use super::h1::Connection;
use super::h2::Slot;
use super::pool::{Facts, Pool};
use crate::body::Body;
use crate::cause::Cause;
use crate::cluster::breaker::Permit;
use crate::cluster::{Cluster, Host};
use crate::connection::{Dial, TlsInfo};
use crate::message::{RequestHead, ResponseHead};
use crate::stream::Meter;

/// A request in flight, as counted for the host and the cluster; ends when dropped.
pub struct Active {
    cluster: Arc<Cluster>,
    host: Arc<Host>,
    _permit: Permit,
}

impl Active {
    /// Counts a request; fails if the cluster's `max_requests` is reached.
    pub(super) fn begin(cluster: &Arc<Cluster>, host: &Arc<Host>, high_priority: bool) -> Result<Self, UpstreamError> {
        let Some(permit) = cluster.breakers[usize::from(high_priority)].take_request() else {
            cluster.stats.upstream_rq_pending_overflow.inc();
            return Err(UpstreamError::early(Cause::MaxRequests, "max_requests is reached"));
        };
        Ok(Self::counted(cluster, host, permit))
    }

    /// Counts a request although `max_requests` may be reached.
    pub(super) fn always(cluster: &Arc<Cluster>, host: &Arc<Host>, high_priority: bool) -> Self {
        Self::counted(cluster, host, cluster.breakers[usize::from(high_priority)].take_request_always())
    }

    fn counted(cluster: &Arc<Cluster>, host: &Arc<Host>, permit: Permit) -> Self {
        host.active.fetch_add(1, Ordering::Relaxed);
        host.stats.rq_total.inc();
        cluster.stats.upstream_rq_total.inc();
        cluster.stats.upstream_rq_active.inc();
        Self { cluster: cluster.clone(), host: host.clone(), _permit: permit }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.host.active.fetch_sub(1, Ordering::Relaxed);
        self.cluster.stats.upstream_rq_active.dec();
    }
}

/// What a stream is on.
pub(super) enum Lease {
    /// A whole HTTP/1 connection.
    Http1(Http1Lease),
    /// One stream of an HTTP/2 connection.
    Http2(Slot),
}

/// A connection out of the pool; goes back when dropped unused.
pub(super) struct Http1Lease {
    pub(super) connection: Option<Connection>,
    pub(super) facts: Option<Facts>,
    pub(super) pool: Rc<Pool>,
}

impl Drop for Http1Lease {
    fn drop(&mut self) {
        if let (Some(connection), Some(facts)) = (self.connection.take(), self.facts.take()) {
            self.pool.give_back(connection, facts);
        }
    }
}

/// The right to send one request on a connection.
pub struct ClientStream {
    /// The connection's, unique within the process.
    pub id: Option<u64>,
    /// Bytes of the exchange on the connection, where it is HTTP/1.
    pub wire: Option<Meter>,
    /// Our address.
    pub local: Option<SocketAddr>,
    /// TLS facts.
    pub tls: Option<Rc<TlsInfo>>,
    /// How the connection came to be.
    pub dial: Option<Dial>,
    /// The HTTP version of the connection.
    pub version: http::Version,
    active: Active,
    lease: Lease,
}

impl ClientStream {
    /// A stream on `lease`.
    pub(super) fn new(pool: &Pool, mut lease: Lease) -> Result<Self, UpstreamError> {
        let active = Active::begin(&pool.cluster, &pool.host, pool.wanted.high_priority)?;
        let (version, shared) = match &lease {
            Lease::Http1(lease) => (http::Version::HTTP_11, lease.facts.as_ref().map(|facts| facts.shared.clone())),
            Lease::Http2(slot) => (http::Version::HTTP_2, Some(slot.facts().shared.clone())),
        };
        let wire = match &mut lease {
            Lease::Http1(lease) => lease.connection.as_mut().map(Connection::fresh_meter),
            Lease::Http2(_) => None,
        };
        let (id, dial) = (shared.as_ref().map(|shared| shared.id), shared.as_ref().map(|shared| shared.dial));
        let (local, tls) = shared.map(|shared| (shared.local, shared.tls.clone())).unwrap_or_default();
        Ok(Self { id, wire, local, tls, dial, version, active, lease })
    }

    /// As [`ClientStream::send`], but the caller keeps the request counted as active.
    ///
    /// # Errors
    /// As [`ClientStream::send`].
    pub(crate) async fn start(
        self,
        head: &RequestHead,
        body: Body,
        inform: Option<&dyn Fn(ResponseHead)>,
    ) -> Result<(ResponseHead, Body, Active), UpstreamError> {
        let (head, body) = match self.lease {
            Lease::Http2(slot) => super::h2::send(slot, head, body, inform).await?,
            Lease::Http1(mut lease) => {
                let (Some(connection), Some(facts)) = (lease.connection.take(), lease.facts.take()) else {
                    // Both are there from `new` until here; a lease is used once.
                    return Err(UpstreamError::early(Cause::UpstreamConnectionFailure, "the connection is in use"));
                };
                let pool = lease.pool.clone();
                let done = Box::new(move |connection: Option<Connection>| match connection {
                    Some(connection) => pool.give_back(connection, facts),
                    None => drop(facts),
                });
                connection.send(head, body, inform, done).await?
            }
        };
        Ok((head, body, self.active))
    }
}
