//! The tutorial's YAML: the project's own, or that of a folder with the tutorial's file names.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::mesh::root;

/// Its texts.
#[derive(Debug, Clone)]
pub struct Manifests {
    /// The IstioOperator file.
    pub(super) operator: PathBuf,
    pub(super) applications: String,
    pub(super) gateway: String,
    pub(super) routes: String,
    pub(super) limit: String,
    pub(super) limit_that_applies: String,
    /// The tutorial's own program that counts the canary.
    pub(super) script: Option<String>,
}

impl Manifests {
    /// Reads them.
    ///
    /// # Errors
    /// If a file is missing.
    pub fn read(folder: Option<&Path>) -> anyhow::Result<Self> {
        let own = root().join("examples");
        let read = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
        let limit_that_applies = read(&own.join("tutorial-ratelimit-that-applies.yaml"))?;
        let two = |first: String, second: String| format!("{first}\n---\n{second}");
        let Some(folder) = folder else {
            let demo = own.join("tutorial/demo");
            return Ok(Self {
                operator: own.join("tutorial-install.yaml"),
                applications: read(&demo.join("apps.yaml"))?,
                gateway: read(&demo.join("gateway.yaml"))?,
                routes: two(read(&demo.join("route-myapp.yaml"))?, read(&demo.join("route-otherapp.yaml"))?),
                limit: read(&own.join("tutorial/istio-system/ratelimit.yaml"))?,
                limit_that_applies,
                script: None,
            });
        };
        Ok(Self {
            operator: folder.join("istio-gwapi.yaml"),
            applications: read(&folder.join("deployment.yaml"))?,
            gateway: read(&folder.join("gateway.yaml"))?,
            routes: two(read(&folder.join("httproute-myapp.yaml"))?, read(&folder.join("httproute-otherapp.yaml"))?),
            limit: read(&folder.join("istio-envoy-filter.yaml"))?,
            limit_that_applies,
            script: Some(read(&folder.join("check_canary.py"))?),
        })
    }
}
