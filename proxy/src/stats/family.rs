//! Metrics of what there are thousands of: the numbers of one owner stand in one block, and names are made only when
//! somebody asks. One by one, the metrics of a cluster take some 15 KiB.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use super::{Key, Settings, Value};
use crate::text::Text;

/// The numbers of one owner.
pub trait Family: Any + Send + Sync {
    /// Shows each number under its name within the owner's scope.
    fn each(&self, see: &mut dyn FnMut(&str, Value));

    /// Counters count from zero again.
    fn reset(&self);

    /// Sets the upper bounds of the histograms' buckets, by name.
    fn bind(&self, _bounds: &dyn Fn(&str) -> Arc<[f64]>) {}
}

/// Whose numbers they are: `cluster.<value>.<name>`, with the value as a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// First part of the name.
    pub kind: &'static str,
    /// The owner's name.
    pub value: Text,
    /// The tag that holds it.
    pub tag: &'static str,
}

/// A family, and what comes before its names.
type Part = (&'static str, Weak<dyn Family>);

/// All families; one whose owner is gone goes with it.
#[derive(Default)]
pub(super) struct Families {
    /// With the names of their parts; an owner has a handful.
    members: BTreeMap<Owner, Vec<Part>>,
    /// Beyond so many, those that are gone are looked for.
    sweep_at: usize,
}

impl Families {
    /// The family of an owner and part; made if there is none. An owner's new version goes on with the old numbers.
    pub(super) fn get<F: Family + Default>(
        &mut self,
        owner: &Owner,
        part: &'static str,
        settings: &Settings,
    ) -> Arc<F> {
        let parts = self.members.get(owner).map(Vec::as_slice).unwrap_or_default();
        let known = parts.iter().find(|(found, _)| *found == part).and_then(|(_, family)| family.upgrade());
        let known: Option<Arc<dyn Any + Send + Sync>> = known.map(|found| {
            let any: Arc<dyn Any + Send + Sync> = found;
            any
        });
        if let Some(known) = known.and_then(|known| known.downcast::<F>().ok()) {
            return known;
        }
        let made = Arc::<F>::default();
        self.show(owner, part, &made, settings);
        made
    }

    /// Takes a family in the place of what stood there.
    pub(super) fn show<F: Family>(&mut self, owner: &Owner, part: &'static str, family: &Arc<F>, settings: &Settings) {
        if settings.has_bounds() {
            family.bind(&|name| settings.bounds(&key(owner, part, name)));
        }
        if self.members.len() >= self.sweep_at {
            self.members.retain(|_, parts| {
                parts.retain(|(_, family)| family.strong_count() > 0);
                !parts.is_empty()
            });
            self.sweep_at = (self.members.len() * 2).max(64);
        }
        let family: Arc<dyn Family> = family.clone();
        let parts = self.members.entry(owner.clone()).or_default();
        match parts.iter_mut().find(|(found, _)| *found == part) {
            Some((_, before)) => *before = Arc::downgrade(&family),
            None => parts.push((part, Arc::downgrade(&family))),
        }
    }

    /// Counters count from zero again.
    pub(super) fn reset(&self) {
        let all = self.members.values().flatten();
        all.filter_map(|(_, family)| family.upgrade()).for_each(|family| family.reset());
    }

    /// Every metric, in the order of owners.
    pub(super) fn snapshot(&self, see: &mut dyn FnMut(Key, Value)) {
        for (owner, parts) in &self.members {
            for (part, family) in parts {
                let Some(family) = family.upgrade() else { continue };
                family.each(&mut |name, number| see(key(owner, part, name), number));
            }
        }
    }
}

fn key(owner: &Owner, part: &str, name: &str) -> Key {
    let (kind, value) = (owner.kind, &owner.value);
    let tags = vec![(owner.tag.to_owned(), value.to_string())];
    Key { full: format!("{kind}.{value}.{part}{name}"), name: format!("{kind}.{part}{name}"), tags, is_series: false }
}

impl std::fmt::Debug for Families {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Families({})", self.members.len())
    }
}

/// Declares a block of numbers: `counter`, `gauge`, `times` (in milliseconds) and `codes` (by HTTP status) by name, shown under `each`'s names.
#[macro_export]
macro_rules! family {
    ($(#[$doc:meta])* $name:ident { $($kind:ident $metric:ident;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        #[allow(missing_docs)]
        pub struct $name { $(pub $metric: $crate::family!(@type $kind),)* }

        impl $crate::stats::Family for $name {
            fn each(&self, see: &mut dyn FnMut(&str, $crate::stats::Value)) {
                $($crate::family!(@see $kind see, stringify!($metric), self.$metric);)*
            }

            fn reset(&self) {
                $($crate::family!(@reset $kind self.$metric);)*
            }

            fn bind(&self, _bounds: &dyn Fn(&str) -> std::sync::Arc<[f64]>) {
                $($crate::family!(@bind $kind _bounds, stringify!($metric), self.$metric);)*
            }
        }
    };
    (@type counter) => { $crate::stats::Count };
    (@type gauge) => { $crate::stats::Level };
    (@type times) => { $crate::stats::Times };
    (@type codes) => { $crate::stats::codes::StatusCodes };
    (@see codes $see:ident, $name:expr, $number:expr) => { $number.each($see) };
    (@see counter $see:ident, $name:expr, $number:expr) => { $see($name, $crate::stats::Value::Counter($number.get())) };
    (@see gauge $see:ident, $name:expr, $number:expr) => { $see($name, $crate::stats::Value::Gauge($number.get())) };
    (@see times $see:ident, $name:expr, $number:expr) => {
        if let Some(value) = $number.value() {
            $see($name, value);
        }
    };
    (@reset counter $number:expr) => { $number.reset() };
    (@reset codes $number:expr) => { $number.reset() };
    (@reset gauge $number:expr) => {};
    (@reset times $number:expr) => {};
    (@bind counter $bounds:ident, $name:expr, $number:expr) => {};
    (@bind codes $bounds:ident, $name:expr, $number:expr) => {};
    (@bind gauge $bounds:ident, $name:expr, $number:expr) => {};
    (@bind times $bounds:ident, $name:expr, $number:expr) => { $number.bind($bounds($name)) };
}
