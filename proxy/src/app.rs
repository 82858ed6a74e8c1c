//! Wiring: a bootstrap becomes threads. The admin thread has xDS, identity and the admin pages; each worker serves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ferromesh_core::runtime::memory;
use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::bootstrap::v3::Bootstrap;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::admin::{Admin, Command};
use crate::bootstrap::{self, Ads};
use crate::cluster::DnsSettings;
use crate::config::{At, ConfigError, FetchLimit};
use crate::context::{Context, Local};
use crate::hot_restart::{self, Asked, Passed};
use crate::identity;
use crate::overload::{self, Overload};
use crate::runtime::Runtime;
use crate::workers::{Drain, Workers};
use crate::xds::client::Client;
use crate::xds::dump::Dump;
use crate::xds::store::Store;
use crate::xds::{Kind, NameTables};

mod admin_address;

/// Longest that the end waits for the access logs' last lines.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Commands that may wait for the admin thread.
const COMMANDS: usize = 16;

/// Changes the log filter; says what is wrong with a new one.
pub type SetLogLevel = crate::admin::SetLogLevel;

/// How a proxy runs, beyond its bootstrap.
#[derive(Clone)]
pub struct Options {
    /// Worker threads.
    pub concurrency: usize,
    /// Where the workload's own certificate comes from; `None` if nothing names the secrets `default` and `ROOTCA`,
    /// or the bootstrap says how they come.
    pub identity: Option<identity::Config>,
    /// Changes the log filter (`/logging`).
    pub set_log_level: Option<SetLogLevel>,
    /// Longest time that connections get to end in a drain.
    pub drain_time: Duration,
    /// Sockets of the process before this one; `None` if there is no hot restart, neither before nor after.
    pub restart: Option<Arc<Mutex<Vec<Passed>>>>,
    /// Who is told the names of the mesh; the proxy is ready when the first ones have come.
    pub names: Option<NameTables>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            concurrency: 1,
            identity: None,
            set_log_level: None,
            drain_time: Duration::from_secs(45),
            restart: None,
            names: None,
        }
    }
}

/// Why a proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The bootstrap asks for something that is not implemented or not valid.
    #[error("bootstrap: {0}")]
    Config(#[from] ConfigError),
    /// The admin address cannot be bound.
    #[error("cannot listen on the admin address {address}: {source}")]
    Admin {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// A thread cannot be made.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// The admin thread ended before it said why.
    #[error("the proxy's admin thread ended while starting")]
    Died,
}

/// What the handle asks of the admin thread.
enum Control {
    Drain,
    /// What the next process asks for.
    Restart(Asked),
    ReopenLogs,
    Shutdown,
}

/// A running proxy. Dropping it stops it without a drain.
pub struct Proxy {
    admin: Option<SocketAddr>,
    ready: watch::Receiver<bool>,
    listeners: watch::Receiver<Vec<(String, SocketAddr)>>,
    control: mpsc::Sender<Control>,
    ended: watch::Receiver<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
    context: Arc<Context>,
}

impl Proxy {
    /// Starts a proxy; returns once its static configuration is accepted and its admin address bound.
    ///
    /// # Errors
    /// Names what in the bootstrap cannot be used.
    pub fn start(bootstrap: Bootstrap, options: Options) -> Result<Self, StartError> {
        let ads = bootstrap::ads(&bootstrap)?;
        let node = bootstrap.node.clone().unwrap_or_default();
        let dns = DnsSettings::of_bootstrap(&bootstrap)?;
        let overload = overload::Config::decode(bootstrap.overload_manager.as_ref())?;
        let runtime = Runtime::decode(bootstrap.layered_runtime.as_ref())?;
        // The monitor's number comes before the runtime's.
        let most = overload.most_connections.or(runtime.global_connections()).unwrap_or(u64::MAX);
        let stats = Arc::new(bootstrap::stats(&bootstrap)?);
        let context = Context {
            dns,
            overload: Arc::new(Overload::new(most)),
            runtime,
            ..Context::counting_in(Local::new(node), stats)
        };
        let context = Arc::new(context);
        let (ready_sender, ready) = watch::channel(false);
        let (listeners_sender, listeners) = watch::channel(Vec::new());
        let (control, control_receiver) = mpsc::channel(COMMANDS);
        let (ended_sender, ended) = watch::channel(false);
        let (started, start) = std::sync::mpsc::sync_channel(1);
        let main = Main {
            bootstrap,
            options,
            ads,
            overload,
            context: context.clone(),
            ready: ready_sender,
            listeners: listeners_sender,
        };
        let thread = std::thread::Builder::new()
            .name("admin".into())
            .spawn(move || {
                main.run(control_receiver, started);
                ended_sender.send_replace(true);
            })
            .map_err(StartError::Thread)?;
        let admin = start.recv().map_err(|_| StartError::Died)??;
        Ok(Self { admin, ready, listeners, control, ended, thread: Some(thread), context })
    }

    /// The admin address, if the bootstrap asks for one.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The address of a listener, once it listens.
    pub fn listener_addr(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.borrow().iter().find(|(found, _)| found == name).map(|(_, address)| *address)
    }

    /// Waits until the first set of configuration serves.
    pub async fn ready(&self) {
        let _ = self.ready.clone().wait_for(|ready| *ready).await;
    }

    /// Tells when the first set of configuration serves.
    pub fn readiness(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// Whether the first set of configuration serves.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// What the proxy's threads share; for metrics and certificates.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Connections end with their requests, new ones too; the listeners close when [`Self::shutdown`] finds no client
    /// left, or the drain time is over.
    pub fn drain(&self) {
        let _ = self.control.try_send(Control::Drain);
    }

    /// Serves what the next process asks for.
    pub async fn restart(&self, asked: Asked) {
        let _ = self.control.send(Control::Restart(asked)).await;
    }

    /// Opens the access logs anew, after they were rotated.
    pub fn reopen_logs(&self) {
        let _ = self.control.try_send(Control::ReopenLogs);
    }

    /// Waits until the proxy has ended by itself (`/quitquitquit`).
    pub async fn ended(&self) {
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    /// Ends the proxy: what is in flight after a drain is cut.
    pub async fn shutdown(mut self) {
        let _ = self.control.send(Control::Shutdown).await;
        self.ended().await;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The admin address, as it is served.
struct AdminAddress {
    configured: SocketAddr,
    bound: SocketAddr,
    socket: std::net::TcpListener,
    serving: tokio::task::AbortHandle,
}

/// The admin thread.
struct Main {
    bootstrap: Bootstrap,
    options: Options,
    ads: Option<Ads>,
    overload: overload::Config,
    context: Arc<Context>,
    ready: watch::Sender<bool>,
    listeners: watch::Sender<Vec<(String, SocketAddr)>>,
}

type Started = std::sync::mpsc::SyncSender<Result<Option<SocketAddr>, StartError>>;

impl Main {
    fn run(self, control: mpsc::Receiver<Control>, started: Started) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = started.send(Err(StartError::Thread(error)));
                return;
            }
        };
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, self.serve(control, started));
    }

    async fn serve(self, mut control: mpsc::Receiver<Control>, started: Started) {
        let (commands, mut command_receiver) = mpsc::channel(COMMANDS);
        let (workers, mut admin) = match self.set_up(commands).await {
            Ok((workers, admin)) => {
                let _ = started.send(Ok(admin.as_ref().map(|admin| admin.bound)));
                (workers, admin)
            }
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        loop {
            tokio::select! {
                command = control.recv() => match command {
                    Some(Control::Drain) => self.drain(&workers, Drain::all(self.options.drain_time)),
                    Some(Control::Restart(asked)) => {
                        if self.hand_over(&workers, &mut admin, asked).await {
                            break;
                        }
                    }
                    Some(Control::ReopenLogs) => self.context.access_logs.reopen(),
                    Some(Control::Shutdown) | None => break,
                },
                // Without an admin address nobody sends: then this never wakes.
                Some(command) = command_receiver.recv() => match command {
                    Command::DrainListeners(asked) => self.drain(&workers, Drain {
                        deadline: self.options.drain_time,
                        accept: asked.graceful,
                        inbound_only: asked.inbound_only,
                        keep_open: asked.skip_exit,
                    }),
                    Command::ReopenLogs => self.context.access_logs.reopen(),
                    Command::HealthCheck(passing) => self.context.failing_health_check.store(!passing, Ordering::Relaxed),
                    // As SIGTERM: clients that are there get their answers.
                    Command::Quit => {
                        self.drain(&workers, Drain::all(self.options.drain_time));
                        break;
                    }
                },
            }
        }
        let when_idle = self.context.is_draining();
        workers.stop(when_idle).await;
        self.context.access_logs.flush(LAST_LINES);
    }

    /// Does what the next process asks for; whether that is the end.
    async fn hand_over(&self, workers: &Workers, admin: &mut Option<AdminAddress>, asked: Asked) -> bool {
        match asked {
            Asked::Sockets(answer) => {
                let mut sockets = workers.sockets();
                if let Some(admin) = admin
                    && let Ok(socket) = admin.socket.try_clone()
                {
                    sockets.push(Passed { name: hot_restart::ADMIN.into(), address: admin.configured, socket });
                }
                let _ = answer.send(sockets);
                false
            }
            Asked::Drain(done) => {
                tracing::info!("the next process has taken over");
                if let Some(admin) = admin.take() {
                    admin.serving.abort();
                }
                let deadline = self.options.drain_time;
                self.drain(workers, Drain { accept: false, ..Drain::all(deadline) });
                let _ = done.send(());
                true
            }
        }
    }

    fn drain(&self, workers: &Workers, drain: Drain) {
        if !drain.inbound_only {
            self.context.draining.store(true, Ordering::Relaxed);
        }
        workers.drain(drain);
    }

    /// Everything of the bootstrap, in the order in which it is needed.
    async fn set_up(&self, commands: mpsc::Sender<Command>) -> Result<(Workers, Option<AdminAddress>), StartError> {
        let dump = Arc::new(Dump::default());
        dump.set_bootstrap(Any::pack(&self.bootstrap));
        let mut inherited = self.options.restart.as_ref().map(|sockets| std::mem::take(&mut *sockets.lock()));
        let admin_sockets =
            inherited.iter_mut().flat_map(|all| all.extract_if(.., |passed| passed.name == hot_restart::ADMIN));
        let admin_socket = admin_sockets.last();
        let workers = Workers::start(self.options.concurrency, &self.context, self.listeners.clone(), inherited)
            .map_err(StartError::Thread)?;
        let mut awaited = Vec::new();
        if let Some(ads) = &self.ads {
            awaited.extend(ads.cds.map(|limit| (Kind::Cluster, limit)));
            awaited.extend(ads.lds.map(|limit| (Kind::Listener, limit)));
            awaited.extend(self.options.names.is_some().then_some((Kind::NameTable, FetchLimit::default())));
        }
        let mut store = Store::new(self.context.clone(), dump.clone(), workers.clone(), &awaited, self.ready.clone())
            .with_names(self.options.names.clone());
        self.add_static(&mut store)?;
        let idle = self.context.runtime.without_effect();
        if !idle.is_empty() {
            let keys = idle.join(", ");
            tracing::warn!(%keys, "keys of layered_runtime without effect, unless a resource that comes names them");
        }
        let admin = self.serve_admin(dump, commands, admin_socket)?;
        tokio::task::spawn_local(self.overload.clone().run(self.context.overload.clone(), self.context.stats.clone()));
        if let Some(config) = self.options.identity.clone() {
            identity::start(config, self.context.secrets.clone());
        }
        store.publish();
        // What reading the bootstrap took goes back.
        tokio::task::spawn_local(async {
            tokio::time::sleep(memory::KEPT).await;
            memory::give_back();
        });
        match self.ads.clone() {
            Some(ads) => {
                tokio::task::spawn_local(Client::new(ads, self.context.clone(), store).run());
            }
            None => {
                tokio::task::spawn_local(async move {
                    loop {
                        store.changed().await;
                        store.publish();
                    }
                });
            }
        }
        Ok((workers, admin))
    }

    fn add_static(&self, store: &mut Store) -> Result<(), ConfigError> {
        let Some(resources) = &self.bootstrap.static_resources else { return Ok(()) };
        for (index, secret) in resources.secrets.iter().enumerate() {
            store
                .add_static(Kind::Secret, &secret.name, Any::pack(secret))
                .map_err(|error| error.at(format!("static_resources.secrets[{index}]")))?;
        }
        for (index, cluster) in resources.clusters.iter().enumerate() {
            store
                .add_static(Kind::Cluster, &cluster.name, Any::pack(cluster))
                .map_err(|error| error.at(format!("static_resources.clusters[{index}]")))?;
        }
        for (index, listener) in resources.listeners.iter().enumerate() {
            let name = if listener.name.is_empty() { format!("listener-{index}") } else { listener.name.clone() };
            store
                .add_static(Kind::Listener, &name, Any::pack(listener))
                .map_err(|error| error.at(format!("static_resources.listeners[{index}]")))?;
        }
        Ok(())
    }

    fn serve_admin(
        &self,
        dump: Arc<Dump>,
        commands: mpsc::Sender<Command>,
        inherited: Option<Passed>,
    ) -> Result<Option<AdminAddress>, StartError> {
        let Some(address) = admin_address::configured(&self.bootstrap)? else { return Ok(None) };
        let failed = |source| StartError::Admin { address, source };
        let socket = match inherited.filter(|passed| passed.address == address) {
            Some(passed) => passed.socket,
            None => admin_address::bind(address, &self.bootstrap).map_err(failed)?,
        };
        socket.set_nonblocking(true).map_err(failed)?;
        let bound = socket.local_addr().map_err(failed)?;
        let listener = TcpListener::from_std(socket.try_clone().map_err(failed)?).map_err(failed)?;
        let admin = Admin {
            context: self.context.clone(),
            dump,
            ready: self.ready.subscribe(),
            commands,
            set_log_level: self.options.set_log_level.clone(),
            started: std::time::Instant::now(),
            concurrency: self.options.concurrency,
            hot_restart: self.options.restart.is_some(),
            listeners: self.listeners.subscribe(),
        };
        let serving = tokio::task::spawn_local(admin.serve(listener)).abort_handle();
        Ok(Some(AdminAddress { configured: address, bound, socket, serving }))
    }
}

/// Decodes everything that a bootstrap holds, without running it.
///
/// # Errors
/// Names what cannot be used.
pub fn validate(bootstrap: &Bootstrap) -> Result<(), ConfigError> {
    bootstrap::ads(bootstrap)?;
    bootstrap::stats(bootstrap)?;
    admin_address::configured(bootstrap)?;
    DnsSettings::of_bootstrap(bootstrap)?;
    overload::Config::decode(bootstrap.overload_manager.as_ref())?;
    let runtime = Runtime::decode(bootstrap.layered_runtime.as_ref())?;
    let context = Context { runtime, ..Context::new(Local::new(bootstrap.node.clone().unwrap_or_default())) };
    let Some(resources) = &bootstrap.static_resources else { return Ok(()) };
    for (index, secret) in resources.secrets.iter().enumerate() {
        crate::tls::Secret::decode(secret).at(format!("static_resources.secrets[{index}]"))?;
    }
    for (index, cluster) in resources.clusters.iter().enumerate() {
        let cluster = context.runtime.resolve(cluster);
        crate::cluster::Cluster::decode(&cluster, &context.for_clusters())
            .at(format!("static_resources.clusters[{index}]"))?;
    }
    for (index, listener) in resources.listeners.iter().enumerate() {
        let listener = context.runtime.resolve(listener);
        crate::listener::Listener::decode(&listener, &context).at(format!("static_resources.listeners[{index}]"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
