//! What is made of equal messages is made once, and lives as long as somebody uses it.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// Things by the digest of the message that they were made of.
#[derive(Debug)]
pub(super) struct Shared<T> {
    made: Mutex<Made<T>>,
}

#[derive(Debug)]
struct Made<T> {
    by_digest: BTreeMap<[u8; 32], Weak<T>>,
    /// Beyond so many, those that are gone are looked for.
    sweep_at: usize,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { made: Mutex::new(Made { by_digest: BTreeMap::new(), sweep_at: 0 }) }
    }
}

impl<T> Shared<T> {
    /// What was made of the same bytes, if it is still used; else what `make` gives.
    pub(super) fn share<E>(&self, bytes: &[u8], make: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        if let Some(known) = self.made.lock().by_digest.get(&digest).and_then(Weak::upgrade) {
            return Ok(known);
        }
        // Not under the lock: making may take its time. Of two that are made at once, the later is shared from then on.
        let value = Arc::new(make()?);
        let mut made = self.made.lock();
        if made.by_digest.len() >= made.sweep_at {
            made.by_digest.retain(|_, value| value.strong_count() > 0);
            made.sweep_at = (made.by_digest.len() * 2).max(64);
        }
        made.by_digest.insert(digest, Arc::downgrade(&value));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn equal_messages_share_what_is_made_of_them_as_long_as_it_is_used() {
        let shared = Shared::default();
        let make = |value: u32| move || Ok::<_, Infallible>(value);
        let Ok(first) = shared.share(b"a", make(1));
        let Ok(again) = shared.share(b"a", make(2));
        let Ok(other) = shared.share(b"b", make(3));
        assert!(Arc::ptr_eq(&first, &again) && *other == 3);
        drop((first, again));
        let Ok(anew) = shared.share(b"a", make(4));
        assert_eq!(*anew, 4, "it was dropped");
    }
}
