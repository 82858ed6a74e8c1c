//! The process outside: makes a cluster's folder, keys and control groups, starts its first process, and takes all away at the end.
//!
//! ```text
//! owner (a test, or nobody) ══pipe══> keeper ══pipe══> first process of the hub ──> everything else
//! ```
//!
//! Each end of a pipe that closes ends what is to its right, so that nothing outlives who wanted it, however that one ended. What a
//! killed keeper leaves are files and control groups: the next `up` or `down` finds the folder's lock free and removes them.

use std::fs::{self, File};
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};

use super::layout::{Layout, Spec};
use super::{cgroup, images, pki};

/// Runs until the cluster has ended. `owned`: it ends when standard input does.
///
/// # Errors
/// If it cannot be started.
pub fn run(layout: &Layout, owned: bool) -> anyhow::Result<()> {
    let spec = layout.spec()?;
    // The port of the host that leads to the API server: a socket stays in the network in which it was made.
    let api = TcpListener::bind("127.0.0.1:0").context("a port of the loopback for the API server")?;
    pki::write(layout, &spec, api.local_addr()?.port())?;
    if spec.nodes > 0 {
        images::write_pause(&spec, layout)?;
        cgroup::create(
            &spec.name,
            spec.node_names().map(|(_, name)| name).collect::<Vec<_>>().iter().map(String::as_str),
        )?;
    }
    let mut child = first_process(layout, api)?;
    let told = Arc::new(AtomicBool::new(false));
    // Dropping it closes the pipe, which ends the first process; `wait` would do so at once.
    let pipe = child.stdin.take();
    if owned {
        let owner_gone = Arc::clone(&told);
        std::thread::spawn(move || {
            let mut nothing = [0; 16];
            while !matches!(std::io::stdin().read(&mut nothing), Ok(0) | Err(_)) {}
            owner_gone.store(true, Ordering::SeqCst);
            drop(pipe);
        });
    } else {
        std::mem::forget(pipe);
    }
    let status = child.wait()?;
    end(layout, &spec, status.success() || told.load(Ordering::SeqCst), status)
}

/// A cluster that was told to end leaves nothing; of one that broke down, the logs stay until somebody says `down`.
fn end(layout: &Layout, spec: &Spec, told: bool, status: std::process::ExitStatus) -> anyhow::Result<()> {
    if !told {
        bail!("the first process of cluster {} ended with {status}", spec.name);
    }
    remove(layout, &spec.name)
}

/// Removes what is on disk and in the control groups. The cluster's processes must have ended.
///
/// # Errors
/// If something cannot be removed.
pub fn remove(layout: &Layout, name: &str) -> anyhow::Result<()> {
    cgroup::remove(name);
    match fs::remove_dir_all(layout.root()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", layout.root().display()))
        }
        _ => Ok(()),
    }
}

fn first_process(layout: &Layout, api: TcpListener) -> anyhow::Result<std::process::Child> {
    let program = std::env::current_exe()?;
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["--propagation", "private"])
        .arg(program)
        .args(["cluster", "init", "--state"])
        .arg(layout.root())
        .stdin(Stdio::piped())
        .stdout(OwnedFd::from(api));
    command.spawn().context("running unshare (package util-linux)")
}

/// Whether a cluster's folder is held by a keeper.
pub fn is_held(layout: &Layout) -> bool {
    File::open(layout.lock()).is_ok_and(|lock| lock.try_lock().is_err())
}

/// A folder for a new cluster, locked. It gets its name in one step, so that nobody sees it without its lock.
///
/// # Errors
/// If a cluster of that name exists.
pub fn make_folder(layout: &Layout, spec: &Spec) -> anyhow::Result<File> {
    let parent = layout.root().parent().context("the state folder")?;
    fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    let made = tempfile::Builder::new().prefix(".new-").tempdir_in(parent)?;
    let new = Layout::at(made.path().to_owned());
    fs::create_dir(made.path().join("log"))?;
    fs::write(new.spec_file(), serde_json::to_vec_pretty(spec)?)?;
    let lock = File::create(new.lock())?;
    lock.lock()?;
    fs::rename(made.path(), layout.root()).with_context(|| {
        format!(
            "cluster {} is there already ({}); end it with: ferromesh-e2e cluster down --name {}",
            spec.name,
            layout.root().display(),
            spec.name
        )
    })?;
    // It is elsewhere now.
    let _ = made.keep();
    Ok(lock)
}

/// Folders of clusters, dead or alive.
///
/// # Errors
/// If there is no place for them.
pub fn folders() -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(super::layout::state()?).into_iter().flatten().flatten();
    let is_cluster = |path: &PathBuf| path.is_dir() && !hidden(path);
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_cluster).collect();
    folders.sort();
    Ok(folders)
}

fn hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}
