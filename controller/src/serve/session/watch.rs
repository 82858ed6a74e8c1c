//! One resource type on one stream: what the client wants (`subscribe`), what it holds and gets (`respond`), what it has
//! answered.

mod held;
mod respond;
mod subscribe;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use held::{Held, Holding};

use super::{Answer, Protocol, Wanted};
use crate::serve::names::NameLists;
use crate::serve::resources::Resources;
use crate::serve::{Kind, Resource};

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
    resources: Resources,
    /// Those of them that the client did not hold.
    pub(super) added: Vec<Arc<str>>,
    overdue: bool,
}

impl InFlight {
    fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.resources.iter().map(|resource| &resource.name)
    }
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
    held: Holding,
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
            held: Holding::default(),
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
            resources: in_flight.names().take(MAX_REJECTED_NAMES).cloned().collect(),
        };
        self.suspects.extend(in_flight.names().cloned());
        self.suspects.sort_unstable();
        self.suspects.dedup();
        self.nack = Some(nack.clone());
        (Answer::Nack(nack), Some(in_flight))
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

    pub(super) fn share_names(&mut self, lists: &NameLists) {
        lists.share(&mut self.names);
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

    /// What the client rejected, if nothing better has come since.
    pub(super) fn nack(&self) -> Option<&Nack> {
        self.nack.as_ref()
    }

    pub(super) fn sync(&self) -> Option<TypeSync> {
        self.seen.then(|| TypeSync {
            kind: self.kind,
            wildcard: self.wildcard,
            names: self.names.len(),
            resources: self.held.names().count(),
            sent: self.sent.clone(),
            acked: self.acked.clone(),
            version: self.sent_version.clone(),
            nack: self.nack.clone(),
            pending: self.in_flight.is_some(),
        })
    }

    fn holds(&self, name: &str) -> bool {
        !matches!(self.held.get(name), None | Some(Held::Absent))
    }
}

fn truncate(text: &mut String) {
    if text.len() > MAX_DETAIL {
        let end = (0..=MAX_DETAIL).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
}
