//! What the client gets: the difference between what it holds and what there is now.

use std::sync::Arc;

use super::{Held, InFlight, Scope, Watch};
use crate::serve::session::{Protocol, Push};
use crate::serve::{Kind, Resource, ResourceSet};

impl Watch {
    pub(in crate::serve::session) fn respond(
        &mut self,
        scope: Scope,
        set: &ResourceSet,
        nonce: String,
        budget: usize,
    ) -> Option<Push> {
        let level = self.level.take().filter(|level| *level == set.version() && scope == Scope::All);
        if level.is_some() && self.requested.is_empty() && !self.unanswered && !self.removals {
            self.dirty = false;
            self.level = level;
            return None;
        }
        let (mut changed, mut gone) = match scope {
            Scope::Requested => self.requested_difference(set),
            Scope::All | Scope::Removals => self.difference(set),
        };
        if scope == Scope::All {
            self.dirty = false;
        }
        if scope != Scope::Requested {
            self.removals = false;
        }
        if scope == Scope::All && matches!(self.kind, Kind::Cluster | Kind::Endpoint) {
            let before = gone.len();
            gone.retain(|name| self.requested.contains(name) || !self.holds(name));
            self.removals = gone.len() != before;
        }
        let full = self.protocol == Protocol::StateOfTheWorld && self.kind.is_full_state();
        if changed.is_empty() && !self.unanswered && (gone.is_empty() || (self.protocol != Protocol::Delta && !full)) {
            self.forget(&gone);
            self.level = (scope == Scope::All && !self.removals).then(|| set.version());
            return None;
        }
        let added = changed.iter().filter(|r| !self.holds(&r.name)).map(|r| Arc::clone(&r.name)).collect();
        if full {
            changed = self.full_set(set);
        } else if let Some(rest) = split(&changed, budget) {
            changed.truncate(rest);
            match scope {
                Scope::Requested => {}
                Scope::All => self.dirty = true,
                Scope::Removals => self.removals = true,
            }
        }
        self.unanswered = false;
        for resource in &changed {
            self.requested.remove(&resource.name);
            self.warming.remove(&resource.name);
            self.held.insert(Arc::clone(&resource.name), Held::Version(resource.version));
        }
        self.forget(&gone);
        self.level = (scope == Scope::All && !self.removals && !self.dirty).then(|| set.version());
        self.sent.clone_from(&nonce);
        self.sent_version = format!("{:016x}", set.version());
        let version = self.sent_version.clone();
        let names = changed.iter().map(|resource| Arc::clone(&resource.name)).collect();
        self.in_flight =
            Some(InFlight { nonce: nonce.clone(), version: version.clone(), names, added, overdue: false });
        let removed = if self.protocol == Protocol::Delta { gone } else { Vec::new() };
        Some(Push { kind: self.kind, nonce, version, resources: changed, removed })
    }

    /// What of `set` the client lacks, and what it holds or asked for that is not in `set`.
    fn difference(&self, set: &ResourceSet) -> (Vec<Resource>, Vec<Arc<str>>) {
        let stale = |resource: &&Resource| {
            self.requested.contains(&resource.name)
                || self.held.get(&resource.name) != Some(&Held::Version(resource.version))
        };
        let changed = if self.wildcard {
            set.iter().filter(stale).cloned().collect()
        } else {
            self.names.iter().filter_map(|name| set.get(name)).filter(stale).cloned().collect()
        };
        let mut gone: Vec<Arc<str>> = Vec::new();
        gone.extend(self.held.keys().filter(|name| self.holds(name) && set.get(name).is_none()).cloned());
        let untold =
            |name: &&Arc<str>| (self.requested.contains(*name) || !self.held.contains_key(*name)) && !self.holds(name);
        gone.extend(self.names.iter().filter(untold).filter(|name| set.get(name).is_none()).cloned());
        gone.sort_unstable();
        (changed, gone)
    }

    fn requested_difference(&self, set: &ResourceSet) -> (Vec<Resource>, Vec<Arc<str>>) {
        let mut changed = Vec::new();
        let mut gone = Vec::new();
        for name in &self.requested {
            match set.get(name) {
                Some(resource) => changed.push(resource.clone()),
                None => gone.push(Arc::clone(name)),
            }
        }
        changed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        gone.sort_unstable();
        (changed, gone)
    }

    /// Everything that the client wants, and what is withdrawn later.
    fn full_set(&mut self, set: &ResourceSet) -> Vec<Resource> {
        let mut all: Vec<Resource> = if self.wildcard {
            set.iter().cloned().collect()
        } else {
            self.names.iter().filter_map(|name| set.get(name)).cloned().collect()
        };
        if self.removals {
            all.extend(self.last_set.iter().filter(|r| self.holds(&r.name) && set.get(&r.name).is_none()).cloned());
        }
        if self.kind == Kind::Cluster {
            self.last_set.clone_from(&all);
        }
        all
    }

    /// Notes that the client is told that these do not exist.
    fn forget(&mut self, gone: &[Arc<str>]) {
        for name in gone {
            self.requested.remove(name);
            if self.names.contains(name) {
                self.held.insert(Arc::clone(name), Held::Absent);
            } else {
                self.held.remove(name);
            }
        }
    }
}

/// How many of `resources` fit into `budget` bytes, if not all.
fn split(resources: &[Resource], budget: usize) -> Option<usize> {
    let mut bytes = 0;
    let fits = |resource: &Resource| {
        bytes += resource.any.value.len() + resource.name.len();
        bytes <= budget
    };
    let count = resources.iter().map(fits).take_while(|fits| *fits).count().max(1);
    (count < resources.len()).then_some(count)
}
