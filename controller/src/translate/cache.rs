//! Results that many proxies share, kept for as long as what they were made from is there unchanged.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The newest result with the inputs that made it. Inputs are snapshots, compared by identity.
pub(super) struct Memo<S, T>(Mutex<Option<(S, Arc<T>)>>);

impl<S, T> Default for Memo<S, T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<S: Inputs, T> Memo<S, T> {
    /// The result for these inputs; made from the one before where they differ.
    pub(super) fn get(&self, inputs: S, make: impl FnOnce(Option<&T>) -> T) -> Arc<T> {
        let mut slot = self.0.lock();
        if let Some((made_from, result)) = &*slot
            && made_from.same(&inputs)
        {
            return result.clone();
        }
        let result = Arc::new(make(slot.as_ref().map(|(_, old)| &**old)));
        *slot = Some((inputs, result.clone()));
        result
    }
}

/// Results by a key, all made from the same inputs; other inputs empty it.
pub(super) struct Shelf<S, T>(Mutex<Option<(S, BTreeMap<String, T>)>>);

/// At most this many results are kept; one more empties the shelf.
const MOST: usize = 20_000;

impl<S, T> Default for Shelf<S, T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<S: Inputs, T: Clone> Shelf<S, T> {
    /// The result for a key.
    pub(super) fn get(&self, inputs: S, key: &str, make: impl FnOnce() -> T) -> T {
        {
            let mut slot = self.0.lock();
            match &*slot {
                Some((made_from, results)) if made_from.same(&inputs) => {
                    if let Some(result) = results.get(key) {
                        return result.clone();
                    }
                }
                _ => *slot = Some((inputs.clone(), BTreeMap::new())),
            }
        }
        // Made without the lock: another key is not kept waiting, and what is made twice is the same.
        let result = make();
        let mut slot = self.0.lock();
        if let Some((made_from, results)) = &mut *slot
            && made_from.same(&inputs)
        {
            if results.len() >= MOST {
                results.clear();
            }
            results.insert(key.to_owned(), result.clone());
        }
        result
    }
}

/// Results by a key, each with the inputs of its own.
pub(super) struct Parts<S, T>(Mutex<BTreeMap<String, (S, T)>>);

impl<S, T> Default for Parts<S, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<S: Inputs, T: Clone> Parts<S, T> {
    /// The result for a key, made anew if it was made from other inputs.
    pub(super) fn get(&self, key: &str, inputs: S, make: impl FnOnce() -> T) -> T {
        if let Some((made_from, result)) = self.0.lock().get(key)
            && made_from.same(&inputs)
        {
            return result.clone();
        }
        // Made without the lock: another key is not kept waiting, and what is made twice is the same.
        let result = make();
        let mut kept = self.0.lock();
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(key.to_owned(), (inputs, result.clone()));
        result
    }
}

/// Snapshots that something is made from.
pub(super) trait Inputs: Clone {
    /// Whether both are the very same.
    fn same(&self, other: &Self) -> bool;
}
