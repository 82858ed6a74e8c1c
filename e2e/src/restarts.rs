//! Every kind of restart on a real Kubernetes under load, each with how many requests it cost: a table at the end.
//!
//! ```text
//! images (two tags) -> cluster (two nodes) -> helm install -> scene: server, client, Gateway
//!   -> for each restart: load from a meshed pod and from outside begins -> the restart -> load ends -> row
//! ```
//!
//! The load is a closed loop: nothing is sent twice, and each failure stands in the table with its cause and time.

use std::time::Instant;

use anyhow::ensure;
use serde::Serialize;

use crate::load::{Load, Outcome};
use crate::mesh::{Images, Mesh, chart_tag};
use crate::progress::Progress;
use crate::rows::Row;

mod api_server;
mod cases;
mod control_plane;
mod processes;
mod scene;
mod upgrade;

pub use cases::CASES;
pub(crate) use processes::{kill, of_pod, of_program};
pub(crate) use scene::Scene;

/// The tag of the second build.
const NEXT: &str = "next";

/// How it is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How images are built.
    pub images: Images,
    /// Requests of each restart, at least.
    pub requests: u64,
    /// Only these; all if empty.
    pub only: Vec<String>,
    /// Keep the cluster, under this name.
    pub keep: Option<String>,
}

/// A kind of restart.
pub struct Case {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens.
    pub what: &'static str,
    /// Whether it is done again until there were enough requests.
    again: bool,
    act: fn(&Scene, &mut Checks) -> anyhow::Result<()>,
}

/// What was to be seen beside the load.
#[derive(Debug, Default)]
pub struct Checks(Vec<(bool, String)>);

impl Checks {
    /// Something that must hold.
    fn must(&mut self, holds: bool, seen: impl Into<String>) {
        self.0.push((holds, seen.into()));
    }
}

/// What was seen of a restart.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The case's name.
    pub name: &'static str,
    /// What happened.
    pub what: &'static str,
    /// How often.
    pub times: u32,
    /// From the load's beginning to its end, seconds.
    pub seconds: f64,
    /// Requests from a meshed pod and from outside.
    pub requests: u64,
    /// Of which failed.
    pub failed: u64,
    /// The parts of the load.
    pub loads: Vec<Outcome>,
    /// What else was to be seen: whether it was, and what.
    pub checks: Vec<(bool, String)>,
}

/// Does the restarts.
///
/// # Errors
/// If something fails that all need: images, cluster, scene; or there is no such case.
pub fn run(settings: &Settings, progress: &Progress) -> anyhow::Result<Vec<Report>> {
    for name in &settings.only {
        let known: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        ensure!(known.contains(&name.as_str()), "there is no restart {name:?}; there are: {}", known.join(", "));
    }
    let mut images = settings.images.mesh(chart_tag(), progress)?;
    images.extend(settings.images.mesh(NEXT, progress)?);
    images.extend(settings.images.application(progress)?);
    let mesh = Mesh::up(2, settings.keep.as_deref(), &images, progress)?;
    let scene = Scene::set(mesh)?;
    let chosen =
        CASES.iter().filter(|case| settings.only.is_empty() || settings.only.iter().any(|name| name == case.name));
    chosen.map(|case| one(case, &scene, settings.requests)).collect()
}

fn one(case: &Case, scene: &Scene, requests: u64) -> anyhow::Result<Report> {
    let progress = &scene.mesh.progress;
    progress.step(&format!("{}: {}", case.name, case.what));
    // Failures of the case before are not this one's.
    scene.settle()?;
    let begin = Instant::now();
    let load = Load::start(scene.aims()?)?;
    let mut checks = Checks::default();
    scene.progressed(&load, 200)?;
    let mut times = 0;
    let acted = loop {
        let acted = (case.act)(scene, &mut checks);
        times += 1;
        progress.step(&format!("{} requests, {} failed", load.requests(), load.failed()));
        if acted.is_err() || !case.again || load.requests() >= requests {
            break acted;
        }
    };
    if let Err(error) = acted {
        checks.must(false, format!("{error:#}"));
    }
    // What a restart leaves behind may come late.
    let more = load.requests() + 200;
    scene.progressed(&load, more.max(requests))?;
    let loads = load.end();
    let report = Report {
        name: case.name,
        what: case.what,
        times,
        seconds: begin.elapsed().as_secs_f64(),
        requests: loads.iter().map(|load| load.requests).sum(),
        failed: loads.iter().map(|load| load.failed).sum(),
        loads,
        checks: checks.0,
    };
    for line in failures(&report) {
        progress.step(&line);
    }
    Ok(report)
}

/// Each kind of failure, a line each.
fn failures(report: &Report) -> Vec<String> {
    let of = |load: &Outcome| {
        let line = |cause: &crate::load::Cause| {
            format!(
                "  {}: {} times {}, from {:.1} s to {:.1} s",
                load.name, cause.count, cause.what, cause.first, cause.last
            )
        };
        load.causes.iter().map(line).collect::<Vec<_>>()
    };
    report.loads.iter().flat_map(of).collect()
}

/// The reports as rows of a table.
pub fn rows(reports: &[Report]) -> Vec<Row> {
    let mut rows = Vec::new();
    for report in reports {
        let longest = report.loads.iter().map(|load| load.longest).fold(0.0, f64::max);
        let times = if report.times > 1 { format!(", {} times", report.times) } else { String::new() };
        let seen = format!(
            "{} requests, {} failed, {:.0} s{times}, longest answer {:.2} s",
            report.requests, report.failed, report.seconds, longest
        );
        let enough = report.requests > 0 && report.loads.iter().all(|load| load.requests > 0);
        rows.push(Row { what: report.what.to_owned(), holds: report.failed == 0 && enough, seen });
        rows.extend(failures(report).into_iter().map(|line| Row {
            what: "  a failure".into(),
            holds: false,
            seen: line,
        }));
        let check = |(holds, seen): &(bool, String)| Row { what: "  and".into(), holds: *holds, seen: seen.clone() };
        rows.extend(report.checks.iter().map(check));
    }
    rows
}
