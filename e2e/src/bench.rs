//! The comparison: a sidecar pair with mTLS between, HTTP/1.1 keep-alive, 1 KiB answers, one worker each.

pub mod ads;
pub mod bootstrap;
pub mod certificates;
pub mod idle;
pub mod load;
pub mod peers;
pub mod plot;
pub mod relay;
pub mod report;
pub mod scale;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use crate::process::Process;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Connections, one measurement each.
    pub connections: Vec<u32>,
    /// Length of a measurement.
    pub duration: Duration,
    /// Runs of each measurement; the median counts, the spread is shown.
    pub runs: u32,
    /// Our proxy.
    pub proxy: PathBuf,
    /// Peers to leave out, by name.
    pub skip: Vec<String>,
    /// Connections that are opened and left alone; 0 leaves that measurement out.
    pub idle_connections: usize,
    /// Services of the big mesh; 0 leaves that measurement out.
    pub services: usize,
}

/// All that was measured in one run.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Comparison {
    /// Pairs under load.
    pub load: Vec<Measured>,
    /// Connections that nobody uses.
    pub idle: Vec<idle::Idle>,
    /// A big mesh.
    pub scale: Vec<scale::Scale>,
}

/// One measurement of a pair.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Sample {
    /// CPU microseconds of both proxies per request.
    pub cpu_us: f64,
    /// Requests per second.
    pub rps: f64,
    /// Median latency, microseconds.
    pub p50_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
    /// Resident memory of the larger proxy after it, bytes.
    pub rss: u64,
}

/// All measurements of a peer.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// Resident memory of the larger proxy before any request, bytes.
    pub idle_rss: u64,
    /// From the start of a process until it listens, of the slower proxy, milliseconds.
    pub start_ms: f64,
    /// (connections, samples)
    pub samples: Vec<(u32, Vec<Sample>)>,
}

/// Measures every peer that is there, interleaved, so that what the machine does meanwhile meets all alike.
///
/// # Errors
/// If a peer that is there does not start, or the load generator fails.
pub fn run(plan: &Plan) -> anyhow::Result<Comparison> {
    let folder = tempfile::Builder::new().prefix("ferromesh-bench-").tempdir()?;
    certificates::write(folder.path())?;
    let backend = relay::Backend::start()?;
    let mut pairs = Vec::new();
    for peer in peers::all(plan) {
        if plan.skip.contains(&peer.name) {
            continue;
        }
        match peer.start(folder.path(), backend.address()) {
            Ok(Some(pair)) => pairs.push(pair),
            Ok(None) => eprintln!("{}: not here, left out", peer.name),
            Err(error) => return Err(error).with_context(|| peer.name.clone()),
        }
    }
    let load = under_load(plan, &pairs)?;
    drop(pairs);
    let mut idle = Vec::new();
    for peer in peers::all(plan).iter().filter(|peer| plan.idle_connections > 0 && !plan.skip.contains(&peer.name)) {
        let of_peer = idle::measure(peer, folder.path(), backend.address(), plan.idle_connections);
        idle.extend(of_peer.with_context(|| peer.name.clone())?);
    }
    let scale = if plan.services > 0 { scale::run(plan, folder.path())? } else { Vec::new() };
    Ok(Comparison { load, idle, scale })
}

fn under_load(plan: &Plan, pairs: &[Pair]) -> anyhow::Result<Vec<Measured>> {
    let fresh = |pair: &Pair| {
        let (name, start_ms) = (pair.name.clone(), pair.start_ms);
        Ok(Measured { name, idle_rss: pair.rss()?, start_ms, samples: Vec::new() })
    };
    let mut measured: Vec<Measured> = pairs.iter().map(fresh).collect::<anyhow::Result<_>>()?;
    for connections in &plan.connections {
        for all in &mut measured {
            all.samples.push((*connections, Vec::new()));
        }
        for run in 0..plan.runs {
            for (pair, all) in pairs.iter().zip(&mut measured) {
                let sample = measure(pair, *connections, plan.duration)?;
                eprintln!(
                    "{:>10} c={connections} run {}: {:.1} us CPU/request, {:.0} rps",
                    pair.name,
                    run + 1,
                    sample.cpu_us,
                    sample.rps
                );
                if let Some((_, samples)) = all.samples.last_mut() {
                    samples.push(sample);
                }
            }
        }
    }
    Ok(measured)
}

/// Two proxies, the first towards the client.
pub struct Pair {
    /// The peer's name.
    pub name: String,
    /// Where requests go in.
    pub address: std::net::SocketAddr,
    /// Where the second takes TLS.
    pub inner: std::net::SocketAddr,
    /// From the start of a process until it listens, of the slower, milliseconds.
    pub start_ms: f64,
    /// Both processes.
    pub processes: [Process; 2],
}

impl Pair {
    fn cpu(&self) -> anyhow::Result<f64> {
        self.processes.iter().map(Process::cpu_seconds).sum()
    }

    fn rss(&self) -> anyhow::Result<u64> {
        let each: Vec<u64> = self.processes.iter().map(Process::rss).collect::<anyhow::Result<_>>()?;
        Ok(each.into_iter().max().unwrap_or_default())
    }
}

fn measure(pair: &Pair, connections: u32, duration: Duration) -> anyhow::Result<Sample> {
    load::wrk(pair.address, connections, Duration::from_secs(1))?;
    let before = pair.cpu()?;
    let load = load::wrk(pair.address, connections, duration)?;
    let used = pair.cpu()? - before;
    Ok(Sample {
        cpu_us: used * 1e6 / load.requests as f64,
        rps: load.requests as f64 / load.seconds,
        p50_us: load.p50_us,
        p99_us: load.p99_us,
        rss: pair.rss()?,
    })
}

/// Where a file of the benchmark lies.
pub fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}
