//! A token bucket that fills continuously, on one atomic.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ferromesh_proto::envoy::r#type::v3 as types;

use crate::config::{At, ConfigError, duration, required};

/// Shortest interval that Envoy accepts.
const MIN_INTERVAL: Duration = Duration::from_millis(50);

/// A token bucket.
///
/// It holds the moment (seconds after `epoch`, as the bits of a double) since which tokens have been gathering;
/// taking tokens moves that moment on.
#[derive(Debug)]
pub struct Bucket {
    since: AtomicU64,
    epoch: Instant,
    shape: Shape,
}

/// Size and speed of a bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    max_tokens: u32,
    /// Tokens a second.
    rate: f64,
}

impl Shape {
    /// Decodes a bucket.
    ///
    /// # Errors
    /// Names the field that is missing or wrong.
    pub fn decode(message: &types::TokenBucket) -> Result<Self, ConfigError> {
        let interval = required(duration(message.fill_interval, "fill_interval")?, "fill_interval")?;
        if interval < MIN_INTERVAL {
            return Err(ConfigError::new("fill_interval", "must be at least 50ms"));
        }
        let per_fill = message.tokens_per_fill.unwrap_or(1);
        if per_fill == 0 {
            return Err(ConfigError::new("", "must be above 0")).at("tokens_per_fill");
        }
        Ok(Self { max_tokens: message.max_tokens, rate: f64::from(per_fill) / interval.as_secs_f64() })
    }

    /// Tokens a second.
    pub fn rate(&self) -> f64 {
        self.rate
    }
}

impl Bucket {
    /// A full bucket.
    pub fn new(shape: Shape, now: Instant) -> Self {
        let since = -f64::from(shape.max_tokens) / shape.rate;
        Self { since: AtomicU64::new(since.to_bits()), epoch: now, shape }
    }

    /// Takes a token if there is one.
    pub fn take(&self, now: Instant) -> bool {
        let now = self.seconds(now);
        let taken = self.since.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |since| {
            let tokens = self.tokens(f64::from_bits(since), now);
            (tokens >= 1.0).then(|| (now - (tokens - 1.0) / self.shape.rate).to_bits())
        });
        taken.is_ok()
    }

    /// Its size.
    pub fn max_tokens(&self) -> u32 {
        self.shape.max_tokens
    }

    /// Its size and speed.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// (whole tokens left, seconds until there is one), as Envoy's `x-ratelimit-*` headers tell it.
    pub fn remaining(&self, now: Instant) -> (u32, u64) {
        let now = self.seconds(now);
        let tokens = self.tokens(f64::from_bits(self.since.load(Ordering::Relaxed)), now);
        let wait = if tokens >= 1.0 { 0.0 } else { (1.0 - tokens) / self.shape.rate };
        (tokens as u32, wait.ceil() as u64)
    }

    fn seconds(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.epoch).as_secs_f64()
    }

    fn tokens(&self, since: f64, now: f64) -> f64 {
        // A hair is added so that rounding does not hold back a token whose moment has come.
        ((now - since) * self.shape.rate + 1e-9).clamp(0.0, f64::from(self.shape.max_tokens))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(max_tokens: u32, per_fill: u32, interval: Duration) -> Shape {
        let message =
            types::TokenBucket { max_tokens, tokens_per_fill: Some(per_fill), fill_interval: interval.try_into().ok() };
        Shape::decode(&message).expect("valid")
    }

    fn taken(bucket: &Bucket, now: Instant) -> usize {
        (0..1000).take_while(|_| bucket.take(now)).count()
    }

    #[test]
    fn a_bucket_starts_full_and_fills_continuously_up_to_its_size() {
        let start = Instant::now();
        let bucket = Bucket::new(shape(10, 2, Duration::from_secs(1)), start);
        assert_eq!(taken(&bucket, start), 10);
        assert_eq!(bucket.remaining(start), (0, 1));
        assert_eq!(taken(&bucket, start + Duration::from_millis(499)), 0);
        assert_eq!(taken(&bucket, start + Duration::from_millis(500)), 1);
        assert_eq!(taken(&bucket, start + Duration::from_millis(1500)), 2);
        assert_eq!(taken(&bucket, start + Duration::from_secs(3600)), 10);
    }

    #[test]
    fn an_empty_sized_bucket_gives_nothing() {
        let start = Instant::now();
        let bucket = Bucket::new(shape(0, 1, Duration::from_secs(1)), start);
        assert_eq!(taken(&bucket, start + Duration::from_secs(100)), 0);
    }

    #[test]
    fn many_threads_take_no_more_than_there_is() {
        let start = Instant::now();
        let bucket = Bucket::new(shape(100, 1, Duration::from_secs(3600)), start);
        let total: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| taken(&bucket, start))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(total, 100);
    }

    #[test]
    fn an_interval_below_fifty_milliseconds_is_refused() {
        let interval = Duration::from_millis(49).try_into().ok();
        let message = types::TokenBucket { max_tokens: 1, tokens_per_fill: None, fill_interval: interval };
        assert_eq!(Shape::decode(&message).expect_err("refused").path, "fill_interval");
    }
}
