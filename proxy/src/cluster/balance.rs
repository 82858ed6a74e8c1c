//! Balancers: which host gets the next request.

use std::sync::Arc;

use super::{Host, LbContext};

/// The hosts of a cluster at one time.
#[derive(Debug, Default)]
pub struct HostSet {
    /// All hosts, by priority.
    pub hosts: Vec<Arc<Host>>,
}

/// A balancer.
#[derive(Debug, Default)]
pub struct Balancer {
    next: std::sync::atomic::AtomicUsize,
}

impl Balancer {
    /// Picks a host of `hosts`.
    pub fn pick(&self, hosts: &HostSet, _context: &LbContext<'_>) -> Option<Arc<Host>> {
        let count = hosts.hosts.len();
        let turn = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        hosts.hosts.get(turn.checked_rem(count)?).cloned()
    }
}
