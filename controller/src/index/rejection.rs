//! What a proxy rejected of its configuration, in the words of the view: for the status of the objects that it came from.

use super::Key;
use crate::kind::Kind;
use ferromesh_api::labels;
use std::collections::BTreeMap;
use std::fmt;

/// Characters of a proxy's reason that are shown.
const LONGEST: usize = 400;
/// Rejections that a condition names one by one: an API server takes no message of more than 32 KiB.
const SHOWN: usize = 10;

/// A response that a proxy rejected. It goes on with the last one that it took.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rejection {
    /// The proxy's namespace.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// The pod's labels.
    pub labels: BTreeMap<String, String>,
    /// What the resources are.
    pub kind: Kind,
    /// What it says is wrong.
    pub why: String,
}

impl Rejection {
    /// The Gateway that the proxy serves, if it is a gateway's.
    pub fn gateway(&self) -> Option<Key> {
        let name = self.labels.get(labels::GATEWAY_NAME)?;
        Some(Key::new(self.namespace.as_str(), name.as_str()))
    }
}

/// What rejections say together.
pub fn summary(rejections: &[&Rejection]) -> String {
    let mut all: Vec<_> = rejections.iter().take(SHOWN).map(ToString::to_string).collect();
    if rejections.len() > SHOWN {
        all.push(format!("and {} more", rejections.len() - SHOWN));
    }
    all.join("; ")
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::Cluster => "clusters",
            Kind::Endpoint => "endpoints",
            Kind::Listener => "listeners",
            Kind::Route => "routes",
            Kind::Secret => "secrets",
            Kind::ExtensionConfig => "extension configurations",
            Kind::NameTable => "names",
        };
        let why: String = self.why.chars().take(LONGEST).collect();
        write!(
            f,
            "proxy {}.{} rejected its {what} and goes on with the last good ones: {why}",
            self.pod, self.namespace
        )
    }
}
