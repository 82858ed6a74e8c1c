//! `ferromesh-e2e cluster …`.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use clap::Subcommand;

use super::layout::Layout;
use super::{Cluster, Options, agent, init, keeper};
use crate::progress::Progress;

/// The name that is meant if none is given.
pub const DEFAULT_NAME: &str = "ferromesh";

/// What to do with a cluster.
#[derive(Subcommand)]
pub enum ClusterCommand {
    /// Make a cluster; it stays until `down`. Prints the command that sets KUBECONFIG.
    #[command(
        after_help = "Examples:\n  ferromesh-e2e cluster up --nodes 0     control plane alone: API server and controllers\n  \
                      ferromesh-e2e cluster up --nodes 3     three nodes, each with its own network"
    )]
    Up {
        /// Its name.
        #[arg(long, default_value = DEFAULT_NAME)]
        name: String,
        /// Nodes on which pods run; 0 is the control plane alone, which needs no root.
        #[arg(long, default_value_t = 1)]
        nodes: u8,
        /// Nodes without machines, for questions of scale: pods there are Running at once and run nothing. Beside real nodes they have the
        /// taint ferromesh-e2e/simulated.
        #[arg(long, default_value_t = 0)]
        simulated: u16,
        /// Take a cluster of that name that runs already for the one that is wanted.
        #[arg(long)]
        keep: bool,
    },
    /// End a cluster and remove everything of it; also what is left of one that died.
    Down {
        /// Its name.
        #[arg(long, default_value = DEFAULT_NAME)]
        name: String,
        /// All clusters of this machine's state folder.
        #[arg(long)]
        all: bool,
    },
    /// How clusters and their daemons are.
    Status {
        /// Only that one.
        #[arg(long)]
        name: Option<String>,
    },
    /// Print the path of a cluster's kubeconfig.
    Kubeconfig {
        /// Its name.
        #[arg(long, default_value = DEFAULT_NAME)]
        name: String,
    },
    /// Give images (archives of OCI or of `docker save`) to all nodes.
    LoadImage {
        /// The cluster's name.
        #[arg(long, default_value = DEFAULT_NAME)]
        name: String,
        /// The archives.
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// Run kubectl against a cluster.
    Kubectl {
        /// The cluster's name.
        #[arg(long, default_value = DEFAULT_NAME)]
        name: String,
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run Helm against a cluster; it is built the first time.
    Helm {
        /// The cluster's name.
        #[arg(long, default_value = DEFAULT_NAME)]
        name: String,
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run a command in the network of the hub, or as a process of a node.
    Exec {
        /// The cluster's name.
        #[arg(long, default_value = DEFAULT_NAME)]
        name: String,
        /// The node; without it the hub, which sees the cluster as somebody outside does.
        #[arg(long)]
        node: Option<String>,
        /// The command.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Print what a daemon has written; without one, which there are.
    Logs {
        /// The cluster's name.
        #[arg(long, default_value = DEFAULT_NAME)]
        name: String,
        /// The node; without it the hub.
        #[arg(long)]
        node: Option<String>,
        /// The daemon.
        daemon: Option<String>,
    },
    /// Stop a daemon and leave it so; a node's name is a power failure of it.
    Stop {
        /// The cluster's name.
        #[arg(long, default_value = DEFAULT_NAME)]
        name: String,
        /// The node; without it the hub.
        #[arg(long)]
        node: Option<String>,
        /// The daemon.
        daemon: String,
    },
    /// Start a daemon or node that was stopped.
    Start {
        /// The cluster's name.
        #[arg(long, default_value = DEFAULT_NAME)]
        name: String,
        /// The node; without it the hub.
        #[arg(long)]
        node: Option<String>,
        /// The daemon.
        daemon: String,
    },
    /// Cut a node off from all others.
    Partition {
        /// The cluster's name.
        #[arg(long, default_value = DEFAULT_NAME)]
        name: String,
        /// The node.
        node: String,
    },
    /// End a partition.
    Heal {
        /// The cluster's name.
        #[arg(long, default_value = DEFAULT_NAME)]
        name: String,
        /// The node.
        node: String,
    },
    /// The process outside a cluster.
    #[command(hide = true)]
    Keep {
        /// The cluster's folder.
        #[arg(long)]
        state: PathBuf,
        /// It ends when standard input does.
        #[arg(long)]
        owned: bool,
    },
    /// The first process in a cluster, or of a node.
    #[command(hide = true)]
    Init {
        /// The cluster's folder.
        #[arg(long)]
        state: PathBuf,
        /// The node's number; without it the hub.
        #[arg(long)]
        node: Option<u8>,
    },
    /// The relay of the API server.
    #[command(hide = true)]
    Agent {
        /// The cluster's folder.
        #[arg(long)]
        state: PathBuf,
    },
}

/// Does it.
///
/// # Errors
/// With what to do about it.
pub fn run(command: ClusterCommand) -> anyhow::Result<()> {
    match command {
        ClusterCommand::Up { name, nodes, simulated, keep } => up(name, nodes, simulated, keep),
        ClusterCommand::Down { name, all } => down(&name, all),
        ClusterCommand::Status { name } => status(name.as_deref()),
        ClusterCommand::Kubeconfig { name } => {
            println!("{}", Cluster::open(&name)?.kubeconfig().display());
            Ok(())
        }
        ClusterCommand::LoadImage { name, archives } => {
            let cluster = Cluster::open(&name)?;
            archives.iter().try_for_each(|archive| cluster.load_image(archive))
        }
        ClusterCommand::Kubectl { name, arguments } => become_it(Cluster::open(&name)?.kubectl()?, &arguments),
        ClusterCommand::Helm { name, arguments } => {
            become_it(Cluster::open(&name)?.helm(&Progress::to_stderr())?, &arguments)
        }
        ClusterCommand::Exec { name, node, command } => {
            become_it(Cluster::open(&name)?.exec(node.as_deref(), &command[0])?, &command[1..])
        }
        ClusterCommand::Logs { name, node, daemon } => logs(&name, node.as_deref(), daemon.as_deref()),
        ClusterCommand::Stop { name, node, daemon } => Cluster::open(&name)?.stop(node.as_deref(), &daemon),
        ClusterCommand::Start { name, node, daemon } => Cluster::open(&name)?.start(node.as_deref(), &daemon),
        ClusterCommand::Partition { name, node } => Cluster::open(&name)?.partition(&node),
        ClusterCommand::Heal { name, node } => Cluster::open(&name)?.heal(&node),
        ClusterCommand::Keep { state, owned } => keeper::run(&Layout::at(state), owned),
        ClusterCommand::Init { state, node } => init::run(Layout::at(state), node),
        ClusterCommand::Agent { state } => agent::run(&Layout::at(state)),
    }
}

fn up(name: String, nodes: u8, simulated: u16, keep: bool) -> anyhow::Result<()> {
    if keep && let Ok(cluster) = Cluster::open(&name) {
        println!("export KUBECONFIG={}", cluster.kubeconfig().display());
        return Ok(());
    }
    let cluster = Cluster::up_detached(Options {
        program: Some(std::env::current_exe()?),
        name,
        nodes,
        simulated,
        progress: Progress::to_stderr(),
    })?;
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    Ok(())
}

fn down(name: &str, all: bool) -> anyhow::Result<()> {
    if !all {
        return Cluster::down(name);
    }
    for folder in keeper::folders()? {
        Cluster::down(&folder.file_name().unwrap_or_default().to_string_lossy())?;
    }
    Ok(())
}

fn status(only: Option<&str>) -> anyhow::Result<()> {
    for folder in keeper::folders()? {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if only.is_some_and(|only| only != name) {
            continue;
        }
        let Ok(cluster) = Cluster::open(&name) else {
            println!("{name}: dead; remove it with: ferromesh-e2e cluster down --name {name}");
            continue;
        };
        println!("{name}: KUBECONFIG={}", cluster.kubeconfig().display());
        let nodes = cluster.nodes();
        for place in [None].into_iter().chain(nodes.iter().map(|node| Some(node.as_str()))) {
            let shown = place.unwrap_or("hub");
            match cluster.status(place) {
                Ok(status) => {
                    println!("  {shown}: {}", status.failed.unwrap_or(status.phase));
                    for daemon in status.daemons {
                        let state = if daemon.running { "running" } else { "stopped" };
                        println!("    {:<24} {state}, {} restarts", daemon.name, daemon.restarts);
                    }
                }
                Err(_) => println!("  {shown}: down"),
            }
        }
    }
    Ok(())
}

fn logs(name: &str, node: Option<&str>, daemon: Option<&str>) -> anyhow::Result<()> {
    let cluster = Cluster::open(name)?;
    let Some(daemon) = daemon else {
        for daemon in cluster.status(node)?.daemons {
            println!("{}", daemon.name);
        }
        return Ok(());
    };
    let text = std::fs::read(cluster.log(node, daemon)?)?;
    std::io::stdout().write_all(&text)?;
    Ok(())
}

/// The program takes this one's place: signals, terminal and exit code are its own.
fn become_it(mut command: Command, arguments: &[String]) -> anyhow::Result<()> {
    Err(command.args(arguments).exec().into())
}
