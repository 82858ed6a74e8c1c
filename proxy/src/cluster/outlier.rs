//! Outlier detection: ejects hosts that fail in a row, or more than their peers.
//!
//! Rules: Envoy, "Outlier detection" (consecutive 5xx, gateway and local origin failures; success rate; failure
//! percentage; ejection time grows with each ejection and shrinks with each good interval).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use ferromesh_proto::envoy::config::cluster::v3 as cluster;
use tokio::time::Instant;

use super::health::Unhealthy;
use super::{Cluster, Host};
use crate::config::{ConfigError, duration};
use crate::stats::{Count, Owner, Store};

mod rate;

use rate::{Rates, Window};

/// How a request to a host ended, as the detector counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The host answered with this status (for gRPC: the HTTP status that its gRPC status stands for).
    Status(u16),
    /// The connection could not be made (local origin).
    ConnectFailed,
    /// The connection or stream broke before the answer was whole (local origin).
    Reset,
    /// No answer in time (local origin).
    Timeout,
}

impl Outcome {
    fn is_local(self) -> bool {
        !matches!(self, Self::Status(_))
    }

    /// The status that counts where local failures are not told apart.
    fn status(self) -> u16 {
        match self {
            Self::Status(status) => status,
            Self::Timeout => 504,
            Self::ConnectFailed | Self::Reset => 503,
        }
    }
}

/// What is counted for a host; cleared when it is ejected.
#[derive(Debug, Default)]
pub struct HostOutlier {
    in_a_row: [AtomicU32; 3],
    /// Milliseconds since the detector's start.
    ejected_at: AtomicU64,
    /// Milliseconds since the detector's start.
    returned_at: AtomicU64,
    /// How many base times the next ejection lasts.
    times: AtomicU32,
    jitter: AtomicU64,
    external: Window,
    local: Window,
}

impl HostOutlier {
    /// Percent of good answers in the last interval, as `/clusters` shows it; `None` if too few were asked.
    pub fn success_rate(&self) -> Option<f64> {
        self.external.rate()
    }

    /// The same of connections and timeouts.
    pub fn local_origin_success_rate(&self) -> Option<f64> {
        self.local.rate()
    }

    /// How often it was ejected, less the good intervals since.
    pub fn times(&self) -> u32 {
        self.times.load(Ordering::Relaxed)
    }
}

/// What is counted in a row.
#[derive(Debug, Clone, Copy)]
enum Streak {
    Server,
    Gateway,
    Local,
}

/// How often in a row, and in how many of a hundred cases a host is then ejected.
#[derive(Debug, Clone, Copy)]
struct Limit {
    count: u32,
    enforcing: u32,
}

/// A cluster's detector.
#[derive(Debug)]
pub struct Detector {
    limits: [Limit; 3],
    split: bool,
    /// Time between sweeps.
    pub interval: Duration,
    base: Duration,
    longest: Duration,
    jitter: Duration,
    max_percent: f64,
    always_one: bool,
    rates: Rates,
    /// A passing active check ends an ejection.
    uneject_on_check: bool,
    start: Instant,
    active: AtomicU32,
    stats: Arc<OutlierStats>,
}

crate::family! {
    /// Counters of a detector under Envoy's names (`cluster.<name>.outlier_detection.`).
    OutlierStats {
        gauge ejections_active;
        counter ejections_enforced_total;
        counter ejections_overflow;
        counter ejections_detected_consecutive_5xx;
        counter ejections_enforced_consecutive_5xx;
        counter ejections_detected_consecutive_gateway_failure;
        counter ejections_enforced_consecutive_gateway_failure;
        counter ejections_detected_consecutive_local_origin_failure;
        counter ejections_enforced_consecutive_local_origin_failure;
        counter ejections_detected_success_rate;
        counter ejections_enforced_success_rate;
        counter ejections_detected_local_origin_success_rate;
        counter ejections_enforced_local_origin_success_rate;
        counter ejections_detected_failure_percentage;
        counter ejections_enforced_failure_percentage;
        counter ejections_detected_local_origin_failure_percentage;
        counter ejections_enforced_local_origin_failure_percentage;
    }
}

impl OutlierStats {
    /// Detected and enforced ejections because of a streak.
    fn streak(&self, streak: Streak) -> [&Count; 2] {
        match streak {
            Streak::Server => [&self.ejections_detected_consecutive_5xx, &self.ejections_enforced_consecutive_5xx],
            Streak::Gateway => [
                &self.ejections_detected_consecutive_gateway_failure,
                &self.ejections_enforced_consecutive_gateway_failure,
            ],
            Streak::Local => [
                &self.ejections_detected_consecutive_local_origin_failure,
                &self.ejections_enforced_consecutive_local_origin_failure,
            ],
        }
    }
}

impl Detector {
    /// Decodes the configuration.
    pub(super) fn decode(
        config: &cluster::OutlierDetection,
        stats: &Store,
        owner: &Owner,
    ) -> Result<Self, ConfigError> {
        let limit = |count: Option<u32>, enforcing: Option<u32>, default| Limit {
            count: count.unwrap_or(5),
            enforcing: enforcing.unwrap_or(default),
        };
        let base = duration(config.base_ejection_time, "base_ejection_time")?.unwrap_or(Duration::from_secs(30));
        let longest = duration(config.max_ejection_time, "max_ejection_time")?.unwrap_or(Duration::from_secs(300));
        Ok(Self {
            limits: [
                limit(config.consecutive_5xx, config.enforcing_consecutive_5xx, 100),
                limit(config.consecutive_gateway_failure, config.enforcing_consecutive_gateway_failure, 0),
                limit(config.consecutive_local_origin_failure, config.enforcing_consecutive_local_origin_failure, 100),
            ],
            split: config.split_external_local_origin_errors,
            interval: duration(config.interval, "interval")?.unwrap_or(Duration::from_secs(10)),
            base,
            longest: longest.max(base),
            jitter: duration(config.max_ejection_time_jitter, "max_ejection_time_jitter")?.unwrap_or_default(),
            max_percent: f64::from(config.max_ejection_percent.unwrap_or(10).min(100)),
            always_one: config.always_eject_one_host.unwrap_or(false),
            rates: Rates::decode(config),
            uneject_on_check: config.successful_active_health_check_uneject_host.unwrap_or(true),
            start: Instant::now(),
            active: AtomicU32::new(0),
            stats: stats.family(owner, "outlier_detection."),
        })
    }

    /// Counts a request's outcome; ejects the host if its limit is reached.
    pub fn report(&self, cluster: &Cluster, host: &Host, outcome: Outcome) {
        let state = &host.health.outlier;
        if self.split && outcome.is_local() {
            if outcome != Outcome::ConnectFailed {
                // The connection was made, which counts for itself, as in Envoy.
                state.local.count(true);
                self.pass(host, Streak::Local);
            }
            state.local.count(false);
            self.fail(cluster, host, Streak::Local);
            return;
        }
        if self.split {
            state.local.count(true);
            self.pass(host, Streak::Local);
        }
        let status = outcome.status();
        state.external.count(status < 500);
        if status < 500 {
            self.pass(host, Streak::Server);
            self.pass(host, Streak::Gateway);
            return;
        }
        self.fail(cluster, host, Streak::Server);
        if matches!(status, 502..=504) {
            self.fail(cluster, host, Streak::Gateway);
        } else {
            self.pass(host, Streak::Gateway);
        }
    }

    fn pass(&self, host: &Host, streak: Streak) {
        host.health.outlier.in_a_row[streak as usize].store(0, Ordering::Relaxed);
    }

    fn fail(&self, cluster: &Cluster, host: &Host, streak: Streak) {
        let place = streak as usize;
        let limit = self.limits[place];
        let count = host.health.outlier.in_a_row[place].fetch_add(1, Ordering::Relaxed) + 1;
        if limit.count == 0 || count < limit.count {
            return;
        }
        self.pass(host, streak);
        if host.health.has(Unhealthy::Outlier) {
            // In a panic it goes on being asked; it is not found again.
            return;
        }
        let [detected, enforced] = self.stats.streak(streak);
        detected.inc();
        if limit.enforcing > fastrand::u32(..100) && self.eject(cluster, host) {
            enforced.inc();
        }
    }

    /// Ejects the host, if not too many are ejected already.
    fn eject(&self, cluster: &Cluster, host: &Host) -> bool {
        if host.health.has(Unhealthy::Outlier) {
            return false;
        }
        let hosts = cluster.hosts.load().hosts.len().max(1);
        let active = self.active.load(Ordering::Relaxed);
        let percent = 100.0 * f64::from(active + 1) / hosts as f64;
        if percent > self.max_percent && !(self.always_one && active == 0) {
            self.stats.ejections_overflow.inc();
            return false;
        }
        let state = &host.health.outlier;
        state.ejected_at.store(self.now(), Ordering::Relaxed);
        state.times.fetch_add(1, Ordering::Relaxed);
        let jitter = fastrand::u64(..=u64::try_from(self.jitter.as_millis()).unwrap_or(0));
        state.jitter.store(jitter, Ordering::Relaxed);
        if !host.health.set(Unhealthy::Outlier, true) {
            return false;
        }
        self.stats.ejections_active.set(u64::from(self.active.fetch_add(1, Ordering::Relaxed) + 1));
        self.stats.ejections_enforced_total.inc();
        true
    }

    fn restore(&self, host: &Host) {
        if host.health.set(Unhealthy::Outlier, false) {
            let state = &host.health.outlier;
            state.returned_at.store(self.now(), Ordering::Relaxed);
            for count in &state.in_a_row {
                count.store(0, Ordering::Relaxed);
            }
            let before = self.active.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |active| active.checked_sub(1));
            self.stats.ejections_active.set(u64::from(before.unwrap_or(1).saturating_sub(1)));
        }
    }

    /// An active check of the host has passed.
    pub(super) fn check_passed(&self, host: &Host) {
        if self.uneject_on_check {
            self.restore(host);
        }
    }

    /// Hosts have left: those that were ejected no longer count.
    pub(super) fn forget(&self, host: &Host) {
        self.restore(host);
    }

    /// Once an interval: takes back hosts whose time is over, and ejects those that fail more than their peers.
    pub fn sweep(&self, cluster: &Cluster) {
        let now = self.now();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let hosts = cluster.hosts.load_full();
        for host in &hosts.hosts {
            let state = &host.health.outlier;
            let times = state.times();
            if host.health.has(Unhealthy::Outlier) {
                let lasts = self.base.saturating_mul(times).min(self.longest);
                let since = now.saturating_sub(state.ejected_at.load(Ordering::Relaxed));
                if since >= millis(lasts).saturating_add(state.jitter.load(Ordering::Relaxed)) {
                    self.restore(host);
                }
            } else if times > 0
                && now.saturating_sub(state.returned_at.load(Ordering::Relaxed)) >= millis(self.interval)
            {
                state.times.store(times - 1, Ordering::Relaxed);
            }
        }
        self.rates.sweep(&hosts.hosts, self.split, &self.stats, |host| self.eject(cluster, host));
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
