//! Large transfers over TCP with mTLS between: how fast, and what a gigabyte costs.

use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::backend::Backend;
use super::peers::{self, Protocol};
use super::{Pair, Plan};

/// One transfer through a pair.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Transfer {
    /// Megabytes (10^6) in a second.
    pub mb_per_s: f64,
    /// CPU seconds of both proxies for a gigabyte (10^9).
    pub cpu_s_per_gb: f64,
}

/// All transfers of a peer.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Transfers {
    /// Its name.
    pub name: String,
    /// One for each run.
    pub samples: Vec<Transfer>,
}

/// Measures every peer, interleaved.
///
/// # Errors
/// If a peer that is there does not start, or a transfer breaks off.
pub fn run(plan: &Plan, folder: &Path) -> anyhow::Result<Vec<Transfers>> {
    let backend = Backend::start(Protocol::Tcp)?;
    let pairs = super::start(peers::all(plan, Protocol::Tcp), folder, backend.address())?;
    let mut all: Vec<Transfers> =
        pairs.iter().map(|pair| Transfers { name: pair.name.clone(), samples: Vec::new() }).collect();
    for _ in 0..plan.runs {
        for (pair, peer) in pairs.iter().zip(&mut all) {
            let sample = measure(pair, plan.duration).with_context(|| pair.name.clone())?;
            eprintln!("{:>10} TCP {:.0} MB/s, {:.2} s CPU/GB", pair.name, sample.mb_per_s, sample.cpu_s_per_gb);
            peer.samples.push(sample);
        }
    }
    Ok(all)
}

fn measure(pair: &Pair, duration: Duration) -> anyhow::Result<Transfer> {
    let mut socket = TcpStream::connect(pair.address)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut chunk = vec![0; 256 * 1024];
    let mut read_for = |duration: Duration| -> anyhow::Result<(f64, f64)> {
        let (begin, mut bytes) = (Instant::now(), 0);
        while begin.elapsed() < duration {
            let read = socket.read(&mut chunk)?;
            ensure!(read > 0, "the transfer broke off");
            bytes += read;
        }
        Ok((bytes as f64, begin.elapsed().as_secs_f64()))
    };
    read_for(Duration::from_millis(300))?;
    let before = pair.cpu()?;
    let (bytes, seconds) = read_for(duration)?;
    let used = pair.cpu()? - before;
    Ok(Transfer { mb_per_s: bytes / seconds / 1e6, cpu_s_per_gb: used / bytes * 1e9 })
}
