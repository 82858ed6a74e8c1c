//! `istio.stats`: Istio's standard metrics of requests and connections.

use std::sync::Arc;

use arc_swap::ArcSwap;
use ferromesh_proto::stats as proto;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::{Build, HttpFilter};
use crate::config::ConfigError;
use crate::config::supported::Table;
use crate::connection::Peer;
use crate::context::{Context, Local};
use crate::format::Info;
use crate::http::stream::Stream;
use crate::stats::{Counter, Histogram, Store};

mod labels;

use labels::Labels;

/// Fields of this filter's messages that are implemented.
pub const SUPPORTED: Table = &[("stats.PluginConfig", "disable_host_header_fallback tcp_reporting_duration reporter")];

/// Full name of the configuration.
pub const MESSAGE: &str = "stats.PluginConfig";

/// Label sets of one filter; requests of others are counted together under `overflow`.
const MAX_SERIES: usize = 10_000;

/// Makes the filter.
pub fn build(build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
    Ok(Arc::new(IstioStats::decode(&build.unpack()?, build.context)))
}

/// The metrics of one `istio.stats` filter, HTTP or TCP.
pub struct IstioStats {
    store: Arc<Store>,
    node: Peer,
    gateway: bool,
    host_fallback: bool,
    /// Read without a lock; copied for each new label set.
    http: Series<HttpSeries>,
    tcp: Series<TcpSeries>,
}

/// The metrics of one label set.
struct HttpSeries {
    requests: Counter,
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
    grpc: Option<[Counter; 2]>,
}

/// The metrics of TCP connections with one label set.
#[derive(Debug)]
pub struct TcpSeries {
    /// `istio_tcp_connections_opened_total`
    pub opened: Counter,
    /// `istio_tcp_connections_closed_total`
    pub closed: Counter,
    /// `istio_tcp_sent_bytes_total`: from the destination to the source.
    pub sent: Counter,
    /// `istio_tcp_received_bytes_total`: from the source to the destination.
    pub received: Counter,
}

struct Series<T> {
    map: ArcSwap<FxHashMap<u128, Arc<T>>>,
    writing: Mutex<()>,
    overflow: Counter,
}

impl<T> Series<T> {
    fn new(overflow: Counter) -> Self {
        Self { map: ArcSwap::default(), writing: Mutex::new(()), overflow }
    }

    /// The series of a label set: one lookup, or made if it is new and there is room.
    fn get(&self, hash: u128, make: impl FnOnce() -> T) -> Option<Arc<T>> {
        if let Some(found) = self.map.load().get(&hash) {
            return Some(found.clone());
        }
        let _writing = self.writing.lock();
        let map = self.map.load_full();
        if let Some(found) = map.get(&hash) {
            return Some(found.clone());
        }
        if map.len() >= MAX_SERIES {
            self.overflow.inc();
            return None;
        }
        let made = Arc::new(make());
        let mut copy = (*map).clone();
        copy.insert(hash, made.clone());
        self.map.store(Arc::new(copy));
        Some(made)
    }
}

impl IstioStats {
    /// Decodes the configuration.
    pub fn decode(message: &proto::PluginConfig, context: &Context) -> Self {
        let overflow = context.stats.root().scope("istio_stats").counter("overflow");
        Self {
            store: context.stats.clone(),
            node: node(&context.local),
            gateway: message.reporter() == proto::Reporter::ServerGateway,
            host_fallback: !message.disable_host_header_fallback,
            http: Series::new(overflow.clone()),
            tcp: Series::new(overflow),
        }
    }

    /// Records a request that is over.
    pub fn record(&self, info: &Info<'_>, messages: Option<[u64; 2]>) {
        let labels = Labels::of(info, &self.node, self.gateway, self.host_fallback);
        let Some(series) = self.http.get(labels.hash(), || self.http_series(&labels, messages.is_some())) else {
            return;
        };
        series.requests.inc();
        series.duration.record(info.duration.unwrap_or_else(|| info.start.elapsed()).as_secs_f64() * 1000.0);
        series.request_bytes.record(info.bytes_received as f64);
        series.response_bytes.record(info.bytes_sent as f64);
        if let (Some([requests, responses]), Some([sent, received])) = (&series.grpc, messages) {
            requests.add(sent);
            responses.add(received);
        }
    }

    fn http_series(&self, labels: &Labels<'_>, grpc: bool) -> HttpSeries {
        let all = labels.list();
        let counter = |name: &str| self.store.series_counter(name, &all);
        let histogram = |name: &str| self.store.series_histogram(name, &all);
        HttpSeries {
            requests: counter("istio_requests_total"),
            duration: histogram("istio_request_duration_milliseconds"),
            request_bytes: histogram("istio_request_bytes"),
            response_bytes: histogram("istio_response_bytes"),
            grpc: grpc.then(|| [counter("istio_request_messages_total"), counter("istio_response_messages_total")]),
        }
    }

    /// The metrics of a TCP connection; ask once its upstream is known. `None` if there are too many label sets.
    pub fn tcp(&self, info: &Info<'_>) -> Option<Arc<TcpSeries>> {
        let labels = Labels::of(info, &self.node, self.gateway, self.host_fallback);
        self.tcp.get(labels.hash(), || {
            let all = labels.list();
            let counter = |name: &str| self.store.series_counter(name, &all);
            TcpSeries {
                opened: counter("istio_tcp_connections_opened_total"),
                closed: counter("istio_tcp_connections_closed_total"),
                sent: counter("istio_tcp_sent_bytes_total"),
                received: counter("istio_tcp_received_bytes_total"),
            }
        })
    }
}

fn node(local: &Local) -> Peer {
    Peer::of_node(&local.node)
}

impl HttpFilter for IstioStats {
    fn on_complete(&self, stream: &Stream) {
        let messages = stream.state.get::<super::grpc_stats::Messages>().map(super::grpc_stats::Messages::counts);
        self.record(&stream.info(), messages);
    }
}
