//! What a host's answers to its checks say of it. Pure.

use super::HealthCheck;
use super::probe::{Failure, Passed};

/// A host's answers so far.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) healthy: bool,
    /// Answers in a row that disagree with `healthy`.
    against: u32,
    /// The first answer decides alone.
    first: bool,
}

impl State {
    pub(super) fn new() -> Self {
        Self { first: true, ..Self::default() }
    }

    pub(super) fn edge(&self) -> bool {
        self.against > 0
    }

    /// The host has said otherwise that it fails.
    pub(super) fn fail(&mut self) {
        *self = Self::default();
    }

    /// Counts an answer; the new state if it changes. An answer that says that the host is not well counts at once;
    /// `unhealthy_threshold` is for hosts that do not answer (Envoy's HealthCheck message).
    pub(super) fn count(&mut self, result: &Result<Passed, Failure>, check: &HealthCheck) -> Option<bool> {
        let good = result.is_ok();
        let says_so = result.as_ref().is_err_and(|failure| !failure.network);
        let first = std::mem::take(&mut self.first);
        if good == self.healthy && !first {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let threshold = match (first, good) {
            (true, _) => 1,
            (false, false) if says_so => 1,
            (false, true) => check.healthy_threshold,
            (false, false) => check.unhealthy_threshold,
        };
        if self.against < threshold {
            return None;
        }
        self.against = 0;
        self.healthy = good;
        Some(good)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use ferromesh_proto::envoy::config::core::v3 as core;

    use super::*;

    fn check() -> HealthCheck {
        let config = core::HealthCheck {
            timeout: Some(Duration::from_secs(1).try_into().unwrap()),
            interval: Some(Duration::from_secs(10).try_into().unwrap()),
            unhealthy_threshold: Some(3),
            healthy_threshold: Some(2),
            health_checker: Some(core::health_check::HealthChecker::TcpHealthCheck(Default::default())),
            ..Default::default()
        };
        HealthCheck::decode(&config, &Arc::<crate::stats::Store>::default().root()).unwrap()
    }

    fn answer(good: bool) -> Result<Passed, Failure> {
        if good { Ok(Passed::Healthy) } else { Err(Failure::network("refused")) }
    }

    #[test]
    fn the_first_answer_decides_alone_and_later_ones_by_thresholds() {
        let (check, mut state) = (check(), State::new());
        assert_eq!(state.count(&answer(true), &check), Some(true));
        assert_eq!(state.count(&answer(false), &check), None);
        assert_eq!(state.count(&answer(false), &check), None);
        assert_eq!(state.count(&answer(true), &check), None, "a good answer starts the count anew");
        assert_eq!([false; 3].map(|good| state.count(&answer(good), &check)), [None, None, Some(false)]);
        assert_eq!([true; 2].map(|good| state.count(&answer(good), &check)), [None, Some(true)]);
    }

    #[test]
    fn a_host_that_says_that_it_is_not_well_is_believed_at_once() {
        let (check, mut state) = (check(), State::new());
        assert_eq!(state.count(&answer(true), &check), Some(true));
        assert_eq!(state.count(&Err(Failure::said("status 503")), &check), Some(false));
    }

    #[test]
    fn a_host_that_was_said_to_fail_comes_back_by_the_threshold() {
        let (check, mut state) = (check(), State::new());
        assert_eq!(state.count(&answer(true), &check), Some(true));
        state.fail();
        assert_eq!([true; 2].map(|good| state.count(&answer(good), &check)), [None, Some(true)]);
    }

    #[test]
    fn hosts_without_traffic_are_asked_less_often() {
        let (check, state) = (check(), State::new());
        assert_eq!(check.pause(&state, false), Duration::from_secs(60));
        assert_eq!(check.pause(&state, true), Duration::from_secs(10));
    }
}
