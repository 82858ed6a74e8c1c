//! `FILTER_STATE(wasm.upstream_peer)` and its fields, as Istio's logs name them.

use std::borrow::Cow;

use super::Operator;
use crate::config::ConfigError;
use crate::connection::Peer;
use crate::format::Info;

/// Fields of the peer's metadata that logs can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PeerField {
    All,
    Workload,
    Namespace,
    App,
    Version,
    Service,
    Revision,
    Cluster,
    Id,
}

/// Reads the arguments.
pub(super) fn parse(arguments: &str) -> Result<Operator, ConfigError> {
    let mut words = arguments.split(':');
    let key = words.next().unwrap_or_default();
    let upstream = match key.strip_prefix("wasm.").unwrap_or(key) {
        "upstream_peer" => true,
        "downstream_peer" => false,
        _ => return Err(ConfigError::new("", format!("filter state {key:?} is not implemented"))),
    };
    let mut field = PeerField::All;
    while let Some(word) = words.next() {
        match word {
            "PLAIN" | "TYPED" => {}
            "FIELD" => {
                let name = words.next().unwrap_or_default();
                field = PeerField::parse(name)
                    .ok_or_else(|| ConfigError::new("", format!("the peer has no field {name:?}")))?;
            }
            other => return Err(ConfigError::new("", format!("option {other:?} is not implemented"))),
        }
    }
    Ok(Operator::Peer(upstream, field))
}

impl PeerField {
    /// The field of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "workload" => Self::Workload,
            "namespace" => Self::Namespace,
            "app" => Self::App,
            "version" => Self::Version,
            "service" => Self::Service,
            "revision" => Self::Revision,
            "cluster" => Self::Cluster,
            "name" => Self::Id,
            _ => return None,
        })
    }

    /// Its value; `None` if it is empty.
    pub fn of(self, peer: &Peer) -> Option<Cow<'_, str>> {
        let field = match self {
            Self::All => {
                let object = serde_json::json!({
                    "workload": peer.workload.as_str(), "namespace": peer.namespace.as_str(),
                    "app": peer.app.as_str(), "version": peer.version.as_str(),
                    "service": peer.canonical_name.as_str(), "revision": peer.canonical_revision.as_str(),
                    "cluster": peer.cluster.as_str(), "name": peer.id.as_str(),
                });
                return Some(Cow::Owned(object.to_string()));
            }
            Self::Workload => &peer.workload,
            Self::Namespace => &peer.namespace,
            Self::App => &peer.app,
            Self::Version => &peer.version,
            Self::Service => &peer.canonical_name,
            Self::Revision => &peer.canonical_revision,
            Self::Cluster => &peer.cluster,
            Self::Id => &peer.id,
        };
        (!field.is_empty()).then(|| Cow::Borrowed(field.as_str()))
    }
}

/// The peer of the one side or the other.
pub(super) fn of<'a>(info: &Info<'a>, upstream: bool) -> Option<&'a Peer> {
    if upstream { info.upstream_peer() } else { info.downstream_peer() }
}
