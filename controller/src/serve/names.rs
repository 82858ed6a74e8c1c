//! Lists of names that clients subscribe to: most proxies ask for the same, which is kept once.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// Lists that are remembered; of more, each client has its own.
const MOST: usize = 64;
/// Shorter ones are not worth looking for.
const SHORT: usize = 16;

type Names = BTreeSet<Arc<str>>;

/// The lists of all clients.
#[derive(Debug, Default)]
pub(super) struct NameLists(Mutex<Vec<Weak<Names>>>);

impl NameLists {
    /// Puts the list that others have in the place of an equal one.
    pub(super) fn share(&self, names: &mut Arc<Names>) {
        if names.len() < SHORT {
            return;
        }
        let mut lists = self.0.lock();
        lists.retain(|list| list.strong_count() > 0);
        let equal = lists.iter().filter_map(Weak::upgrade).find(|list| Arc::ptr_eq(list, names) || list == names);
        match equal {
            Some(list) => *names = list,
            None if lists.len() < MOST => lists.push(Arc::downgrade(names)),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Arc<Names> {
        Arc::new((0..count).map(|number| Arc::from(number.to_string())).collect())
    }

    #[test]
    fn equal_lists_are_kept_once_and_a_change_to_one_is_its_own() {
        let lists = NameLists::default();
        let (mut one, mut two, mut other) = (names(100), names(100), names(99));
        for list in [&mut one, &mut two, &mut other] {
            lists.share(list);
        }
        assert!(Arc::ptr_eq(&one, &two) && !Arc::ptr_eq(&one, &other));
        Arc::make_mut(&mut two).insert("more".into());
        lists.share(&mut two);
        assert_eq!((one.len(), two.len()), (100, 101));
        drop((one, two));
        lists.share(&mut other);
        assert_eq!(lists.0.lock().len(), 1, "what nobody has is forgotten");
    }
}
