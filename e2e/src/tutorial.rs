//! The tutorial on a real Kubernetes, command by command, each with what must be seen: a table at the end.
//!
//! ```text
//! images -> cluster (one node) -> ferromesh install -> namespace, applications -> Gateway, routes -> traffic -> limit -> mTLS
//!   -> ferromesh check, proxy-status, config -> ferromesh uninstall -> table
//! ```
//!
//! A step that others need ends the run when it fails; a check that fails is a row of the table, and the rest goes on.

use std::path::PathBuf;

use crate::mesh::{Images, Mesh, chart_tag};
use crate::progress::Progress;
use crate::rows::Row;

mod checks;
mod commands;
mod kubernetes;
mod manifests;

pub use manifests::Manifests;

/// How it is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How images are built.
    pub images: Images,
    /// Folder with the tutorial's manifests; the project's own if none.
    pub folder: Option<PathBuf>,
    /// Keep the cluster, under this name.
    pub keep: Option<String>,
}

/// Runs the tutorial.
///
/// # Errors
/// If a step fails that all others need.
pub fn run(settings: &Settings, progress: &Progress) -> anyhow::Result<Vec<Row>> {
    let manifests = Manifests::read(settings.folder.as_deref())?;
    let mut images = settings.images.mesh(chart_tag(), progress)?;
    images.extend(settings.images.application(progress)?);
    let mesh = Mesh::up(1, settings.keep.as_deref(), &images, progress)?;
    let mut run = Run { mesh, rows: Vec::new() };
    run.install(&manifests)?;
    run.applications(&manifests)?;
    run.gateway(&manifests)?;
    run.canary()?;
    run.script(&manifests)?;
    run.limit_as_written(&manifests)?;
    run.limit_that_applies(&manifests)?;
    run.identity()?;
    run.looked_into()?;
    run.uninstalled()?;
    Ok(run.rows)
}

/// A run in progress.
struct Run {
    mesh: Mesh,
    rows: Vec<Row>,
}

impl Run {
    fn row(&mut self, what: &'static str, holds: bool, seen: impl Into<String>) {
        let (what, seen) = (what.to_owned(), seen.into());
        self.mesh.progress.step(&format!("{} {what}: {seen}", if holds { "ok " } else { "NO " }));
        self.rows.push(Row { what, holds, seen });
    }
}
