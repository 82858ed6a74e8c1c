//! A pod's annotations go in; where its ports are bound on a laptop, where pods are told apart by port, comes out.

use std::collections::BTreeMap;

use ferromesh_api::{ObjectMeta, annotations};
use serde::Deserialize;

use super::message::host_port;
use crate::index::labels;

/// One entry of `ferromesh.io/listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The pod's port (a Gateway listener's port, on a gateway).
    pub port: u16,
    /// Where the proxy listens.
    pub listen: (String, u32),
    /// Where the application listens; a gateway has none.
    pub app: Option<(String, u32)>,
}

#[derive(Deserialize)]
struct Raw {
    listen: String,
    app: Option<String>,
}

/// The entries of `ferromesh.io/listen`, by port. Entries that cannot be read are left out.
pub fn listens(pod: &ObjectMeta) -> Vec<Listen> {
    let Some(text) = labels::annotation(pod, annotations::LISTEN) else { return Vec::new() };
    let entries: BTreeMap<u16, Raw> = serde_json::from_str(text).unwrap_or_default();
    let read = |(port, raw): (u16, Raw)| {
        Some(Listen { port, listen: host_port(&raw.listen)?, app: raw.app.as_deref().and_then(host_port) })
    };
    entries.into_iter().filter_map(read).collect()
}

/// Whether this pod is on a laptop.
pub fn is_laptop(pod: &ObjectMeta) -> bool {
    labels::annotation(pod, annotations::LISTEN).is_some() || http_proxy(pod).is_some()
}

/// The address of its HTTP proxy port.
pub fn http_proxy(pod: &ObjectMeta) -> Option<(String, u32)> {
    labels::annotation(pod, annotations::HTTP_PROXY).and_then(host_port)
}
