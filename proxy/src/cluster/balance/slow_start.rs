//! Slow start: a host that has just come, or become healthy, gets its share of the traffic little by little.
//!
//! Rules: Envoy, "Slow start mode". A host's weight counts times `max(min_weight_percent, time ^ (1 / aggression))`,
//! where `time` is how much of the window has passed since an active check first found it healthy (without checks:
//! since it came).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use crate::cluster::Host;

/// Into how many steps the window is cut: weights are as they were at the last one.
const STEPS: u32 = 256;

/// The rule of a cluster.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowStart {
    /// How long it lasts.
    pub window: Duration,
    /// Above 1 the share grows fast at first, below 1 late.
    pub aggression: f64,
    /// Least part of the weight, 0 to 1.
    pub least: f64,
}

impl SlowStart {
    /// The part of its weight that counts for a host that has been healthy for so long. Pure.
    pub fn factor(&self, healthy_for: Duration) -> f64 {
        if healthy_for >= self.window {
            return 1.0;
        }
        let passed = healthy_for.max(Duration::from_millis(1)).as_secs_f64() / self.window.as_secs_f64();
        passed.min(1.0).powf(1.0 / self.aggression).max(self.least)
    }

    fn weight(&self, host: &Host) -> f64 {
        let factor = if host.health.is_healthy() { self.factor(host.health.healthy_for()) } else { 1.0 };
        f64::from(host.weight) * factor
    }
}

/// The weights of a group of hosts, as long as one of them starts slowly.
#[derive(Debug, Default)]
pub(super) struct Ramp {
    now: ArcSwapOption<Weights>,
    /// None starts slowly any more; one that does again comes with new tables.
    over: AtomicBool,
}

/// Weights that hold for a step.
#[derive(Debug)]
pub(super) struct Weights {
    until: Instant,
    /// Running sums.
    sums: Vec<f64>,
}

impl Ramp {
    /// The weights now; `None` if all hosts have their whole weight.
    pub(super) fn weights(&self, rule: &SlowStart, hosts: &[Arc<Host>]) -> Option<Arc<Weights>> {
        if self.over.load(Ordering::Relaxed) {
            return None;
        }
        let now = Instant::now();
        if let Some(weights) = self.now.load_full().filter(|weights| now < weights.until) {
            return Some(weights);
        }
        let starts = |host: &Arc<Host>| host.health.is_healthy() && host.health.healthy_for() < rule.window;
        if !hosts.iter().any(starts) {
            self.over.store(true, Ordering::Relaxed);
            self.now.store(None);
            return None;
        }
        let step = (rule.window / STEPS).clamp(Duration::from_millis(1), Duration::from_secs(1));
        let sums = hosts.iter().scan(0.0, |sum, host| {
            *sum += rule.weight(host);
            Some(*sum)
        });
        let weights = Arc::new(Weights { until: now + step, sums: sums.collect() });
        self.now.store(Some(weights.clone()));
        Some(weights)
    }
}

impl Weights {
    /// The place of the host at `point`, which is from 0 to 1.
    pub(super) fn at(&self, point: f64) -> usize {
        let point = point * self.sums.last().copied().unwrap_or_default();
        self.sums.partition_point(|sum| *sum <= point).min(self.sums.len().saturating_sub(1))
    }

    /// What the weight of the host at this place counts.
    pub(super) fn of(&self, place: usize) -> f64 {
        let sum = |place: usize| self.sums.get(place).copied().unwrap_or_default();
        sum(place) - place.checked_sub(1).map_or(0.0, sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_with_time_as_the_formula_says() {
        let rule = |aggression: f64, least: f64| SlowStart { window: Duration::from_secs(10), aggression, least };
        let table = [
            // Linear, from ten percent on.
            (1.0, 0.1, 0, 0.1),
            (1.0, 0.1, 500, 0.1),
            (1.0, 0.1, 2_500, 0.25),
            (1.0, 0.1, 9_999, 0.9999),
            (1.0, 0.1, 10_000, 1.0),
            (1.0, 0.1, 99_000, 1.0),
            (1.0, 0.0, 0, 0.0001),
            // Faster at first, and slower.
            (2.0, 0.1, 2_500, 0.5),
            (0.5, 0.1, 5_000, 0.25),
            (0.5, 0.3, 5_000, 0.3),
        ];
        for (aggression, least, millis, wanted) in table {
            let factor = rule(aggression, least).factor(Duration::from_millis(millis));
            assert!((factor - wanted).abs() < 1e-9, "{aggression} {least} {millis}: {factor}, not {wanted}");
        }
    }
}
