//! The first process of a process-id namespace: starts daemons, reaps every child, starts again what ended by itself.
//!
//! ```text
//! bring-up thread ── run (await one command) ─┐
//! control thread ─── start, stop ─────────────┼── children by number ── reaper (the main thread): the only one that waits
//! restart threads ── start ───────────────────┘
//! ```
//!
//! # Invariants
//! * Only the reaper waits for children, so that no exit status is lost between it and who wants to know.
//! * A daemon that ends by itself is started again after a second; one that was stopped stays so.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use super::control::{DaemonStatus, Status};
use crate::process;

/// A program that runs as long as the cluster.
#[derive(Debug, Clone)]
pub struct Daemon {
    /// Its name, also of its log.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// What it finds in its environment beside what all have.
    pub environment: Vec<(String, String)>,
    /// It gets the host's listening socket as standard input.
    pub takes_listener: bool,
    /// How it is asked to end. A daemon that has a namespace of processes of its own does not hear a TERM.
    pub stop: Signal,
}

impl Daemon {
    /// A daemon that ends on TERM.
    pub fn new(name: impl Into<String>, program: &Path, arguments: Vec<String>) -> Self {
        let command = [program.display().to_string()].into_iter().chain(arguments).collect();
        Self { name: name.into(), command, environment: Vec::new(), takes_listener: false, stop: Signal::TERM }
    }
}

struct Entry {
    daemon: Daemon,
    wanted: bool,
    pid: Option<Pid>,
    restarts: u32,
    /// Told when it has ended.
    awaited: Vec<Sender<()>>,
}

#[derive(Default)]
struct State {
    daemons: Vec<Entry>,
    commands: HashMap<Pid, Sender<WaitStatus>>,
    phase: String,
    ready: bool,
    failed: Option<String>,
}

/// See the module.
pub struct Supervisor {
    state: Mutex<State>,
    logs: PathBuf,
    /// Search path of all children.
    path: String,
    listener: Option<std::os::fd::OwnedFd>,
}

impl Supervisor {
    /// Logs go to a folder.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn new(logs: PathBuf, path: String, listener: Option<std::os::fd::OwnedFd>) -> anyhow::Result<Arc<Self>> {
        fs::create_dir_all(&logs)?;
        Ok(Arc::new(Self { state: Mutex::default(), logs, path, listener }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is being done now.
    pub fn phase(&self, phase: impl Into<String>) {
        self.state().phase = phase.into();
    }

    /// Everything is up.
    pub fn ready(&self) {
        let mut state = self.state();
        state.ready = true;
        state.phase = "ready".into();
    }

    /// It will not come up.
    pub fn failed(&self, why: String) {
        self.state().failed = Some(why);
    }

    /// As things stand.
    pub fn status(&self) -> Status {
        let state = self.state();
        let daemon = |entry: &Entry| DaemonStatus {
            name: entry.daemon.name.clone(),
            running: entry.pid.is_some(),
            restarts: entry.restarts,
        };
        Status {
            phase: state.phase.clone(),
            ready: state.ready,
            failed: state.failed.clone(),
            daemons: state.daemons.iter().map(daemon).collect(),
        }
    }

    /// Adds a daemon and starts it.
    ///
    /// # Errors
    /// If its program cannot be run.
    pub fn add(self: &Arc<Self>, daemon: Daemon) -> anyhow::Result<()> {
        let mut state = self.state();
        state.daemons.push(Entry { daemon, wanted: true, pid: None, restarts: 0, awaited: Vec::new() });
        let entry = state.daemons.last_mut().context("the daemon just added")?;
        self.spawn(entry)
    }

    /// Starts a daemon that was stopped.
    ///
    /// # Errors
    /// If there is no such daemon, or it cannot be run.
    pub fn start(&self, name: &str) -> anyhow::Result<()> {
        let mut state = self.state();
        let entry = find(&mut state, name)?;
        entry.wanted = true;
        if entry.pid.is_none() { self.spawn(entry) } else { Ok(()) }
    }

    /// Stops a daemon and waits until it has ended; after 30 seconds it is killed.
    ///
    /// # Errors
    /// If there is no such daemon, or it does not even end when it is killed.
    pub fn stop(&self, name: &str) -> anyhow::Result<()> {
        let Some((pid, signal, ended)) = self.begin_stop(name)? else { return Ok(()) };
        rustix::process::kill_process(pid, signal)?;
        if ended.recv_timeout(Duration::from_secs(30)).is_ok() {
            return Ok(());
        }
        rustix::process::kill_process(pid, Signal::KILL)?;
        ended.recv_timeout(Duration::from_secs(10)).with_context(|| format!("{name} does not end"))
    }

    fn begin_stop(&self, name: &str) -> anyhow::Result<Option<(Pid, Signal, Receiver<()>)>> {
        let mut state = self.state();
        let entry = find(&mut state, name)?;
        entry.wanted = false;
        let (sender, ended) = channel();
        entry.awaited.push(sender);
        Ok(entry.pid.map(|pid| (pid, entry.daemon.stop, ended)))
    }

    /// Runs a command to its end; its output goes to `setup.log`.
    ///
    /// # Errors
    /// If it cannot be run or fails; with the end of its output.
    pub fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let log = self.logs.join("setup.log");
        let shown = format!("{program} {}", arguments.join(" "));
        let mut command = self.command(program, &log)?;
        command.args(arguments).stdin(Stdio::null());
        let (sender, ended) = channel();
        {
            let mut state = self.state();
            let child = command.spawn().with_context(|| format!("running {shown}"))?;
            state.commands.insert(pid_of(&child)?, sender);
        }
        let status = ended.recv().context("the reaper is gone")?;
        if status.exit_status() != Some(0) {
            bail!("{shown}: ended with {:?}\n{}", status.exit_status(), process::tail(&log, 10));
        }
        Ok(())
    }

    /// Reaps for ever.
    pub fn reap(self: &Arc<Self>) -> ! {
        loop {
            match rustix::process::wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) => self.ended(pid, status),
                // No child just now.
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn ended(self: &Arc<Self>, pid: Pid, status: WaitStatus) {
        // Whoever starts a child holds the state until its number is noted there.
        let mut state = self.state();
        if let Some(waiting) = state.commands.remove(&pid) {
            let _ = waiting.send(status);
            return;
        }
        // A grandchild whose parent ended first is no daemon: reaping it was all.
        let Some(entry) = state.daemons.iter_mut().find(|entry| entry.pid == Some(pid)) else { return };
        entry.pid = None;
        for waiting in entry.awaited.drain(..) {
            let _ = waiting.send(());
        }
        if entry.wanted {
            entry.restarts += 1;
            let name = entry.daemon.name.clone();
            let this = Arc::clone(self);
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_secs(1));
                this.start_if_wanted(&name);
            });
        }
    }

    fn start_if_wanted(&self, name: &str) {
        let mut state = self.state();
        if let Ok(entry) = find(&mut state, name)
            && entry.wanted
            && entry.pid.is_none()
            && let Err(error) = self.spawn(entry)
        {
            eprintln!("{name}: {error:#}");
        }
    }

    fn spawn(&self, entry: &mut Entry) -> anyhow::Result<()> {
        let daemon = &entry.daemon;
        let (program, arguments) = daemon.command.split_first().context("an empty command")?;
        let mut command = self.command(program, &self.logs.join(format!("{}.log", daemon.name)))?;
        command.args(arguments).envs(daemon.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(match (&self.listener, daemon.takes_listener) {
            (Some(listener), true) => listener.try_clone()?.into(),
            _ => Stdio::null(),
        });
        let child = command.spawn().with_context(|| format!("starting {}", daemon.name))?;
        entry.pid = Some(pid_of(&child)?);
        Ok(())
    }

    fn command(&self, program: &str, log: &Path) -> anyhow::Result<Command> {
        let out = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new(program);
        command.env_clear().env("PATH", &self.path).env("HOME", "/root").env("LANG", "C.UTF-8");
        command.stdout(out.try_clone()?).stderr(out);
        Ok(command)
    }
}

fn find<'a>(state: &'a mut State, name: &str) -> anyhow::Result<&'a mut Entry> {
    let names: Vec<String> = state.daemons.iter().map(|entry| entry.daemon.name.clone()).collect();
    let found = state.daemons.iter_mut().find(|entry| entry.daemon.name == name);
    found.with_context(|| format!("there is no daemon {name:?}; there are: {}", names.join(", ")))
}

fn pid_of(child: &std::process::Child) -> anyhow::Result<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process has a number")
}
