//! The command line of `ferromesh-injector`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use ferromesh_core::args::{AdminArgs, LogArgs, OtlpArgs};

/// Adds the proxy to pods when they are created (a mutating admission webhook of Kubernetes).
#[derive(Debug, Clone, Parser)]
#[command(name = "ferromesh-injector", version)]
pub struct Args {
    /// Address of the webhook (HTTPS).
    #[arg(long, default_value = "[::]:15017")]
    pub listen: SocketAddr,
    /// Settings file (YAML); all defaults if not given. Followed while running.
    #[arg(long)]
    pub settings: Option<PathBuf>,
    /// MeshConfig file (YAML); all defaults if not given. Followed while running.
    #[arg(long)]
    pub mesh_config: Option<PathBuf>,
    /// DNS name that the API server calls (may be given several times).
    #[arg(long = "dns-name", default_value = "ferromesh-injector.ferromesh-system.svc")]
    pub dns_names: Vec<String>,
    /// MutatingWebhookConfiguration that is told which certificate to trust; none if not given.
    #[arg(long)]
    pub webhook_configuration: Option<String>,
    /// Where the webhook's CA certificate is written as PEM, for other ways to tell the API server.
    #[arg(long)]
    pub ca_file: Option<PathBuf>,
    /// Lifetime of the webhook's certificate, in minutes; renewed at half of it.
    #[arg(long, default_value_t = 24 * 60, value_parser = clap::value_parser!(u32).range(1..=525_600))]
    pub certificate_minutes: u32,
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
