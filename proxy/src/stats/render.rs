//! Metrics as text: Prometheus' exposition format, and `/stats` as Envoy writes it. Pure.

use std::fmt::Write;

use regex::Regex;

use super::tags::sanitized;
use super::{Key, Store, Value};

/// Which metrics are shown.
#[derive(Debug, Default)]
pub struct Selection {
    /// Full names must match this somewhere.
    pub filter: Option<Regex>,
    /// Only those that were ever touched (counted, set or recorded).
    pub used_only: bool,
    /// Only these.
    pub kind: Option<Shape>,
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A number that counts up.
    Counter,
    /// A number that goes up and down.
    Gauge,
    /// Numbers in buckets.
    Histogram,
    /// A text, of which there are none.
    Text,
}

impl Selection {
    /// From the query of `/stats`.
    ///
    /// # Errors
    /// If the filter is no valid regular expression.
    pub fn new(filter: Option<&str>, used_only: bool) -> Result<Self, String> {
        let filter = filter.map(crate::matcher::re2::search).transpose()?;
        Ok(Self { filter, used_only, kind: None })
    }

    fn takes(&self, key: &Key, value: &Value) -> bool {
        let kind = match value {
            Value::Counter(_) => Shape::Counter,
            Value::Gauge(_) => Shape::Gauge,
            Value::Histogram(..) => Shape::Histogram,
        };
        if self.kind.is_some_and(|wanted| wanted != kind) {
            return false;
        }
        let used = match value {
            Value::Counter(number) | Value::Gauge(number) => *number > 0,
            Value::Histogram(buckets, ..) => buckets.iter().any(|count| *count > 0),
        };
        (used || !self.used_only) && self.filter.as_ref().is_none_or(|filter| filter.is_match(&key.full))
    }
}

/// Names and values.
type Labels = Vec<(String, String)>;

/// `/stats/prometheus`: grouped by name, each with its TYPE line.
pub fn prometheus(store: &Store, selection: &Selection) -> String {
    let mut metrics: Vec<(String, Labels, Value)> = store
        .snapshot()
        .into_iter()
        .filter(|(key, metric)| selection.takes(key, metric))
        .map(|(key, metric)| {
            let (name, tags) = store.settings.tags.of(&key);
            (prometheus_name(&name, key.is_series), tags, metric)
        })
        .collect();
    metrics.sort_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1)));
    let mut out = String::with_capacity(metrics.len() * 100);
    let mut last: Option<(&str, &str)> = None;
    for (name, tags, metric) in &metrics {
        let kind = match metric {
            Value::Counter(_) => "counter",
            Value::Gauge(_) => "gauge",
            Value::Histogram(..) => "histogram",
        };
        if last != Some((name, kind)) {
            let _ = writeln!(out, "# TYPE {name} {kind}");
            last = Some((name, kind));
        }
        write_prometheus(&mut out, name, tags, metric);
    }
    out
}

fn write_prometheus(out: &mut String, name: &str, tags: &[(String, String)], value: &Value) {
    let labels = labels(tags);
    // Writing into a String cannot fail.
    let _ = match value {
        Value::Counter(number) | Value::Gauge(number) => writeln!(out, "{name}{{{labels}}} {number}"),
        Value::Histogram(buckets, sum, bounds) => {
            let comma = if labels.is_empty() { "" } else { "," };
            let mut total = 0;
            for (index, count) in buckets.iter().enumerate() {
                total += count;
                let bound = bounds.get(index).map_or_else(|| "+Inf".to_owned(), f64::to_string);
                let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {total}");
            }
            let _ = writeln!(out, "{name}_sum{{{labels}}} {sum}");
            writeln!(out, "{name}_count{{{labels}}} {total}")
        }
    };
}

/// Envoy's names get the prefix `envoy_`, Istio's stay as they are.
fn prometheus_name(name: &str, is_series: bool) -> String {
    let clean: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == ':' { c } else { '_' }).collect();
    if is_series { clean } else { format!("envoy_{clean}") }
}

fn labels(tags: &[(String, String)]) -> String {
    let mut out = String::new();
    for (index, (name, value)) in tags.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(&sanitized(name));
        out.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                c => out.push(c),
            }
        }
        out.push('"');
    }
    out
}

/// `/stats`: a line `name: value` for each metric.
pub fn text(store: &Store, selection: &Selection) -> String {
    let mut out = String::new();
    for (key, metric) in store.snapshot() {
        if !selection.takes(&key, &metric) {
            continue;
        }
        let _ = match &metric {
            Value::Counter(number) | Value::Gauge(number) => writeln!(out, "{}: {number}", key.full),
            Value::Histogram(buckets, sum, _) => {
                writeln!(out, "{}: count={} sum={sum}", key.full, buckets.iter().sum::<u64>())
            }
        };
    }
    out
}

/// `/stats?format=json`.
pub fn json(store: &Store, selection: &Selection) -> serde_json::Value {
    let mut stats = Vec::new();
    let mut histograms = Vec::new();
    for (key, metric) in store.snapshot() {
        if !selection.takes(&key, &metric) {
            continue;
        }
        match &metric {
            Value::Counter(number) | Value::Gauge(number) => {
                stats.push(serde_json::json!({"name": key.full, "value": number}));
            }
            Value::Histogram(buckets, sum, bounds) => {
                let buckets: Vec<_> = buckets
                    .iter()
                    .enumerate()
                    .map(|(index, count)| serde_json::json!({"upper_bound": bounds.get(index), "count": count}))
                    .collect();
                histograms.push(serde_json::json!({"name": key.full, "sum": sum, "buckets": buckets}));
            }
        }
    }
    if !histograms.is_empty() {
        stats.push(serde_json::json!({"histograms": histograms}));
    }
    serde_json::json!({"stats": stats})
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn store() -> Arc<Store> {
        let store = Arc::new(Store::default());
        let cluster = store.root().scope("cluster").tagged("envoy_cluster_name", "a\"b");
        cluster.counter("upstream_rq_total").add(3);
        cluster.gauge("upstream_rq_active");
        let label = [("reporter".to_owned(), "source".to_owned())];
        store.series_counter("istio_requests_total", &label).inc();
        store.series_histogram("istio_request_bytes", &label).record(7.0);
        store
    }

    #[test]
    fn prometheus_text_has_types_labels_and_cumulative_buckets() {
        let text = prometheus(&store(), &Selection::default());
        let lines: Vec<&str> = text.lines().collect();
        for line in [
            "# TYPE envoy_cluster_upstream_rq_total counter",
            "envoy_cluster_upstream_rq_total{envoy_cluster_name=\"a\\\"b\"} 3",
            "envoy_cluster_upstream_rq_active{envoy_cluster_name=\"a\\\"b\"} 0",
            "istio_requests_total{reporter=\"source\"} 1",
            "istio_request_bytes_bucket{reporter=\"source\",le=\"5\"} 0",
            "istio_request_bytes_bucket{reporter=\"source\",le=\"10\"} 1",
            "istio_request_bytes_bucket{reporter=\"source\",le=\"+Inf\"} 1",
            "istio_request_bytes_sum{reporter=\"source\"} 7",
            "istio_request_bytes_count{reporter=\"source\"} 1",
        ] {
            assert!(lines.contains(&line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn stats_are_selected_by_name_and_use() {
        let selection = Selection::new(Some("^cluster"), true).expect("valid");
        assert_eq!(text(&store(), &selection), "cluster.a\"b.upstream_rq_total: 3\n");
        assert!(Selection::new(Some("("), false).is_err());
        assert_eq!(json(&store(), &selection)["stats"][0]["value"], 3);
    }
}
