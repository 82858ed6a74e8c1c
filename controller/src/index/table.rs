//! A map of objects of one kind: shared until it is written to.

use super::Key;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

/// Objects of one kind by namespace and name. A clone costs one count; the first write after a clone copies the map
/// (not the objects).
#[derive(Debug)]
pub struct Table<T>(Arc<BTreeMap<Key, Arc<T>>>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Table<T> {
    type Target = BTreeMap<Key, Arc<T>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T> Table<T> {
    /// One object.
    pub fn named(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        self.0.get(&Key::new(namespace, name))
    }

    /// The objects of one namespace, by name.
    pub fn in_namespace<'a>(&'a self, namespace: &str) -> impl Iterator<Item = (&'a Key, &'a Arc<T>)> + use<'a, T> {
        let first = Key::new(namespace, "");
        let namespace = first.namespace.clone();
        self.0.range(first..).take_while(move |(key, _)| key.namespace == namespace)
    }

    /// True if both are the very same snapshot, so that nothing of this kind changed between them.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn write(&mut self) -> &mut BTreeMap<Key, Arc<T>> {
        Arc::make_mut(&mut self.0)
    }
}
