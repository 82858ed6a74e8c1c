//! The tutorial on a real Kubernetes, command by command, each with what must be seen: a table at the end.
//!
//! ```text
//! images -> cluster (one node) -> helm install -> namespace, applications -> Gateway, routes -> traffic -> limit -> mTLS -> table
//! ```
//!
//! A step that others need ends the run when it fails; a check that fails is a row of the table, and the rest goes on.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::cluster::{Cluster, Options};
use crate::image::build::{self, Plan};
use crate::progress::Progress;

mod checks;
mod kubernetes;
mod manifests;

pub use manifests::Manifests;

/// How it is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Cargo's profile of the images.
    pub profile: String,
    /// Cargo's target folder for images.
    pub target: PathBuf,
    /// Folder with the tutorial's manifests; the project's own if none.
    pub folder: Option<PathBuf>,
    /// Keep the cluster, under this name.
    pub keep: Option<String>,
}

/// One thing that was to be seen.
#[derive(Debug, Clone)]
pub struct Row {
    /// What.
    pub what: &'static str,
    /// Whether it was.
    pub holds: bool,
    /// What was seen.
    pub seen: String,
}

/// Runs the tutorial.
///
/// # Errors
/// If a step fails that all others need.
pub fn run(settings: &Settings, progress: &Progress) -> anyhow::Result<Vec<Row>> {
    let manifests = Manifests::read(settings.folder.as_deref())?;
    let images = images(settings, progress)?;
    progress.step("a cluster with one node");
    let mut options = Options::new(1);
    options.progress = progress.clone();
    let cluster = match &settings.keep {
        Some(name) => {
            options.name.clone_from(name);
            Cluster::up_detached(options)?
        }
        None => Cluster::up(options)?,
    };
    for image in &images {
        progress.step(&format!("loading {}", image.display()));
        cluster.load_image(image)?;
    }
    let mut run = Run { cluster, progress: progress.clone(), rows: Vec::new() };
    run.install(&manifests)?;
    run.applications(&manifests)?;
    run.gateway(&manifests)?;
    run.canary()?;
    run.script(&manifests)?;
    run.limit_as_written(&manifests)?;
    run.limit_that_applies(&manifests)?;
    run.identity()?;
    Ok(run.rows)
}

/// A run in progress.
struct Run {
    cluster: Cluster,
    progress: Progress,
    rows: Vec<Row>,
}

impl Run {
    fn row(&mut self, what: &'static str, holds: bool, seen: impl Into<String>) {
        let seen = seen.into();
        self.progress.step(&format!("{} {what}: {seen}", if holds { "ok " } else { "NO " }));
        self.rows.push(Row { what, holds, seen });
    }
}

/// The images: the mesh's with the chart's tag, the application's with the tag that the tutorial means by none.
fn images(settings: &Settings, progress: &Progress) -> anyhow::Result<Vec<PathBuf>> {
    let output = crate::tools::cache()?.join("images").join(&settings.profile);
    let mesh = ["proxy", "controller", "ca", "injector"].map(str::to_owned).to_vec();
    let mut all = Vec::new();
    for (only, tag) in [(mesh, env!("CARGO_PKG_VERSION")), (vec!["demo".to_owned()], "latest")] {
        let plan = Plan {
            only,
            profile: settings.profile.clone(),
            target: std::path::absolute(&settings.target).context("the target folder")?,
            output: output.clone(),
            tag: tag.to_owned(),
        };
        all.extend(build::build(&plan, progress)?.into_iter().map(|built| built.archive));
    }
    ensure!(all.len() == 5, "{} images of 5 were built", all.len());
    Ok(all)
}

/// The table, and whether all holds.
pub fn table(rows: &[Row], colour: bool) -> (String, bool) {
    let width = rows.iter().map(|row| row.what.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for row in rows {
        let (mark, code) = if row.holds { ("ok", "32") } else { ("NO", "31") };
        let mark = if colour { format!("\u{1b}[{code}m{mark}\u{1b}[0m") } else { mark.to_owned() };
        text.push_str(&format!("{mark}  {:<width$}  {}\n", row.what, row.seen));
    }
    let good = rows.iter().filter(|row| row.holds).count();
    text.push_str(&format!("{good} of {} hold\n", rows.len()));
    (text, good == rows.len() && !rows.is_empty())
}

/// The workspace's folder.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
