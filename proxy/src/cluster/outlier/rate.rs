//! Outliers by rate: hosts whose success rate is far below their peers', or whose failures pass a percentage.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ferromesh_proto::envoy::config::cluster::v3 as cluster;

use super::OutlierStats;
use crate::cluster::Host;
use crate::stats::Count;

/// Requests of one interval.
#[derive(Debug, Default)]
pub(super) struct Window {
    good: AtomicU32,
    all: AtomicU32,
    /// Percent in the last interval, in thousandths and one more; 0 is unknown.
    last: AtomicU32,
}

impl Window {
    /// Percent of good ones in the last interval that had enough.
    pub(super) fn rate(&self) -> Option<f64> {
        self.last.load(Ordering::Relaxed).checked_sub(1).map(|rate| f64::from(rate) / 1000.0)
    }

    fn show(&self, rate: Option<f64>) {
        self.last.store(rate.map_or(0, |rate| (rate * 1000.0) as u32 + 1), Ordering::Relaxed);
    }

    pub(super) fn count(&self, good: bool) {
        self.all.fetch_add(1, Ordering::Relaxed);
        self.good.fetch_add(u32::from(good), Ordering::Relaxed);
    }

    fn take(&self) -> (u32, u32) {
        (self.good.swap(0, Ordering::Relaxed), self.all.swap(0, Ordering::Relaxed))
    }
}

/// The rules; percentages as Envoy has them.
#[derive(Debug)]
pub(super) struct Rates {
    success_hosts: u32,
    success_volume: u32,
    /// Standard deviations, in thousandths.
    success_factor: f64,
    success_enforcing: [u32; 2],
    failure_hosts: u32,
    failure_volume: u32,
    failure_threshold: f64,
    failure_enforcing: [u32; 2],
}

impl OutlierStats {
    /// Detected and enforced ejections because of the success rate.
    fn success(&self, local: bool) -> [&Count; 2] {
        if local {
            [&self.ejections_detected_local_origin_success_rate, &self.ejections_enforced_local_origin_success_rate]
        } else {
            [&self.ejections_detected_success_rate, &self.ejections_enforced_success_rate]
        }
    }

    /// Detected and enforced ejections because of the failure percentage.
    fn failure(&self, local: bool) -> [&Count; 2] {
        if local {
            [
                &self.ejections_detected_local_origin_failure_percentage,
                &self.ejections_enforced_local_origin_failure_percentage,
            ]
        } else {
            [&self.ejections_detected_failure_percentage, &self.ejections_enforced_failure_percentage]
        }
    }
}

impl Rates {
    pub(super) fn decode(config: &cluster::OutlierDetection) -> Self {
        Self {
            success_hosts: config.success_rate_minimum_hosts.unwrap_or(5),
            success_volume: config.success_rate_request_volume.unwrap_or(100),
            success_factor: f64::from(config.success_rate_stdev_factor.unwrap_or(1900)) / 1000.0,
            success_enforcing: [
                config.enforcing_success_rate.unwrap_or(100),
                config.enforcing_local_origin_success_rate.unwrap_or(100),
            ],
            failure_hosts: config.failure_percentage_minimum_hosts.unwrap_or(5),
            failure_volume: config.failure_percentage_request_volume.unwrap_or(50),
            failure_threshold: f64::from(config.failure_percentage_threshold.unwrap_or(85)),
            failure_enforcing: [
                config.enforcing_failure_percentage.unwrap_or(0),
                config.enforcing_failure_percentage_local_origin.unwrap_or(0),
            ],
        }
    }

    /// Ends the interval: `eject` is asked for each host that a rule finds, and says whether it was ejected.
    pub(super) fn sweep(&self, hosts: &[Arc<Host>], split: bool, stats: &OutlierStats, eject: impl Fn(&Host) -> bool) {
        for local in [false, true] {
            let mut counted = Vec::new();
            for host in hosts {
                let state = &host.health.outlier;
                let window = if local { &state.local } else { &state.external };
                let (good, all) = window.take();
                let rate = (all > 0).then(|| 100.0 * f64::from(good) / f64::from(all));
                window.show(rate.filter(|_| all >= self.success_volume));
                counted.extend(rate.map(|rate| (&**host, rate, all)));
            }
            if !local || split {
                self.judge(&counted, local, stats, &eject);
            }
        }
    }

    fn judge(&self, counted: &[(&Host, f64, u32)], local: bool, stats: &OutlierStats, eject: &dyn Fn(&Host) -> bool) {
        let place = usize::from(local);
        let found = |host: &Host, [detected, enforced]: [&Count; 2], enforcing: u32| {
            detected.inc();
            if enforcing > fastrand::u32(..100) && eject(host) {
                enforced.inc();
            }
        };
        let rated: Vec<_> = counted.iter().filter(|(_, _, all)| *all >= self.success_volume).collect();
        if rated.len() >= self.success_hosts as usize && !rated.is_empty() {
            let mean = rated.iter().map(|(_, rate, _)| rate).sum::<f64>() / rated.len() as f64;
            let variance = rated.iter().map(|(_, rate, _)| (rate - mean).powi(2)).sum::<f64>() / rated.len() as f64;
            let least = mean - self.success_factor * variance.sqrt();
            for (host, _, _) in rated.iter().filter(|(_, rate, _)| *rate < least) {
                found(host, stats.success(local), self.success_enforcing[place]);
            }
        }
        let rated: Vec<_> = counted.iter().filter(|(_, _, all)| *all >= self.failure_volume).collect();
        if rated.len() >= self.failure_hosts as usize {
            for (host, _, _) in rated.iter().filter(|(_, rate, _)| 100.0 - rate >= self.failure_threshold) {
                found(host, stats.failure(local), self.failure_enforcing[place]);
            }
        }
    }
}
