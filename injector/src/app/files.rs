//! The two files of settings, followed: a bad one is named and the last good one goes on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;

use crate::settings::Mesh;

pub(super) struct Files {
    settings: Option<PathBuf>,
    mesh_config: Option<PathBuf>,
}

impl Files {
    pub(super) fn new(settings: Option<PathBuf>, mesh_config: Option<PathBuf>) -> Self {
        Self { settings, mesh_config }
    }

    fn texts(&self) -> anyhow::Result<[String; 2]> {
        let text = |path: &Option<PathBuf>| match path {
            Some(path) => read(path),
            None => Ok(String::new()),
        };
        Ok([text(&self.settings)?, text(&self.mesh_config)?])
    }

    pub(super) fn read(&self) -> anyhow::Result<Mesh> {
        let [settings, mesh_config] = self.texts()?;
        Ok(Mesh::read(&settings, &mesh_config)?)
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Looks at the files for ever.
pub(super) async fn follow(files: Files, mesh: Arc<ArcSwap<Mesh>>, every: Duration) {
    let mut last = files.texts().ok();
    loop {
        tokio::time::sleep(every).await;
        let texts = match files.texts() {
            Ok(texts) if Some(&texts) == last.as_ref() => continue,
            Ok(texts) => texts,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "settings cannot be read; the last good ones go on");
                continue;
            }
        };
        match Mesh::read(&texts[0], &texts[1]) {
            Ok(fresh) => {
                mesh.store(Arc::new(fresh));
                tracing::info!("new settings");
            }
            Err(error) => tracing::warn!(%error, "settings are not used; the last good ones go on"),
        }
        last = Some(texts);
    }
}
