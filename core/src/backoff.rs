//! Exponential backoff with full jitter: attempt number and chance in, delay out.

use std::time::Duration;

/// Delays that grow from `base` to `max`; each is drawn evenly from zero to the current bound, so that clients
/// that failed together do not come back together.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    attempt: u32,
}

impl Backoff {
    /// A backoff whose first bound is `base` and whose last is `max`.
    pub fn new(base: Duration, max: Duration) -> Self {
        Self { base: base.min(max), max, attempt: 0 }
    }

    /// The next delay; draws from `rng` and reads no clock.
    pub fn next_delay(&mut self, rng: &mut fastrand::Rng) -> Duration {
        let bound = self.bound();
        self.attempt = self.attempt.saturating_add(1);
        bound.mul_f64(rng.f64())
    }

    /// The longest that the next delay can be.
    pub fn bound(&self) -> Duration {
        2u32.checked_pow(self.attempt)
            .and_then(|factor| self.base.checked_mul(factor))
            .unwrap_or(self.max)
            .min(self.max)
    }

    /// How many delays were given since the last reset.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_double_up_to_the_longest_and_begin_anew_after_a_reset() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let mut rng = fastrand::Rng::with_seed(1);
        let bounds: Vec<u128> = (0..6)
            .map(|_| {
                let bound = backoff.bound().as_millis();
                backoff.next_delay(&mut rng);
                bound
            })
            .collect();
        assert_eq!(bounds, [100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.bound(), Duration::from_millis(100));
    }

    proptest! {
        #[test]
        fn a_delay_is_never_longer_than_the_longest(base: u32, max: u32, seed: u64, attempts in 0u32..200) {
            let (base, max) = (Duration::from_millis(base.into()), Duration::from_millis(max.into()));
            let mut backoff = Backoff::new(base, max);
            let mut rng = fastrand::Rng::with_seed(seed);
            for _ in 0..attempts {
                let bound = backoff.bound();
                prop_assert!(bound <= max);
                prop_assert!(backoff.next_delay(&mut rng) <= bound);
            }
        }
    }
}
