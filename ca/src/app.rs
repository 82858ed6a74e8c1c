//! The daemon: arguments in; a CA, its admin server and an orderly end out.

use std::sync::Arc;

use anyhow::Context;
use ferromesh_api::cluster::Cluster;
use ferromesh_api::cluster::lease::{self, Candidate};
use ferromesh_core::SpiffeId;
use ferromesh_core::runtime::drain::Drained;
use ferromesh_core::runtime::signals::Signals;
use ferromesh_core::runtime::{AdminServer, BUILD, Health, Page};
use ferromesh_core::telemetry;
use serde_json::json;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::args::Args;
use crate::{AuthoritySource, Ca, Config, KubernetesTokens, Rotation, RunningCa, SecretStore, TokenFolder, bundle};

/// Runs until a signal asks for the end.
///
/// # Errors
/// If something cannot be set up; the error says what.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let telemetry = telemetry::init(&args.log, &args.otlp, "ferromesh-ca")?;
    let mut signals = Signals::listen().context("signal handlers")?;
    tracing::info!(build = %BUILD, "starting");
    let health = Health::new();
    let check = health.check("ca");
    let mut config = config(&args)?;
    let cluster = cluster(&args, &mut config).await?;
    let metrics = config.metrics.clone();
    let ca = Ca::start(config).await?;
    let admin = AdminServer::start_with(args.admin.admin_address, health, metrics, pages(&ca.rotation()))
        .await
        .with_context(|| format!("admin server on {}", args.admin.admin_address))?;
    let (campaign, stop) = writers(&args, cluster, &ca);
    check.ready();
    tracing::info!(addr = %ca.addr(), admin = %admin.addr(), "started");

    let signal = signals.next().await;
    let deadline = args.admin.drain_deadline();
    tracing::info!(signal, ?deadline, "draining");
    check.not_ready("shutting down");
    tokio::select! {
        drained = ca.shutdown_within(deadline) => if let Drained::TimedOut(left) = drained {
            tracing::warn!(left, "the drain's time is up with connections open");
        },
        signal = signals.next() => tracing::warn!(signal, "second signal: ending at once"),
    }
    // Another replica may lead at once.
    let _ = stop.send(());
    let _ = campaign.await;
    admin.shutdown().await;
    tracing::info!("ended");
    // Sending the last traces blocks.
    tokio::task::spawn_blocking(|| telemetry.shutdown()).await.context("traces")
}

/// `GET /roots` tells what is trusted and where the rotation stands; `POST /roots/rotate` takes its next step.
fn pages(rotation: &Rotation) -> Vec<Page> {
    let (told, stepped) = (rotation.clone(), rotation.clone());
    let tell = move || Ok(json!({"phase": told.phase(), "bundle": told.trust_bundle_pem()}));
    let step = move || match stepped.step() {
        Ok(phase) => Ok(json!({"phase": phase, "bundle": stepped.trust_bundle_pem()})),
        Err(error) => Err(error.to_string()),
    };
    vec![
        Page { method: http::Method::GET, path: "/roots", answer: Arc::new(tell) },
        Page { method: http::Method::POST, path: "/roots/rotate", answer: Arc::new(step) },
    ]
}

/// What only a cluster has: tokens of pods, and the Secret with the root.
async fn cluster(args: &Args, config: &mut Config) -> anyhow::Result<Option<Cluster>> {
    if !args.kubernetes {
        return Ok(None);
    }
    let cluster = Cluster::connect(args.kubeconfig.as_deref()).await?;
    let given =
        args.cacerts.as_ref().filter(|folder| ["ca-cert.pem", "tls.crt"].iter().any(|file| folder.join(file).exists()));
    config.authority = match given {
        Some(folder) => AuthoritySource::Files(folder.clone()),
        None => AuthoritySource::Secret(SecretStore::new(cluster.clone(), &args.namespace, &args.root_secret)),
    };
    let tokens = KubernetesTokens::start(cluster.clone(), args.trust_domain.clone());
    tracing::info!("waiting for the cluster's pods");
    tokens.ready().await;
    config.authenticators.push(Arc::new(tokens));
    Ok(Some(cluster))
}

/// What one replica does for all: the trust bundles. Ends when told.
fn writers(args: &Args, cluster: Option<Cluster>, ca: &RunningCa) -> (JoinHandle<()>, oneshot::Sender<()>) {
    let (stop, stopped) = oneshot::channel();
    let Some(cluster) = cluster else { return (tokio::spawn(async {}), stop) };
    let (sender, leading) = watch::channel(false);
    let candidate = Candidate {
        namespace: args.namespace.clone(),
        name: "ferromesh-ca-leader".into(),
        identity: args.replica.clone(),
    };
    let bundles = ca.bundles();
    let campaign = async move {
        let stopped = async {
            // A dropped sender means the end, too.
            let _ = stopped.await;
        };
        tokio::select! {
            () = lease::campaign(cluster.clone(), candidate, sender, stopped) => {}
            () = bundle::keep(cluster, bundles, leading) => {}
        }
    };
    (tokio::spawn(campaign), stop)
}

fn config(args: &Args) -> anyhow::Result<Config> {
    let mut config = Config::new(args.listen, args.trust_domain.clone());
    config.authority = match (&args.cacerts, &args.store) {
        (Some(folder), _) => AuthoritySource::Files(folder.clone()),
        (None, Some(folder)) => AuthoritySource::Store(folder.clone()),
        // With --kubernetes the Secret is known once the cluster is.
        (None, None) => AuthoritySource::Memory,
    };
    if let Some(folder) = &args.tokens {
        config.authenticators.push(Arc::new(TokenFolder::new(folder, args.trust_domain.clone())));
    }
    for serving in &args.serving_names {
        let id = SpiffeId::workload(&args.trust_domain, &serving.namespace, &serving.account)?;
        config.serving_names.push((id, serving.names.clone()));
    }
    config.dns_names.clone_from(&args.dns_names);
    config.default_ttl = args.default_ttl();
    config.max_ttl = args.max_ttl();
    Ok(config)
}
