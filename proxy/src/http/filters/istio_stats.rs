//! `istio.stats`: Istio's standard metrics, of requests here and of connections in [`tcp`].

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

mod definitions;
mod labels;
mod overrides;
pub mod tcp;

use definitions::{Custom, Definitions};
use labels::{Labels, Reporter};
use overrides::{Overrides, Values};

/// Fields of this filter's messages that are implemented.
pub const SUPPORTED: Table = &[
    ("stats.PluginConfig", "disable_host_header_fallback tcp_reporting_duration metrics definitions reporter"),
    ("stats.MetricConfig", "*"),
    ("stats.MetricDefinition", "*"),
];

/// Full name of the configuration.
pub const MESSAGE: &str = "stats.PluginConfig";

/// Label sets of one filter; requests of others are counted together under `overflow`.
const MAX_SERIES: usize = 10_000;

/// Makes the filter.
pub fn build(build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
    Ok(Arc::new(IstioStats::decode(&build.unpack()?, build.context)?))
}

/// The metrics of one `istio.stats` filter of requests.
pub struct IstioStats(Metrics<Series>);

/// What filters of requests and of connections have in common; `S` are the metrics of one label set.
struct Metrics<S> {
    store: Arc<Store>,
    reporter: Reporter,
    overrides: Overrides,
    definitions: Definitions,
    /// Read without a lock; copied for each new label set.
    series: SeriesByLabels<S>,
}

/// The metrics of one label set, but for those that are dropped.
struct Series {
    requests: Option<Counter>,
    duration: Option<Histogram>,
    request_bytes: Option<Histogram>,
    response_bytes: Option<Histogram>,
    grpc: Option<[Option<Counter>; 2]>,
    custom: Vec<Custom>,
}

struct SeriesByLabels<S> {
    map: ArcSwap<FxHashMap<u128, Arc<S>>>,
    writing: Mutex<()>,
    overflow: Counter,
}

impl<S> SeriesByLabels<S> {
    fn new(overflow: Counter) -> Self {
        Self { map: ArcSwap::default(), writing: Mutex::new(()), overflow }
    }

    /// The series of a label set: one lookup, or made if it is new and there is room.
    fn get(&self, hash: u128, make: impl FnOnce() -> S) -> Option<Arc<S>> {
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

impl<S> Metrics<S> {
    fn decode(message: &proto::PluginConfig, context: &Context) -> Result<Self, ConfigError> {
        let node = &context.local.node;
        let overflow = context.stats.root().scope("istio_stats").counter("overflow");
        let definitions = Definitions::decode(&message.definitions, node)?;
        Ok(Self {
            store: context.stats.clone(),
            reporter: Reporter {
                node: Peer::of_node(node),
                gateway: message.reporter() == proto::Reporter::ServerGateway,
                host_fallback: !message.disable_host_header_fallback,
            },
            overrides: Overrides::decode(&message.metrics, &definitions, node)?,
            definitions,
            series: SeriesByLabels::new(overflow),
        })
    }

    /// The series of what `info` tells of; `make` makes a new one.
    fn of(&self, info: &Info<'_>, make: impl FnOnce(&Maker<'_, S>) -> S) -> Option<Arc<S>> {
        let (labels, values) = (Labels::of(info, &self.reporter), self.overrides.values(info));
        let hash = labels.hash(&values);
        self.series.get(hash, || make(&Maker { metrics: self, labels: labels.list(), values: &values }))
    }
}

/// Makes the metrics of one label set.
struct Maker<'a, S> {
    metrics: &'a Metrics<S>,
    labels: Vec<(String, String)>,
    values: &'a Values,
}

impl<S> Maker<'_, S> {
    fn counter(&self, name: &str) -> Option<Counter> {
        let labels = self.metrics.overrides.apply(name, &self.labels, self.values)?;
        Some(self.metrics.store.series_counter(name, &labels))
    }

    fn histogram(&self, name: &str) -> Option<Histogram> {
        let labels = self.metrics.overrides.apply(name, &self.labels, self.values)?;
        Some(self.metrics.store.series_histogram(name, &labels))
    }

    /// The metrics of the user's own. They have no label but those that rules give them.
    fn custom(&self) -> Vec<Custom> {
        let Metrics { overrides, definitions, store, .. } = self.metrics;
        definitions.make(store, |name| overrides.apply(name, &[], self.values))
    }
}

impl IstioStats {
    /// Decodes the configuration.
    ///
    /// # Errors
    /// Names what of its rules is wrong, or cannot be evaluated.
    pub fn decode(message: &proto::PluginConfig, context: &Context) -> Result<Self, ConfigError> {
        Metrics::decode(message, context).map(Self)
    }

    /// Records a request that is over. Sizes are those on the client's connection, heads and framing included; of
    /// HTTP/2, where they are not known, those of the bodies.
    pub fn record(&self, info: &Info<'_>, messages: Option<[u64; 2]>) {
        let Some(series) = self.0.of(info, |maker| Series::make(maker, messages.is_some())) else { return };
        let record = |histogram: &Option<Histogram>, value: f64| histogram.iter().for_each(|all| all.record(value));
        series.requests.iter().for_each(|counter| counter.inc());
        record(&series.duration, info.duration.unwrap_or_else(|| info.start.elapsed()).as_secs_f64() * 1000.0);
        let size = |wire: u64, body: u64| if wire > 0 { wire as f64 } else { body as f64 };
        record(&series.request_bytes, size(info.wire.received, info.bytes_received));
        record(&series.response_bytes, size(info.wire.sent, info.bytes_sent));
        if let (Some([requests, responses]), Some([sent, received])) = (&series.grpc, messages) {
            requests.iter().for_each(|counter| counter.add(sent));
            responses.iter().for_each(|counter| counter.add(received));
        }
        self.0.definitions.record(&series.custom, info);
    }
}

impl Series {
    fn make(maker: &Maker<'_, Self>, grpc: bool) -> Self {
        let messages = ["istio_request_messages_total", "istio_response_messages_total"];
        Self {
            requests: maker.counter("istio_requests_total"),
            duration: maker.histogram("istio_request_duration_milliseconds"),
            request_bytes: maker.histogram("istio_request_bytes"),
            response_bytes: maker.histogram("istio_response_bytes"),
            grpc: grpc.then(|| messages.map(|name| maker.counter(name))),
            custom: maker.custom(),
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
