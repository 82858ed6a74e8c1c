//! The comparison: a sidecar pair with mTLS between, one worker each, beside its peers.

pub mod ads;
pub mod backend;
pub mod bootstrap;
pub mod certificates;
pub mod handshake;
pub mod idle;
pub mod load;
pub mod page;
pub mod peers;
pub mod plot;
pub mod relay;
pub mod report;
mod rivals;
pub mod scale;
pub mod transfer;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use self::backend::Backend;
use self::load::Kind;
use self::peers::{Peer, Protocol};
use crate::process::Process;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Requests over HTTP/1.1.
    Http1,
    /// Requests over HTTP/2.
    Http2,
    /// Unary gRPC calls.
    Grpc,
    /// Large transfers over TCP.
    Tcp,
    /// New mTLS connections.
    Handshakes,
    /// Connections that nobody uses.
    Idle,
    /// A big mesh.
    Services,
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// These.
    pub parts: Vec<Part>,
    /// Requests at a time, one measurement each.
    pub connections: Vec<u32>,
    /// Length of a measurement.
    pub duration: Duration,
    /// Runs of each measurement; the median counts, the spread is shown.
    pub runs: u32,
    /// Our proxy.
    pub proxy: PathBuf,
    /// Peers to leave out, by name.
    pub skip: Vec<String>,
    /// Connections that are opened and left alone.
    pub idle_connections: usize,
    /// Services of the big mesh.
    pub services: usize,
}

/// All that was measured in one run.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Comparison {
    /// HTTP/1.1 under load.
    pub http1: Vec<Measured>,
    /// HTTP/2 under load.
    pub http2: Vec<Measured>,
    /// gRPC under load.
    pub grpc: Vec<Measured>,
    /// Large transfers.
    pub tcp: Vec<transfer::Transfers>,
    /// New connections.
    pub handshakes: Vec<handshake::Handshakes>,
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
    /// (requests at a time, samples)
    pub samples: Vec<(u32, Vec<Sample>)>,
}

/// Measures every peer that is there, interleaved, so that what the machine does meanwhile meets all alike.
///
/// # Errors
/// If a peer that is there does not start, or the load generator fails.
pub fn run(plan: &Plan) -> anyhow::Result<Comparison> {
    let folder = tempfile::Builder::new().prefix("ferromesh-bench-").tempdir()?;
    let folder = folder.path();
    certificates::write(folder)?;
    let mut all = Comparison::default();
    for part in &plan.parts {
        match part {
            Part::Http1 => {
                let mut peers = peers::all(plan, Protocol::Http1);
                peers.insert(1.min(peers.len()), peers::two_workers(&plan.proxy));
                all.http1 = under_load(plan, peers, Kind::Http1, folder)?;
            }
            Part::Http2 => all.http2 = under_load(plan, peers::all(plan, Protocol::Http2), Kind::Http2, folder)?,
            Part::Grpc => all.grpc = under_load(plan, peers::all(plan, Protocol::Http2), Kind::Grpc, folder)?,
            Part::Tcp => all.tcp = transfer::run(plan, folder)?,
            Part::Handshakes => all.handshakes = handshake::run(plan, folder)?,
            Part::Idle => all.idle = idle::run(plan, folder)?,
            Part::Services => all.scale = scale::run(plan, folder)?,
        }
    }
    Ok(all)
}

/// Starts a pair of each peer that is here.
fn start(peers: Vec<Peer>, folder: &Path, backend: SocketAddr) -> anyhow::Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for peer in peers {
        match peer.start(folder, backend).with_context(|| peer.name.clone())? {
            Some(pair) => pairs.push(pair),
            None => eprintln!("{}: not here, left out", peer.name),
        }
    }
    Ok(pairs)
}

fn under_load(plan: &Plan, peers: Vec<Peer>, kind: Kind, folder: &Path) -> anyhow::Result<Vec<Measured>> {
    let backend = Backend::start(if kind == Kind::Http1 { Protocol::Http1 } else { Protocol::Http2 })?;
    let pairs = start(peers, folder, backend.address())?;
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
                let sample = match measure(pair, kind, *connections, plan.duration, folder) {
                    Ok(sample) => sample,
                    // Of a peer that fails requests there is no figure; of ours it is an error.
                    Err(error) if pair.name != peers::OURS => {
                        eprintln!("{:>10} {kind:?} c={connections}: {error:#}", pair.name);
                        continue;
                    }
                    Err(error) => return Err(error).with_context(|| pair.name.clone()),
                };
                eprintln!(
                    "{:>10} {kind:?} c={connections} run {}: {:.1} us CPU/request, {:.0} rps",
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

fn measure(pair: &Pair, kind: Kind, concurrent: u32, duration: Duration, folder: &Path) -> anyhow::Result<Sample> {
    kind.run(pair.address, concurrent, Duration::from_secs(1), folder)?;
    let before = pair.cpu()?;
    let load = kind.run(pair.address, concurrent, duration, folder)?;
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
