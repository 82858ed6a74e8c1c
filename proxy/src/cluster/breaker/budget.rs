//! How many retries a cluster's requests pay for (Envoy, `RetryBudget`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ferromesh_proto::envoy::config::cluster::v3::circuit_breakers::thresholds as proto;

use crate::config::{ConfigError, duration};

/// Envoy's share of requests, in percent, where none is set.
const PERCENT: f64 = 20.0;
/// Envoy's retries that are always allowed, where none are set.
const LEAST: u32 = 3;
/// Parts of the interval; a request counts for nine or ten of them.
const PARTS: u64 = 10;

/// Retries as a share of requests.
#[derive(Debug)]
pub(super) struct Budget {
    percent: f64,
    least: u32,
    /// Requests that began within the interval, if one is set; else those that are active count.
    begun: Option<Begun>,
}

impl Budget {
    pub(super) fn decode(config: &proto::RetryBudget) -> Result<Self, ConfigError> {
        let percent = config.budget_percent.as_ref().map_or(PERCENT, |percent| percent.value);
        if !(0.0..=100.0).contains(&percent) {
            return Err(ConfigError::new("retry_budget.budget_percent", "must be from 0 to 100"));
        }
        let interval = duration(config.budget_interval, "retry_budget.budget_interval")?;
        let begun = interval.filter(|interval| !interval.is_zero()).map(Begun::new);
        Ok(Self { percent, least: config.min_retry_concurrency.unwrap_or(LEAST), begun })
    }

    /// Notes that a request begins.
    pub(super) fn note(&self) {
        if let Some(begun) = &self.begun {
            begun.note(Instant::now());
        }
    }

    /// Retries that may run at once while so many requests are active.
    pub(super) fn allowed(&self, active: u64) -> u64 {
        let requests = self.begun.as_ref().map_or(active, |begun| begun.count(Instant::now()));
        let share = (requests as f64 * self.percent / 100.0) as u64;
        share.max(u64::from(self.least))
    }
}

/// Requests that began within the last interval, by its parts; workers share it without a lock.
#[derive(Debug)]
struct Begun {
    part: Duration,
    start: Instant,
    /// Which part since the start (upper half), and how many requests began in it.
    parts: [AtomicU64; PARTS as usize],
}

impl Begun {
    fn new(interval: Duration) -> Self {
        let part = (interval / PARTS as u32).max(Duration::from_millis(1));
        Self { part, start: Instant::now(), parts: Default::default() }
    }

    /// Which part `now` is in; counted from [`PARTS`], so that a place that was never used is of the past.
    fn part_of(&self, now: Instant) -> u64 {
        let past = now.saturating_duration_since(self.start).as_nanos() / self.part.as_nanos();
        u64::try_from(past).unwrap_or(u64::MAX) % (u64::from(u32::MAX) - PARTS) + PARTS
    }

    fn note(&self, now: Instant) {
        let part = self.part_of(now);
        let Some(place) = self.parts.get((part % PARTS) as usize) else { return };
        let _ = place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            Some(if held >> 32 == part { held.saturating_add(1) } else { part << 32 | 1 })
        });
    }

    fn count(&self, now: Instant) -> u64 {
        let part = self.part_of(now);
        let held = self.parts.iter().map(|place| place.load(Ordering::Relaxed));
        held.filter(|held| (part - PARTS + 1..=part).contains(&(held >> 32)))
            .map(|held| held & u64::from(u32::MAX))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_count_for_the_interval_and_not_longer() {
        let begun = Begun::new(Duration::from_secs(10));
        let at = |millis: u64| begun.start + Duration::from_millis(millis);
        assert_eq!(begun.count(at(0)), 0);
        (0..3).for_each(|_| begun.note(at(500)));
        begun.note(at(9_500));
        assert_eq!(begun.count(at(9_999)), 4, "all of them are of the last ten seconds");
        assert_eq!(begun.count(at(10_000)), 1, "the first three are over");
        begun.note(at(10_100));
        assert_eq!(begun.count(at(10_200)), 2, "a place that is used again forgets what it held");
        assert_eq!(begun.count(at(60_000)), 0);
    }

    #[test]
    fn a_share_of_them_may_be_retries_and_some_are_always_allowed() {
        let of = |percent: f64, least: Option<u32>| proto::RetryBudget {
            budget_percent: Some(ferromesh_proto::envoy::r#type::v3::Percent { value: percent }),
            min_retry_concurrency: least,
            ..proto::RetryBudget::default()
        };
        let budget = Budget::decode(&of(50.0, Some(1))).expect("valid");
        assert_eq!([0, 3, 4, 7].map(|active| budget.allowed(active)), [1, 1, 2, 3]);
        let default = Budget::decode(&proto::RetryBudget::default()).expect("valid");
        assert_eq!([0, 15, 100].map(|active| default.allowed(active)), [3, 3, 20]);
        let error = Budget::decode(&of(101.0, None)).expect_err("more than all").to_string();
        assert!(error.contains("retry_budget.budget_percent"), "{error}");
    }
}
