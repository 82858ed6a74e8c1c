//! The controller's metrics, under the names of Istio's (`pilot_…`).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ferromesh_core::telemetry;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};

use crate::envoyfilter::Facts;
use crate::index::{Problem, Severity};
use crate::kind::Kind;

/// Bounds of `pilot_proxy_convergence_time`, in seconds: Istio's, and finer ones below.
const CONVERGENCE: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0];
/// Bounds of `pilot_xds_push_time`, in seconds.
const PUSH: [f64; 10] = [0.0001, 0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 3.0, 5.0, 10.0];

/// A counter written without the `_total` that OpenMetrics would add: Istio's names have none.
#[derive(Clone, Debug, Default)]
pub struct BareCounter(Arc<AtomicU64>);

impl BareCounter {
    fn increment(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl EncodeMetric for BareCounter {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), fmt::Error> {
        encoder.encode_gauge(&i64::try_from(self.get()).unwrap_or(i64::MAX))
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for BareCounter {
    const TYPE: MetricType = MetricType::Unknown;
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SeverityLabel {
    severity: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabel {
    r#type: &'static str,
}

/// What the controller counts; clones share it.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: telemetry::Metrics,
    pushes: Family<TypeLabel, BareCounter>,
    rejects: Family<TypeLabel, BareCounter>,
    convergence: Histogram,
    push_time: Histogram,
    connected: Gauge,
    events: BareCounter,
    views: BareCounter,
    services: Gauge,
    patches: Family<OutcomeLabel, Gauge>,
    problems: Family<SeverityLabel, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero, in a registry of their own.
    pub fn new() -> Self {
        let registry = telemetry::Metrics::new();
        let metrics = Self {
            registry: registry.clone(),
            pushes: Family::default(),
            rejects: Family::default(),
            convergence: Histogram::new(CONVERGENCE),
            push_time: Histogram::new(PUSH),
            connected: Gauge::default(),
            events: BareCounter::default(),
            views: BareCounter::default(),
            services: Gauge::default(),
            patches: Family::default(),
            problems: Family::default(),
        };
        for kind in Kind::ALL {
            drop(metrics.pushes.get_or_create(&label(kind)));
            drop(metrics.rejects.get_or_create(&label(kind)));
        }
        registry.register(|r| {
            r.register("pilot_xds_pushes", "Responses sent, by type", metrics.pushes.clone());
            r.register("pilot_total_xds_rejects", "Responses that a proxy rejected, by type", metrics.rejects.clone());
            let help = "Seconds from the first event of a change to a proxy's last acknowledgement of it";
            r.register("pilot_proxy_convergence_time", help, metrics.convergence.clone());
            r.register("pilot_xds_push_time", "Seconds to make a response", metrics.push_time.clone());
            r.register("pilot_xds", "Proxies that are connected", metrics.connected.clone());
            r.register("pilot_events", "Events of the sources", metrics.events.clone());
            r.register("pilot_views", "Views that were published", metrics.views.clone());
            let help = "Patches of EnvoyFilters, by what became of them: applied, no_match or failed";
            r.register("ferromesh_envoyfilter_patches", help, metrics.patches.clone());
            let help = "What sources could not take up as it is written, MeshConfig too, by severity";
            r.register("ferromesh_problems", help, metrics.problems.clone());
            r.register("pilot_services", "Services that are known", metrics.services.clone());
        });
        metrics
    }

    /// A response went out.
    pub fn pushed(&self, kind: Kind, took: Duration) {
        self.pushes.get_or_create(&label(kind)).increment(1);
        self.push_time.observe(took.as_secs_f64());
    }

    /// A proxy rejected a response.
    pub fn rejected(&self, kind: Kind) {
        self.rejects.get_or_create(&label(kind)).increment(1);
    }

    /// A proxy has acknowledged a change, this long after its first event.
    pub fn converged(&self, took: Duration) {
        self.convergence.observe(took.as_secs_f64());
    }

    /// A view was made from this many events.
    pub fn view(&self, events: usize, services: usize) {
        self.events.increment(u64::try_from(events).unwrap_or(u64::MAX));
        self.views.increment(1);
        self.services.set(i64::try_from(services).unwrap_or(i64::MAX));
    }

    /// What sources could not take up, in the newest view.
    pub fn problems(&self, problems: &[Problem]) {
        for (severity, is) in [("error", Severity::Error), ("warning", Severity::Warning), ("info", Severity::Info)] {
            let count = problems.iter().filter(|problem| problem.severity == is).count();
            self.problems.get_or_create(&SeverityLabel { severity }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// What became of the patches of EnvoyFilters in the newest view.
    pub fn patches(&self, facts: &Facts) {
        let outcomes = || facts.patches.values().flatten();
        for outcome in ["applied", "no_match", "failed"] {
            let count = outcomes().filter(|found| found.word() == outcome).count();
            let gauge = self.patches.get_or_create(&OutcomeLabel { outcome });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// How many responses of `kind` went out.
    pub fn pushes(&self, kind: Kind) -> u64 {
        self.pushes.get_or_create(&label(kind)).get()
    }

    /// All in OpenMetrics' text form, with the number of connected proxies as of now.
    ///
    /// # Errors
    /// If a metric cannot be written as text.
    pub fn encode(&self, connected: usize) -> Result<String, fmt::Error> {
        self.connected.set(i64::try_from(connected).unwrap_or(i64::MAX));
        self.registry.encode()
    }
}

fn label(kind: Kind) -> TypeLabel {
    TypeLabel { r#type: kind.short_name() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_istios() {
        let metrics = Metrics::new();
        metrics.pushed(Kind::Cluster, Duration::from_millis(1));
        metrics.converged(Duration::from_millis(7));
        let text = metrics.encode(3).unwrap();
        for line in [
            "pilot_xds_pushes{type=\"cds\"} 1",
            "pilot_total_xds_rejects{type=\"lds\"} 0",
            "pilot_proxy_convergence_time_bucket{le=\"0.01\"} 1",
            "pilot_xds 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
