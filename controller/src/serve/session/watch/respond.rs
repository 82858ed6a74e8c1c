//! What the client gets: the difference between what it holds and what there is now.

use std::sync::Arc;

use super::held::Held;
use super::{InFlight, Scope, Watch};
use crate::serve::resources::{Resources, Step};
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
        let level = self.level.take().filter(|_| scope == Scope::All);
        if let Some(level) = level
            && self.requested.is_empty()
            && !self.unanswered
            && !self.removals
        {
            if level == set.version() {
                self.dirty = false;
                self.level = Some(level);
                return None;
            }
            if let Some(step) = self.step(level, set, budget) {
                return self.follow(&step, set, nonce);
            }
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
            self.rebase(set);
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
        }
        // Most ask for all that there is: then this response is the set.
        let whole = !full
            && !self.removals
            && !self.dirty
            && changed.len() == set.len()
            && (scope != Scope::Requested || self.held.names().all(|name| set.get(name).is_some()));
        let changed = if whole { set.all() } else { Resources::from(changed) };
        if whole {
            self.held.becomes(set);
        } else {
            for resource in &changed {
                self.held.insert(Arc::clone(&resource.name), Held::Version(resource.version));
            }
        }
        self.forget(&gone);
        let is_level = scope == Scope::All || (whole && self.requested.is_empty());
        self.level = (is_level && !self.removals && !self.dirty).then(|| set.version());
        self.rebase(set);
        self.shrink();
        Some(self.push(changed, added, gone, set, nonce))
    }

    /// Notes a response, which is sent now.
    fn push(
        &mut self,
        resources: Resources,
        added: Vec<Arc<str>>,
        gone: Vec<Arc<str>>,
        set: &ResourceSet,
        nonce: String,
    ) -> Push {
        self.sent.clone_from(&nonce);
        self.sent_version = format!("{:016x}", set.version());
        let version = self.sent_version.clone();
        self.in_flight = Some(InFlight {
            nonce: nonce.clone(),
            version: version.clone(),
            resources: resources.clone(),
            added,
            overdue: false,
        });
        let removed = if self.protocol == Protocol::Delta { gone } else { Vec::new() };
        Push { kind: self.kind, nonce, version, resources, removed }
    }

    /// The way from the set that the client holds whole to `set`, if all streams on it are sent the same.
    fn step(&self, level: u64, set: &ResourceSet, budget: usize) -> Option<Arc<Step>> {
        if self.protocol == Protocol::StateOfTheWorld && self.kind.is_full_state() {
            return None;
        }
        let step = set.since(self.held.whole().filter(|whole| whole.version() == level)?);
        let is_wanted = self.wildcard || step.added.iter().all(|name| self.names.contains(name));
        (!step.removes && is_wanted && split(&step.changed, budget).is_none()).then_some(step)
    }

    fn follow(&mut self, step: &Step, set: &ResourceSet, nonce: String) -> Option<Push> {
        self.dirty = false;
        self.level = Some(set.version());
        self.held.becomes(set);
        if step.changed.is_empty() {
            return None;
        }
        for resource in &step.changed {
            self.warming.remove(&resource.name);
        }
        Some(self.push(step.changed.clone(), step.added.clone(), Vec::new(), set, nonce))
    }

    /// Where the client holds a set whole, the set says so, for one count; `level` and all that was told must be noted.
    fn rebase(&mut self, set: &ResourceSet) {
        let is_held = |level: &u64| self.held.whole().is_some_and(|whole| whole.version() == *level);
        if self.level.filter(|level| !is_held(level)).is_none() {
            return;
        }
        if self.wildcard || set.iter().all(|resource| self.names.contains(&resource.name)) {
            self.held.becomes(set);
        }
    }

    /// Gives back the room of lists that were long once.
    fn shrink(&mut self) {
        if self.requested.is_empty() {
            self.requested.shrink_to_fit();
        }
        if self.warming.is_empty() {
            self.warming.shrink_to_fit();
        }
    }

    /// What of `set` the client lacks, and what it holds or asked for that is not in `set`.
    fn difference(&self, set: &ResourceSet) -> (Vec<Resource>, Vec<Arc<str>>) {
        let stale = |resource: &&Resource| {
            self.requested.contains(&resource.name)
                || self.held.get(&resource.name) != Some(Held::Version(resource.version))
        };
        let changed = if self.wildcard {
            set.iter().filter(stale).cloned().collect()
        } else {
            self.names.iter().filter_map(|name| set.get(name)).filter(stale).cloned().collect()
        };
        let mut gone: Vec<Arc<str>> = Vec::new();
        gone.extend(self.held.names().filter(|name| set.get(name).is_none()).cloned());
        let untold =
            |name: &&Arc<str>| (self.requested.contains(*name) || self.held.get(name).is_none()) && !self.holds(name);
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
