//! The protocol state of one ADS stream, without I/O: what to ask, what an answer changes, what to answer back.

use std::collections::{BTreeMap, BTreeSet};

use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::core::v3::Node;
use ferromesh_proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use ferromesh_proto::google::rpc::Status;

use super::Kind;

/// gRPC code of a NACK (INVALID_ARGUMENT).
const INVALID_ARGUMENT: i32 = 3;
/// Bytes of a NACK's message, so that a bad push of thousands of resources cannot make a huge answer.
const MAX_NACK_MESSAGE: usize = 4096;

/// A set of changes of one kind.
#[derive(Debug, Default, PartialEq)]
pub struct Update {
    /// (name, version, payload)
    pub resources: Vec<(String, String, Any)>,
    /// Names that are gone. In a state-of-the-world answer for clusters and listeners: what it no longer holds.
    pub removed: Vec<String>,
}

/// What the client knows of one kind.
#[derive(Debug, Default)]
struct TypeState {
    /// Names that are asked for; empty for wildcard kinds.
    interest: BTreeSet<String>,
    /// Version of each resource that was accepted.
    versions: BTreeMap<String, String>,
    /// Version of the last accepted state-of-the-world answer.
    version_info: String,
    /// Version of the last one that came.
    last_version: String,
    /// Nonce of the last answer on this stream.
    nonce: String,
    /// Whether a request was sent on this stream.
    started: bool,
}

/// The state of a client over its streams.
#[derive(Debug)]
pub struct Session {
    node: Node,
    types: BTreeMap<Kind, TypeState>,
    node_sent: bool,
}

impl Session {
    /// A client that presents itself as `node` and watches the wildcard kinds in `kinds`.
    pub fn new(node: Node, kinds: &[Kind]) -> Self {
        let types = kinds.iter().map(|kind| (*kind, TypeState::default())).collect();
        Self { node, types, node_sent: false }
    }

    /// A new stream begins: nonces are forgotten, versions are not.
    pub fn reconnect(&mut self) {
        self.node_sent = false;
        for state in self.types.values_mut() {
            state.nonce.clear();
            state.started = false;
        }
    }

    /// Sets what is asked for of a named kind. Returns whether that is a change to tell.
    pub fn set_interest(
        &mut self,
        kind: Kind,
        names: BTreeSet<String>,
    ) -> Option<(BTreeSet<String>, BTreeSet<String>)> {
        let state = self.types.entry(kind).or_default();
        if state.interest == names && (state.started || names.is_empty()) {
            return None;
        }
        let added = names.difference(&state.interest).cloned().collect();
        let removed: BTreeSet<String> = state.interest.difference(&names).cloned().collect();
        for name in &removed {
            state.versions.remove(name);
        }
        state.interest = names;
        Some((added, removed))
    }

    fn node(&mut self) -> Option<Node> {
        (!std::mem::replace(&mut self.node_sent, true)).then(|| self.node.clone())
    }

    /// Requests that open a delta stream: every kind with its interest and the versions that are held.
    pub fn open_delta(&mut self) -> Vec<DeltaDiscoveryRequest> {
        let kinds: Vec<Kind> = self.types.keys().copied().collect();
        let mut requests = Vec::new();
        for kind in kinds {
            let Some(state) = self.types.get_mut(&kind) else { continue };
            if !kind.is_wildcard() && state.interest.is_empty() {
                continue;
            }
            state.started = true;
            let request = DeltaDiscoveryRequest {
                type_url: kind.type_url(),
                resource_names_subscribe: state.interest.iter().cloned().collect(),
                initial_resource_versions: state.versions.clone().into_iter().collect(),
                ..Default::default()
            };
            let node = self.node();
            requests.push(DeltaDiscoveryRequest { node, ..request });
        }
        requests
    }

    /// The delta request that tells a change of interest.
    pub fn delta_interest(
        &mut self,
        kind: Kind,
        added: BTreeSet<String>,
        removed: BTreeSet<String>,
    ) -> DeltaDiscoveryRequest {
        let node = self.node();
        let state = self.types.entry(kind).or_default();
        // The first request of a kind on a stream must name everything.
        let subscribe = if state.started { added } else { state.interest.clone() };
        let unsubscribe = if state.started { removed } else { BTreeSet::new() };
        state.started = true;
        DeltaDiscoveryRequest {
            node,
            type_url: kind.type_url(),
            resource_names_subscribe: subscribe.into_iter().collect(),
            resource_names_unsubscribe: unsubscribe.into_iter().collect(),
            ..Default::default()
        }
    }

    /// What a delta response changes; `None` for a type that was not asked for.
    pub fn on_delta(&mut self, response: DeltaDiscoveryResponse) -> Option<(Kind, Update)> {
        let kind = Kind::of(&response.type_url)?;
        let state = self.types.get_mut(&kind)?;
        state.nonce = response.nonce;
        let mut update = Update { removed: response.removed_resources, ..Update::default() };
        for resource in response.resources {
            if let Some(any) = resource.resource {
                update.resources.push((resource.name, resource.version, any));
            }
        }
        for name in &update.removed {
            state.versions.remove(name);
        }
        Some((kind, update))
    }

    /// The answer to the last delta response: an ACK, or a NACK if there are errors. Accepted versions are kept.
    pub fn answer_delta(
        &mut self,
        kind: Kind,
        update: &[(String, String)],
        errors: &[(String, String)],
    ) -> DeltaDiscoveryRequest {
        let node = self.node();
        let state = self.types.entry(kind).or_default();
        keep_versions(state, update, errors);
        DeltaDiscoveryRequest {
            node,
            type_url: kind.type_url(),
            response_nonce: state.nonce.clone(),
            error_detail: nack(errors),
            ..Default::default()
        }
    }

    /// Requests that open a state-of-the-world stream.
    pub fn open_sotw(&mut self) -> Vec<DiscoveryRequest> {
        let asked = self.types.iter().filter(|(kind, state)| kind.is_wildcard() || !state.interest.is_empty());
        let kinds: Vec<Kind> = asked.map(|(kind, _)| *kind).collect();
        kinds.into_iter().map(|kind| self.sotw_request(kind)).collect()
    }

    /// The state-of-the-world request of a kind: its whole interest, last version and nonce.
    pub fn sotw_request(&mut self, kind: Kind) -> DiscoveryRequest {
        let node = self.node();
        let state = self.types.entry(kind).or_default();
        state.started = true;
        DiscoveryRequest {
            node,
            type_url: kind.type_url(),
            version_info: state.version_info.clone(),
            resource_names: state.interest.iter().cloned().collect(),
            response_nonce: state.nonce.clone(),
            ..Default::default()
        }
    }

    /// What a state-of-the-world response changes. `name_of` reads a resource's name from its payload.
    pub fn on_sotw(
        &mut self,
        response: DiscoveryResponse,
        name_of: impl Fn(Kind, &Any) -> Option<String>,
    ) -> Option<(Kind, Update)> {
        let kind = Kind::of(&response.type_url)?;
        let state = self.types.get_mut(&kind)?;
        state.nonce = response.nonce;
        state.last_version.clone_from(&response.version_info);
        let mut update = Update::default();
        let mut present = BTreeSet::new();
        let mut all_named = true;
        for any in response.resources {
            let name = name_of(kind, &any).unwrap_or_default();
            all_named &= !name.is_empty();
            present.insert(name.clone());
            update.resources.push((name, response.version_info.clone(), any));
        }
        // A resource so broken that its name is lost may be any of those that seem to be gone.
        if kind.is_wildcard() && all_named {
            update.removed = state.versions.keys().filter(|name| !present.contains(*name)).cloned().collect();
            state.versions.retain(|name, _| present.contains(name));
        }
        Some((kind, update))
    }

    /// The answer to the last state-of-the-world response.
    pub fn answer_sotw(
        &mut self,
        kind: Kind,
        update: &[(String, String)],
        errors: &[(String, String)],
    ) -> DiscoveryRequest {
        let state = self.types.entry(kind).or_default();
        keep_versions(state, update, errors);
        if errors.is_empty() {
            // An answer without resources is one, too.
            state.version_info.clone_from(&state.last_version);
        }
        DiscoveryRequest { error_detail: nack(errors), ..self.sotw_request(kind) }
    }
}

fn keep_versions(state: &mut TypeState, update: &[(String, String)], errors: &[(String, String)]) {
    for (name, version) in update {
        if !errors.iter().any(|(bad, _)| bad == name) {
            state.versions.insert(name.clone(), version.clone());
        }
    }
}

/// The detail of a NACK; `None` is an ACK.
fn nack(errors: &[(String, String)]) -> Option<Status> {
    if errors.is_empty() {
        return None;
    }
    let mut message = String::new();
    for (name, error) in errors {
        if message.len() + name.len() + error.len() > MAX_NACK_MESSAGE {
            message.push_str("; ...");
            break;
        }
        if !message.is_empty() {
            message.push_str("; ");
        }
        message.push_str(&format!("{name}: {error}"));
    }
    Some(Status { code: INVALID_ARGUMENT, message, details: Vec::new() })
}

#[cfg(test)]
mod tests;
