//! How many certificates an identity may ask for, pure: identity and time in, yes or no out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ferromesh_core::SpiffeId;

/// A token bucket for each identity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    /// How many at once.
    pub burst: u32,
    /// How long until one more is allowed.
    pub refill: Duration,
}

impl Default for RateLimit {
    /// 30 at once (all replicas of a workload share an identity, and start together), then 1 each second.
    fn default() -> Self {
        Self { burst: 30, refill: Duration::from_secs(1) }
    }
}

/// The buckets of the identities that asked lately.
#[derive(Debug)]
pub struct Limiter {
    limit: RateLimit,
    max_identities: usize,
    buckets: HashMap<SpiffeId, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Limiter {
    /// No identity has asked yet; at most `max_identities` are remembered.
    pub fn new(limit: RateLimit, max_identities: usize) -> Self {
        Self { limit, max_identities, buckets: HashMap::new() }
    }

    /// Whether `id` may have one now; if so, it is counted.
    pub fn allow(&mut self, id: &SpiffeId, now: Instant) -> bool {
        let (limit, burst) = (self.limit, f64::from(self.limit.burst));
        if !self.buckets.contains_key(id) && self.buckets.len() >= self.max_identities {
            // A bucket that is full again says no more than one that is not there.
            self.buckets.retain(|_, bucket| bucket.level(limit, now) < burst);
            if self.buckets.len() >= self.max_identities {
                return false;
            }
        }
        let bucket = self.buckets.entry(id.clone()).or_insert(Bucket { tokens: burst, at: now });
        let level = bucket.level(limit, now);
        *bucket = Bucket { tokens: if level >= 1.0 { level - 1.0 } else { level }, at: now };
        level >= 1.0
    }
}

impl Bucket {
    fn level(&self, limit: RateLimit, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        let refilled = elapsed / limit.refill.as_secs_f64().max(f64::MIN_POSITIVE);
        (self.tokens + refilled).min(f64::from(limit.burst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://a/{name}")).unwrap()
    }

    #[test]
    fn each_identity_has_its_own_burst_and_refill() {
        let mut limiter = Limiter::new(RateLimit { burst: 2, refill: Duration::from_secs(10) }, 10);
        let start = Instant::now();
        let allowed =
            |limiter: &mut Limiter, name, seconds| limiter.allow(&id(name), start + Duration::from_secs(seconds));
        assert!(allowed(&mut limiter, "a", 0) && allowed(&mut limiter, "a", 0));
        assert!(!allowed(&mut limiter, "a", 5));
        assert!(allowed(&mut limiter, "b", 5));
        assert!(allowed(&mut limiter, "a", 11));
    }

    #[test]
    fn the_number_of_remembered_identities_is_bounded() {
        let mut limiter = Limiter::new(RateLimit { burst: 1, refill: Duration::from_secs(10) }, 2);
        let start = Instant::now();
        assert!(limiter.allow(&id("a"), start) && limiter.allow(&id("b"), start));
        assert!(!limiter.allow(&id("c"), start));
        assert!(limiter.allow(&id("c"), start + Duration::from_secs(20)));
        assert!(limiter.buckets.len() <= 2);
    }
}
