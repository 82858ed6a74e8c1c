//! One resource type on one stream: what the client wants, what it holds, what it has answered.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::{Answer, Limits, Protocol, Push, SessionError, Wanted};
use crate::serve::{Kind, Resource, ResourceSet};

/// Bytes of a client's error text that are kept.
const MAX_DETAIL: usize = 4096;
/// Names of a rejected response that are kept for display.
const MAX_REJECTED_NAMES: usize = 64;

/// A rejected response.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Nack {
    /// Version of the rejected response.
    pub version: String,
    /// Its nonce.
    pub nonce: String,
    /// What the client says is wrong.
    pub detail: String,
    /// Resources in the rejected response (the first ones of many).
    pub resources: Vec<Arc<str>>,
}

/// Where a client stands with one type.
#[derive(Clone, Debug, serde::Serialize)]
pub struct TypeSync {
    /// The type.
    #[serde(serialize_with = "short_name")]
    pub kind: Kind,
    /// Whether it wants all resources.
    pub wildcard: bool,
    /// How many it asked for by name.
    pub names: usize,
    /// How many it holds.
    pub resources: usize,
    /// Nonce of the last response; empty before the first.
    pub sent: String,
    /// Nonce of the last response that was accepted.
    pub acked: String,
    /// Version of the last response.
    pub version: String,
    /// The last response, if it was rejected.
    pub nack: Option<Nack>,
    /// Whether an answer is awaited.
    pub pending: bool,
}

fn short_name<S: serde::Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.short_name())
}

/// Which part of the difference to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    /// All but withdrawals that must come last.
    All,
    /// Only what the client asked for by name.
    Requested,
    /// Withdrawals too.
    Removals,
}

/// A response without an answer.
#[derive(Debug)]
pub(super) struct InFlight {
    nonce: String,
    version: String,
    /// Resources in it.
    pub(super) names: Vec<Arc<str>>,
    /// Those of them that the client did not hold.
    pub(super) added: Vec<Arc<str>>,
    overdue: bool,
}

/// What the client holds under a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Held {
    /// This version.
    Version(u64),
    /// Something of another server.
    Foreign,
    /// Nothing, and it was told so.
    Absent,
}

#[derive(Debug)]
pub(super) struct Watch {
    pub(super) kind: Kind,
    protocol: Protocol,
    /// A request of this type has come.
    seen: bool,
    /// A name was given once, so an empty list no longer means everything.
    named: bool,
    wildcard: bool,
    names: Arc<BTreeSet<Arc<str>>>,
    held: HashMap<Arc<str>, Held>,
    /// Asked for by name (again): sent even if held.
    requested: HashSet<Arc<str>>,
    /// Names whose cluster was sent since: asked for as soon as the client has the cluster.
    warming: HashSet<Arc<str>>,
    /// Names were asked for since clusters were last sent.
    asked: bool,
    /// A response is due even if it is empty.
    unanswered: bool,
    /// The world may have changed.
    dirty: bool,
    removals: bool,
    in_flight: Option<InFlight>,
    /// Version of the set that the client holds whole, if nothing was asked for since.
    level: Option<u64>,
    /// Sent in a response that was rejected: maybe not applied.
    suspects: Vec<Arc<str>>,
    /// State-of-the-world CDS: the last full set, to keep alive what is withdrawn last.
    last_set: Vec<Resource>,
    sent: String,
    sent_version: String,
    acked: String,
    nack: Option<Nack>,
}

impl Watch {
    pub(super) fn new(kind: Kind, protocol: Protocol) -> Self {
        Self {
            kind,
            protocol,
            seen: false,
            named: false,
            wildcard: false,
            names: Arc::default(),
            held: HashMap::new(),
            requested: HashSet::new(),
            warming: HashSet::new(),
            asked: false,
            unanswered: false,
            dirty: false,
            removals: false,
            in_flight: None,
            level: None,
            suspects: Vec::new(),
            last_set: Vec::new(),
            sent: String::new(),
            sent_version: String::new(),
            acked: String::new(),
            nack: None,
        }
    }

    /// Reads the answer in a request, and gives back the response that it answers.
    pub(super) fn answer(&mut self, nonce: &str, error: Option<String>) -> (Answer, Option<InFlight>) {
        // A nonce before anything was sent is left over from the client's last stream.
        if nonce.is_empty() || self.sent.is_empty() {
            return (Answer::None, None);
        }
        if nonce != self.sent {
            return (Answer::Stale, None);
        }
        let Some(in_flight) = self.in_flight.take() else { return (Answer::None, None) };
        let Some(mut detail) = error else {
            self.acked.clone_from(&in_flight.nonce);
            self.nack = None;
            self.requested.extend(self.suspects.drain(..));
            return (Answer::Ack, Some(in_flight));
        };
        truncate(&mut detail);
        let nack = Nack {
            version: in_flight.version.clone(),
            nonce: in_flight.nonce.clone(),
            detail,
            resources: in_flight.names.iter().take(MAX_REJECTED_NAMES).cloned().collect(),
        };
        self.suspects.extend(in_flight.names.iter().cloned());
        self.suspects.sort_unstable();
        self.suspects.dedup();
        self.nack = Some(nack.clone());
        (Answer::Nack(nack), Some(in_flight))
    }

    /// Delta: says whether names were asked for.
    pub(super) fn subscribe_delta(
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
            self.held
                .extend(initial_versions.into_iter().map(|(name, version)| (name.into(), parse_version(&version))));
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
            if !(first && self.held.contains_key(&name)) {
                self.requested.insert(Arc::clone(&name));
            }
            Arc::make_mut(&mut self.names).insert(name);
        }
        for name in unsubscribe {
            self.unsubscribe(name);
        }
        if first && !self.wildcard {
            let names = Arc::clone(&self.names);
            self.held.retain(|name, _| names.contains(name));
        }
        Ok(more)
    }

    /// State of the world: says whether names were asked for that were not before.
    pub(super) fn subscribe_sotw(&mut self, names: Vec<String>, limits: &Limits) -> Result<bool, SessionError> {
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
                self.held.retain(|name, _| names.contains(name));
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
            self.held.retain(|name, _| names.contains(name));
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

    /// The world may have changed.
    pub(super) fn touch(&mut self) {
        self.dirty |= self.seen;
    }

    /// Endpoints: these clusters are on their way to the client.
    pub(super) fn clusters_sent(&mut self, clusters: &[Resource]) {
        self.asked = false;
        self.warming.extend(clusters.iter().map(|c| &c.name).filter(|name| self.names.contains(*name)).cloned());
    }

    /// Endpoints: the client has the clusters; says whether it still has to ask for the endpoints of `added`.
    pub(super) fn clusters_answered(&mut self, added: &[Arc<str>]) -> bool {
        self.requested.extend(self.warming.drain().filter(|name| self.names.contains(name)));
        !self.asked && added.iter().any(|name| !self.names.contains(name))
    }

    pub(super) fn wanted(&self) -> Wanted {
        Wanted { wildcard: self.wildcard, names: Arc::clone(&self.names) }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether other types wait for the answer.
    pub(super) fn blocks(&self) -> bool {
        self.in_flight.as_ref().is_some_and(|in_flight| !in_flight.overdue)
    }

    pub(super) fn overdue(&mut self) {
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.overdue = true;
        }
    }

    pub(super) fn has_requested(&self) -> bool {
        !self.requested.is_empty()
    }

    pub(super) fn has_removals(&self) -> bool {
        self.removals
    }

    pub(super) fn due(&self) -> Option<Scope> {
        if self.dirty || self.unanswered { Some(Scope::All) } else { self.has_requested().then_some(Scope::Requested) }
    }

    pub(super) fn sync(&self) -> Option<TypeSync> {
        self.seen.then(|| TypeSync {
            kind: self.kind,
            wildcard: self.wildcard,
            names: self.names.len(),
            resources: self.held.values().filter(|held| **held != Held::Absent).count(),
            sent: self.sent.clone(),
            acked: self.acked.clone(),
            version: self.sent_version.clone(),
            nack: self.nack.clone(),
            pending: self.in_flight.is_some(),
        })
    }

    pub(super) fn respond(&mut self, scope: Scope, set: &ResourceSet, nonce: String, budget: usize) -> Option<Push> {
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

    fn holds(&self, name: &str) -> bool {
        !matches!(self.held.get(name), None | Some(Held::Absent))
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

fn parse_version(version: &str) -> Held {
    match u64::from_str_radix(version, 16) {
        Ok(version) => Held::Version(version),
        Err(_) => Held::Foreign,
    }
}

fn truncate(text: &mut String) {
    if text.len() > MAX_DETAIL {
        let end = (0..=MAX_DETAIL).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
}
