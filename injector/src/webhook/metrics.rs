//! Counters, under the names that Istio's injector has for them.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Why a pod was not injected; the set is fixed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Why {
    /// [`crate::Reason::word`], or the kind of the refusal.
    pub reason: &'static str,
}

/// The injector's metrics.
#[derive(Debug, Clone, Default)]
pub struct InjectorMetrics {
    /// Reviews.
    pub requests: Counter,
    /// Pods with a proxy.
    pub success: Counter,
    /// Pods left as they are.
    pub skipped: Family<Why, Counter>,
    /// Pods refused, and reviews that cannot be read.
    pub failures: Family<Why, Counter>,
}

impl InjectorMetrics {
    /// Registers new metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("sidecar_injection_requests", "Injection requests", metrics.requests.clone());
        registry.register("sidecar_injection_success", "Pods injected", metrics.success.clone());
        registry.register("sidecar_injection_skip", "Pods left as they are", metrics.skipped.clone());
        registry.register("sidecar_injection_failure", "Pods refused", metrics.failures.clone());
        metrics
    }
}
