//! What a request or connection leaves behind on its way: its upstream's part, and values of filters (parts of Envoy's
//! StreamInfo).

use std::any::{Any, TypeId};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, Host};
use crate::connection::{Dial, TlsInfo};
use crate::text::Text;

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
    /// The connection's id.
    pub connection_id: Option<u64>,
    /// Bytes of the last try on its connection, where they can be told; heads are not told apart.
    pub wire: Option<Meter>,
    /// Those of the tries before.
    pub before: Traffic,
    /// Why TLS or the connect failed.
    pub transport_failure: Option<String>,
    /// Tries made, 1 for the first.
    pub attempts: u32,
    /// From the last byte of the request head to the first of the response.
    pub service_time: Option<Duration>,
    /// The host of the last try, if there was a connection to it.
    pub attempted: Option<Arc<Host>>,
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

/// The traffic of one exchange, as far as it has come.
pub type Meter = Rc<Cell<Traffic>>;

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

impl Upstream {
    /// Bytes of all tries.
    pub fn traffic(&self) -> Traffic {
        let last = self.wire.as_ref().map(|meter| meter.get()).unwrap_or_default();
        let (received, sent) = (self.before.received + last.received, self.before.sent + last.sent);
        Traffic { received, sent, ..Traffic::default() }
    }

    /// A try begins: nothing is known of it but its host.
    pub fn begin(&mut self, host: Arc<Host>) {
        self.host = Some(host);
        self.attempted = None;
        self.local = None;
        self.connection_id = None;
        self.before = self.traffic();
        self.wire = None;
        self.times = UpstreamTimes::default();
    }
}

impl UpstreamTimes {
    /// The wait for a connection is over, which has begun at `asked`; with a connection, its dial.
    pub fn has_waited(&mut self, asked: Instant, connection: Option<Option<Dial>>) {
        let now = crate::timer::now();
        self.waited = Some(now.saturating_duration_since(asked));
        self.dial = connection.flatten();
        self.first_sent = connection.map(|_| now);
    }

    /// The try is over, answered or not; the last byte of the request went out at `sent`.
    pub fn has_ended(&mut self, sent: Option<Instant>, is_answered: bool) {
        let sent = sent.or(self.first_sent.filter(|_| is_answered));
        self.last_sent = self.first_sent.and_then(|first| Some(sent?.max(first)));
        self.first_received = is_answered.then(crate::timer::now);
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

    /// Forgets the values of all other types.
    pub fn keep(&mut self, types: &[TypeId]) {
        self.0.retain(|(found, _)| types.contains(found));
    }

    /// The value of this type.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        let id = TypeId::of::<T>();
        self.0.iter().find(|(found, _)| *found == id).and_then(|(_, value)| value.downcast_ref())
    }
}
