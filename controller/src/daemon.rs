//! The process: arguments in; the river, what writes to the cluster, and an orderly end out.

use std::sync::Arc;

use anyhow::Context;
use ferromesh_api::cluster::Cluster;
use ferromesh_api::cluster::lease::{self, Candidate};
use ferromesh_core::runtime::BUILD;
use ferromesh_core::runtime::signals::Signals;
use ferromesh_core::telemetry;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::app::{Compile, Config, Controller, Translated};
use crate::args::Args;
use crate::identity::Identity;
use crate::source::Kubernetes;
use crate::source::kubernetes::Observed;
use crate::{admit, gateways, writer};

/// The Lease of the replica that writes.
pub const LEASE: &str = "ferromesh-controller-leader";

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
    let Started { controller, identity: _identity, writers } = started;
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
    if let Some(writers) = writers {
        writers.stop().await;
    }
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
    identity: Option<Identity>,
    writers: Option<Writers>,
}

async fn start(args: &Args) -> anyhow::Result<Started> {
    let mut config = args.config()?;
    config.mesh.trust_domain.clone_from(&args.trust_domain);
    if let Some(folder) = args.folder()? {
        config.sources.push(Box::new(folder));
    }
    let mut cluster = None;
    if args.kubernetes {
        let found = Cluster::connect(args.kubeconfig.as_deref()).await?;
        config.leaves_istio = args.istio_gateway_class.leaves(&found).await?;
        let source = Kubernetes::new(found.clone(), args.secrets());
        cluster = Some((found, source.observed()));
        config.sources.push(Box::new(source));
    }
    let identity = identity(args, &mut config).await?;
    let compile: Arc<dyn Compile> = Arc::new(Translated::default());
    let controller = Controller::start_with(config, Arc::clone(&compile)).await?;
    if let (Some(address), Some(identity)) = (args.webhook_address, &identity) {
        let webhook = admit::serve(address, identity.webhook_tls()?, controller.views(), compile).await;
        tokio::spawn(webhook.with_context(|| format!("webhook address {address}"))?);
    }
    let writers =
        cluster.map(|(cluster, observed)| Writers::start(args, cluster, observed, &controller, identity.clone()));
    Ok(Started { controller, identity, writers })
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

/// What only the replica that leads does.
struct Writers {
    tasks: JoinSet<()>,
    stop: oneshot::Sender<()>,
}

impl Writers {
    fn start(
        args: &Args,
        cluster: Cluster,
        observed: Observed,
        controller: &Controller,
        identity: Option<Identity>,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (sender, leading) = watch::channel(false);
        let candidate =
            Candidate { namespace: args.namespace.clone(), name: LEASE.to_owned(), identity: args.replica.clone() };
        let mut tasks = JoinSet::new();
        tasks.spawn(writer::keep(cluster.clone(), observed, controller.views(), leading.clone()));
        if let Some(settings) = args.gateways() {
            tasks.spawn(gateways::keep(cluster.clone(), settings, controller.views(), leading.clone()));
        }
        if let Some(identity) = identity.filter(|_| args.webhook_address.is_some()) {
            tasks.spawn(admit::ca_bundle::keep(cluster.clone(), identity, leading.clone()));
        }
        tasks.spawn(async move {
            let stopped = async {
                // A dropped sender means the end, too.
                let _ = stopped.await;
            };
            lease::campaign(cluster, candidate, sender, stopped).await;
        });
        Self { tasks, stop }
    }

    /// Gives the Lease back, and ends.
    async fn stop(mut self) {
        let _ = self.stop.send(());
        // The campaign ends first: the others end with its last word.
        while self.tasks.join_next().await.is_some() {}
    }
}
