//! One xDS stream as a pure state machine: requests, new views and resource sets go in, what to send next comes out.
//!
//! The rules: <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol>. Beyond the letter of it:
//! * a change is sent type by type (CDS, EDS, LDS, RDS, …), the next type once the client has answered the one before;
//!   clusters and endpoints that vanish are withdrawn last, when nothing routes to them any more;
//! * a client never waits for what it asks for by name;
//! * a cluster that is sent is followed by its endpoints, because Envoy warms a changed cluster anew and does not ask
//!   (its issue 33607). Endpoints have the name of their cluster here, as in Istio.
//!
//! No clock and no I/O: the two timers that a stream needs ([`Session::settled`], [`Session::overdue`]) are the caller's.

mod watch;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

pub use watch::{Nack, TypeSync};
use watch::{Scope, Watch};

use super::names::NameLists;
use super::resources::Resources;
use super::{Kind, Kinds, ResourceSet};

/// Which of the two ADS methods the stream is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// `DeltaAggregatedResources`.
    Delta,
    /// `StreamAggregatedResources`.
    StateOfTheWorld,
}

/// What one client may make the server hold, and how large a response grows before it is split.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Names subscribed or claimed to be held, for each type.
    pub names: usize,
    /// Length of one name.
    pub name_bytes: usize,
    /// Payload of one response; a single larger resource goes alone. Full sets (state-of-the-world LDS, CDS) cannot be split.
    pub response_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { names: 65_536, name_bytes: 2048, response_bytes: 1 << 20 }
    }
}

/// A discovery request of either protocol.
#[derive(Clone, Debug)]
pub struct Request {
    /// The type it is about.
    pub kind: Kind,
    /// Nonce of the response that it answers; empty if none.
    pub nonce: String,
    /// Why the response was rejected.
    pub error: Option<String>,
    /// What it says about names.
    pub names: Names,
}

/// How a request changes the subscription.
#[derive(Clone, Debug)]
pub enum Names {
    /// Delta: by difference.
    Delta {
        /// Wanted from now on.
        subscribe: Vec<String>,
        /// No longer wanted.
        unsubscribe: Vec<String>,
        /// What the client holds from an earlier stream; read in the first request of a type only.
        initial_versions: HashMap<String, String>,
    },
    /// State of the world: the whole list.
    StateOfTheWorld(Vec<String>),
}

/// What a request meant as an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It answered nothing.
    None,
    /// It accepted the response in flight.
    Ack,
    /// It rejected the response in flight.
    Nack(Nack),
    /// It answered a response that is no longer the newest.
    Stale,
}

/// Why a stream must end.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SessionError {
    /// More names than one client may subscribe to.
    #[error("{kind}: more than {limit} resource names on one stream; subscribe to fewer")]
    TooManyNames {
        /// The type.
        kind: Kind,
        /// How many are allowed.
        limit: usize,
    },
    /// A name that no resource can have.
    #[error("{kind}: a resource name of {len} bytes; at most {limit} are allowed")]
    LongName {
        /// The type.
        kind: Kind,
        /// How long it is.
        len: usize,
        /// How long it may be.
        limit: usize,
    },
}

/// Something to send: ask the translator for [`Session::wanted`] and give the answer to [`Session::respond`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due {
    /// The type to send.
    pub kind: Kind,
    scope: Scope,
}

/// The names that a client wants of one type.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// All that apply to the client.
    pub wildcard: bool,
    /// These by name.
    pub names: Arc<BTreeSet<Arc<str>>>,
}

/// A response of either protocol.
#[derive(Clone, Debug)]
pub struct Push {
    /// Its type.
    pub kind: Kind,
    /// The client's answer carries it back.
    pub nonce: String,
    /// Version of the set that it was taken from.
    pub version: String,
    /// What is new or changed; in state of the world for LDS and CDS everything.
    pub resources: Resources,
    /// Delta: what is gone.
    pub removed: Vec<Arc<str>>,
}

/// The state of one stream.
#[derive(Debug)]
pub struct Session {
    protocol: Protocol,
    limits: Limits,
    watches: [Watch; Kind::ALL.len()],
    last_nonce: u64,
    settling: bool,
}

impl Session {
    /// A stream on which nothing has been said.
    pub fn new(protocol: Protocol, limits: Limits) -> Self {
        let watches = Kind::ALL.map(|kind| Watch::new(kind, protocol));
        Self { protocol, limits, watches, last_nonce: 0, settling: false }
    }

    /// Takes a request in.
    ///
    /// # Errors
    /// If the client asks for more than [`Limits`]; the stream must end then.
    pub fn on_request(&mut self, request: Request) -> Result<Answer, SessionError> {
        let Request { kind, nonce, error, names } = request;
        let watch = &mut self.watches[kind.index()];
        let (answer, answered) = watch.answer(&nonce, error);
        // State of the world repeats the whole list in the answer to the newest response, so an old one says nothing.
        if answer == Answer::Stale && self.protocol == Protocol::StateOfTheWorld {
            return Ok(answer);
        }
        let more = match names {
            Names::Delta { subscribe, unsubscribe, initial_versions } => {
                watch.subscribe_delta(subscribe, &unsubscribe, initial_versions, &self.limits)?
            }
            Names::StateOfTheWorld(names) => watch.subscribe_sotw(names, &self.limits)?,
        };
        match kind {
            Kind::Cluster => {
                if let Some(answered) = answered {
                    self.settling = self.watches[Kind::Endpoint.index()].clusters_answered(&answered.added);
                }
            }
            Kind::Endpoint if more => self.settling = false,
            _ => {}
        }
        Ok(answer)
    }

    /// A new view of the world may have changed these types.
    pub fn on_change(&mut self, kinds: Kinds) {
        for watch in &mut self.watches {
            if kinds.contains(watch.kind) {
                watch.touch();
            }
        }
    }

    /// What to send now, if anything.
    pub fn next(&self) -> Option<Due> {
        let mut blocked = false;
        for watch in &self.watches {
            if watch.is_waiting() {
                blocked |= watch.blocks();
                continue;
            }
            let held_back = blocked || (self.settling && watch.kind > Kind::Endpoint);
            match watch.due() {
                Some(scope) if !held_back => return Some(Due { kind: watch.kind, scope }),
                Some(_) if watch.has_requested() => return Some(Due { kind: watch.kind, scope: Scope::Requested }),
                Some(_) => blocked = true,
                None => {}
            }
        }
        let removal = || self.watches.iter().find(|watch| watch.has_removals() && !watch.is_waiting());
        if blocked || self.settling { None } else { removal().map(|w| Due { kind: w.kind, scope: Scope::Removals }) }
    }

    /// What the client wants of `kind`.
    pub fn wanted(&self, kind: Kind) -> Wanted {
        self.watches[kind.index()].wanted()
    }

    /// Makes the response to what [`Self::next`] said, from the resources that exist now; `None` if the client has it all.
    pub fn respond(&mut self, due: Due, set: &ResourceSet) -> Option<Push> {
        let nonce = format!("{:x}", self.last_nonce + 1);
        let push = self.watches[due.kind.index()].respond(due.scope, set, nonce, self.limits.response_bytes)?;
        self.last_nonce += 1;
        if due.kind == Kind::Cluster {
            self.watches[Kind::Endpoint.index()].clusters_sent(&push.resources);
        }
        Some(push)
    }

    /// Keeps the names of `kind` where others that ask for the same keep theirs.
    pub(super) fn share_names(&mut self, kind: Kind, lists: &NameLists) {
        self.watches[kind.index()].share_names(lists);
    }

    /// Whether routes wait for the client to ask for the endpoints of new clusters; end it with [`Self::settled`].
    pub fn is_settling(&self) -> bool {
        self.settling
    }

    /// The client has had its time to ask for endpoints.
    pub fn settled(&mut self) {
        self.settling = false;
    }

    /// Whether a response has no answer yet.
    pub fn is_waiting(&self) -> bool {
        self.watches.iter().any(Watch::is_waiting)
    }

    /// The client has not answered for long: what is in flight no longer holds other types back.
    pub fn overdue(&mut self) {
        for watch in &mut self.watches {
            watch.overdue();
        }
    }

    /// Whether the client has answered everything, and nothing is left to send.
    pub fn is_idle(&self) -> bool {
        !self.settling && !self.is_waiting() && self.next().is_none()
    }

    /// What the client rejected of `kind`, if nothing better has come since.
    pub fn nack(&self, kind: Kind) -> Option<&Nack> {
        self.watches[kind.index()].nack()
    }

    /// The same of every type.
    pub fn nacks(&self) -> Vec<(Kind, Nack)> {
        self.watches.iter().filter_map(|watch| Some((watch.kind, watch.nack()?.clone()))).collect()
    }

    /// Sent, acknowledged and rejected versions by type, for the types that the client asked for.
    pub fn sync(&self) -> Vec<TypeSync> {
        self.watches.iter().filter_map(Watch::sync).collect()
    }
}
