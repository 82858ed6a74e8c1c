//! Counters of clusters and hosts under Envoy's names.

use std::sync::atomic::Ordering;

use super::balance::HostSet;
use super::outlier::Outcome;
use crate::stats::codes::Side;
use crate::stats::{Count, Level};

/// Counters of a host, as `/clusters` shows them.
#[derive(Debug, Default)]
pub struct HostStats {
    /// Requests.
    pub rq_total: Count,
    /// Good answers.
    pub rq_success: Count,
    /// 5xx and resets.
    pub rq_error: Count,
    /// Timeouts.
    pub rq_timeout: Count,
    /// Connections made.
    pub cx_total: Count,
    /// Connections that failed.
    pub cx_connect_fail: Count,
    /// Connections now.
    pub cx_active: Level,
}

impl HostStats {
    /// Counts a request's end.
    pub(super) fn count(&self, outcome: Outcome) {
        match outcome {
            Outcome::Status(500..) => self.rq_error.inc(),
            Outcome::Status(_) => self.rq_success.inc(),
            Outcome::ConnectFailed | Outcome::Reset => self.rq_error.inc(),
            Outcome::Timeout => {
                self.rq_timeout.inc();
                self.rq_error.inc();
            }
        }
    }
}

crate::family! {
    /// Counters of a cluster under Envoy's names (`cluster.<name>.`); made by `decode`.
    ClusterStats {
        counter upstream_cx_total;
        gauge upstream_cx_active;
        counter upstream_cx_http1_total;
        counter upstream_cx_http2_total;
        counter upstream_cx_connect_fail;
        counter upstream_cx_connect_timeout;
        counter upstream_cx_destroy;
        counter upstream_cx_idle_timeout;
        counter upstream_cx_overflow;
        counter upstream_cx_protocol_error;
        counter upstream_cx_none_healthy;
        counter upstream_cx_max_requests;
        counter upstream_cx_tx_bytes_total;
        counter upstream_cx_rx_bytes_total;
        counter upstream_rq_total;
        gauge upstream_rq_active;
        counter upstream_rq_completed;
        counter upstream_rq_pending_total;
        gauge upstream_rq_pending_active;
        counter upstream_rq_pending_overflow;
        counter upstream_rq_pending_failure_eject;
        counter upstream_rq_timeout;
        counter upstream_rq_per_try_timeout;
        counter upstream_rq_rx_reset;
        counter upstream_rq_tx_reset;
        counter upstream_rq_retry;
        counter upstream_rq_retry_success;
        counter upstream_rq_retry_overflow;
        counter upstream_rq_retry_limit_exceeded;
        counter upstream_rq_cancelled;
        counter upstream_rq_maintenance_mode;
        counter upstream_internal_redirect_succeeded_total;
        counter upstream_internal_redirect_failed_total;
        gauge membership_total;
        gauge membership_healthy;
        gauge membership_degraded;
        counter membership_change;
        counter update_attempt;
        counter update_success;
        counter update_failure;
        counter update_empty;
        counter update_no_rebuild;
        counter lb_healthy_panic;
        counter upstream_rq_1xx;
        counter upstream_rq_2xx;
        counter upstream_rq_3xx;
        counter upstream_rq_4xx;
        counter upstream_rq_5xx;
        codes upstream_rq;
        times upstream_rq_time;
        times upstream_cx_connect_ms;
    }
}

impl ClusterStats {
    /// Counts an answer by its status, and the class of it.
    pub fn count_status(&self, status: u16, is_internal: bool) {
        self.upstream_rq.count(status, if is_internal { Side::Internal } else { Side::External });
        self.upstream_rq_completed.inc();
        match status / 100 {
            1 => self.upstream_rq_1xx.inc(),
            2 => self.upstream_rq_2xx.inc(),
            3 => self.upstream_rq_3xx.inc(),
            4 => self.upstream_rq_4xx.inc(),
            5 => self.upstream_rq_5xx.inc(),
            _ => {}
        }
    }

    /// Counts an answer after which another try comes.
    pub fn count_retried(&self, status: u16) {
        self.upstream_rq.count(status, Side::Retry);
    }

    /// Shows the numbers of hosts.
    pub(super) fn membership(&self, set: &HostSet) {
        let count = |gauge: &Level, number: usize| gauge.set(number as u64);
        count(&self.membership_total, set.hosts.len());
        count(&self.membership_healthy, set.hosts.iter().filter(|host| host.health.is_healthy()).count());
        count(&self.membership_degraded, set.hosts.iter().filter(|host| host.health.is_degraded()).count());
    }
}

impl super::Host {
    /// Requests in flight.
    pub fn active_requests(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }
}
