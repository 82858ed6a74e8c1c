//! The control planes, as processes in the cluster's network.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::cluster::Cluster;
use crate::process::{Process, tail};

/// Istio's module: control plane and CRDs.
pub const ISTIO: &str = "istio.io/istio@v0.0.0-20260827124520-eed52ebb66ad";

/// How long a control plane may take to read all objects.
const PATIENCE: Duration = Duration::from_secs(180);

/// A control plane.
#[derive(Debug, Clone)]
pub enum Plane {
    /// Ours: `ferromesh-controller`.
    Ferromesh(PathBuf),
    /// Istio's: `pilot-discovery`.
    Istiod(PathBuf),
}

impl Plane {
    /// Its name in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ferromesh(_) => "ferromesh",
            Self::Istiod(_) => "istiod",
        }
    }

    pub(super) fn is_istiod(&self) -> bool {
        matches!(self, Self::Istiod(_))
    }

    /// Where sidecars ask, without TLS.
    pub(super) fn xds(&self) -> SocketAddr {
        let port = if self.is_istiod() { 15_010 } else { 15_310 };
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn health(&self) -> SocketAddr {
        let port = if self.is_istiod() { 8080 } else { 15_314 };
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    pub(super) fn start(&self, cluster: &Cluster, folder: &Path) -> anyhow::Result<Process> {
        let mut command = match self {
            Self::Ferromesh(program) => {
                let mut command = Command::new(program);
                command
                    .args(["--kubernetes", "--allow-plaintext", "--namespace", "ferromesh-system"])
                    .arg(format!("--xds-address={}", self.xds()))
                    .arg(format!("--admin-address={}", self.health()))
                    .arg("--kubeconfig")
                    .arg(cluster.inside_kubeconfig());
                command
            }
            Self::Istiod(program) => {
                let mut command = Command::new(program);
                command
                    .args(["discovery", "--monitoringAddr=:15014", "--kubeconfig"])
                    .arg(cluster.inside_kubeconfig())
                    .env("POD_NAME", "istiod-0")
                    .env("POD_NAMESPACE", "istio-system")
                    // Its default, 100, is a limit for its own safety, which so many clients at once pass.
                    .env("PILOT_MAX_REQUESTS_PER_SECOND", "100000")
                    .current_dir(folder);
                command
            }
        };
        // A child has the network of the thread that starts it.
        cluster.in_network(None, move || Process::start(self.name(), &mut command, folder))?
    }

    /// Waits until it says that it has read all objects.
    pub(super) fn synced(&self, cluster: &Cluster, process: &Process) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = cluster.in_network(None, || get(self.health(), "/ready"))?.unwrap_or_default();
            if answer.starts_with("HTTP/1.1 200") {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("{} has not read all in {PATIENCE:?}:\n{}", self.name(), tail(process.log(), 12));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn get(at: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut socket = TcpStream::connect(at)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(socket, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).context(path.to_owned())?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
