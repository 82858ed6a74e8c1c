//! The two sidecars, their control planes, and what is behind them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::certificates::Authority;
use super::{configuration as config, row};
use crate::bench::ads::Ads;
use crate::bench::backend::Backend;
use crate::bench::peers::Protocol;
use crate::process::{Process, free_port};
use crate::rows::Row;

pub(super) const ANSWER: Duration = Duration::from_secs(10);

pub(super) struct Sidecar {
    pub(super) name: &'static str,
    pub(super) process: Process,
    pub(super) admin: SocketAddr,
    pub(super) ads: Ads,
}

pub(super) struct Pair {
    pub(super) address: SocketAddr,
    pub(super) upstreams: [SocketAddr; 2],
    pub(super) sides: [Sidecar; 2],
    authority: Authority,
    rotations: u64,
}

impl Pair {
    pub(super) fn start(proxy: &Path, folder: &Path) -> anyhow::Result<Self> {
        let authority = Authority::new()?;
        let upstreams = [Backend::start(Protocol::Http1)?.address(), Backend::start(Protocol::Http1)?.address()];
        let inner = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let server = sidecar("server", proxy, folder, inner, &upstreams, &authority)?;
        let client = sidecar("client", proxy, folder, address, &[inner], &authority)?;
        Ok(Self { address, upstreams, sides: [client, server], authority, rotations: 0 })
    }

    pub(super) fn client(&self) -> &Sidecar {
        &self.sides[0]
    }

    pub(super) fn server(&self) -> &Sidecar {
        &self.sides[1]
    }

    /// New keys and certificates, one proxy after the other.
    pub(super) fn rotate(&mut self) -> anyhow::Result<()> {
        for side in &self.sides {
            side.ads.push([self.authority.leaf()?], ANSWER)?;
        }
        self.rotations += 1;
        Ok(())
    }

    pub(super) fn rotations(&self) -> u64 {
        self.rotations
    }

    /// What the proxies wrote.
    pub(super) fn rows(&self) -> Vec<Row> {
        let look = |side: &Sidecar| {
            let text = std::fs::read_to_string(side.process.log()).unwrap_or_else(|error| format!("ERROR {error}"));
            let wrong: Vec<&str> =
                text.lines().filter(|line| line.contains("panicked") || line.contains("ERROR")).collect();
            let first = wrong.first().copied().unwrap_or_default();
            row(&format!("{}: no error is logged", side.name), wrong.is_empty(), format!("{} {first}", wrong.len()))
        };
        self.sides.iter().map(look).collect()
    }
}

fn sidecar(
    name: &'static str,
    proxy: &Path,
    folder: &Path,
    listen: SocketAddr,
    upstreams: &[SocketAddr],
    authority: &Authority,
) -> anyhow::Result<Sidecar> {
    let (ads, is_client) = (Ads::start()?, name == "client");
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let even: Vec<(SocketAddr, u64)> = upstreams.iter().map(|at| (*at, 1)).collect();
    ads.set([authority.root(), authority.leaf()?])?;
    ads.set([config::cluster(is_client), config::endpoints(&even)])?;
    ads.set([config::routes(0), config::listener(listen, is_client)])?;
    let file = folder.join(format!("{name}.json"));
    std::fs::write(&file, config::bootstrap(name, admin, ads.address()).to_string())?;
    let mut command = Command::new(proxy);
    command.arg("-c").arg(&file).args(["--concurrency", "1", "--log-level", "warning"]);
    let mut process = Process::start(name, &mut command, folder)?;
    process.listens(listen)?;
    Ok(Sidecar { name, process, admin, ads })
}
