//! Connections to hosts: pools of one worker, dialling, TLS, and the HTTP client codecs.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::body::{Body, BodyError, BodySource, Frame};
use crate::cause::Cause;
use crate::cluster::dial::DialError;
use crate::cluster::{Cluster, Host, dial};
use crate::connection::TlsInfo;
use crate::io::Io;
use crate::message::{RequestHead, ResponseHead};

mod h1;
mod h2;
mod lease;
mod pool;
mod pools;
mod tunnel;

pub use lease::{Active, ClientStream};
pub use pools::Pools;

pub use crate::cluster::Wanted;

/// Why no answer came.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{cause}: {detail}")]
pub struct UpstreamError {
    /// The cause that log, metrics and the local reply show.
    pub cause: Cause,
    /// What happened, in words (`upstream_transport_failure_reason`).
    pub detail: String,
    /// Not one byte of the request was sent on a usable connection: a retry can do no harm.
    pub before_request: bool,
    /// The request met a connection in the moment of its end.
    pub race: Race,
}

/// How a request without an answer met the end of its connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Race {
    /// It did not.
    #[default]
    None,
    /// The connection had served before, and ended without a byte of this answer: the server may have closed it before
    /// it saw the request, or not (RFC 9112, 9.3.1).
    Stale,
    /// The server says that it has not processed the request (GOAWAY; RFC 9113, 6.8).
    Unprocessed,
}

impl UpstreamError {
    /// An error before anything was sent.
    pub fn early(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into(), before_request: true, race: Race::None }
    }

    /// Tells how the request met the end of its connection.
    #[must_use]
    pub fn racing(mut self, race: Race) -> Self {
        self.race = race;
        self
    }

    /// `what` of a request's head would break its line.
    fn unwritable(what: &str) -> Self {
        let detail = format!("the request's {what} has a space or a control character and was not sent");
        Self::early(Cause::UnwritableRequest, detail)
    }

    /// An error after something was sent.
    pub fn late(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into(), before_request: false, race: Race::None }
    }
}

impl From<DialError> for UpstreamError {
    fn from(error: DialError) -> Self {
        Self::early(error.cause, error.detail)
    }
}

impl Pools {
    /// A raw connection for TCP proxying, TLS done if the host's transport asks for it; not pooled.
    ///
    /// # Errors
    /// Overflow, connect or TLS failure, timeout.
    pub async fn connect(
        self: &Rc<Self>,
        cluster: &Arc<Cluster>,
        host: &Arc<Host>,
        wanted: &Wanted,
    ) -> Result<TcpUpstream, UpstreamError> {
        let breakers = &cluster.breakers[usize::from(wanted.high_priority)];
        let Some(permit) = breakers.connections.take() else {
            cluster.stats.upstream_cx_overflow.inc();
            return Err(UpstreamError::early(Cause::MaxConnections, "max_connections is reached"));
        };
        cluster.stats.upstream_cx_total.inc();
        host.stats.cx_total.inc();
        let dialled = dial::connect(&cluster.config, host, &host.address, wanted).await;
        let dialled =
            dialled.map_err(UpstreamError::from).inspect_err(|error| pool::count_failure(cluster, host, error))?;
        cluster.stats.upstream_cx_connect_ms.record(dialled.times.took());
        let open = Open::new(cluster, host, permit);
        let (id, tls) = (self.next_id(), dialled.tls.map(Rc::new));
        Ok(TcpUpstream { id, io: dialled.io, local: dialled.local, tls, open })
    }

    /// As [`Pools::connect`], counted as a request of the host, too: balancers look at those. As in Envoy, `max_requests`
    /// does not bound them.
    ///
    /// # Errors
    /// Overflow, connect or TLS failure, timeout.
    pub async fn relay(
        self: &Rc<Self>,
        cluster: &Arc<Cluster>,
        host: &Arc<Host>,
        wanted: &Wanted,
    ) -> Result<(TcpUpstream, Active), UpstreamError> {
        let upstream = self.connect(cluster, host, wanted).await?;
        Ok((upstream, Active::always(cluster, host, wanted.high_priority)))
    }
}

/// A raw upstream connection.
pub struct TcpUpstream {
    /// Unique within the process, as that of a client's connection.
    pub id: u64,
    /// Its bytes.
    pub io: Io,
    /// Our address.
    pub local: Option<SocketAddr>,
    /// TLS facts.
    pub tls: Option<Rc<TlsInfo>>,
    /// Held while the connection is open.
    pub open: Open,
}

/// A connection outside of the pools, as counted for the host and the cluster; ends when dropped.
pub struct Open {
    cluster: Arc<Cluster>,
    host: Arc<Host>,
    _permit: crate::cluster::breaker::Permit,
}

impl Open {
    fn new(cluster: &Arc<Cluster>, host: &Arc<Host>, permit: crate::cluster::breaker::Permit) -> Self {
        cluster.stats.upstream_cx_active.inc();
        host.stats.cx_active.inc();
        Self { cluster: cluster.clone(), host: host.clone(), _permit: permit }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.cluster.stats.upstream_cx_active.dec();
        self.cluster.stats.upstream_cx_destroy.inc();
        self.host.stats.cx_active.dec();
    }
}

/// A response body that keeps something alive until its end.
struct Held<T> {
    body: Body,
    held: Option<T>,
}

impl<T> BodySource for Held<T> {
    fn poll_frame(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<Result<Frame, BodyError>>> {
        let frame = self.body.poll_frame(cx);
        if matches!(frame, std::task::Poll::Ready(None | Some(Err(_)))) {
            self.held = None;
        }
        frame
    }

    fn remaining(&self) -> Option<u64> {
        self.body.remaining()
    }
}

impl ClientStream {
    /// Sends a request and waits for the head of its answer; 1xx heads other than 101 go to `inform`.
    ///
    /// The response's body drives what is left of the request's. Dropping the future or the body aborts the exchange.
    /// A request with `head.upgrade` sends its body only once the answer accepts the upgrade.
    ///
    /// # Errors
    /// If the connection ends, resets or speaks no HTTP before the head is whole.
    pub async fn send(
        self,
        head: &RequestHead,
        body: Body,
        inform: Option<&dyn Fn(ResponseHead)>,
    ) -> Result<(ResponseHead, Body), UpstreamError> {
        let (head, body, active) = self.start(head, body, inform).await?;
        let body = match body {
            Body::Empty => Body::Empty,
            body => Body::new(Held { body, held: Some(active) }),
        };
        Ok((head, body))
    }
}

#[cfg(test)]
mod tests;
