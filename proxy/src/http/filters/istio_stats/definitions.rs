//! Metrics of the user's own: `definitions` of Istio's `stats.PluginConfig`.
//!
//! Each has the value of an expression, when a request or connection is over: added to a counter, recorded in a histogram,
//! or set in a gauge.

use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::stats::{self as proto, MetricType};

use crate::config::{At, ConfigError};
use crate::expression::Expressions;
use crate::format::Info;
use crate::stats::{Counter, Gauge, Histogram, Store};

/// The standard metrics, as rules name them.
pub(super) const STANDARD: [&str; 10] = [
    "requests_total",
    "request_duration_milliseconds",
    "request_bytes",
    "response_bytes",
    "request_messages_total",
    "response_messages_total",
    "tcp_connections_opened_total",
    "tcp_connections_closed_total",
    "tcp_sent_bytes_total",
    "tcp_received_bytes_total",
];

/// Definitions of one filter.
const MAX: usize = 50;

/// Metrics that a configuration defines.
pub(super) struct Definitions {
    all: Vec<Definition>,
    /// Apart from those of labels, since values do not tell label sets apart. `None` if there are none.
    expressions: Option<Expressions>,
}

struct Definition {
    /// With its `istio_`.
    name: String,
    /// The place of its value's expression.
    value: usize,
    kind: MetricType,
}

/// One such metric of a label set.
pub(super) enum Custom {
    /// It is dropped.
    Dropped,
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

impl Definitions {
    /// Decodes definitions.
    ///
    /// # Errors
    /// Names the definition and what of it is wrong, or cannot be evaluated.
    pub(super) fn decode(messages: &[proto::MetricDefinition], node: &core::Node) -> Result<Self, ConfigError> {
        if messages.len() > MAX {
            return Err(ConfigError::new("definitions", format!("must have at most {MAX} entries")));
        }
        let mut decoded = Self { all: Vec::new(), expressions: None };
        for (index, message) in messages.iter().enumerate() {
            decoded.add(message, node).at(format!("definitions[{index}]"))?;
        }
        Ok(decoded)
    }

    fn add(&mut self, message: &proto::MetricDefinition, node: &core::Node) -> Result<(), ConfigError> {
        let name = message.name.as_str();
        let wrong = |reason: &str| Err(ConfigError::new("name", format!("{name:?} {reason}")));
        if STANDARD.contains(&name) {
            return wrong("is a standard metric, which cannot be defined anew");
        }
        if !is_label(name) {
            return wrong("is not the name of a metric");
        }
        if self.has(name) {
            return wrong("is defined twice");
        }
        let expressions = self.expressions.get_or_insert_with(|| Expressions::new(node));
        let value = expressions.add(&message.value).at("value")?;
        let kind = MetricType::try_from(message.r#type).map_err(|_| {
            ConfigError::new("type", format!("{} is none of COUNTER, GAUGE, HISTOGRAM", message.r#type))
        })?;
        self.all.push(Definition { name: format!("istio_{name}"), value, kind });
        Ok(())
    }

    /// Whether a metric of this name, without `istio_`, is defined.
    pub(super) fn has(&self, name: &str) -> bool {
        self.all.iter().any(|known| known.name.strip_prefix("istio_") == Some(name))
    }

    /// The metrics of a label set, each with the labels that `labels` gives it.
    pub(super) fn make(&self, store: &Store, labels: impl Fn(&str) -> Option<Vec<(String, String)>>) -> Vec<Custom> {
        let make = |definition: &Definition| {
            let name = definition.name.as_str();
            let Some(labels) = labels(name) else { return Custom::Dropped };
            match definition.kind {
                MetricType::Counter => Custom::Counter(store.series_counter(name, &labels)),
                MetricType::Gauge => Custom::Gauge(store.series_gauge(name, &labels)),
                MetricType::Histogram => Custom::Histogram(store.series_histogram(name, &labels)),
            }
        };
        self.all.iter().map(make).collect()
    }

    /// Records what is over in its metrics. What is no number counts as 0, as in Istio's proxy.
    pub(super) fn record(&self, metrics: &[Custom], info: &Info<'_>) {
        let Some(expressions) = &self.expressions else { return };
        let values = expressions.values(info);
        for (definition, metric) in self.all.iter().zip(metrics) {
            let text = values.get(definition.value).and_then(Option::as_deref);
            let value = text.and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
            match metric {
                Custom::Dropped => {}
                Custom::Counter(counter) => counter.add(value),
                Custom::Gauge(gauge) => gauge.set(value),
                Custom::Histogram(histogram) => histogram.record(value as f64),
            }
        }
    }
}

/// Prometheus' rule (Data model, "Metric names and labels").
pub(super) fn is_label(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.bytes().all(good) && !name.starts_with(|first: char| first.is_ascii_digit())
}
