//! Which buckets a request's descriptors take from.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use ferromesh_proto::envoy::extensions::filters::http::local_ratelimit::v3 as proto;
use parking_lot::Mutex;

use super::bucket::{Bucket, Shape};
use crate::config::{At, ConfigError, required};
use crate::route::rate_limit::Entry;

/// Buckets of one wildcard descriptor, if the configuration does not say.
const DYNAMIC_DESCRIPTORS: u32 = 20;

/// Connections with a bucket of their own; the one that was made first gives way.
const CONNECTIONS: usize = 8192;

/// The buckets of one configuration.
pub(super) struct Limiter {
    default: Option<Default>,
    descriptors: Vec<Descriptor>,
    always_default: bool,
}

enum Default {
    Shared(Arc<Bucket>),
    PerConnection(Shape, Mutex<VecDeque<(u64, Arc<Bucket>)>>),
}

type Dynamic = VecDeque<(Vec<Entry>, Arc<Bucket>)>;

struct Descriptor {
    entries: Vec<Entry>,
    bucket: Arc<Bucket>,
    /// Buckets of the values that a wildcard has met, the latest first.
    dynamic: Option<Mutex<Dynamic>>,
    most: usize,
    shadow: bool,
}

/// A decision, and the bucket that `x-ratelimit-*` headers tell of.
pub(super) struct Verdict {
    pub(super) allowed: bool,
    pub(super) bucket: Option<Arc<Bucket>>,
}

impl Limiter {
    pub(super) fn decode(message: &proto::LocalRateLimit, now: Instant) -> Result<Option<Self>, ConfigError> {
        let shape = message.token_bucket.as_ref().map(Shape::decode).transpose().at("token_bucket")?;
        let default = shape.map(|shape| match message.local_rate_limit_per_downstream_connection {
            true => Default::PerConnection(shape, Mutex::default()),
            false => Default::Shared(Arc::new(Bucket::new(shape, now))),
        });
        let most = message.max_dynamic_descriptors.unwrap_or(DYNAMIC_DESCRIPTORS);
        let mut descriptors: Vec<Descriptor> = Vec::with_capacity(message.descriptors.len());
        for (index, descriptor) in message.descriptors.iter().enumerate() {
            let at = || format!("descriptors[{index}]");
            let shape = Shape::decode(required(descriptor.token_bucket.as_ref(), "token_bucket").at(at())?);
            let shape = shape.at("token_bucket").at(at())?;
            let entries: Vec<Entry> =
                descriptor.entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect();
            if descriptors.iter().any(|other| other.entries == entries) {
                return Err(ConfigError::new("entries", "another descriptor has the same entries").at(at()));
            }
            let wild = entries.iter().any(|(_, value)| value.is_empty());
            descriptors.push(Descriptor {
                entries,
                bucket: Arc::new(Bucket::new(shape, now)),
                dynamic: wild.then(Mutex::default),
                most: usize::try_from(most).unwrap_or(usize::MAX).max(1),
                shadow: descriptor.shadow_mode,
            });
        }
        if default.is_none() && descriptors.is_empty() {
            return Ok(None);
        }
        let always_default = message.always_consume_default_token_bucket.unwrap_or(true);
        Ok(Some(Self { default, descriptors, always_default }))
    }

    /// Whether descriptors of requests matter.
    pub(super) fn wants_descriptors(&self) -> bool {
        !self.descriptors.is_empty()
    }

    /// Takes tokens: from each bucket that a descriptor matches, the slowest first, and then from the default one.
    pub(super) fn decide(&self, requested: &[Vec<Entry>], connection: u64, now: Instant) -> Verdict {
        let mut matched: Vec<(Arc<Bucket>, bool)> = requested
            .iter()
            .filter_map(|entries| {
                // What is configured exactly goes before wildcards.
                let exact = self.descriptors.iter().find(|descriptor| descriptor.entries == *entries);
                let found = exact.or_else(|| self.descriptors.iter().find(|descriptor| descriptor.matches(entries)))?;
                Some((found.bucket_of(entries, now), found.shadow))
            })
            .collect();
        matched.sort_by(|(one, _), (other, _)| one.shape().rate().total_cmp(&other.shape().rate()));
        for (bucket, shadow) in &matched {
            if !bucket.take(now) && !shadow {
                return Verdict { allowed: false, bucket: Some(bucket.clone()) };
            }
        }
        let first = matched.first().map(|(bucket, _)| bucket.clone());
        if first.is_some() && !self.always_default {
            return Verdict { allowed: true, bucket: first };
        }
        match self.default.as_ref().map(|default| default.bucket(connection, now)) {
            None => Verdict { allowed: true, bucket: first },
            Some(bucket) if bucket.take(now) => Verdict { allowed: true, bucket: first.or(Some(bucket)) },
            Some(bucket) => Verdict { allowed: false, bucket: Some(bucket) },
        }
    }
}

impl Default {
    fn bucket(&self, connection: u64, now: Instant) -> Arc<Bucket> {
        match self {
            Self::Shared(bucket) => bucket.clone(),
            Self::PerConnection(shape, buckets) => {
                let mut buckets = buckets.lock();
                if let Some((_, bucket)) = buckets.iter().rev().find(|(id, _)| *id == connection) {
                    return bucket.clone();
                }
                if buckets.len() >= CONNECTIONS {
                    buckets.pop_front();
                }
                let bucket = Arc::new(Bucket::new(*shape, now));
                buckets.push_back((connection, bucket.clone()));
                bucket
            }
        }
    }
}

impl Descriptor {
    fn matches(&self, entries: &[Entry]) -> bool {
        self.entries.len() == entries.len()
            && self
                .entries
                .iter()
                .zip(entries)
                .all(|((key, value), (other_key, other))| key == other_key && (value == other || value.is_empty()))
    }

    fn bucket_of(&self, entries: &[Entry], now: Instant) -> Arc<Bucket> {
        let Some(dynamic) = &self.dynamic else { return self.bucket.clone() };
        let mut buckets = dynamic.lock();
        let found = buckets.iter().position(|(known, _)| known == entries).and_then(|at| buckets.remove(at));
        let (known, bucket) =
            found.unwrap_or_else(|| (entries.to_vec(), Arc::new(Bucket::new(self.bucket.shape(), now))));
        buckets.push_front((known, bucket.clone()));
        buckets.truncate(self.most);
        bucket
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limiter(yaml: &str, now: Instant) -> Limiter {
        let message = ferromesh_proto::json::from_yaml(yaml).expect("valid yaml");
        Limiter::decode(&message, now).expect("valid").expect("has buckets")
    }

    fn entry(key: &str, value: &str) -> Vec<Entry> {
        vec![(key.to_owned(), value.to_owned())]
    }

    const DESCRIPTORS: &str = "
        token_bucket: {max_tokens: 3, fill_interval: 3600s}
        max_dynamic_descriptors: 2
        descriptors:
        - {entries: [{key: user, value: vip}], token_bucket: {max_tokens: 2, fill_interval: 3600s}}
        - {entries: [{key: user}], token_bucket: {max_tokens: 1, fill_interval: 3600s}}";

    #[test]
    fn descriptors_and_the_default_bucket_are_both_taken_from() {
        let now = Instant::now();
        let limiter = limiter(DESCRIPTORS, now);
        let allowed = |entries: &[Vec<Entry>]| limiter.decide(entries, 1, now).allowed;
        assert!(allowed(&[entry("user", "vip")]));
        assert!(allowed(&[entry("user", "vip")]));
        assert!(!allowed(&[entry("user", "vip")]), "its own bucket is empty");
        assert!(allowed(&[]), "the default bucket had one left");
        assert!(!allowed(&[]));
    }

    #[test]
    fn each_value_of_a_wildcard_has_its_bucket_and_their_number_is_bounded() {
        let now = Instant::now();
        let limiter = limiter(&DESCRIPTORS.replace("max_tokens: 3", "max_tokens: 100"), now);
        let allowed = |user: &str| limiter.decide(&[entry("user", user)], 1, now).allowed;
        assert_eq!([allowed("a"), allowed("a"), allowed("b"), allowed("b")], [true, false, true, false]);
        assert!(allowed("c"));
        assert!(allowed("a"), "forgotten, so that it starts anew");
    }

    #[test]
    fn connections_have_their_own_buckets_if_so_configured() {
        let now = Instant::now();
        let limiter = limiter(
            "{token_bucket: {max_tokens: 1, fill_interval: 1s}, local_rate_limit_per_downstream_connection: true}",
            now,
        );
        let allowed = |id, now| limiter.decide(&[], id, now).allowed;
        assert_eq!([allowed(1, now), allowed(1, now), allowed(2, now)], [true, false, true]);
        assert!(allowed(1, now + Duration::from_secs(1)));
    }

    #[test]
    fn a_descriptor_given_twice_is_refused() {
        let yaml = DESCRIPTORS.replace("[{key: user}]", "[{key: user, value: vip}]");
        let message = ferromesh_proto::json::from_yaml(&yaml).expect("valid yaml");
        let error = Limiter::decode(&message, Instant::now()).err().expect("refused");
        assert_eq!(error.path, "descriptors[1].entries");
    }
}
