//! Health of hosts: what EDS says, active checks, outlier ejection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

mod check;

pub(super) use check::run;
pub use check::{Checker, HealthCheck, HostCheck};

use super::outlier::HostOutlier;

/// A host's health; a host is used if none of [`UNUSED`] or [`DEGRADED`] is set.
#[derive(Debug)]
pub struct HostHealth {
    bits: AtomicU16,
    removed: AtomicBool,
    /// An answer of the host said so, and the active check has not taken note yet.
    told_failed: AtomicBool,
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

/// What is known of a host (Envoy's `Host::HealthFlag`): why it is not used, or not as others are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
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
    /// The active check says degraded (`x-envoy-degraded`).
    DegradedCheck = 64,
    /// Discovery has taken it out, but its active check still passes.
    PendingRemoval = 128,
    /// An answer of the host said that it fails its checks; it counts for nothing until they pass.
    Excluded = 256,
    /// The active check failed for want of an answer in time.
    CheckTimeout = 512,
}

/// With one of these a host is not used.
const UNUSED: u16 = Unhealthy::Eds as u16
    | Unhealthy::ActiveCheck as u16
    | Unhealthy::Outlier as u16
    | Unhealthy::Draining as u16
    | Unhealthy::Pending as u16;

/// With one of these, and none of those, it is used when the healthy ones do not suffice.
const DEGRADED: u16 = Unhealthy::Degraded as u16 | Unhealthy::DegradedCheck as u16;

impl HostHealth {
    /// Of a host whose cluster counts changes in `epoch`.
    pub(super) fn new(epoch: Arc<AtomicU64>) -> Self {
        Self {
            bits: AtomicU16::new(0),
            removed: AtomicBool::new(false),
            told_failed: AtomicBool::new(false),
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
        self.bits.load(Ordering::Relaxed) & (UNUSED | DEGRADED) == 0
    }

    /// Whether it may be picked when the healthy ones do not suffice.
    pub fn is_degraded(&self) -> bool {
        let bits = self.bits.load(Ordering::Relaxed);
        bits & UNUSED == 0 && bits & DEGRADED != 0
    }

    /// Whether the reason is set.
    pub fn has(&self, reason: Unhealthy) -> bool {
        self.bits.load(Ordering::Relaxed) & reason as u16 != 0
    }

    /// Sets or clears a reason; says whether that changed it.
    pub fn set(&self, reason: Unhealthy, on: bool) -> bool {
        let bit = reason as u16;
        let before =
            if on { self.bits.fetch_or(bit, Ordering::AcqRel) } else { self.bits.fetch_and(!bit, Ordering::AcqRel) };
        let changed = (before & bit != 0) != on;
        if changed {
            self.epoch.fetch_add(1, Ordering::AcqRel);
        }
        changed
    }

    /// The host said in an answer that it fails its checks.
    fn fail_at_once(&self) {
        self.told_failed.store(true, Ordering::Release);
        self.set(Unhealthy::Excluded, true);
        self.set(Unhealthy::ActiveCheck, true);
        self.set(Unhealthy::CheckTimeout, false);
    }

    /// Whether it said so since this was asked last.
    fn take_told_failed(&self) -> bool {
        self.told_failed.swap(false, Ordering::AcqRel)
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
            (Unhealthy::ActiveCheck, "failed_active_hc"),
            (Unhealthy::Outlier, "failed_outlier_check"),
            (Unhealthy::Eds, "failed_eds_health"),
            (Unhealthy::DegradedCheck, "degraded_active_hc"),
            (Unhealthy::Degraded, "degraded_eds_health"),
            (Unhealthy::PendingRemoval, "pending_dynamic_removal"),
            (Unhealthy::Pending, "pending_active_hc"),
            (Unhealthy::Excluded, "excluded_via_immediate_hc_fail"),
            (Unhealthy::CheckTimeout, "active_hc_timeout"),
            (Unhealthy::Draining, "eds_status_draining"),
        ]
        .into_iter()
        .filter(|(reason, _)| self.has(*reason))
        .map(|(_, name)| name)
        .collect()
    }
}
