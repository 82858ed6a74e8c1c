//! Connections to hosts: pools of one worker, dialling, TLS, and the HTTP client codecs.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::body::Body;
use crate::cause::Cause;
use crate::cluster::{Cluster, Host};
use crate::http::{RequestHead, ResponseHead};
use crate::io::Io;
use crate::stream::TlsInfo;

/// What a connection must be like, beyond its host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// HTTP/2 (else HTTP/1.1); decided by the caller from the cluster's protocol and the request's.
    pub http2: bool,
    /// High priority breakers.
    pub high_priority: bool,
    /// ALPN list over the cluster's (`istio.alpn`).
    pub alpn: Option<Arc<[Vec<u8>]>>,
    /// SNI over the cluster's (auto SNI).
    pub sni: Option<crate::text::Text>,
    /// Bind to this source address (original source, `127.0.0.6`).
    pub source: Option<SocketAddr>,
    /// Take a connection of its own and never pool it (upgrades over HTTP/1).
    pub exclusive: bool,
}

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
}

/// The upstream connections of one worker.
pub struct Pools {}

impl Pools {
    /// No connections.
    pub fn new() -> Self {
        Self {}
    }

    /// A stream on a pooled or new connection; waits for one, within the cluster's breakers and connect timeout.
    ///
    /// # Errors
    /// Overflow, connect or TLS failure, timeout.
    pub async fn stream(
        self: &Rc<Self>,
        _cluster: &Arc<Cluster>,
        _host: &Arc<Host>,
        _wanted: &Wanted,
    ) -> Result<ClientStream, UpstreamError> {
        Err(UpstreamError {
            cause: Cause::UpstreamConnectionFailure,
            detail: "not connected".into(),
            before_request: true,
        })
    }

    /// A raw connection for TCP proxying, TLS done if the host's transport asks for it; not pooled.
    ///
    /// # Errors
    /// Overflow, connect or TLS failure, timeout.
    pub async fn connect(
        self: &Rc<Self>,
        _cluster: &Arc<Cluster>,
        _host: &Arc<Host>,
        _wanted: &Wanted,
    ) -> Result<TcpUpstream, UpstreamError> {
        Err(UpstreamError {
            cause: Cause::UpstreamConnectionFailure,
            detail: "not connected".into(),
            before_request: true,
        })
    }
}

impl Default for Pools {
    fn default() -> Self {
        Self::new()
    }
}

/// A raw upstream connection.
pub struct TcpUpstream {
    /// Its bytes.
    pub io: Io,
    /// Our address.
    pub local: Option<SocketAddr>,
    /// TLS facts.
    pub tls: Option<Rc<TlsInfo>>,
    /// Held while the connection is open.
    pub permit: Option<crate::cluster::breaker::Permit>,
}

/// The right to send one request on a connection.
pub struct ClientStream {
    /// Our address.
    pub local: Option<SocketAddr>,
    /// TLS facts.
    pub tls: Option<Rc<TlsInfo>>,
    /// The HTTP version of the connection.
    pub version: http::Version,
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
        _head: &RequestHead,
        _body: Body,
        _inform: Option<&dyn Fn(ResponseHead)>,
    ) -> Result<(ResponseHead, Body), UpstreamError> {
        Err(UpstreamError {
            cause: Cause::UpstreamConnectionTermination,
            detail: "not connected".into(),
            before_request: true,
        })
    }
}
