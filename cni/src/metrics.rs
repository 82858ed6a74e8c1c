//! What the agent counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// How it ended; the set is fixed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// The word.
    pub outcome: &'static str,
}

impl Outcome {
    /// With this word.
    pub fn of(outcome: &'static str) -> Self {
        Self { outcome }
    }
}

/// The agent's metrics.
#[derive(Debug, Clone, Default)]
pub struct AgentMetrics {
    /// Questions of the plugin: redirected, left, failed, unknown.
    pub pods: Family<Outcome, Counter>,
    /// Writes of the node's network configuration: written, failed.
    pub chain: Family<Outcome, Counter>,
    /// Pods that started without redirection: labelled, deleted, failed.
    pub repairs: Family<Outcome, Counter>,
}

impl AgentMetrics {
    /// Registers new metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("ferromesh_cni_pods", "Pods that the plugin asked about", metrics.pods.clone());
        registry.register("ferromesh_cni_chain", "Changes of the node's network configuration", metrics.chain.clone());
        registry.register(
            "ferromesh_cni_repairs",
            "Pods that had started without redirection",
            metrics.repairs.clone(),
        );
        metrics
    }
}
