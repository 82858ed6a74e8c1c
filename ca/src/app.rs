//! The daemon: arguments in; a CA, its admin server and an orderly end out.

use std::sync::Arc;

use anyhow::Context;
use ferromesh_core::runtime::signals::Signals;
use ferromesh_core::runtime::{AdminServer, BUILD, Health, drain};
use ferromesh_core::telemetry;

use crate::args::Args;
use crate::{AuthoritySource, Ca, Config, TokenFolder};

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
    let config = config(&args)?;
    let admin = AdminServer::start(args.admin.admin_address, health, config.metrics.clone())
        .await
        .with_context(|| format!("admin server on {}", args.admin.admin_address))?;
    let ca = Ca::start(config).await?;
    check.ready();
    // The CA drains by itself below; this one only hears the signals.
    let (drain, _watch) = drain::channel();
    signals.drain_on_first(&drain, args.admin.drain_deadline()).await;
    check.not_ready("shutting down");
    tokio::select! {
        () = ca.shutdown() => {}
        _ = signals.next() => {}
    }
    admin.shutdown().await;
    // Sending the last traces blocks.
    tokio::task::spawn_blocking(|| telemetry.shutdown()).await.context("traces")
}

fn config(args: &Args) -> anyhow::Result<Config> {
    let mut config = Config::new(args.listen, args.trust_domain.clone());
    config.authority = match (&args.cacerts, &args.store) {
        (Some(folder), _) => AuthoritySource::Files(folder.clone()),
        (None, Some(folder)) => AuthoritySource::Store(folder.clone()),
        (None, None) => anyhow::bail!("give --store or --cacerts"),
    };
    if let Some(folder) = &args.tokens {
        config.authenticators.push(Arc::new(TokenFolder::new(folder, args.trust_domain.clone())));
    }
    config.dns_names.clone_from(&args.dns_names);
    config.default_ttl = args.default_ttl();
    config.max_ttl = args.max_ttl();
    Ok(config)
}
