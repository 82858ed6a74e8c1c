//! The agent as a daemon: arguments in; the chain kept, pods redirected, and an orderly end, out.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ferromesh_api::cluster::Cluster;
use ferromesh_core::runtime::signals::Signals;
use ferromesh_core::runtime::{AdminServer, BUILD, Health};
use ferromesh_core::telemetry::{self, Metrics};

use crate::args::{AgentArgs, RemoveArgs};
use crate::chain::Chain;
use crate::conflist::Entry;
use crate::metrics::AgentMetrics;
use crate::pods::Api;
use crate::program::{self, Program};
use crate::repair::{self, Repair};
use crate::server;

mod end;
mod follow;

/// At the end, for the API server to say whether it is one.
const END: Duration = Duration::from_secs(5);

/// Runs until a signal asks for the end.
///
/// # Errors
/// If something cannot be set up; the error says what.
pub async fn run(args: Box<AgentArgs>) -> anyhow::Result<()> {
    let telemetry = telemetry::init(&args.log, &args.otlp, "ferromesh-cni")?;
    let mut signals = Signals::listen().context("signal handlers")?;
    tracing::info!(build = %BUILD, "starting");
    let health = Health::new();
    let (socket, in_chain) = (health.check("socket"), health.check("chain"));
    let registry = Metrics::new();
    let metrics = registry.register(AgentMetrics::register);
    let admin = AdminServer::start(args.admin.admin_address, health.clone(), registry)
        .await
        .with_context(|| format!("admin server on {}", args.admin.admin_address))?;
    let cluster = Cluster::connect(args.kubeconfig.as_deref()).await?;

    // First who answers, then who asks.
    let folder = args.socket.parent().context("--socket has no folder")?;
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    server::start(&args.socket, Box::new(Api::new(cluster.clone())), metrics.clone())
        .with_context(|| format!("socket {}", args.socket.display()))?;
    socket.ready();
    let chain = Arc::new(args.chain());
    let program = Program::own(&args.node.bin_dir)?;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let following = tokio::spawn(follow::run(Arc::clone(&chain), program, in_chain, metrics.clone(), stopped));
    let mut repairing = None;
    if let (true, Some(node)) = (args.repair != Repair::None, args.node_name.clone()) {
        let in_place = move || health.is_ready();
        repairing = Some(tokio::spawn(repair::run(cluster.clone(), node, args.repair, metrics, in_place)));
    }

    let name = signals.next().await;
    tracing::info!(signal = name, "ending");
    if let Some(task) = repairing {
        task.abort();
    }
    // The chain is not written by two.
    let _ = stop.send(());
    following.await.context("the chain")?;
    if end::is_final(&cluster, args.daemon_set.as_deref(), END).await {
        match tokio::task::spawn_blocking(move || chain.take_out()).await.context("the chain")? {
            Ok(files) => tracing::info!(?files, "taken out of the node's network configuration"),
            Err(error) => tracing::error!(%error, "not taken out of the node's network configuration"),
        }
    } else {
        tracing::info!("staying in the node's network configuration: pods with a sidecar wait for the next agent");
    }
    admin.shutdown().await;
    // Sending the last traces blocks.
    tokio::task::spawn_blocking(|| telemetry.shutdown()).await.context("traces")
}

/// Takes the plugin out of the node, by hand.
///
/// # Errors
/// If a file cannot be written.
pub fn remove(args: &RemoveArgs) -> anyhow::Result<()> {
    let entry = Entry { socket: String::new(), exclude_namespaces: Vec::new() };
    let chain = Chain { folder: args.node.conf_dir.clone(), file: None, entry };
    for file in chain.take_out()? {
        println!("{}", file.display());
    }
    if args.program {
        program::remove(&args.node.bin_dir)?;
    }
    Ok(())
}
