//! The first process of a hub or a node, in namespaces that were made for it: brings everything up, then supervises it.
//!
//! ```text
//! hub:  network -> etcd, API server -> controllers, scheduler, agent -> bootstrap objects, DNS -> nodes -> ready
//! node: own /run, /var/lib, /var/log -> network -> containerd, sandbox image -> kubelet, kube-proxy -> ready
//! ```
//!
//! When this process ends, the kernel ends all others of its namespaces, and mounts and links go with them.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

use super::control::{Request, Response};
use super::layout::{Layout, Spec};
use super::supervisor::Supervisor;

mod hub;
mod node;

/// What both kinds of first process need.
struct Init {
    layout: Layout,
    spec: Spec,
    supervisor: Arc<Supervisor>,
}

/// Runs the first process of the hub, or of a node. Does not return.
///
/// The hub's has two descriptors from the keeper: standard input, which ends when the keeper does, and as standard output the
/// host's listening socket of the API server (only these two can be taken over without unsafe code).
///
/// # Errors
/// If it cannot even listen for orders.
pub fn run(layout: Layout, node: Option<u8>) -> anyhow::Result<()> {
    let spec = layout.spec()?;
    let place = node.map_or_else(|| layout.clone(), |number| layout.node(&super::layout::node_name(number)));
    let listener = match node {
        None => Some(std::io::stdout().as_fd().try_clone_to_owned()?),
        Some(_) => None,
    };
    let supervisor = Supervisor::new(place.root().join("log"), search_path(&spec), listener)?;
    if node.is_none() {
        std::thread::spawn(end_with_the_keeper);
    }
    let socket = place.control();
    let _ = std::fs::remove_file(&socket);
    let orders = UnixListener::bind(&socket).with_context(|| format!("listening at {}", socket.display()))?;
    let ordered = Arc::clone(&supervisor);
    std::thread::spawn(move || serve(&orders, &ordered));
    let init = Init { layout, spec, supervisor: Arc::clone(&supervisor) };
    std::thread::spawn(move || {
        let result = match node {
            None => hub::bring_up(&init),
            Some(number) => node::bring_up(&init, number),
        };
        match result {
            Ok(()) => init.supervisor.ready(),
            Err(error) => init.supervisor.failed(format!("{error:#}")),
        }
    });
    supervisor.reap()
}

/// The search path of everything inside.
fn search_path(spec: &Spec) -> String {
    let tools = spec.tools.iter().map(|folder| folder.display().to_string());
    let system = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(str::to_owned);
    tools.chain(system).collect::<Vec<_>>().join(":")
}

/// The keeper holds the other end: nothing comes, until it is gone.
fn end_with_the_keeper() {
    let mut nothing = [0; 16];
    while !matches!(std::io::stdin().read(&mut nothing), Ok(0) | Err(_)) {}
    std::process::exit(1);
}

fn serve(orders: &UnixListener, supervisor: &Arc<Supervisor>) {
    for stream in orders.incoming().flatten() {
        let supervisor = Arc::clone(supervisor);
        std::thread::spawn(move || {
            if let Err(error) = answer(&stream, &supervisor) {
                eprintln!("an order: {error:#}");
            }
        });
    }
}

fn answer(stream: &UnixStream, supervisor: &Supervisor) -> anyhow::Result<()> {
    let mut line = String::new();
    BufReader::new(stream.take(4096)).read_line(&mut line)?;
    if line.is_empty() {
        // Somebody only wanted to know who listens.
        return Ok(());
    }
    let done = |result: anyhow::Result<()>| match result {
        Ok(()) => Response::Done,
        Err(error) => Response::Refused(format!("{error:#}")),
    };
    let response = match serde_json::from_str(&line)? {
        Request::Status => Response::Status(supervisor.status()),
        Request::Start(daemon) => done(supervisor.start(&daemon)),
        Request::Stop(daemon) => done(supervisor.stop(&daemon)),
        Request::Exit => Response::Done,
    };
    let mut out = serde_json::to_string(&response)?;
    out.push('\n');
    let mut stream = stream;
    stream.write_all(out.as_bytes())?;
    if line.trim() == serde_json::to_string(&Request::Exit)? {
        std::process::exit(0);
    }
    Ok(())
}

impl Init {
    fn ip(&self, arguments: &str) -> anyhow::Result<()> {
        self.supervisor.run("ip", &arguments.split(' ').collect::<Vec<_>>())
    }

    /// An empty file system of its own, so that nothing of the machine's is seen or touched.
    fn own_folder(&self, folder: &str) -> anyhow::Result<()> {
        self.supervisor.run("mount", &["-t", "tmpfs", "-o", "mode=755", "tmpfs", folder])
    }
}

/// Sets a kernel parameter of these namespaces.
fn sysctl(name: &str, value: &str) -> anyhow::Result<()> {
    let file = Path::new("/proc/sys").join(name);
    std::fs::write(&file, value).with_context(|| format!("writing {value} to {}", file.display()))
}

/// Awaits something that comes by itself.
fn wait_until(what: &str, seconds: u64, mut holds: impl FnMut() -> bool) -> anyhow::Result<()> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    while !holds() {
        anyhow::ensure!(std::time::Instant::now() < deadline, "{what} did not come in {seconds} s");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    Ok(())
}

/// The host's socket of the API server, as the agent finds it.
///
/// # Errors
/// If standard input is no socket.
pub fn listener_of_stdin() -> anyhow::Result<std::net::TcpListener> {
    let fd: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned()?;
    Ok(std::net::TcpListener::from(fd))
}
