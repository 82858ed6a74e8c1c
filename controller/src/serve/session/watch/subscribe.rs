//! What the client wants: its requests change the subscription.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::Watch;
use super::held::Held;
use crate::serve::session::{Limits, Protocol, SessionError};

impl Watch {
    /// Delta: says whether names were asked for.
    pub(in crate::serve::session) fn subscribe_delta(
        &mut self,
        subscribe: Vec<String>,
        unsubscribe: &[String],
        initial_versions: HashMap<String, String>,
        limits: &Limits,
    ) -> Result<bool, SessionError> {
        let first = !std::mem::replace(&mut self.seen, true);
        if first || !subscribe.is_empty() || !unsubscribe.is_empty() {
            self.level = None;
        }
        self.check(subscribe.iter().chain(initial_versions.keys()), limits)?;
        if first {
            for (name, version) in initial_versions {
                self.held.insert(name.into(), parse_version(&version));
            }
            self.dirty = !self.held.is_empty();
            if subscribe.is_empty() && self.kind.is_full_state() {
                self.want_everything();
            }
        }
        let more = !subscribe.is_empty();
        self.asked |= more;
        for name in subscribe {
            self.named = true;
            if name == "*" {
                self.want_everything();
                continue;
            }
            let name = Arc::from(name);
            if !(first && self.held.get(&name).is_some()) {
                self.requested.insert(Arc::clone(&name));
            }
            Arc::make_mut(&mut self.names).insert(name);
        }
        for name in unsubscribe {
            self.unsubscribe(name);
        }
        if first && !self.wildcard {
            let names = Arc::clone(&self.names);
            self.held.retain(&names);
        }
        Ok(more)
    }

    /// State of the world: says whether names were asked for that were not before.
    pub(in crate::serve::session) fn subscribe_sotw(
        &mut self,
        names: Vec<String>,
        limits: &Limits,
    ) -> Result<bool, SessionError> {
        let first = !std::mem::replace(&mut self.seen, true);
        self.level = None;
        self.check(names.iter(), limits)?;
        self.named |= !names.is_empty();
        let wildcard = self.kind.is_full_state() && (!self.named || names.iter().any(|name| name == "*"));
        let names: BTreeSet<Arc<str>> = names.into_iter().filter(|name| name != "*").map(Arc::from).collect();
        if wildcard && !self.wildcard {
            self.want_everything();
        }
        self.wildcard = wildcard;
        if first {
            self.unanswered = wildcard || !names.is_empty();
        }
        let added: Vec<_> = names.difference(&self.names).cloned().collect();
        if names != *self.names {
            self.requested.retain(|name| names.contains(name));
            if !wildcard {
                self.held.retain(&names);
            }
            self.names = Arc::new(names);
        }
        let more = !added.is_empty();
        self.asked |= more;
        if more && self.kind.is_full_state() {
            self.dirty = true;
            self.unanswered = true;
        } else {
            self.requested.extend(added);
        }
        Ok(more)
    }

    fn check<'a>(&self, names: impl Iterator<Item = &'a String>, limits: &Limits) -> Result<(), SessionError> {
        let mut count = match self.protocol {
            Protocol::Delta => self.names.len(),
            Protocol::StateOfTheWorld => 0,
        };
        for name in names {
            if name.len() > limits.name_bytes {
                return Err(SessionError::LongName { kind: self.kind, len: name.len(), limit: limits.name_bytes });
            }
            count += usize::from(self.protocol == Protocol::StateOfTheWorld || !self.names.contains(name.as_str()));
        }
        if count > limits.names {
            Err(SessionError::TooManyNames { kind: self.kind, limit: limits.names })
        } else {
            Ok(())
        }
    }

    fn want_everything(&mut self) {
        // There is no list of all secrets or routes: those are only found by name.
        if self.kind.is_full_state() {
            self.wildcard = true;
            self.dirty = true;
            self.unanswered = true;
        }
    }

    fn unsubscribe(&mut self, name: &str) {
        if name == "*" {
            self.wildcard = false;
            let names = Arc::clone(&self.names);
            self.held.retain(&names);
            return;
        }
        let Some(name) = Arc::make_mut(&mut self.names).take(name) else { return };
        if self.wildcard {
            // Still wanted by `*`: the client has to hear whether it goes on.
            self.requested.insert(name);
        } else {
            self.requested.remove(&name);
            self.held.remove(&name);
        }
    }
}

fn parse_version(version: &str) -> Held {
    match u64::from_str_radix(version, 16) {
        Ok(version) => Held::Version(version),
        Err(_) => Held::Foreign,
    }
}
