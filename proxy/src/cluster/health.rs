//! Health of hosts: what EDS says, active checks, outlier ejection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

mod check;

pub(super) use check::run;
pub use check::{Checker, HealthCheck, HostCheck};

use super::outlier::HostOutlier;

/// A host's health; a host is used if no bit is set.
#[derive(Debug)]
pub struct HostHealth {
    bits: AtomicU8,
    removed: AtomicBool,
    /// The cluster's count of changes.
    epoch: Arc<AtomicU64>,
    /// What outlier detection counts.
    pub outlier: HostOutlier,
    made: Instant,
    /// Milliseconds from then until an active check last found it healthy again.
    healthy_after: AtomicU64,
}

impl Default for HostHealth {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

/// Why a host is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Unhealthy {
    /// EDS says so.
    Eds = 1,
    /// The active check fails.
    ActiveCheck = 2,
    /// Ejected as an outlier.
    Outlier = 4,
    /// EDS says draining.
    Draining = 8,
    /// EDS says degraded (used only when healthy ones do not suffice).
    Degraded = 16,
    /// No active check has answered yet.
    Pending = 32,
}

impl HostHealth {
    /// Of a host whose cluster counts changes in `epoch`.
    pub(super) fn new(epoch: Arc<AtomicU64>) -> Self {
        Self {
            bits: AtomicU8::new(0),
            removed: AtomicBool::new(false),
            epoch,
            outlier: HostOutlier::default(),
            made: Instant::now(),
            healthy_after: AtomicU64::new(0),
        }
    }

    /// An active check finds it healthy, which it was not before. To be said before the reason is cleared.
    pub(super) fn recover(&self) {
        let after = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.healthy_after.store(after, Ordering::Relaxed);
    }

    /// Time since it came, or an active check found it healthy.
    pub fn healthy_for(&self) -> Duration {
        self.made.elapsed().saturating_sub(Duration::from_millis(self.healthy_after.load(Ordering::Relaxed)))
    }

    /// Whether it may be picked.
    pub fn is_healthy(&self) -> bool {
        self.bits.load(Ordering::Relaxed) == 0
    }

    /// Whether it may be picked when the healthy ones do not suffice.
    pub fn is_degraded(&self) -> bool {
        self.bits.load(Ordering::Relaxed) == Unhealthy::Degraded as u8
    }

    /// Whether the reason is set.
    pub fn has(&self, reason: Unhealthy) -> bool {
        self.bits.load(Ordering::Relaxed) & reason as u8 != 0
    }

    /// Sets or clears a reason; says whether that changed it.
    pub fn set(&self, reason: Unhealthy, on: bool) -> bool {
        let bit = reason as u8;
        let before =
            if on { self.bits.fetch_or(bit, Ordering::AcqRel) } else { self.bits.fetch_and(!bit, Ordering::AcqRel) };
        let changed = (before & bit != 0) != on;
        if changed {
            self.epoch.fetch_add(1, Ordering::AcqRel);
        }
        changed
    }

    /// Whether the host has left its cluster; its pooled connections are closed then.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
    }

    /// Says that the host has left its cluster.
    pub(super) fn remove(&self) {
        self.removed.store(true, Ordering::Relaxed);
    }

    /// The reasons that are set, as `/clusters` shows them.
    pub fn reasons(&self) -> Vec<&'static str> {
        [
            (Unhealthy::Eds, "failed_eds_health"),
            (Unhealthy::ActiveCheck, "failed_active_hc"),
            (Unhealthy::Outlier, "failed_outlier_check"),
            (Unhealthy::Draining, "eds_status_draining"),
            (Unhealthy::Degraded, "degraded_eds_health"),
            (Unhealthy::Pending, "pending_active_hc"),
        ]
        .into_iter()
        .filter(|(reason, _)| self.has(*reason))
        .map(|(_, name)| name)
        .collect()
    }
}
