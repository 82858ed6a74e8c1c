//! Counters, gauges and histograms under Envoy's names.
//!
//! Handles are made once, when configuration is decoded; on the request path they are relaxed atomics. What there are
//! thousands of (clusters) keeps its numbers in one block, a [`Family`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

pub mod codes;
mod family;
pub mod render;
mod settings;
mod tags;

use family::Families;
pub use family::{Family, Owner};
pub use settings::Settings;

/// A number that counts up, in place.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
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
    /// Counts from zero again.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// A number that goes up and down, never below zero, in place.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

impl Level {
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

/// A shared [`Count`]; counts nothing where metrics are turned off.
#[derive(Debug, Clone)]
pub struct Counter(Option<Arc<Count>>);

impl Default for Counter {
    fn default() -> Self {
        Self(Some(Arc::default()))
    }
}

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        if let Some(count) = &self.0 {
            count.add(n);
        }
    }
    /// The count.
    pub fn get(&self) -> u64 {
        self.0.as_ref().map_or(0, |count| count.get())
    }
    /// Counts from zero again.
    pub fn reset(&self) {
        if let Some(count) = &self.0 {
            count.reset();
        }
    }
}

/// A shared [`Level`]. It goes on where metrics are turned off: limits are held by some.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<Level>);

impl Deref for Gauge {
    type Target = Level;
    fn deref(&self) -> &Level {
        &self.0
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

/// Counts values in buckets; nothing where metrics are turned off.
#[derive(Debug, Clone)]
pub struct Histogram(Option<Arc<HistogramInner>>);

impl Default for Histogram {
    fn default() -> Self {
        Self::within(Arc::from(BUCKETS.as_slice()))
    }
}

#[derive(Debug)]
struct HistogramInner {
    /// Upper bounds of all buckets but the last.
    bounds: Arc<[f64]>,
    buckets: Box<[AtomicU64]>,
    /// Sum in thousandths.
    sum: AtomicU64,
}

impl HistogramInner {
    fn new(bounds: Arc<[f64]>) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, sum: AtomicU64::new(0) }
    }

    fn record(&self, value: f64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add((value * 1000.0) as u64, Ordering::Relaxed);
    }

    fn snapshot(&self) -> (Vec<u64>, f64, Arc<[f64]>) {
        let buckets = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        (buckets, self.sum.load(Ordering::Relaxed) as f64 / 1000.0, self.bounds.clone())
    }
}

/// A histogram of a family: it takes room, and is shown, from its first value.
#[derive(Debug, Default)]
pub struct Times {
    bounds: OnceLock<Arc<[f64]>>,
    inner: OnceLock<Box<HistogramInner>>,
}

impl Times {
    /// Sets the upper bounds of its buckets, if it has none yet.
    pub fn bind(&self, bounds: Arc<[f64]>) {
        // Who was first stays: two versions of a cluster have the same settings.
        let _ = self.bounds.set(bounds);
    }

    /// Records a time, in milliseconds.
    pub fn record(&self, time: Duration) {
        let bounds = || self.bounds.get().cloned().unwrap_or_else(|| Arc::from(BUCKETS.as_slice()));
        self.inner.get_or_init(|| Box::new(HistogramInner::new(bounds()))).record(time.as_secs_f64() * 1000.0);
    }

    /// What was recorded, if anything.
    pub fn value(&self) -> Option<Value> {
        let (buckets, sum, bounds) = self.inner.get()?.snapshot();
        Some(Value::Histogram(buckets, sum, bounds))
    }
}

impl Histogram {
    /// With these upper bounds, in their order.
    fn within(bounds: Arc<[f64]>) -> Self {
        Self(Some(Arc::new(HistogramInner::new(bounds))))
    }
    /// Records one value.
    pub fn record(&self, value: f64) {
        if let Some(inner) = &self.0 {
            inner.record(value);
        }
    }

    /// (count in each bucket, not cumulative; the last is above all bounds; sum; bounds)
    pub fn snapshot(&self) -> (Vec<u64>, f64, Arc<[f64]>) {
        self.0.as_ref().map_or_else(|| (vec![0], 0.0, Arc::default()), |inner| inner.snapshot())
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

/// What a metric shows now.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of a counter.
    Counter(u64),
    /// Of a gauge.
    Gauge(u64),
    /// Of a histogram: count in each bucket, sum, upper bounds of all buckets but the last.
    Histogram(Vec<u64>, f64, Arc<[f64]>),
}

impl Metric {
    fn value(&self) -> Value {
        match self {
            Self::Counter(counter) => Value::Counter(counter.get()),
            Self::Gauge(gauge) => Value::Gauge(gauge.get()),
            Self::Histogram(histogram) => {
                let (buckets, sum, bounds) = histogram.snapshot();
                Value::Histogram(buckets, sum, bounds)
            }
        }
    }
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
    /// Istio's: its tags are labels that were given, not parts of the name.
    pub is_series: bool,
}

impl Key {
    /// The name as patterns of the bootstrap see it; Istio's filter puts its own into the namespace `istiocustom`, and labels
    /// behind it.
    fn original(&self) -> Cow<'_, str> {
        if !self.is_series {
            return Cow::Borrowed(&self.full);
        }
        let first = format!("istiocustom.{}", self.name);
        Cow::Owned(self.tags.iter().fold(first, |name, (label, value)| format!("{name}.{label}.{value}")))
    }
}

/// All metrics of one proxy.
#[derive(Debug, Default)]
pub struct Store {
    metrics: Mutex<BTreeMap<Key, Metric>>,
    families: Mutex<Families>,
    settings: Settings,
}

impl Store {
    /// A store of what these settings want.
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// A scope without prefix.
    pub fn root(self: &Arc<Self>) -> Scope {
        Scope { store: self.clone(), full: String::new(), name: String::new(), tags: Vec::new() }
    }

    /// The counter of a name with labels that are not part of any scope; made if new.
    pub fn series_counter(&self, name: &str, labels: &[(String, String)]) -> Counter {
        self.counter(|| series(name, labels))
    }

    /// The gauge of a name with labels that are not part of any scope; made if new.
    pub fn series_gauge(&self, name: &str, labels: &[(String, String)]) -> Gauge {
        self.gauge(|| series(name, labels))
    }

    /// The histogram of a name with labels that are not part of any scope; made if new.
    pub fn series_histogram(&self, name: &str, labels: &[(String, String)]) -> Histogram {
        self.histogram(|| series(name, labels))
    }

    /// The numbers of one owner, or of the part of them below `part` (empty, or with a dot at its end); made if new,
    /// and shown as long as somebody holds them.
    pub fn family<F: Family + Default>(&self, owner: &Owner, part: &'static str) -> Arc<F> {
        if self.settings.is_off() {
            return Arc::default();
        }
        self.families.lock().get(owner, part, &self.settings)
    }

    /// Shows numbers that their owner made, in the place of those of its version before, as long as somebody holds them.
    pub fn show<F: Family>(&self, owner: &Owner, part: &'static str, family: &Arc<F>) {
        if !self.settings.is_off() {
            self.families.lock().show(owner, part, family, &self.settings);
        }
    }

    /// Every metric as it is now, in the order of full names.
    pub fn snapshot(&self) -> Vec<(Key, Value)> {
        let mut all: Vec<_> = self.metrics.lock().iter().map(|(key, metric)| (key.clone(), metric.value())).collect();
        self.families.lock().snapshot(&mut |key, value| {
            if self.settings.takes(&key) {
                all.push((key, value));
            }
        });
        all.sort_by(|one, other| one.0.cmp(&other.0));
        all
    }

    /// Counters count from zero again.
    pub fn reset_counters(&self) {
        for metric in self.metrics.lock().values() {
            if let Metric::Counter(counter) = metric {
                counter.reset();
            }
        }
        self.families.lock().reset();
    }

    /// The key, if its metric is wanted.
    fn wanted(&self, key: impl FnOnce() -> Key) -> Option<Key> {
        if self.settings.is_off() {
            return None;
        }
        Some(key()).filter(|key| self.settings.takes(key))
    }

    fn counter(&self, key: impl FnOnce() -> Key) -> Counter {
        let Some(key) = self.wanted(key) else { return Counter(None) };
        match self.metrics.lock().entry(key).or_insert_with(|| Metric::Counter(Counter::default())) {
            Metric::Counter(counter) => counter.clone(),
            _ => Counter::default(),
        }
    }

    fn gauge(&self, key: impl FnOnce() -> Key) -> Gauge {
        let Some(key) = self.wanted(key) else { return Gauge::default() };
        match self.metrics.lock().entry(key).or_insert_with(|| Metric::Gauge(Gauge::default())) {
            Metric::Gauge(gauge) => gauge.clone(),
            _ => Gauge::default(),
        }
    }

    fn histogram(&self, key: impl FnOnce() -> Key) -> Histogram {
        let Some(key) = self.wanted(key) else { return Histogram(None) };
        let bounds = self.settings.bounds(&key);
        match self.metrics.lock().entry(key).or_insert_with(|| Metric::Histogram(Histogram::within(bounds))) {
            Metric::Histogram(histogram) => histogram.clone(),
            _ => Histogram::default(),
        }
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
    Key { full, name: name.to_owned(), tags: labels.to_vec(), is_series: true }
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
        let (full, name) = (format!("{}{name}", self.full), format!("{}{name}", self.name));
        Key { full, name, tags: self.tags.clone(), is_series: false }
    }

    /// The counter of this name; made if new.
    pub fn counter(&self, name: &str) -> Counter {
        self.store.counter(|| self.key(name))
    }

    /// The gauge of this name; made if new.
    pub fn gauge(&self, name: &str) -> Gauge {
        self.store.gauge(|| self.key(name))
    }

    /// The histogram of this name; made if new.
    pub fn histogram(&self, name: &str) -> Histogram {
        self.store.histogram(|| self.key(name))
    }
}
