//! The command line of `ferromesh-cni`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ferromesh_core::args::{AdminArgs, LogArgs, OtlpArgs};

use crate::chain::Chain;
use crate::conflist::Entry;
use crate::repair::Repair;

/// Redirects pods' traffic to their sidecars from the node, so that pods need no right for it.
#[derive(Debug, Clone, Parser)]
#[command(name = "ferromesh-cni", version, after_help = AFTER)]
pub struct Cli {
    /// What is done.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER: &str =
    "Where CNI_COMMAND is set, it is a plugin that a container runtime calls (CNI specification 1.1.0).";

/// What is done.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Run the node's agent: keep the plugin in the node's network configuration, and redirect pods for it.
    Agent(Box<AgentArgs>),
    /// Take the plugin out of the node's network configuration, where an agent could not.
    Remove(RemoveArgs),
}

/// Where the node's network configuration is.
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    /// Folder of the node's network configurations.
    #[arg(long, default_value = "/etc/cni/net.d")]
    pub conf_dir: PathBuf,
    /// Folder of the node's CNI plugins.
    #[arg(long, default_value = "/opt/cni/bin")]
    pub bin_dir: PathBuf,
}

/// The agent's.
#[derive(Debug, Clone, Args)]
pub struct AgentArgs {
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// File of the folder that is chained to, whatever others are there; the first by name if not given.
    #[arg(long)]
    pub conf_file: Option<String>,
    /// Socket that the plugin asks at; its folder is the same in the node and here.
    #[arg(long, default_value = "/run/ferromesh-cni/agent.sock")]
    pub socket: PathBuf,
    /// Namespace whose pods are let through without a question (may be given several times).
    #[arg(long = "exclude-namespace")]
    pub exclude_namespaces: Vec<String>,
    /// NAMESPACE/NAME of the DaemonSet that this is of: at the end the plugin stays in the chain while that exists.
    #[arg(long)]
    pub daemon_set: Option<String>,
    /// What is done with pods that had started without redirection.
    #[arg(long, value_enum, default_value_t = Repair::None)]
    pub repair: Repair,
    /// Name of this node, to find them.
    #[arg(long, env = "NODE_NAME", required_if_eq_any = [("repair", "label"), ("repair", "delete")])]
    pub node_name: Option<String>,
    /// How to reach the API server; as a pod does if not given.
    #[arg(long, env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Logs.
    #[command(flatten)]
    pub log: LogArgs,
    /// Own traces.
    #[command(flatten)]
    pub otlp: OtlpArgs,
    /// Admin server.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Of the removal.
#[derive(Debug, Clone, Args)]
pub struct RemoveArgs {
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Remove the program, too. Some runtimes call it once more for each pod that started with it: only where those are gone.
    #[arg(long)]
    pub program: bool,
}

impl AgentArgs {
    /// The chain.
    pub fn chain(&self) -> Chain {
        let entry =
            Entry { socket: self.socket.display().to_string(), exclude_namespaces: self.exclude_namespaces.clone() };
        Chain { folder: self.node.conf_dir.clone(), file: self.conf_file.clone(), entry }
    }
}
