//! The peers: each a pair of processes with one worker each. Envoy and ours run from the same YAML.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::ValueEnum;

use super::bootstrap::{Metrics, bootstrap};
use super::rivals::{haproxy, nginx};
use super::{Pair, Plan};
use crate::process::{Process, envoy, find, free_port};

/// What goes through a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// HTTP/1.1, on every hop.
    Http1,
    /// HTTP/2, on every hop.
    Http2,
    /// Bytes.
    Tcp,
}

/// A peer that may be here.
pub struct Peer {
    /// Its name.
    pub name: String,
    kind: Kind,
    protocol: Protocol,
}

enum Kind {
    /// Runs an Envoy bootstrap; extra arguments.
    Bootstrap(Option<PathBuf>, &'static [&'static str], Metrics),
    Nginx(Option<PathBuf>),
    Haproxy(Option<PathBuf>),
    /// This program's own relay.
    Relay,
}

/// Arguments of our proxy: one worker, as all peers have.
pub const OUR_ARGUMENTS: [&str; 4] = ["--concurrency", "1", "--log-level", "error"];
const TWO_WORKERS: [&str; 4] = ["--concurrency", "2", "--log-level", "error"];
/// Envoy's.
pub const ENVOY_ARGUMENTS: [&str; 5] = ["--concurrency", "1", "-l", "error", "--use-dynamic-base-id"];

/// A program of Debian's, which may stand where only root looks.
fn debian(name: &str) -> Option<PathBuf> {
    find(name).or_else(|| Some(Path::new("/usr/sbin").join(name))).filter(|program| program.is_file())
}

/// Every peer that speaks a protocol, in the order in which they are shown.
pub fn all(plan: &Plan, protocol: Protocol) -> Vec<Peer> {
    let mut peers = vec![
        ours(OURS, &plan.proxy, Metrics::On),
        relay(),
        Peer::new("envoy", Kind::Bootstrap(envoy(), &ENVOY_ARGUMENTS, Metrics::On)),
        Peer::new("nginx", Kind::Nginx(debian("nginx"))),
        Peer::new("haproxy", Kind::Haproxy(debian("haproxy"))),
    ];
    // nginx of Debian asks no server over HTTP/2, and has no streams unless a module is installed.
    peers.retain(|peer| !plan.skip.contains(&peer.name) && (protocol == Protocol::Http1 || peer.name != "nginx"));
    peers.into_iter().map(|peer| peer.carrying(protocol)).collect()
}

/// The name of our proxy.
pub const OURS: &str = "ferromesh";

/// Our proxy.
pub fn ours(name: &str, proxy: &Path, metrics: Metrics) -> Peer {
    Peer::new(name, Kind::Bootstrap(Some(proxy.to_owned()), &OUR_ARGUMENTS, metrics))
}

/// Our proxy with two workers.
pub fn two_workers(proxy: &Path) -> Peer {
    Peer::new("2 workers", Kind::Bootstrap(Some(proxy.to_owned()), &TWO_WORKERS, Metrics::On))
}

/// The floor.
pub fn relay() -> Peer {
    Peer::new("relay", Kind::Relay)
}

/// What a process is started under (a counting tool): its program and arguments; the process's own command follows.
pub struct Launcher {
    /// The tool.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl Launcher {
    fn around(&self, command: &Command) -> Command {
        let mut outer = Command::new(&self.program);
        outer.args(&self.arguments).arg(command.get_program()).args(command.get_args());
        outer
    }
}

/// The launcher of a side of a pair, if there is one.
type LauncherOf<'a> = &'a dyn Fn(&str) -> Launcher;

/// Under a counting tool a start takes seconds.
const START: Duration = Duration::from_secs(60);

/// One process of a pair.
pub struct Hop {
    /// Where it takes connections.
    pub listen: SocketAddr,
    /// Where it sends them.
    pub upstream: SocketAddr,
    /// Takes plain text and sends TLS; else the other way round.
    pub is_client: bool,
    /// What it carries.
    pub protocol: Protocol,
}

impl Peer {
    fn new(name: &str, kind: Kind) -> Self {
        Self { name: name.to_owned(), kind, protocol: Protocol::Http1 }
    }

    /// The same for another protocol; HTTP/1.1 unless told.
    #[must_use]
    pub fn carrying(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    /// What it carries.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Starts a pair in front of `backend`; `None` if the peer is not on this machine.
    ///
    /// # Errors
    /// If it is there and does not start.
    pub fn start(&self, folder: &Path, backend: SocketAddr) -> anyhow::Result<Option<Pair>> {
        self.start_pair(folder, backend, None)
    }

    /// As [`Self::start`], each process under its side's launcher.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_under(
        &self,
        folder: &Path,
        backend: SocketAddr,
        launcher: LauncherOf<'_>,
    ) -> anyhow::Result<Option<Pair>> {
        self.start_pair(folder, backend, Some(launcher))
    }

    fn start_pair(
        &self,
        folder: &Path,
        backend: SocketAddr,
        launcher: Option<LauncherOf<'_>>,
    ) -> anyhow::Result<Option<Pair>> {
        let inner = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let outer = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let protocol = self.protocol;
        let server = Hop { listen: inner, upstream: backend, is_client: false, protocol };
        let client = Hop { listen: outer, upstream: inner, is_client: true, protocol };
        let mut start_ms = 0.0;
        let mut ready = |hop: &Hop| {
            let begin = Instant::now();
            let Some(mut process) = self.start_hop(folder, hop, launcher)? else { return Ok(None) };
            process.listens_within(hop.listen, START)?;
            start_ms = f64::max(start_ms, begin.elapsed().as_secs_f64() * 1e3);
            Ok::<_, anyhow::Error>(Some(process))
        };
        let Some(server_process) = ready(&server)? else { return Ok(None) };
        let Some(client_process) = ready(&client)? else { return Ok(None) };
        Ok(Some(Pair {
            name: self.name.clone(),
            address: outer,
            inner,
            start_ms,
            processes: [client_process, server_process],
        }))
    }

    fn start_hop(&self, folder: &Path, hop: &Hop, launcher: Option<LauncherOf<'_>>) -> anyhow::Result<Option<Process>> {
        let side = if hop.is_client { "client" } else { "server" };
        let name = format!("{}-{side}", self.name);
        let Some(mut command) = self.command(folder, hop, side)? else { return Ok(None) };
        if let Some(launcher) = launcher {
            command = launcher(side).around(&command);
        }
        Process::start(&name, &mut command, folder).map(Some)
    }

    fn command(&self, folder: &Path, hop: &Hop, side: &str) -> anyhow::Result<Option<Command>> {
        let configured = |ending: &str, text: String| {
            let file = folder.join(format!("{}-{side}.{ending}", self.name));
            std::fs::write(&file, text).map(|()| file)
        };
        let mut command;
        match &self.kind {
            Kind::Bootstrap(None, ..) | Kind::Nginx(None) | Kind::Haproxy(None) => return Ok(None),
            Kind::Bootstrap(Some(program), arguments, metrics) => {
                let file = configured("json", bootstrap(folder, hop, *metrics).to_string())?;
                command = Command::new(program);
                command.arg("-c").arg(file).args(*arguments);
            }
            Kind::Nginx(Some(program)) => {
                command = Command::new(program);
                command.arg("-c").arg(configured("conf", nginx(folder, hop, side))?);
            }
            Kind::Haproxy(Some(program)) => {
                command = Command::new(program);
                command.arg("-db").arg("-f").arg(configured("cfg", haproxy(folder, hop))?);
            }
            Kind::Relay => {
                command = Command::new(std::env::current_exe().context("this program's own file")?);
                command.args(["relay", "--side", side]);
                command.arg("--listen").arg(hop.listen.to_string()).arg("--upstream").arg(hop.upstream.to_string());
                let protocol = hop.protocol.to_possible_value().context("the protocol's name")?;
                command.args(["--protocol", protocol.get_name()]).arg("--certificates").arg(folder);
            }
        }
        Ok(Some(command))
    }
}
