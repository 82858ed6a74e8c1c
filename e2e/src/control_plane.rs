//! Control planes beside each other: ours and the real istiod, one at a time, on the same objects of the same API server, for the same
//! simulated sidecars.
//!
//! ```text
//! cluster (control plane only) ─> objects ─> for each size, for each control plane:
//!     process starts ─> has read all ─> sidecars connect, all at once ─> all have their config ─> endpoints change ─> process ends
//! ```
//!
//! Sidecars speak delta ADS without TLS (CDS, LDS, then EDS and RDS for what these name), acknowledge all, and keep nothing.
//!
//! # Invariants
//! * Both control planes see the same objects and the same sidecars; what is measured is their process alone.
//! * Figures are never judged here: the machine is part of them. Ratios are.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::cluster::{Cluster, Options};
use crate::process::Process;
use crate::progress::Progress;

mod channel;
mod objects;
mod planes;
mod plot;
mod report;
mod sidecars;

pub use planes::{ISTIO, Plane};
pub use plot::svg;
pub use report::table;

/// What is measured.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The sizes, in this order; services must not become fewer.
    pub sizes: Vec<Size>,
    /// Endpoints of each service.
    pub endpoints: u32,
    /// Endpoint changes of each size, one after the other.
    pub changes: u32,
    /// Control planes that are here.
    pub planes: Vec<Plane>,
    /// Istio's CRDs (YAML), which both read.
    pub crds: PathBuf,
    /// Whether istiod is left out above so many services times sidecars, for want of memory.
    pub most_for_istiod: u64,
}

/// How large a mesh is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Size {
    /// Services.
    pub services: u32,
    /// Sidecars.
    pub sidecars: u32,
}

impl std::str::FromStr for Size {
    type Err = String;

    /// `1000x200`: services, sidecars.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.split_once('x').and_then(|(services, sidecars)| {
            Some(Self { services: services.parse().ok()?, sidecars: sidecars.parse().ok()? })
        });
        let size = numbers.filter(|size| size.services > 0 && size.sidecars > 0);
        size.ok_or_else(|| format!("{text:?} is not SERVICESxSIDECARS, such as 1000x200"))
    }
}

/// What was seen of a control plane at a size.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Which.
    pub plane: &'static str,
    /// The size.
    pub size: Size,
    /// From the process's start until it has read all objects, seconds.
    pub synced_s: f64,
    /// Resident memory then, bytes.
    pub rss_synced: u64,
    /// From the first connection until all sidecars have all, seconds.
    pub served_s: f64,
    /// CPU of the process from its start until then, seconds.
    pub cpu_s: f64,
    /// Of which for serving, after it had read all, seconds.
    pub cpu_served_s: f64,
    /// Bytes of resources that were sent.
    pub sent: u64,
    /// The most memory that was resident, bytes.
    pub peak_rss: u64,
    /// CPU of an endpoint change, seconds.
    pub change_cpu_s: f64,
    /// From an endpoint change's request to the API server until the last sidecar has acknowledged it, seconds, sorted.
    pub changes_s: Vec<f64>,
}

/// Measures; what cannot be measured is named on standard error and left out.
///
/// # Errors
/// If the cluster does not come up, or sidecars do not get what they ask for.
pub fn run(settings: &Settings, progress: &Progress) -> anyhow::Result<Vec<Measured>> {
    let sorted = settings.sizes.is_sorted_by_key(|size| size.services);
    ensure!(sorted, "sizes must have their services in rising order: objects are added, never taken away");
    let cluster = Cluster::up(Options { progress: progress.clone(), ..Options::new(0) })?;
    cluster.kubectl_output(&["apply", "--server-side", "-f", &settings.crds.display().to_string()])?;
    for namespace in ["istio-system", "ferromesh-system"] {
        cluster.kubectl_output(&["create", "namespace", namespace])?;
    }
    let mut measured = Vec::new();
    let mut made = 0;
    for &size in &settings.sizes {
        progress.step(&format!("{} services of {} endpoints", size.services, settings.endpoints));
        objects::create(&cluster, made..size.services, settings.endpoints)?;
        made = size.services;
        for plane in &settings.planes {
            let load = u64::from(size.services) * u64::from(size.sidecars);
            if plane.is_istiod() && load > settings.most_for_istiod {
                progress.step(&format!("{}: left out at {} x {}", plane.name(), size.services, size.sidecars));
                continue;
            }
            measured.push(one(&cluster, settings, plane, size, progress).with_context(|| {
                format!("{} with {} services and {} sidecars", plane.name(), size.services, size.sidecars)
            })?);
        }
    }
    Ok(measured)
}

fn one(
    cluster: &Cluster,
    settings: &Settings,
    plane: &Plane,
    size: Size,
    progress: &Progress,
) -> anyhow::Result<Measured> {
    let folder = tempfile::tempdir()?;
    let begin = Instant::now();
    let process = plane.start(cluster, folder.path())?;
    plane.synced(cluster, &process)?;
    let (synced_s, synced_cpu, rss_synced) = (begin.elapsed().as_secs_f64(), process.cpu_seconds()?, process.rss()?);
    let probe = Probe { process: &process, changes: settings.changes, endpoints: settings.endpoints, size };
    let seen = cluster.in_network(None, || sidecars::run(cluster, plane.xds(), &probe))??;
    let measured = Measured {
        plane: plane.name(),
        size,
        synced_s,
        rss_synced,
        served_s: seen.served.as_secs_f64(),
        cpu_s: seen.cpu_served,
        cpu_served_s: seen.cpu_served - synced_cpu,
        sent: seen.sent,
        peak_rss: process.peak_rss()?,
        change_cpu_s: seen.cpu_changes / f64::from(settings.changes.max(1)),
        changes_s: seen.changes.iter().map(Duration::as_secs_f64).collect(),
    };
    progress.step(&report::line(&measured));
    process.end(Duration::from_secs(60))?;
    Ok(measured)
}

/// What the sidecars' side needs to know of the control plane's.
struct Probe<'a> {
    process: &'a Process,
    changes: u32,
    endpoints: u32,
    size: Size,
}
