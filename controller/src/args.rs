//! The command line of `ferromesh-controller`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use ferromesh_core::TrustDomain;
use ferromesh_core::args::{AdminArgs, LogArgs, OtlpArgs};

use crate::app::Config;
use crate::gateways::render::Settings;
use crate::identity;
use crate::index::view::SYSTEM_NAMESPACE;
use crate::istio_class::IstioClass;
use crate::serve::{Address, ServerTls};
use crate::source::{Folder, FolderOptions, SecretScope};

/// The control plane: compiles Kubernetes, Gateway API and Istio objects, and serves them to proxies as Envoy xDS.
#[derive(Debug, Parser)]
#[command(name = "ferromesh-controller", version)]
pub struct Args {
    /// Folder (or file) of YAML to serve; watched.
    #[arg(long, required_unless_present = "kubernetes", conflicts_with = "kubernetes")]
    pub folder: Option<PathBuf>,
    /// Serve the objects of a Kubernetes cluster: the one that this pod is in, or that of the kubeconfig.
    #[arg(long)]
    pub kubernetes: bool,
    /// Kubeconfig file; default: KUBECONFIG, or the pod's own account.
    #[arg(long, requires = "kubernetes", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the control plane.
    #[arg(long, env = "POD_NAMESPACE", default_value = SYSTEM_NAMESPACE)]
    pub namespace: String,
    /// Name of this replica, unique among all (the pod's name).
    #[arg(long, env = "POD_NAME", default_value = "ferromesh-controller")]
    pub replica: String,
    /// Where Secrets of Gateways may be read: namespaces with commas between them, or *.
    #[arg(long, default_value = "", value_name = "NAMESPACES")]
    pub gateway_secret_namespaces: String,
    /// Whether Gateways of GatewayClass istio are looked after.
    #[arg(long, value_enum, default_value = "auto", requires = "kubernetes", value_name = "WHEN")]
    pub istio_gateway_class: IstioClass,
    /// Image of the proxies that Gateways run on; none: Gateways are given nothing.
    #[arg(long, env = "PROXY_IMAGE", requires = "kubernetes")]
    pub proxy_image: Option<String>,
    /// Pull policy of that image.
    #[arg(long, value_name = "POLICY")]
    pub proxy_image_pull_policy: Option<String>,
    /// Secret for that image's registry, in each Gateway's namespace.
    #[arg(long, value_name = "NAME")]
    pub proxy_image_pull_secret: Option<String>,
    /// Where those proxies find this controller.
    #[arg(long, default_value = "ferromesh-controller.ferromesh-system.svc:15012", value_name = "ADDRESS")]
    pub discovery_address: String,
    /// Name of the cluster.
    #[arg(long, env = "CLUSTER_ID", default_value = "Kubernetes")]
    pub cluster_id: String,
    /// Where proxies connect: `<ip>:<port>`, or `unix:<path>`.
    #[arg(long, default_value = "127.0.0.1:15012", value_parser = parse_address)]
    pub xds_address: Address,
    /// Certificate chain of the xDS port (PEM).
    #[arg(long, requires = "tls_key", requires = "client_roots")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Roots that the certificates of proxies must lead to (PEM).
    #[arg(long, requires = "tls_cert")]
    pub client_roots: Option<PathBuf>,
    /// The mesh's CA, `<name>:<port>`, for the controller's own certificate.
    #[arg(long, env = "CA_ADDR", conflicts_with = "tls_cert", value_name = "ADDRESS")]
    pub ca_address: Option<String>,
    /// PEM file of the mesh's roots, which the CA's certificate leads to.
    #[arg(long, default_value = "/var/run/secrets/istio/root-cert.pem", value_name = "FILE")]
    pub ca_root: PathBuf,
    /// File with the service account token for the CA (audience istio-ca).
    #[arg(long, default_value = "/var/run/secrets/tokens/istio-token", value_name = "FILE")]
    pub token_file: PathBuf,
    /// Trust domain of the proxies' identities.
    #[arg(long, env = "TRUST_DOMAIN", default_value = "cluster.local")]
    pub trust_domain: String,
    /// Without certificates: serve plaintext on loopback or a Unix socket, and believe what proxies say they are.
    #[arg(long, conflicts_with_all = ["tls_cert", "ca_address"])]
    pub allow_plaintext: bool,
    /// Where the API server calls the validating webhook; none if not given.
    #[arg(long, requires = "ca_address", value_name = "ADDRESS")]
    pub webhook_address: Option<SocketAddr>,
    /// Address for probes and Prometheus (/ready, /healthz, /metrics), and nothing else; none if not given.
    #[arg(long, value_name = "ADDRESS")]
    pub health_address: Option<SocketAddr>,
    /// Admin server and end of life.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Logs.
    #[command(flatten)]
    pub log: LogArgs,
    /// Traces.
    #[command(flatten)]
    pub otlp: OtlpArgs,
}

impl Args {
    /// What the river is started with: ports, and TLS from files if these are named. Sources are still missing.
    ///
    /// # Errors
    /// If a file cannot be used, or the arguments leave the xDS port without protection.
    pub fn config(&self) -> anyhow::Result<Config> {
        let mut config = Config::new(Vec::new());
        config.xds_listen = self.xds_address.clone();
        config.admin_listen = self.admin.admin_address;
        config.health_listen = self.health_address;
        config.allow_plaintext_loopback = self.allow_plaintext;
        if let (Some(cert), Some(key), Some(roots)) = (&self.tls_cert, &self.tls_key, &self.client_roots) {
            config.tls = Some(ServerTls::from_files(cert, key, roots, self.trust_domain()?)?);
        } else if !self.allow_plaintext && self.ca_address.is_none() {
            anyhow::bail!(
                "the xDS port needs --ca-address (a certificate from the mesh's CA), or --tls-cert, --tls-key and \
                 --client-roots, or --allow-plaintext on loopback"
            );
        }
        Ok(config)
    }

    /// The folder, if that is the source.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn folder(&self) -> anyhow::Result<Option<Folder>> {
        Ok(self.folder.as_ref().map(|folder| Folder::new(folder, FolderOptions::default())).transpose()?)
    }

    /// How the controller gets its own certificate, if from the CA.
    pub fn identity(&self) -> Option<identity::Config> {
        Some(identity::Config {
            ca_address: self.ca_address.clone()?,
            ca_root: self.ca_root.clone(),
            token_file: self.token_file.clone(),
        })
    }

    /// The trust domain.
    ///
    /// # Errors
    /// If it is none.
    pub fn trust_domain(&self) -> anyhow::Result<TrustDomain> {
        Ok(TrustDomain::new(&self.trust_domain)?)
    }

    /// What Gateways run on, if anything.
    pub fn gateways(&self) -> Option<Settings> {
        Some(Settings {
            image: self.proxy_image.clone()?,
            pull_policy: self.proxy_image_pull_policy.clone(),
            pull_secret: self.proxy_image_pull_secret.clone(),
            discovery_address: self.discovery_address.clone(),
            ca_address: self.ca_address.clone().unwrap_or_else(|| "ferromesh-ca.ferromesh-system.svc:15012".into()),
            trust_domain: self.trust_domain.clone(),
            cluster_id: self.cluster_id.clone(),
        })
    }

    /// Where Secrets may be read.
    pub fn secrets(&self) -> SecretScope {
        SecretScope::parse(&self.gateway_secret_namespaces)
    }
}

fn parse_address(text: &str) -> Result<Address, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(Address::Unix(path.into()));
    }
    text.parse::<SocketAddr>().map(Address::Tcp).map_err(|error| format!("{error}; give <ip>:<port> or unix:<path>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[&str]) -> Result<Args, String> {
        Args::try_parse_from([&["ferromesh-controller"], line].concat()).map_err(|error| error.to_string())
    }

    fn config(line: &[&str]) -> Result<Config, String> {
        parse(&[&["--folder", "."], line].concat())?.config().map_err(|error| error.to_string())
    }

    #[test]
    fn plaintext_has_to_be_asked_for() {
        assert!(config(&[]).err().is_some_and(|error| error.contains("--allow-plaintext")));
        assert!(config(&["--allow-plaintext"]).is_ok_and(|config| config.allow_plaintext_loopback));
        assert!(config(&["--ca-address", "ferromesh-ca:15012"]).is_ok());
        assert!(config(&["--tls-cert", "cert.pem"]).is_err());
        assert!(config(&["--allow-plaintext", "--ca-address", "ferromesh-ca:15012"]).is_err());
    }

    #[test]
    fn the_xds_address_may_be_a_unix_socket() {
        let config = config(&["--allow-plaintext", "--xds-address", "unix:/run/xds.sock"]).unwrap();
        assert_eq!(config.xds_listen, Address::Unix("/run/xds.sock".into()));
        assert!(parse(&["--folder", ".", "--xds-address", "nowhere"]).is_err());
    }

    #[test]
    fn the_source_is_a_folder_or_a_cluster() {
        assert!(parse(&["--allow-plaintext"]).is_err());
        assert!(parse(&["--kubernetes", "--folder", "."]).is_err());
        assert!(parse(&["--kubernetes", "--gateway-secret-namespaces", "a,b"]).unwrap().secrets().covers("b"));
    }
}
