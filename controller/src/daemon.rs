//! The process: arguments in; the river, what writes to the cluster, and an orderly end out.

use anyhow::Context;
use ferromesh_api::cluster::Cluster;
use ferromesh_core::runtime::BUILD;
use ferromesh_core::runtime::signals::Signals;
use ferromesh_core::telemetry;

use crate::app::{Config, Controller};
use crate::args::Args;
use crate::identity::Identity;
use crate::source::Kubernetes;

/// Runs until a signal asks for the end.
///
/// # Errors
/// If something cannot be set up; the error says what.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let telemetry = telemetry::init(&args.log, &args.otlp, "ferromesh-controller")?;
    let mut signals = Signals::listen().context("signal handlers")?;
    tracing::info!(build = %BUILD, "starting");
    let started = tokio::select! {
        started = start(&args) => started?,
        signal = signals.next() => {
            tracing::info!(signal, "stopping");
            return Ok(());
        }
    };
    let Started { controller, _identity } = started;
    tracing::info!(xds = %controller.xds_addr(), admin = %controller.admin_addr(), "started");
    let signal = tokio::select! {
        () = controller.ready() => {
            tracing::info!("proxies are served");
            signals.next().await
        }
        signal = signals.next() => signal,
    };
    let deadline = args.admin.drain_deadline();
    tracing::info!(signal, ?deadline, "draining");
    tokio::select! {
        () = controller.shutdown_within(deadline) => {}
        signal = signals.next() => tracing::warn!(signal, "second signal: ending at once"),
    }
    tracing::info!("ended");
    // Sending the last traces blocks.
    tokio::task::spawn_blocking(|| telemetry.shutdown()).await.context("traces")
}

/// What runs.
struct Started {
    controller: Controller,
    /// Renews the certificate while it is held.
    _identity: Option<Identity>,
}

async fn start(args: &Args) -> anyhow::Result<Started> {
    let mut config = args.config()?;
    if let Some(folder) = args.folder()? {
        config.sources.push(Box::new(folder));
    }
    if args.kubernetes {
        let cluster = Cluster::connect(args.kubeconfig.as_deref()).await?;
        config.sources.push(Box::new(Kubernetes::new(cluster, args.secrets())));
    }
    let identity = identity(args, &mut config).await?;
    Ok(Started { controller: Controller::start(config).await?, _identity: identity })
}

/// The controller's own certificate, if it comes from the CA; waits for the first one.
async fn identity(args: &Args, config: &mut Config) -> anyhow::Result<Option<Identity>> {
    let Some(wanted) = args.identity() else { return Ok(None) };
    tracing::info!(ca = wanted.ca_address, "waiting for the controller's certificate");
    let identity = Identity::start(wanted);
    identity.ready().await;
    config.tls = Some(identity.server_tls(args.trust_domain()?));
    Ok(Some(identity))
}
