//! The daemon: arguments in; a webhook that the API server trusts, and an orderly end, out.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use ferromesh_core::runtime::signals::Signals;
use ferromesh_core::runtime::{AdminServer, BUILD, Health, drain};
use ferromesh_core::telemetry::{self, Metrics};

use crate::args::Args;
use crate::settings::Mesh;
use crate::webhook::{self, InjectorMetrics};

mod files;

/// How often files are looked at: a mounted ConfigMap changes by a link that is turned, once a minute at most.
const LOOK: Duration = Duration::from_secs(5);

/// Runs until a signal asks for the end.
///
/// # Errors
/// If something cannot be set up; the error says what.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let telemetry = telemetry::init(&args.log, &args.otlp, "ferromesh-injector")?;
    let mut signals = Signals::listen().context("signal handlers")?;
    tracing::info!(build = %BUILD, "starting");
    let health = Health::new();
    let (serves, trusted) = (health.check("webhook"), health.check("trusted by the API server"));
    let registry = Metrics::new();
    let metrics = registry.register(InjectorMetrics::register);
    let files = files::Files::new(args.settings.clone(), args.mesh_config.clone());
    let mesh: Arc<ArcSwap<Mesh>> = Arc::new(ArcSwap::from_pointee(files.read()?));
    let admin = AdminServer::start(args.admin.admin_address, health, registry)
        .await
        .with_context(|| format!("admin server on {}", args.admin.admin_address))?;

    let lifetime = Duration::from_secs(u64::from(args.certificate_minutes) * 60);
    let certificate = webhook::Certificate::make(&args.dns_names, lifetime)?;
    let (drain, watch) = drain::channel();
    let server = webhook::Server::start(args.listen, certificate.resolver(), Arc::clone(&mesh), metrics.clone(), watch)
        .await
        .with_context(|| format!("webhook on {}", args.listen))?;
    tracing::info!(address = %server.address(), "webhook");
    serves.ready();
    let trust = webhook::Trust::new(args.webhook_configuration.clone(), args.ca_file.clone()).await?;
    let background = [
        tokio::spawn(webhook::keep_trusted(certificate, trust, trusted)),
        tokio::spawn(files::follow(files, mesh, LOOK)),
    ];
    signals.drain_on_first(&drain, args.admin.drain_deadline()).await;
    serves.not_ready("shutting down");
    for task in &background {
        task.abort();
    }
    admin.shutdown().await;
    // Sending the last traces blocks.
    tokio::task::spawn_blocking(|| telemetry.shutdown()).await.context("traces")
}
