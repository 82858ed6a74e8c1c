//! Outliers by rate: hosts whose success rate is far below their peers', or whose failures pass a percentage.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ferromesh_proto::envoy::config::cluster::v3 as cluster;

use crate::cluster::Host;

/// Requests of one interval.
#[derive(Debug, Default)]
pub(super) struct Window {
    good: AtomicU32,
    all: AtomicU32,
}

impl Window {
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

    /// Ends the interval; the hosts to eject.
    pub(super) fn outliers<'a>(&self, hosts: &'a [Arc<Host>], split: bool) -> Vec<&'a Host> {
        let mut found = Vec::new();
        for local in [false, true] {
            let counted: Vec<(&Host, f64, u32)> = hosts
                .iter()
                .filter_map(|host| {
                    let state = &host.health.outlier;
                    let (good, all) = if local { state.local.take() } else { state.external.take() };
                    (all > 0).then(|| (&**host, 100.0 * f64::from(good) / f64::from(all), all))
                })
                .collect();
            if !local || split {
                self.judge(&counted, usize::from(local), &mut found);
            }
        }
        found
    }

    fn judge<'a>(&self, counted: &[(&'a Host, f64, u32)], place: usize, found: &mut Vec<&'a Host>) {
        let draw = |enforcing: u32| enforcing > fastrand::u32(..100);
        let rated: Vec<_> = counted.iter().filter(|(_, _, all)| *all >= self.success_volume).collect();
        if self.success_enforcing[place] > 0 && rated.len() >= self.success_hosts as usize && !rated.is_empty() {
            let mean = rated.iter().map(|(_, rate, _)| rate).sum::<f64>() / rated.len() as f64;
            let variance = rated.iter().map(|(_, rate, _)| (rate - mean).powi(2)).sum::<f64>() / rated.len() as f64;
            let least = mean - self.success_factor * variance.sqrt();
            found.extend(rated.iter().filter(|(_, rate, _)| *rate < least).map(|(host, _, _)| *host));
            found.retain(|_| draw(self.success_enforcing[place]));
        }
        let rated: Vec<_> = counted.iter().filter(|(_, _, all)| *all >= self.failure_volume).collect();
        if self.failure_enforcing[place] > 0 && rated.len() >= self.failure_hosts as usize {
            let fails = rated.iter().filter(|(_, rate, _)| 100.0 - rate >= self.failure_threshold);
            found.extend(fails.map(|(host, _, _)| *host).filter(|_| draw(self.failure_enforcing[place])));
        }
    }
}
