//! The worker threads, as the admin thread commands them.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use crate::config::ConfigError;
use crate::context::Context;
use crate::hot_restart::Passed;
use crate::listener::{self, Listener, Listeners};
use crate::worker::Worker;

/// How long connections of a changed listener may go on.
const DRAIN: Duration = Duration::from_secs(45);
/// A draining worker without a connection for so long has no client any more.
const QUIET: Duration = Duration::from_millis(500);
/// For connections that came at the end of a drain.
const LAST: Duration = Duration::from_secs(1);
/// Commands that may wait for a worker; it takes them between connections, so this is far more than ever waits.
const COMMANDS: usize = 65_536;

enum Command {
    Apply(Arc<Listener>, Vec<TcpListener>),
    Remove(String),
    Drain(Drain),
    /// Ends the thread once no connection is left, or at once.
    Stop {
        when_idle: bool,
        done: oneshot::Sender<()>,
    },
}

/// How listeners drain.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    /// Open connections end within this time.
    pub deadline: Duration,
    /// Connections that come are served meanwhile.
    pub accept: bool,
    /// Only listeners of inbound traffic.
    pub inbound_only: bool,
    /// With `accept`: listeners stay open when the time is over.
    pub keep_open: bool,
}

impl Drain {
    /// Of all listeners, which take connections until the time is over.
    pub fn all(deadline: Duration) -> Self {
        Self { deadline, accept: true, inbound_only: false, keep_open: false }
    }
}

/// All workers of a proxy. Clones command the same ones.
#[derive(Clone)]
pub struct Workers {
    commands: Arc<Vec<mpsc::Sender<Command>>>,
    listeners: Arc<Mutex<Listening>>,
    addresses: watch::Sender<Vec<(String, SocketAddr)>>,
}

/// What listens.
#[derive(Default)]
struct Listening {
    active: BTreeMap<String, (Arc<Listener>, Vec<SocketAddr>)>,
    /// Sockets that were bound when a listener was accepted, for the time when it is warm.
    prepared: BTreeMap<String, Vec<Vec<TcpListener>>>,
    /// Sockets of the process before this one, until their listeners are prepared.
    inherited: Vec<Passed>,
    /// Sockets for the next process, as long as they are served.
    kept: Option<BTreeMap<String, Vec<Passed>>>,
}

impl Workers {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// If a thread cannot be made.
    pub fn start(
        count: usize,
        context: &Arc<Context>,
        addresses: watch::Sender<Vec<(String, SocketAddr)>>,
        restart: Option<Vec<Passed>>,
    ) -> std::io::Result<Self> {
        let mut commands = Vec::new();
        for index in 0..count.max(1) {
            let (sender, receiver) = mpsc::channel(COMMANDS);
            let context = context.clone();
            std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || run(index, context, receiver))?;
            commands.push(sender);
        }
        let kept = restart.is_some().then(BTreeMap::new);
        let listening = Listening { kept, inherited: restart.unwrap_or_default(), ..Listening::default() };
        Ok(Self { commands: Arc::new(commands), listeners: Arc::new(Mutex::new(listening)), addresses })
    }

    fn listening(&self) -> std::sync::MutexGuard<'_, Listening> {
        // A panic while it was held left it usable: every change to it is one insertion or removal.
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Binds the sockets of a listener that has been accepted, so that a taken address refuses it now.
    ///
    /// # Errors
    /// Names the address.
    pub fn prepare(&self, listener: &Arc<Listener>) -> Result<(), ConfigError> {
        let mut listening = self.listening();
        let before = listening.active.get(listener.name.as_str());
        if before.is_some_and(|(before, _)| listener.same_sockets(before)) {
            return Ok(());
        }
        let inherited = &mut listening.inherited;
        let sockets = listener::bind(listener, self.commands.len(), |address| {
            let is_meant = |passed: &mut Passed| passed.name == *listener.name && passed.address == address;
            inherited.extract_if(.., is_meant).map(|passed| passed.socket).collect()
        })
        .map_err(|error| ConfigError::new("address", error.to_string()))?;
        listening.prepared.insert(listener.name.to_string(), sockets);
        Ok(())
    }

    /// Serves a listener, or a new version of it.
    pub fn apply(&self, listener: &Arc<Listener>) {
        let mut listening = self.listening();
        let name = listener.name.to_string();
        let sockets = listening.prepared.remove(&name).unwrap_or_default();
        let bound: Vec<SocketAddr> =
            sockets.first().into_iter().flatten().filter_map(|socket| socket.local_addr().ok()).collect();
        let bound = match listening.active.get(&name) {
            Some((_, old)) if bound.is_empty() => old.clone(),
            _ => bound,
        };
        if let Some(kept) = listening.kept.as_mut().filter(|_| !sockets.is_empty()) {
            kept.insert(name.clone(), keep(listener, &sockets));
        }
        listening.active.insert(name, (listener.clone(), bound));
        let mut sockets = sockets.into_iter();
        for worker in self.commands.iter() {
            send(worker, Command::Apply(listener.clone(), sockets.next().unwrap_or_default()));
        }
        self.tell(&listening);
    }

    /// Stops a listener; its connections drain.
    pub fn remove(&self, name: &str) {
        let mut listening = self.listening();
        listening.prepared.remove(name);
        if let Some(kept) = &mut listening.kept {
            kept.remove(name);
        }
        if listening.active.remove(name).is_some() {
            self.commands.iter().for_each(|worker| send(worker, Command::Remove(name.to_owned())));
            self.tell(&listening);
        }
    }

    fn tell(&self, listening: &Listening) {
        let all = listening.active.iter();
        let addresses = all.flat_map(|(name, (_, bound))| bound.iter().map(|address| (name.clone(), *address)));
        self.addresses.send_replace(addresses.collect());
    }

    /// Sockets for the next process.
    pub fn sockets(&self) -> Vec<Passed> {
        let listening = self.listening();
        let copy = |passed: &Passed| {
            let socket = passed.socket.try_clone().ok()?;
            Some(Passed { name: passed.name.clone(), address: passed.address, socket })
        };
        listening.kept.iter().flat_map(BTreeMap::values).flatten().filter_map(copy).collect()
    }

    /// Drains listeners; the threads go on until [`Self::stop`].
    pub fn drain(&self, drain: Drain) {
        // A socket that is held here would go on queueing connections when nobody accepts them any more.
        self.listening().kept = None;
        self.commands.iter().for_each(|worker| send(worker, Command::Drain(drain)));
    }

    /// Ends the threads: once their connections have ended if `when_idle`, else at once.
    pub async fn stop(&self, when_idle: bool) {
        let mut ends = Vec::new();
        for worker in self.commands.iter() {
            let (done, ended) = oneshot::channel();
            send(worker, Command::Stop { when_idle, done });
            ends.push(ended);
        }
        for ended in ends {
            // A worker that is gone has ended, too.
            let _ = ended.await;
        }
    }
}

/// Copies of a listener's sockets, with the addresses as configured.
fn keep(listener: &Listener, sockets: &[Vec<TcpListener>]) -> Vec<Passed> {
    let passed = |socket: &TcpListener| {
        let bound = socket.local_addr().ok()?;
        let is_meant = |address: &&SocketAddr| {
            address.ip() == bound.ip() && (address.port() == bound.port() || address.port() == 0)
        };
        let address = *listener.addresses.iter().find(is_meant)?;
        Some(Passed { name: listener.name.to_string(), address, socket: socket.try_clone().ok()? })
    };
    sockets.iter().flatten().filter_map(passed).collect()
}

fn send(worker: &mpsc::Sender<Command>, command: Command) {
    if worker.try_send(command).is_err() {
        tracing::error!("a worker thread does not take commands any more");
    }
}

/// A worker's thread.
fn run(index: usize, context: Arc<Context>, mut commands: mpsc::Receiver<Command>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "worker {index} has no runtime");
            return;
        }
    };
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let worker = Worker::new(index, context);
        let mut shrinking = worker.context.overload.shrinking();
        let pools = Rc::downgrade(&worker.pools);
        tokio::task::spawn_local(async move {
            while shrinking.changed().await.is_ok() {
                let Some(pools) = pools.upgrade() else { return };
                pools.drain();
            }
        });
        let listeners = Listeners::new(worker, DRAIN);
        let mut until = Instant::now();
        while let Some(command) = commands.recv().await {
            match command {
                Command::Apply(listener, sockets) => {
                    if let Err(error) = listeners.apply(listener, sockets) {
                        tracing::error!(%error, "a listener's sockets cannot be served");
                    }
                }
                Command::Remove(name) => listeners.remove(&name),
                Command::Drain(drain) => {
                    until = Instant::now() + drain.deadline;
                    listeners.drain(drain.deadline, drain.inbound_only);
                    if !drain.accept {
                        listeners.stop_accepting(drain.inbound_only);
                    } else if !drain.keep_open {
                        let listeners = listeners.clone();
                        tokio::task::spawn_local(async move {
                            tokio::time::sleep(drain.deadline).await;
                            listeners.stop_accepting(drain.inbound_only);
                        });
                    }
                }
                Command::Stop { when_idle, done } => {
                    if when_idle {
                        let left = until.saturating_duration_since(Instant::now());
                        let _ = tokio::time::timeout(left, listeners.quiet(QUIET)).await;
                        listeners.stop_accepting(false);
                        // What the kernel has accepted already is still served; nothing comes after it.
                        let _ = tokio::time::timeout(LAST, listeners.quiet(LAST / 50)).await;
                    }
                    let _ = done.send(());
                    return;
                }
            }
        }
    });
}
