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
    #[arg(long, conflicts_with_all = ["cacerts", "kubernetes"], required_unless_present_any = ["cacerts", "kubernetes"])]
    pub store: Option<PathBuf>,
    /// Folder with given ca-cert.pem, ca-key.pem, root-cert.pem and cert-chain.pem (or tls.crt, tls.key and ca.crt). With
    /// --kubernetes it is used only if it holds them.
    #[arg(long)]
    pub cacerts: Option<PathBuf>,
    /// Folder of tokens: the file <namespace>.<service account> holds that account's token.
    #[arg(long)]
    pub tokens: Option<PathBuf>,
    /// Keep the root in a Secret, know callers by their pods' tokens, and write the trust bundle to each namespace: in the
    /// cluster of this pod, or of the kubeconfig.
    #[arg(long)]
    pub kubernetes: bool,
    /// Kubeconfig file; default: KUBECONFIG, or the pod's own account.
    #[arg(long, requires = "kubernetes", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the control plane.
    #[arg(long, env = "POD_NAMESPACE", default_value = "ferromesh-system")]
    pub namespace: String,
    /// Name of this replica, unique among all (the pod's name).
    #[arg(long, env = "POD_NAME", default_value = "ferromesh-ca")]
    pub replica: String,
    /// Name of the Secret with root and signing key, in the control plane's namespace.
    #[arg(long, default_value = "ferromesh-ca-root", value_name = "NAME")]
    pub root_secret: String,
    /// DNS names for a service of the control plane: <namespace>/<service account>=<name>,<name> (may be given several
    /// times).
    #[arg(long = "serving-name", value_name = "ACCOUNT=NAMES", value_parser = parse_serving_name)]
    pub serving_names: Vec<ServingName>,
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

/// The DNS names of a service of the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServingName {
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub account: String,
    /// Its names.
    pub names: Vec<String>,
}

fn parse_serving_name(text: &str) -> Result<ServingName, String> {
    let parts = text.split_once('=').and_then(|(account, names)| Some((account.split_once('/')?, names)));
    let Some(((namespace, account), names)) = parts else {
        return Err("expected <namespace>/<service account>=<name>,<name>".into());
    };
    let names = names.split(',').map(str::to_owned).collect();
    Ok(ServingName { namespace: namespace.into(), account: account.into(), names })
}

impl Args {
    pub(crate) fn default_ttl(&self) -> Duration {
        Duration::from_secs(u64::from(self.default_ttl_hours) * 3600)
    }

    pub(crate) fn max_ttl(&self) -> Duration {
        Duration::from_secs(u64::from(self.max_ttl_hours) * 3600)
    }
}
