//! What is known about one request, from its head to its log line (Envoy's StreamInfo).

use std::any::{Any, TypeId};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::cause::Cause;
use crate::cluster::{Cluster, Host};
use crate::connection::{Connection, Dial, TlsInfo};
use crate::http::HttpConnectionManager;
use crate::message::{RequestHead, ResponseHead};
use crate::route::SelectedRoute;
use crate::text::Text;
use crate::worker::Worker;

/// One request.
pub struct Stream {
    /// Its worker.
    pub worker: Rc<Worker>,
    /// Its connection.
    pub connection: Rc<Connection>,
    /// The connection manager that serves it.
    pub manager: Arc<HttpConnectionManager>,
    /// The request's head, as the filters change it.
    pub request: RequestHead,
    /// The client's address after X-Forwarded-For rules; what RBAC `remote_ip` and logs use.
    pub remote: SocketAddr,
    /// Whether the request counts as internal (Envoy's x-envoy-internal).
    pub internal: bool,
    /// The route; `None` until matched, or if none matches.
    pub route: Option<SelectedRoute>,
    /// Monotonic start.
    pub start: Instant,
    /// Wall-clock start.
    pub start_time: SystemTime,
    /// What happened upstream.
    pub upstream: Upstream,
    /// Causes that applied; the response flags of the log.
    pub causes: smallvec::SmallVec<[Cause; 2]>,
    /// `response_code_details`; `via_upstream` when the answer came from there.
    pub details: Cow<'static, str>,
    /// `connection_termination_details`.
    pub termination_details: Option<Cow<'static, str>>,
    /// Status sent to the client.
    pub status: Option<u16>,
    /// The answer is one of the proxy's own.
    pub is_answered_here: bool,
    /// Head sent to the client, kept for the log.
    pub response: Option<ResponseHead>,
    /// Trailers sent to the client, kept for the log.
    pub trailers: Option<http::HeaderMap>,
    /// Body bytes received from the client.
    pub bytes_received: u64,
    /// Body bytes sent to the client.
    pub bytes_sent: u64,
    /// Time to the last byte to the client; set when the stream is complete.
    pub duration: Option<Duration>,
    /// Time to the last byte of the request.
    pub request_duration: Option<Duration>,
    /// When the first byte of the response was sent.
    pub first_sent: Option<Instant>,
    /// Bytes on the client's connection, where it is HTTP/1.
    pub wire: Traffic,
    /// Typed values that filters leave for each other.
    pub state: FilterState,
    /// Values for logs and matchers, by filter name (Envoy's dynamic metadata).
    pub metadata: std::collections::BTreeMap<String, serde_json::Map<String, serde_json::Value>>,
    /// An HTTP/1 connection ends with this response.
    pub closes: bool,
    /// Sends a 1xx head to the client, if its protocol can (100-continue, 103).
    pub inform: Option<Rc<dyn Fn(ResponseHead)>>,
}

/// What happened upstream.
#[derive(Default)]
pub struct Upstream {
    /// The cluster that was chosen.
    pub cluster: Option<Arc<Cluster>>,
    /// The cluster's name, also if it does not exist.
    pub cluster_name: Option<Text>,
    /// The host of the last try.
    pub host: Option<Arc<Host>>,
    /// Our address on its connection.
    pub local: Option<SocketAddr>,
    /// TLS facts of its connection.
    pub tls: Option<Rc<TlsInfo>>,
    /// HTTP version of its connection.
    pub version: Option<http::Version>,
    /// Why TLS or the connect failed.
    pub transport_failure: Option<String>,
    /// Tries made, 1 for the first.
    pub attempts: u32,
    /// From the last byte of the request head to the first of the response.
    pub service_time: Option<Duration>,
    /// The hosts of all tries, in their order.
    pub attempted: smallvec::SmallVec<[Arc<Host>; 1]>,
    /// When things happened in the last try.
    pub times: UpstreamTimes,
    /// ALPN that `istio.alpn` asks for.
    pub alpn_override: Option<Arc<[Vec<u8>]>>,
}

/// Bytes of one exchange as they were on a connection, framing and all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the peer.
    pub received: u64,
    /// Those of them that were the head.
    pub head_received: u64,
    /// To the peer.
    pub sent: u64,
    /// Those of them that were the head.
    pub head_sent: u64,
}

/// When things happened upstream.
#[derive(Debug, Clone, Copy, Default)]
pub struct UpstreamTimes {
    /// How the connection came to be, perhaps long ago.
    pub dial: Option<Dial>,
    /// How long the request waited for a connection.
    pub waited: Option<Duration>,
    /// The first byte of the request went out.
    pub first_sent: Option<Instant>,
    /// The last byte of the request went out.
    pub last_sent: Option<Instant>,
    /// The first byte of the response came in.
    pub first_received: Option<Instant>,
    /// The last byte of the response came in.
    pub last_received: Option<Instant>,
}

impl Stream {
    /// Notes a cause: its flag and details.
    pub fn note(&mut self, cause: Cause) {
        if !self.causes.contains(&cause) {
            self.causes.push(cause);
        }
        self.details = Cow::Borrowed(cause.details());
    }
}

/// Values by type, few of them.
#[derive(Default)]
pub struct FilterState(smallvec::SmallVec<[(TypeId, Rc<dyn Any>); 4]>);

impl FilterState {
    /// Sets the value of its type.
    pub fn set<T: 'static>(&mut self, value: T) {
        let id = TypeId::of::<T>();
        self.0.retain(|(found, _)| *found != id);
        self.0.push((id, Rc::new(value)));
    }

    /// The value of this type.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        let id = TypeId::of::<T>();
        self.0.iter().find(|(found, _)| *found == id).and_then(|(_, value)| value.downcast_ref())
    }
}
