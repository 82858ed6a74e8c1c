//! Resources as they are sent: encoded once, named, with the version of their content. What differs between two sets is
//! found once for all streams that go from the one to the other.

use std::cmp::Ordering;
use std::ops::Deref;
use std::sync::Arc;

use ferromesh_proto::Any;
use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3;

/// Sets from which the way to a set is remembered; most streams come from the same one.
const STEPS: usize = 8;

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
pub struct ResourceSet(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    resources: Arc<[Resource]>,
    version: u64,
    steps: Mutex<Vec<(u64, Arc<Step>)>>,
}

/// What makes one set of another.
#[derive(Debug, Default)]
pub struct Step {
    /// Resources that are new or have another version, by name.
    pub changed: Resources,
    /// Names of those that are new.
    pub added: Vec<Arc<str>>,
    /// Whether there are fewer.
    pub removes: bool,
}

/// Some resources in a row; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    all: Arc<[Resource]>,
    count: usize,
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
        Self(Arc::new(Inner { version: hash.digest(), resources: resources.into(), steps: Mutex::default() }))
    }

    /// The version of the set: the same content has the same version in every replica.
    pub fn version(&self) -> u64 {
        self.0.version
    }

    /// The resource called `name`.
    pub fn get(&self, name: &str) -> Option<&Resource> {
        let at = self.0.resources.binary_search_by(|resource| (*resource.name).cmp(name)).ok()?;
        self.0.resources.get(at)
    }

    /// All, by name.
    pub fn iter(&self) -> std::slice::Iter<'_, Resource> {
        self.0.resources.iter()
    }

    /// All, to be kept.
    pub fn all(&self) -> Resources {
        Resources { count: self.len(), all: Arc::clone(&self.0.resources) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.resources.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.resources.is_empty()
    }

    /// What makes this set of `old`.
    pub fn since(&self, old: &ResourceSet) -> Arc<Step> {
        let mut steps = self.0.steps.lock();
        if let Some((_, step)) = steps.iter().find(|(version, _)| *version == old.version()) {
            return Arc::clone(step);
        }
        let step = Arc::new(Step::between(&old.0.resources, &self.0.resources));
        if steps.len() == STEPS {
            steps.remove(0);
        }
        steps.push((old.version(), Arc::clone(&step)));
        step
    }
}

impl Step {
    /// Both are sorted by name.
    fn between(old: &[Resource], new: &[Resource]) -> Self {
        let (mut changed, mut added, mut removes) = (Vec::new(), Vec::new(), false);
        let mut before = old.iter().peekable();
        for resource in new {
            let found = loop {
                let Some(next) = before.peek() else { break None };
                // The very same name needs no comparison of texts.
                let order = if Arc::ptr_eq(&next.name, &resource.name) {
                    Ordering::Equal
                } else {
                    next.name.cmp(&resource.name)
                };
                match order {
                    Ordering::Less => {
                        removes = true;
                        before.next();
                    }
                    Ordering::Equal => break before.next(),
                    Ordering::Greater => break None,
                }
            };
            if found.is_none() {
                added.push(Arc::clone(&resource.name));
            }
            if found.is_none_or(|found| found.version != resource.version) {
                changed.push(resource.clone());
            }
        }
        removes |= before.next().is_some();
        Self { changed: changed.into(), added, removes }
    }
}

impl Resources {
    /// The first `count` of them.
    #[must_use]
    pub fn first(&self, count: usize) -> Self {
        Self { all: Arc::clone(&self.all), count: count.min(self.count) }
    }
}

impl From<Vec<Resource>> for Resources {
    fn from(resources: Vec<Resource>) -> Self {
        Self { count: resources.len(), all: resources.into() }
    }
}

impl Deref for Resources {
    type Target = [Resource];

    fn deref(&self) -> &[Resource] {
        self.all.get(..self.count).unwrap_or_default()
    }
}

impl<'a> IntoIterator for &'a Resources {
    type Item = &'a Resource;
    type IntoIter = std::slice::Iter<'a, Resource>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(resources: &[(u8, u64)]) -> ResourceSet {
        let resource = |(name, version): &(u8, u64)| Resource {
            name: name.to_string().into(),
            version: *version,
            any: Any::default(),
        };
        ResourceSet::new(resources.iter().map(resource).collect())
    }

    proptest! {
        #[test]
        fn a_step_is_what_looking_at_each_name_finds(
            old in prop::collection::vec((0..20_u8, 0..3_u64), 0..20),
            new in prop::collection::vec((0..20_u8, 0..3_u64), 0..20),
        ) {
            let (old, new) = (set(&old), set(&new));
            let step = new.since(&old);
            let is_other = |r: &&Resource| old.get(&r.name).is_none_or(|before| before.version != r.version);
            prop_assert_eq!(&step.changed[..], &new.iter().filter(is_other).cloned().collect::<Vec<_>>()[..]);
            let added: Vec<_> = new.iter().map(|r| &r.name).filter(|name| old.get(name).is_none()).cloned().collect();
            prop_assert_eq!(&step.added, &added);
            prop_assert_eq!(step.removes, old.iter().any(|r| new.get(&r.name).is_none()));
            prop_assert!(Arc::ptr_eq(&step, &new.since(&old)));
        }
    }
}
