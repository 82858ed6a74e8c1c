//! Where a running mesh says how it is reached, so that `get` and `config` find it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::output;

/// Addresses of a running mesh.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MeshState {
    /// Process that runs it.
    pub pid: u32,
    /// The controller's admin address.
    pub controller: Option<SocketAddr>,
    /// The controller's xDS address.
    pub xds: Option<SocketAddr>,
    /// The dashboard's address.
    pub dashboard: Option<SocketAddr>,
    /// Pods by `namespace/name`.
    pub pods: BTreeMap<String, PodState>,
}

/// Addresses of a pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodState {
    /// `gateway`, `sidecar` or `plain`.
    pub role: String,
    /// Deployment or gateway.
    pub workload: String,
    /// Its proxy's admin address.
    pub admin: Option<SocketAddr>,
    /// Its sidecar's outbound HTTP proxy.
    pub http_proxy: Option<SocketAddr>,
    /// Its ports: port of the YAML to address here.
    pub ports: BTreeMap<u16, SocketAddr>,
    /// What to write before `://` for those of a gateway that a browser can be pointed at.
    #[serde(default)]
    pub schemes: BTreeMap<u16, String>,
}

/// The file: in the user's runtime folder if there is one.
pub fn path() -> PathBuf {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| folder.is_dir());
    folder.unwrap_or_else(|| std::env::temp_dir().join(format!("ferromesh-{}", user()))).join("ferromesh-mesh.json")
}

fn user() -> String {
    std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "user".into())
}

impl MeshState {
    /// The table of addresses, and where to point a browser.
    pub fn table(&self) -> String {
        let mut rows = Vec::new();
        let mut places = Vec::new();
        for (key, pod) in &self.pods {
            let ports: Vec<String> = pod.ports.iter().map(|(port, address)| format!("{port} -> {address}")).collect();
            for (port, scheme) in &pod.schemes {
                if let Some(at) = pod.ports.get(port) {
                    places.push(format!("Gateway:    {scheme}://{at}  ({key}, port {port})\n"));
                }
            }
            let or_none =
                |address: Option<SocketAddr>| address.map_or_else(|| "-".to_owned(), |address| address.to_string());
            rows.push(vec![
                key.clone(),
                pod.role.clone(),
                ports.join("\n"),
                or_none(pod.http_proxy),
                or_none(pod.admin),
            ]);
        }
        let mut shown = output::table(&["POD", "ROLE", "PORTS", "HTTP PROXY", "ADMIN"], &rows);
        shown.push('\n');
        shown.extend(places);
        for (name, address) in [("Controller:", self.controller), ("Dashboard: ", self.dashboard)] {
            if let Some(address) = address {
                shown.push_str(&format!("{name} http://{address}\n"));
            }
        }
        shown
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let folder = path.parent().context("the state file has no folder")?;
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let temporary = path.with_extension(format!("{}.tmp", self.pid));
        std::fs::write(&temporary, serde_json::to_vec_pretty(self)?)
            .and_then(|()| std::fs::rename(&temporary, path))
            .with_context(|| format!("writing {}", path.display()))
    }

    /// Reads the file of the mesh that runs.
    ///
    /// # Errors
    /// If none runs.
    pub fn read() -> anyhow::Result<Self> {
        let path = path();
        let bytes = std::fs::read(&path).with_context(|| {
            format!("no mesh runs here ({} is not there); start one with: ferromesh up -f FOLDER", path.display())
        })?;
        serde_json::from_slice(&bytes).with_context(|| {
            format!("{} is damaged; remove it and start the mesh again: ferromesh up -f FOLDER", path.display())
        })
    }

    /// The pod that a word names: a pod, or the first of a Deployment or gateway.
    pub fn pod(&self, word: &str, namespace: Option<&str>) -> anyhow::Result<(&str, &PodState)> {
        let (namespace, word) = match word.split_once('/') {
            Some((namespace, word)) => (Some(namespace), word),
            None => (namespace, word),
        };
        let fits = |(key, pod): &(&String, &PodState)| {
            let (ns, name) = key.split_once('/').unwrap_or(("", key));
            namespace.is_none_or(|wanted| wanted == ns) && (name == word || pod.workload == word)
        };
        let found = self.pods.iter().find(fits);
        found.map(|(key, pod)| (key.as_str(), pod)).with_context(|| {
            let known: Vec<&str> = self.pods.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            format!("no workload {word:?} in this mesh; there are: {known}")
        })
    }
}

/// Removes the file when the mesh ends, unless another mesh has written it since.
pub struct Written(pub PathBuf);

impl Drop for Written {
    fn drop(&mut self) {
        let written = std::fs::read(&self.0).ok();
        let state = written.and_then(|bytes| serde_json::from_slice::<MeshState>(&bytes).ok());
        if state.is_none_or(|state| state.pid == std::process::id()) {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_found_by_pod_by_deployment_and_by_namespace() {
        let pod = |workload: &str| PodState {
            role: "sidecar".into(),
            workload: workload.into(),
            admin: None,
            http_proxy: None,
            ports: BTreeMap::new(),
            schemes: BTreeMap::new(),
        };
        let pods = BTreeMap::from([("a/web-0".to_owned(), pod("web")), ("b/web-0".to_owned(), pod("web"))]);
        let state = MeshState { pods, ..MeshState::default() };
        assert_eq!(state.pod("web", Some("b")).expect("found").0, "b/web-0");
        assert_eq!(state.pod("web-0", None).expect("found").0, "a/web-0");
        assert_eq!(state.pod("b/web", None).expect("found").0, "b/web-0");
        let error = state.pod("nope", None).expect_err("unknown").to_string();
        assert!(error.contains("a/web-0"), "{error}");
    }
}
