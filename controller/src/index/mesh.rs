//! MeshConfig from its ConfigMap: `istio`, key `mesh`, in a root namespace (ours before Istio's).

pub mod instead;

use super::{Problem, Severity, View};
use ferromesh_api::istio::MeshConfig;
use ferromesh_api::istio::mesh_config::rules;
use serde_json::Value;
use std::path::PathBuf;

use instead::Instead;

/// Name of the ConfigMap.
pub const NAME: &str = "istio";
/// Key in the ConfigMap.
pub const KEY: &str = "mesh";
/// Istio's root namespace, the second one that is read.
pub const DEFAULT_ROOT: &str = "istio-system";

/// A MeshConfig that is wrong.
pub struct Wrong {
    /// Where it is written.
    pub file: PathBuf,
    /// The line of the first thing that is wrong; 0 where there is none.
    pub line: u64,
    /// Everything that is wrong.
    pub what: String,
    /// What is served where no good one was read before; none if nothing may be.
    pub instead: Option<Instead>,
}

impl Wrong {
    /// What is said of it; `goes_on` says what is served now.
    pub fn problem(&self, goes_on: &str) -> Problem {
        let message = format!("MeshConfig cannot be read, {goes_on}: {}", self.what);
        Problem { severity: Severity::Error, file: self.file.clone(), line: self.line, message }
    }
}

/// Reads it; none where there is none.
///
/// # Errors
/// If it is wrong.
pub fn from_config_maps(view: &View, trust_domain: &str) -> Result<Option<MeshConfig>, Wrong> {
    for namespace in [super::view::SYSTEM_NAMESPACE, DEFAULT_ROOT] {
        let Some(map) = view.config_maps.named(namespace, NAME) else { continue };
        let Some(text) = map.data.as_ref().and_then(|data| data.get(KEY)) else { continue };
        let file = PathBuf::from(format!("ConfigMap {namespace}/{NAME} key {KEY}"));
        let wrong = |(line, what)| Wrong { file, line, what, instead: instead::of(text, trust_domain) };
        return parse(text, trust_domain).map(Some).map_err(wrong);
    }
    Ok(None)
}

/// Reads MeshConfig from YAML; `trust_domain` is the one in which the mesh's CA signs. What is wrong comes with its line.
pub fn parse(text: &str, trust_domain: &str) -> Result<MeshConfig, (u64, String)> {
    let unread = |error: serde_saphyr::Error| {
        let line = error.location().map_or(0, |location| location.line());
        (line, error.without_snippet().to_string())
    };
    let written = if text.trim().is_empty() { Value::Null } else { serde_saphyr::from_str(text).map_err(unread)? };
    let mut mesh: MeshConfig =
        if written.is_null() { MeshConfig::default() } else { serde_saphyr::from_str(text).map_err(unread)? };
    if written.get("trustDomain").is_none() {
        trust_domain.clone_into(&mut mesh.trust_domain);
    }
    let mut wrong = rules::wrong(&mesh);
    if wrong.is_empty() && mesh.trust_domain != trust_domain {
        let what = format!(
            "trustDomain {:?} is not the one in which the mesh's CA signs, {trust_domain:?}: no identity would be believed",
            mesh.trust_domain
        );
        wrong.push(rules::Wrong { word: mesh.trust_domain.clone(), what });
    }
    let Some(first) = wrong.first() else { return Ok(mesh) };
    let line = text.lines().position(|line| line.contains(&first.word)).map_or(0, |index| index as u64 + 1);
    Err((line, wrong.iter().map(|wrong| wrong.what.as_str()).collect::<Vec<_>>().join("; ")))
}
