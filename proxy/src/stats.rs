//! Counters, gauges and histograms under Envoy's names.
//!
//! Handles are made once, when configuration is decoded; on the request path they are relaxed atomics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

pub mod render;

/// Counts up.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down, never below zero.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<AtomicU64>);

impl Gauge {
    /// Adds one.
    pub fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    /// Takes one off.
    pub fn dec(&self) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |value| value.checked_sub(1));
    }
    /// Sets the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Envoy's default bucket bounds, milliseconds or bytes.
pub const BUCKETS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10000.0,
    30000.0,
    60000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// Counts values in [`BUCKETS`].
#[derive(Debug, Clone, Default)]
pub struct Histogram(Arc<HistogramInner>);

#[derive(Debug, Default)]
struct HistogramInner {
    buckets: [AtomicU64; BUCKETS.len() + 1],
    /// Sum in thousandths.
    sum: AtomicU64,
}

impl Histogram {
    /// Records one value.
    pub fn record(&self, value: f64) {
        let index = BUCKETS.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.0.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.0.sum.fetch_add((value * 1000.0) as u64, Ordering::Relaxed);
    }
    /// (count in each bucket, not cumulative; the last is above all bounds; sum)
    pub fn snapshot(&self) -> (Vec<u64>, f64) {
        let buckets = self.0.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        (buckets, self.0.sum.load(Ordering::Relaxed) as f64 / 1000.0)
    }
}

/// One metric.
#[derive(Debug, Clone)]
pub enum Metric {
    /// A counter.
    Counter(Counter),
    /// A gauge.
    Gauge(Gauge),
    /// A histogram.
    Histogram(Histogram),
}

/// A metric's place: Envoy's dotted name without its tags, and the tags.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Full dotted name, as `/stats` shows it: `cluster.web.upstream_rq_total`.
    pub full: String,
    /// Name with the tag values taken out: `cluster.upstream_rq_total`.
    pub name: String,
    /// Tags, as `/stats/prometheus` shows them: `envoy_cluster_name="web"`.
    pub tags: Vec<(String, String)>,
}

/// All metrics of one proxy.
#[derive(Debug, Default)]
pub struct Store {
    metrics: Mutex<BTreeMap<Key, Metric>>,
}

impl Store {
    /// A scope without prefix.
    pub fn root(self: &Arc<Self>) -> Scope {
        Scope { store: self.clone(), full: String::new(), name: String::new(), tags: Vec::new() }
    }

    /// The counter of a name with labels that are not part of any scope; made if new.
    pub fn series_counter(&self, name: &str, labels: &[(String, String)]) -> Counter {
        match self.metrics.lock().entry(series(name, labels)).or_insert_with(|| Metric::Counter(Counter::default())) {
            Metric::Counter(counter) => counter.clone(),
            _ => Counter::default(),
        }
    }

    /// The histogram of a name with labels that are not part of any scope; made if new.
    pub fn series_histogram(&self, name: &str, labels: &[(String, String)]) -> Histogram {
        match self.metrics.lock().entry(series(name, labels)).or_insert_with(|| Metric::Histogram(Histogram::default()))
        {
            Metric::Histogram(histogram) => histogram.clone(),
            _ => Histogram::default(),
        }
    }

    /// Every metric, in the order of names.
    pub fn snapshot(&self) -> Vec<(Key, Metric)> {
        self.metrics.lock().iter().map(|(key, metric)| (key.clone(), metric.clone())).collect()
    }

    /// Forgets the metrics whose full name starts with `prefix` (their owner is gone).
    pub fn forget(&self, prefix: &str) {
        self.metrics.lock().retain(|key, _| !key.full.starts_with(prefix));
    }
}

/// The place of a name with labels; the full name shows them as `name;label=value`.
fn series(name: &str, labels: &[(String, String)]) -> Key {
    let full = labels.iter().fold(name.to_owned(), |mut full, (label, value)| {
        full.push(';');
        full.push_str(label);
        full.push('=');
        full.push_str(value);
        full
    });
    Key { full, name: name.to_owned(), tags: labels.to_vec() }
}

/// A part of the name space.
#[derive(Debug, Clone)]
pub struct Scope {
    store: Arc<Store>,
    full: String,
    name: String,
    tags: Vec<(String, String)>,
}

impl Scope {
    /// A scope below this one: `name` in both names.
    #[must_use]
    pub fn scope(&self, name: &str) -> Self {
        let mut scope = self.clone();
        scope.full.push_str(name);
        scope.full.push('.');
        scope.name.push_str(name);
        scope.name.push('.');
        scope
    }

    /// A scope below this one whose name is a tag's value: only in the full name.
    #[must_use]
    pub fn tagged(&self, tag: &str, value: &str) -> Self {
        let mut scope = self.clone();
        scope.full.push_str(value);
        scope.full.push('.');
        scope.tags.push((tag.to_owned(), value.to_owned()));
        scope
    }

    fn key(&self, name: &str) -> Key {
        Key { full: format!("{}{name}", self.full), name: format!("{}{name}", self.name), tags: self.tags.clone() }
    }

    /// The counter of this name; made if new.
    pub fn counter(&self, name: &str) -> Counter {
        let mut metrics = self.store.metrics.lock();
        match metrics.entry(self.key(name)).or_insert_with(|| Metric::Counter(Counter::default())) {
            Metric::Counter(counter) => counter.clone(),
            _ => Counter::default(),
        }
    }

    /// The gauge of this name; made if new.
    pub fn gauge(&self, name: &str) -> Gauge {
        let mut metrics = self.store.metrics.lock();
        match metrics.entry(self.key(name)).or_insert_with(|| Metric::Gauge(Gauge::default())) {
            Metric::Gauge(gauge) => gauge.clone(),
            _ => Gauge::default(),
        }
    }

    /// The histogram of this name; made if new.
    pub fn histogram(&self, name: &str) -> Histogram {
        let mut metrics = self.store.metrics.lock();
        match metrics.entry(self.key(name)).or_insert_with(|| Metric::Histogram(Histogram::default())) {
            Metric::Histogram(histogram) => histogram.clone(),
            _ => Histogram::default(),
        }
    }
}
