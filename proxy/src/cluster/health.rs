//! Health of hosts: what EDS says, active checks, outlier ejection.

use std::sync::atomic::{AtomicU8, Ordering};

/// A host's health; a host is used if no bit is set.
#[derive(Debug, Default)]
pub struct HostHealth(AtomicU8);

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
}

impl HostHealth {
    /// Whether it may be picked.
    pub fn is_healthy(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
    /// Whether the reason is set.
    pub fn has(&self, reason: Unhealthy) -> bool {
        self.0.load(Ordering::Relaxed) & reason as u8 != 0
    }
    /// Sets or clears a reason; says whether that changed it.
    pub fn set(&self, reason: Unhealthy, on: bool) -> bool {
        let bit = reason as u8;
        let before =
            if on { self.0.fetch_or(bit, Ordering::Relaxed) } else { self.0.fetch_and(!bit, Ordering::Relaxed) };
        (before & bit != 0) != on
    }
}
