//! MeshConfig from its ConfigMap: `istio`, key `mesh`, in a root namespace (ours before Istio's).

use super::{Problem, Severity, View};
use ferromesh_api::istio::MeshConfig;
use std::path::PathBuf;
use std::sync::Arc;

/// Name of the ConfigMap.
pub const NAME: &str = "istio";
/// Key in the ConfigMap.
pub const KEY: &str = "mesh";
/// Istio's root namespace, the second one that is read.
pub const DEFAULT_ROOT: &str = "istio-system";

/// Reads it; `defaults` where there is none.
pub fn from_config_maps(view: &View, defaults: &Arc<MeshConfig>) -> Result<Arc<MeshConfig>, Problem> {
    for namespace in [super::view::SYSTEM_NAMESPACE, DEFAULT_ROOT] {
        let Some(map) = view.config_maps.named(namespace, NAME) else { continue };
        let Some(text) = map.data.as_ref().and_then(|data| data.get(KEY)) else { continue };
        return match parse(text) {
            Ok(mesh) => Ok(Arc::new(mesh)),
            Err((line, what)) => Err(Problem {
                severity: Severity::Error,
                file: PathBuf::from(format!("ConfigMap {namespace}/{NAME} key {KEY}")),
                line,
                message: format!("MeshConfig cannot be read, the last good one goes on: {what}"),
            }),
        };
    }
    Ok(defaults.clone())
}

/// Reads MeshConfig from YAML. What is wrong comes with its line.
pub fn parse(text: &str) -> Result<MeshConfig, (u64, String)> {
    if text.trim().is_empty() {
        return Ok(MeshConfig::default());
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        (line, error.without_snippet().to_string())
    })
}
