//! Endpoints of all Services that many proxies ask for alike: where few changed, the others are taken over from the set
//! before.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::index::{Key, Table, View};
use crate::serve::{Resource, ResourceSet};
use crate::translate::names;

/// Lists of names whose last set is kept.
const MOST: usize = 64;

type Names = Arc<BTreeSet<Arc<str>>>;

/// A set with the view that it was made from.
struct Last {
    group: String,
    names: Names,
    view: Arc<View>,
    set: ResourceSet,
}

/// The last sets, by who sees the same and what they ask for.
#[derive(Default)]
pub(super) struct LastEndpoints(Mutex<Vec<Last>>);

impl LastEndpoints {
    /// The set of `names` in `view`; `make` makes those that it is given.
    pub(super) fn set(
        &self,
        group: String,
        names: &Names,
        view: &Arc<View>,
        make: impl Fn(&[String]) -> Vec<Resource>,
    ) -> ResourceSet {
        let is_it = |last: &Last| last.group == group && Arc::ptr_eq(&last.names, names);
        let last = self.0.lock().iter().find(|last| is_it(last)).map(|last| (Arc::clone(&last.view), last.set.clone()));
        let kept = last.and_then(|(before, set)| Some((touched(&before, view)?, set)));
        let set = match kept {
            Some((services, set)) => {
                let is_touched = |name: &str| service_of(name).is_some_and(|service| services.contains(&service));
                let anew: Vec<String> = if services.is_empty() {
                    Vec::new()
                } else {
                    names.iter().filter(|name| is_touched(name)).map(|name| name.to_string()).collect()
                };
                let mut resources = make(&anew);
                let anew: BTreeSet<&str> = anew.iter().map(String::as_str).collect();
                resources.extend(set.iter().filter(|resource| !anew.contains(&*resource.name)).cloned());
                ResourceSet::new(resources)
            }
            None => ResourceSet::new(make(&names.iter().map(|name| name.to_string()).collect::<Vec<_>>())),
        };
        let mut sets = self.0.lock();
        // Lists that no stream has any more; one count is ours.
        sets.retain(|last| !is_it(last) && Arc::strong_count(&last.names) > 1);
        if sets.len() < MOST {
            sets.push(Last { group, names: Arc::clone(names), view: Arc::clone(view), set: set.clone() });
        }
        set
    }
}

fn service_of(name: &str) -> Option<Key> {
    let (host, _) = names::parse_outbound(name)?;
    let (namespace, service) = names::service_of_host(host)?;
    Some(Key::new(namespace, service))
}

/// Services whose EndpointSlices are not the same in both views; `None` if something else that endpoints are made from is
/// another, too.
fn touched(old: &View, new: &View) -> Option<BTreeSet<Key>> {
    let same = old.services.same(&new.services)
        && old.pods.same(&new.pods)
        && old.peer_authentications.same(&new.peer_authentications)
        && Arc::ptr_eq(&old.mesh, &new.mesh);
    if !same {
        return None;
    }
    let mut services = BTreeSet::new();
    for (view, other) in [(old, new), (new, old)] {
        let changed = differing(&view.endpoint_slices, &other.endpoint_slices);
        services.extend(changed.filter_map(|slice| view.service_of_slice(slice)));
    }
    Some(services)
}

/// What `table` has and `other` has not, or has otherwise.
fn differing<'a, T>(table: &'a Table<T>, other: &'a Table<T>) -> impl Iterator<Item = &'a Arc<T>> {
    let mut others = other.iter().peekable();
    table.iter().filter_map(move |(key, object)| {
        while others.next_if(|(found, _)| *found < key).is_some() {}
        let same = others.next_if(|(found, _)| *found == key).is_some_and(|(_, found)| Arc::ptr_eq(found, object));
        (!same).then_some(object)
    })
}
