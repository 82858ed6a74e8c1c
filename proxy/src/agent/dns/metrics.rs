//! What the DNS proxy counts, under the names of Istio's agent.

use std::fmt::Write;
use std::time::Duration;

use crate::stats::Count;

/// Bounds of the buckets, in seconds; Istio's.
const BUCKETS: [f64; 6] = [0.001, 0.005, 0.01, 0.1, 1.0, 5.0];

/// Counters of one DNS proxy.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Questions that came.
    pub requests: Count,
    /// Questions that were asked of name servers.
    pub upstream_requests: Count,
    /// Of those, the ones without an answer.
    pub upstream_failures: Count,
    buckets: [Count; BUCKETS.len() + 1],
    microseconds: Count,
}

impl Metrics {
    /// A name server's answer (or that there is none) took so long.
    pub fn answered_after(&self, time: Duration) {
        let index = BUCKETS.partition_point(|bound| *bound < time.as_secs_f64());
        if let Some(bucket) = self.buckets.get(index) {
            bucket.inc();
        }
        self.microseconds.add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// As Prometheus reads it.
    pub fn to_prometheus(&self) -> String {
        let mut out = String::with_capacity(1024);
        for (name, count) in [
            ("requests", &self.requests),
            ("upstream_requests", &self.upstream_requests),
            ("upstream_failures", &self.upstream_failures),
        ] {
            // Writing into a String cannot fail.
            let _ = writeln!(out, "# TYPE istio_agent_dns_{name}_total counter");
            let _ = writeln!(out, "istio_agent_dns_{name}_total {}", count.get());
        }
        let name = "istio_agent_dns_upstream_request_duration_seconds";
        let _ = writeln!(out, "# TYPE {name} histogram");
        let mut total = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            total += bucket.get();
            let bound = BUCKETS.get(index).map_or_else(|| "+Inf".to_owned(), f64::to_string);
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {total}");
        }
        let _ = writeln!(out, "{name}_sum {}", Duration::from_micros(self.microseconds.get()).as_secs_f64());
        let _ = writeln!(out, "{name}_count {total}");
        out
    }
}
