//! What a store counts of its resources, under Envoy's names (`cluster_manager.*`, `listener_manager.*`).

use std::sync::Arc;

use crate::stats::{Counter, Gauge, Scope, Store};

/// The numbers of one kind of resource.
pub(super) struct Numbers {
    added: Counter,
    modified: Counter,
    removed: Counter,
    active: Gauge,
    warming: Gauge,
}

impl Numbers {
    /// Of clusters.
    pub(super) fn of_clusters(stats: &Arc<Store>) -> Self {
        let scope = stats.root().scope("cluster_manager");
        Self::new(&scope, "cluster", ["active_clusters", "warming_clusters"])
    }

    /// Of listeners.
    pub(super) fn of_listeners(stats: &Arc<Store>) -> Self {
        let scope = stats.root().scope("listener_manager");
        Self::new(&scope, "listener", ["total_listeners_active", "total_listeners_warming"])
    }

    fn new(scope: &Scope, what: &str, [active, warming]: [&str; 2]) -> Self {
        let counter = |how: &str| scope.counter(&format!("{what}_{how}"));
        Self {
            added: counter("added"),
            modified: counter("modified"),
            removed: counter("removed"),
            active: scope.gauge(active),
            warming: scope.gauge(warming),
        }
    }

    /// A resource was taken, in the place of an older form or as a new one.
    pub(super) fn applied(&self, is_new: bool) {
        let counter = if is_new { &self.added } else { &self.modified };
        counter.inc();
    }

    /// A resource is gone.
    pub(super) fn removed(&self) {
        self.removed.inc();
    }

    /// So many serve, and so many wait for what they need.
    pub(super) fn are(&self, active: usize, warming: usize) {
        self.active.set(active as u64);
        self.warming.set(warming as u64);
    }
}
