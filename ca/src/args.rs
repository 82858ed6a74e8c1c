//! The command line of `ferromesh-ca`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use ferromesh_core::TrustDomain;
use ferromesh_core::args::{AdminArgs, LogArgs, OtlpArgs};
use ferromesh_core::identity::DEFAULT_TRUST_DOMAIN;

/// The mesh's certificate authority (istio.v1.auth.IstioCertificateService over TLS).
#[derive(Debug, Clone, Parser)]
#[command(name = "ferromesh-ca", version)]
pub struct Args {
    /// Address to serve on.
    #[arg(long, default_value = "127.0.0.1:15012")]
    pub listen: SocketAddr,
    /// Trust domain of the identities.
    #[arg(long, default_value = DEFAULT_TRUST_DOMAIN)]
    pub trust_domain: TrustDomain,
    /// Folder in which a self-made root and signing key are kept (made at the first start).
    #[arg(long, conflicts_with = "cacerts", required_unless_present = "cacerts")]
    pub store: Option<PathBuf>,
    /// Folder with given ca-cert.pem, ca-key.pem, root-cert.pem and cert-chain.pem.
    #[arg(long)]
    pub cacerts: Option<PathBuf>,
    /// Folder of tokens: the file <namespace>.<service account> holds that account's token.
    #[arg(long)]
    pub tokens: Option<PathBuf>,
    /// DNS name of this server, beside localhost (may be given several times).
    #[arg(long = "dns-name")]
    pub dns_names: Vec<String>,
    /// Lifetime of certificates when the request asks for none, in hours.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=87_600))]
    pub default_ttl_hours: u32,
    /// Longest lifetime of certificates, in hours.
    #[arg(long, default_value_t = 2160, value_parser = clap::value_parser!(u32).range(1..=87_600))]
    pub max_ttl_hours: u32,
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

impl Args {
    pub(crate) fn default_ttl(&self) -> Duration {
        Duration::from_secs(u64::from(self.default_ttl_hours) * 3600)
    }

    pub(crate) fn max_ttl(&self) -> Duration {
        Duration::from_secs(u64::from(self.max_ttl_hours) * 3600)
    }
}
