//! What a client holds of one type: mostly a whole set, which it shares with others, and here and there something else.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::serve::ResourceSet;

/// What the client holds under a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Held {
    /// This version.
    Version(u64),
    /// Something of another server.
    Foreign,
    /// Nothing, and it was told so.
    Absent,
}

/// All that it holds.
#[derive(Debug, Default)]
pub(super) struct Holding {
    /// Everything in it is held, unless `over` says otherwise.
    base: Option<ResourceSet>,
    /// What is not as in `base`; `None`: nothing is known of it.
    over: HashMap<Arc<str>, Option<Held>>,
}

impl Holding {
    /// What is known of `name`.
    pub(super) fn get(&self, name: &str) -> Option<Held> {
        match self.over.get(name) {
            Some(held) => *held,
            None => self.base.as_ref().and_then(|set| set.get(name)).map(|resource| Held::Version(resource.version)),
        }
    }

    pub(super) fn insert(&mut self, name: Arc<str>, held: Held) {
        self.over.insert(name, Some(held));
    }

    pub(super) fn remove(&mut self, name: &str) {
        match self.base.as_ref().and_then(|set| set.get(name)) {
            Some(resource) => {
                self.over.insert(Arc::clone(&resource.name), None);
            }
            None => {
                self.over.remove(name);
            }
        }
    }

    /// Forgets all but `names`.
    pub(super) fn retain(&mut self, names: &BTreeSet<Arc<str>>) {
        self.over.retain(|name, _| names.contains(name));
        if let Some(set) = &self.base {
            let lost = set.iter().map(|resource| &resource.name).filter(|name| !names.contains(*name));
            self.over.extend(lost.map(|name| (Arc::clone(name), None)));
        }
    }

    /// Names under which it holds something.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        let base = self.base.iter().flat_map(|set| set.iter()).map(|resource| &resource.name);
        let base = base.filter(|name| !self.over.contains_key(*name));
        let over = self.over.iter().filter(|(_, held)| !matches!(held, None | Some(Held::Absent)));
        base.chain(over.map(|(name, _)| name))
    }

    /// Whether nothing is held and nothing was said.
    pub(super) fn is_empty(&self) -> bool {
        self.base.is_none() && self.over.is_empty()
    }

    /// It holds all of `set`, and nothing else.
    pub(super) fn becomes(&mut self, set: &ResourceSet) {
        self.over.retain(|name, held| *held == Some(Held::Absent) && set.get(name).is_none());
        self.over.shrink_to_fit();
        self.base = Some(set.clone());
    }

    /// The set that it holds and nothing else, but for what it was told not to be there.
    pub(super) fn whole(&self) -> Option<&ResourceSet> {
        let is_whole = self.over.values().all(|held| *held == Some(Held::Absent));
        self.base.as_ref().filter(|_| is_whole)
    }
}
