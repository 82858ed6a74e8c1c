//! `istio.stats`: Istio's standard metrics of requests.

use std::sync::Arc;

use arc_swap::ArcSwap;
use ferromesh_proto::stats as proto;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::{Build, HttpFilter};
use crate::config::ConfigError;
use crate::config::supported::Table;
use crate::connection::Peer;
use crate::context::Context;
use crate::format::Info;
use crate::http::stream::Stream;
use crate::stats::{Counter, Histogram, Store};

mod labels;
mod overrides;

use labels::{Labels, Reporter};
use overrides::{Overrides, Values};

/// Fields of this filter's messages that are implemented.
pub const SUPPORTED: Table = &[
    ("stats.PluginConfig", "disable_host_header_fallback tcp_reporting_duration metrics reporter"),
    ("stats.MetricConfig", "*"),
];

/// Full name of the configuration.
pub const MESSAGE: &str = "stats.PluginConfig";

/// Label sets of one filter; requests of others are counted together under `overflow`.
const MAX_SERIES: usize = 10_000;

/// Makes the filter.
pub fn build(build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
    Ok(Arc::new(IstioStats::decode(&build.unpack()?, build.context)?))
}

/// The metrics of one `istio.stats` filter.
pub struct IstioStats {
    store: Arc<Store>,
    reporter: Reporter,
    overrides: Overrides,
    /// Read without a lock; copied for each new label set.
    series: SeriesByLabels,
}

/// The metrics of one label set, but for those that are dropped.
struct Series {
    requests: Option<Counter>,
    duration: Option<Histogram>,
    request_bytes: Option<Histogram>,
    response_bytes: Option<Histogram>,
    grpc: Option<[Option<Counter>; 2]>,
}

struct SeriesByLabels {
    map: ArcSwap<FxHashMap<u128, Arc<Series>>>,
    writing: Mutex<()>,
    overflow: Counter,
}

impl SeriesByLabels {
    fn new(overflow: Counter) -> Self {
        Self { map: ArcSwap::default(), writing: Mutex::new(()), overflow }
    }

    /// The series of a label set: one lookup, or made if it is new and there is room.
    fn get(&self, hash: u128, make: impl FnOnce() -> Series) -> Option<Arc<Series>> {
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
    ///
    /// # Errors
    /// Names what of its rules is wrong, or cannot be evaluated.
    pub fn decode(message: &proto::PluginConfig, context: &Context) -> Result<Self, ConfigError> {
        let overflow = context.stats.root().scope("istio_stats").counter("overflow");
        Ok(Self {
            store: context.stats.clone(),
            reporter: Reporter {
                node: Peer::of_node(&context.local.node),
                gateway: message.reporter() == proto::Reporter::ServerGateway,
                host_fallback: !message.disable_host_header_fallback,
            },
            overrides: Overrides::decode(&message.metrics, &context.local.node)?,
            series: SeriesByLabels::new(overflow),
        })
    }

    /// Records a request that is over.
    pub fn record(&self, info: &Info<'_>, messages: Option<[u64; 2]>) {
        let (labels, values) = (Labels::of(info, &self.reporter), self.overrides.values(info));
        let made = || self.make(&labels, &values, messages.is_some());
        let Some(series) = self.series.get(labels.hash(&values), made) else { return };
        let record = |histogram: &Option<Histogram>, value: f64| histogram.iter().for_each(|all| all.record(value));
        series.requests.iter().for_each(|counter| counter.inc());
        record(&series.duration, info.duration.unwrap_or_else(|| info.start.elapsed()).as_secs_f64() * 1000.0);
        record(&series.request_bytes, info.bytes_received as f64);
        record(&series.response_bytes, info.bytes_sent as f64);
        if let (Some([requests, responses]), Some([sent, received])) = (&series.grpc, messages) {
            requests.iter().for_each(|counter| counter.add(sent));
            responses.iter().for_each(|counter| counter.add(received));
        }
    }

    fn make(&self, labels: &Labels<'_>, values: &Values, grpc: bool) -> Series {
        let all = labels.list();
        let labels = |name: &str| self.overrides.apply(name, &all, values);
        let counter = |name: &str| labels(name).map(|labels| self.store.series_counter(name, &labels));
        let histogram = |name: &str| labels(name).map(|labels| self.store.series_histogram(name, &labels));
        Series {
            requests: counter("istio_requests_total"),
            duration: histogram("istio_request_duration_milliseconds"),
            request_bytes: histogram("istio_request_bytes"),
            response_bytes: histogram("istio_response_bytes"),
            grpc: grpc.then(|| [counter("istio_request_messages_total"), counter("istio_response_messages_total")]),
        }
    }
}

impl HttpFilter for IstioStats {
    fn on_complete(&self, stream: &Stream) {
        let messages = stream.state.get::<super::grpc_stats::Messages>().map(super::grpc_stats::Messages::counts);
        self.record(&stream.info(), messages);
    }
}

#[cfg(test)]
mod tests;
