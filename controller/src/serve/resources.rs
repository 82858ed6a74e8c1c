//! Resources as they are sent: encoded once, named, with the version of their content.

use std::sync::Arc;

use ferromesh_proto::Any;
use xxhash_rust::xxh3::Xxh3;

/// One encoded resource; clones share name and payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name in xDS.
    pub name: Arc<str>,
    /// Changes if and only if the content does.
    pub version: u64,
    /// The encoded message.
    pub any: Any,
}

/// The resources of one type for one proxy (or many that see the same), sorted by name; clones share them.
#[derive(Clone, Debug, Default)]
pub struct ResourceSet {
    resources: Arc<[Resource]>,
    version: u64,
}

impl ResourceSet {
    /// Sorts `resources`; of two with one name the first stays.
    pub fn new(mut resources: Vec<Resource>) -> Self {
        resources.sort_by(|a, b| a.name.cmp(&b.name));
        resources.dedup_by(|b, a| a.name == b.name);
        let mut hash = Xxh3::new();
        for resource in &resources {
            hash.update(resource.name.as_bytes());
            hash.update(&[0]);
            hash.update(&resource.version.to_be_bytes());
        }
        Self { version: hash.digest(), resources: resources.into() }
    }

    /// The version of the set: the same content has the same version in every replica.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The resource called `name`.
    pub fn get(&self, name: &str) -> Option<&Resource> {
        let at = self.resources.binary_search_by(|resource| (*resource.name).cmp(name)).ok()?;
        self.resources.get(at)
    }

    /// All, by name.
    pub fn iter(&self) -> std::slice::Iter<'_, Resource> {
        self.resources.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }
}
