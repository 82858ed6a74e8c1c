//! A real Kubernetes cluster on this machine, without Docker and without a registry: in namespaces of its own, gone without a trace.
//!
//! ```text
//! Options ─> up ─> folder, keys, control groups (keeper) ─> hub: etcd, API server, controllers, scheduler, DNS, agent
//!                                                            └─ switch ─ node1, node2, …: containerd, kubelet, kube-proxy
//! ```
//!
//! The hub and each node have a network namespace of their own; a link of each node ends in a switch of the hub. No packet can leave:
//! there is no other link. The host reaches the API server through one port of its loopback. Two rungs: the control plane alone (API
//! server, controllers, scheduler; no pod runs), and with nodes.
//!
//! # Invariants
//! * Nothing is left when a cluster ends: by `down`, by [`Cluster`] being dropped, or by the death of the process that owns it. What a
//!   killed keeper leaves, the next `up` or `down` removes.
//! * Clusters of different names share nothing but the cache of tools.
//! * The machine's own settings are not changed.

use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::image::store::Store;
use crate::process;
use crate::progress::Progress;
use crate::tools::{Tool, Toolbox};

pub mod agent;
pub mod cgroup;
pub mod command;
pub mod control;
pub(crate) mod daemons;
pub mod images;
pub mod init;
pub mod keeper;
pub mod layout;
pub mod network;
mod pki;
pub mod prerequisites;
mod probe;
mod supervisor;

use control::{Request, Status};
use layout::{Layout, Spec};

/// How long a cluster may take to come up once its tools are built.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a new cluster is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name; tests leave it to [`Options::new`].
    pub name: String,
    /// Nodes; none is the control plane alone.
    pub nodes: u8,
    /// Nodes without machines: pods that are put there are Running at once and run nothing.
    pub simulated: u16,
    /// Who is told how it goes.
    pub progress: Progress,
    /// The program `ferromesh-e2e`, of which the cluster's own processes are made; found if it is not named.
    pub program: Option<PathBuf>,
}

impl Options {
    /// A cluster of a name that no other has, silent.
    pub fn new(nodes: u8) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            name: format!("test-{}-{count}", std::process::id()),
            nodes,
            simulated: 0,
            progress: Progress::silent(),
            program: None,
        }
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    layout: Layout,
    spec: Spec,
    /// Of the owner: it ends with this.
    owned: Option<ChildStdin>,
}

impl Cluster {
    /// Makes a cluster that lives as long as the value; tools that are missing are built first.
    ///
    /// # Errors
    /// If something that is needed is missing (with the command that installs it), the name is taken, or it does not come up (with the
    /// end of the log of what did not).
    pub fn up(options: Options) -> anyhow::Result<Self> {
        start(options, true)
    }

    /// Makes a cluster that lives until `down`.
    ///
    /// # Errors
    /// As [`Cluster::up`].
    pub fn up_detached(options: Options) -> anyhow::Result<Self> {
        start(options, false)
    }

    /// A cluster that runs.
    ///
    /// # Errors
    /// If none of that name does.
    pub fn open(name: &str) -> anyhow::Result<Self> {
        let layout = Layout::of(name)?;
        let missing = || format!("there is no cluster {name}; make one with: ferromesh-e2e cluster up --name {name}");
        let spec = layout.spec().with_context(missing)?;
        ensure!(
            keeper::is_held(&layout),
            "cluster {name} is dead; remove it with: ferromesh-e2e cluster down --name {name}"
        );
        Ok(Self { layout, spec, owned: None })
    }

    /// Ends a cluster, and removes what is left of one that is dead.
    ///
    /// # Errors
    /// If it does not end.
    pub fn down(name: &str) -> anyhow::Result<()> {
        end(&Layout::of(name)?, name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// For clients on the host.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig()
    }

    /// For clients in the cluster's network ([`Cluster::exec`], [`Cluster::in_network`]).
    pub fn inside_kubeconfig(&self) -> PathBuf {
        self.layout.pki("admin.kubeconfig")
    }

    /// The key that the API server signs tokens with.
    pub fn service_account_key(&self) -> PathBuf {
        self.layout.pki("sa.key")
    }

    /// Names of its nodes.
    pub fn nodes(&self) -> Vec<String> {
        self.spec.node_names().map(|(_, name)| name).collect()
    }

    /// Address of a node, from 1 on.
    pub fn node_address(&self, node: u8) -> Ipv4Addr {
        layout::node_address(node)
    }

    /// `kubectl`, of the cluster's version, for this cluster.
    ///
    /// # Errors
    /// If it is not built.
    pub fn kubectl(&self) -> anyhow::Result<Command> {
        self.client("kubectl")
    }

    /// Runs `kubectl` with these arguments; gives what it prints.
    ///
    /// # Errors
    /// If it fails; with what it says.
    pub fn kubectl_output(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.kubectl()?.args(arguments).stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {}: {}", arguments.join(" "), said.trim());
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Applies YAML.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub fn apply(&self, yaml: &str) -> anyhow::Result<()> {
        use std::io::Write;
        let mut command = self.kubectl()?;
        command.args(["apply", "--server-side", "-f", "-"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("standard input")?.write_all(yaml.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "kubectl apply: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }

    /// Helm, for this cluster.
    ///
    /// # Errors
    /// If it cannot be built.
    pub fn helm(&self, progress: &Progress) -> anyhow::Result<Command> {
        let helm = Toolbox::with(&[Tool::Helm], progress)?.program("helm")?;
        let mut command = Command::new(helm);
        command.env("KUBECONFIG", self.kubeconfig());
        Ok(command)
    }

    fn client(&self, program: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(self.spec.program(program)?);
        command.env("KUBECONFIG", self.kubeconfig());
        Ok(command)
    }

    /// A program that runs in the hub, or in a node, with their view of network and file system; `KUBECONFIG` is set for it.
    ///
    /// # Errors
    /// If the node does not run.
    pub fn exec(&self, node: Option<&str>, program: &str) -> anyhow::Result<Command> {
        let first = self.first_process(node)?.to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &first, "--net", "--mount", "--uts", "--ipc", "--pid"]);
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        // Not `--wd`: the caller's folder is the same in there, unless a node covers it.
        command.arg("--").arg(program).env("KUBECONFIG", self.inside_kubeconfig());
        let own = self.spec.tools.iter().map(|folder| folder.display().to_string());
        let path: Vec<String> = own.chain(std::env::var("PATH")).collect();
        command.env("PATH", path.join(":"));
        Ok(command)
    }

    /// Runs something in a thread whose network is the hub's, or a node's: sockets that it opens are there.
    ///
    /// # Errors
    /// If the namespace cannot be entered.
    pub fn in_network<T: Send>(&self, node: Option<&str>, run: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        network::inside(self.first_process(node)?, run)
    }

    /// A process of the hub, or of a node, by its number here: whose namespaces they are.
    ///
    /// # Errors
    /// If it does not run.
    pub fn process(&self, node: Option<&str>) -> anyhow::Result<i32> {
        self.first_process(node)
    }

    /// The first process of the hub or a node, by its number here.
    fn first_process(&self, node: Option<&str>) -> anyhow::Result<i32> {
        control::first_process(&self.place(node)?.control())
    }

    fn place(&self, node: Option<&str>) -> anyhow::Result<Layout> {
        let Some(name) = node else { return Ok(self.layout.clone()) };
        let nodes = self.nodes();
        ensure!(nodes.iter().any(|node| node == name), "there is no node {name:?}; there are: {}", nodes.join(", "));
        Ok(self.layout.node(name))
    }

    /// What a daemon has written: of the hub, or of a node.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn log(&self, node: Option<&str>, daemon: &str) -> anyhow::Result<PathBuf> {
        Ok(self.place(node)?.log(daemon))
    }

    /// How the hub, or a node, is.
    ///
    /// # Errors
    /// If it does not run.
    pub fn status(&self, node: Option<&str>) -> anyhow::Result<Status> {
        control::status(&self.place(node)?.control())
    }

    /// Stops a daemon of the hub or of a node (`kube-apiserver`, `kubelet`, …) until [`Cluster::start`]; a node's name as daemon of the
    /// hub is a power failure.
    ///
    /// # Errors
    /// If there is none.
    pub fn stop(&self, node: Option<&str>, daemon: &str) -> anyhow::Result<()> {
        control::order(&self.place(node)?.control(), &Request::Stop(daemon.into()))
    }

    /// Starts a daemon that was stopped.
    ///
    /// # Errors
    /// If there is none, or it cannot be run.
    pub fn start(&self, node: Option<&str>, daemon: &str) -> anyhow::Result<()> {
        control::order(&self.place(node)?.control(), &Request::Start(daemon.into()))
    }

    /// Cuts a node's link to the hub and to all other nodes.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn partition(&self, node: &str) -> anyhow::Result<()> {
        self.place(Some(node))?;
        self.hub(&["ip", "link", "set", &format!("v-{node}"), "nomaster"])
    }

    /// Ends a partition.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn heal(&self, node: &str) -> anyhow::Result<()> {
        self.place(Some(node))?;
        self.hub(&["ip", "link", "set", &format!("v-{node}"), "master", "nodes"])
    }

    fn hub(&self, command: &[&str]) -> anyhow::Result<()> {
        let output = self.exec(None, command[0])?.args(&command[1..]).output()?;
        ensure!(output.status.success(), "{}: {}", command.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }

    /// Gives an image to all nodes: an archive in the layout of OCI (as `docker save` writes it since version 25), which can then also be
    /// pulled, or of an older `docker save`.
    ///
    /// # Errors
    /// If a node refuses it.
    pub fn load_image(&self, archive: &Path) -> anyhow::Result<()> {
        // Nodes can import what the registry cannot serve.
        let _ = Store::at(self.layout.registry()).add(archive);
        for node in self.nodes() {
            let file = std::fs::File::open(archive).with_context(|| format!("opening {}", archive.display()))?;
            let output = self
                .exec(Some(&node), "ctr")?
                .args(["-a", daemons::node_paths::CONTAINERD, "-n", "k8s.io", "images", "import", "-"])
                .stdin(file)
                .output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{node}: loading {}: {}", archive.display(), said.trim());
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.owned.take().is_some()
            && let Err(error) = end(&self.layout, &self.spec.name)
        {
            eprintln!("ending cluster {}: {error:#}", self.spec.name);
        }
    }
}

fn start(options: Options, owned: bool) -> anyhow::Result<Cluster> {
    let Options { name, nodes, simulated, progress, program } = options;
    let program = program.map_or_else(own_program, Ok)?;
    ensure!(nodes <= layout::MAX_NODES, "at most {} nodes", layout::MAX_NODES);
    let layout = Layout::of(&name)?;
    prerequisites::check(nodes > 0)?;
    sweep(&progress)?;
    let wanted: &[Tool] = if nodes > 0 { &[Tool::Node, Tool::Coredns, Tool::Pause] } else { &[Tool::Node] };
    let tools = Toolbox::with(wanted, &progress)?;
    let spec = Spec { name, nodes, simulated, tools: tools.folders().to_vec() };
    let lock = keeper::make_folder(&layout, &spec)?;
    let mut keeper = match spawn_keeper(&program, &layout, lock, owned) {
        Ok(keeper) => keeper,
        Err(error) => {
            keeper::remove(&layout, &spec.name)?;
            return Err(error);
        }
    };
    let cluster = Cluster { layout, spec, owned: keeper.stdin.take() };
    // From here on, dropping `cluster` takes an owned one away.
    let come = await_ready(&cluster, &mut keeper, &progress);
    if come.is_err() && !owned {
        let _ = end(&cluster.layout, &cluster.spec.name);
    }
    // The keeper goes on by itself; whoever ends the cluster awaits its lock.
    std::thread::spawn(move || keeper.wait());
    come.map(|()| cluster)
}

/// Dead clusters of whatever name are removed.
fn sweep(progress: &Progress) -> anyhow::Result<()> {
    for folder in keeper::folders()? {
        let layout = Layout::at(folder.clone());
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !keeper::is_held(&layout) {
            progress.step(&format!("removing what is left of the dead cluster {name}"));
            keeper::remove(&layout, &name)?;
        }
    }
    Ok(())
}

/// The keeper's standard output is the locked file: the lock is held as long as it lives.
fn spawn_keeper(program: &Path, layout: &Layout, lock: std::fs::File, owned: bool) -> anyhow::Result<Child> {
    let mut command = Command::new(program);
    command.args(["cluster", "keep", "--state"]).arg(layout.root());
    if owned {
        command.arg("--owned").stdin(Stdio::piped());
    } else {
        command.stdin(Stdio::null());
    }
    let log = std::fs::File::create(layout.log("keeper"))?;
    // A group of its own: Ctrl-C at the terminal is not meant for it.
    command.stdout(lock).stderr(log).process_group(0).spawn().context("starting the keeper")
}

/// The program that a test uses: `FERROMESH_E2E`, or the one beside the test that runs.
fn own_program() -> anyhow::Result<PathBuf> {
    const NAME: &str = "ferromesh-e2e";
    if let Some(program) = std::env::var_os("FERROMESH_E2E").filter(|value| !value.is_empty()) {
        return Ok(program.into());
    }
    let current = std::env::current_exe()?;
    let near = current.ancestors().skip(1).take(3).map(|folder| folder.join(NAME)).find(|file| file.is_file());
    near.context("ferromesh-e2e is not built; run: cargo build -p ferromesh-e2e, or name it by FERROMESH_E2E")
}

fn await_ready(cluster: &Cluster, keeper: &mut Child, progress: &Progress) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut said = String::new();
    loop {
        if let Some(status) = keeper.try_wait()? {
            bail!("the keeper ended with {status}:\n{}", process::tail(&cluster.layout.log("keeper"), 20));
        }
        let status = cluster.status(None).unwrap_or_default();
        if let Some(why) = status.failed {
            bail!("cluster {} does not come up: {why}", cluster.name());
        }
        if said != status.phase {
            progress.step(&status.phase);
            said.clone_from(&status.phase);
        }
        if status.ready {
            return Ok(());
        }
        if let Some(daemon) = status.daemons.iter().find(|daemon| daemon.restarts >= 5) {
            let log = process::tail(&cluster.layout.log(&daemon.name), 20);
            bail!("{} ends again and again:\n{log}", daemon.name);
        }
        ensure!(Instant::now() < deadline, "cluster {} is not up after {PATIENCE:?}; last: {said}", cluster.name());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn end(layout: &Layout, name: &str) -> anyhow::Result<()> {
    if !layout.root().is_dir() {
        // Control groups can be left alone, if removing was cut short.
        cgroup::remove(name);
        return Ok(());
    }
    let first = control::first_process(&layout.control());
    if control::order(&layout.control(), &Request::Exit).is_err()
        && let Ok(first) = first
        && let Some(pid) = rustix::process::Pid::from_raw(first)
    {
        // It does not listen to orders any more.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while layout.root().is_dir() && keeper::is_held(layout) {
        ensure!(
            Instant::now() < deadline,
            "cluster {name} does not end; its keeper still holds {}",
            layout.lock().display()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    keeper::remove(layout, name)
}
