//! The command line of `ferromesh-controller`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use ferromesh_core::TrustDomain;
use ferromesh_core::args::{AdminArgs, LogArgs, OtlpArgs};

use crate::app::Config;
use crate::serve::{Address, ServerTls};
use crate::source::{Folder, FolderOptions};

/// The control plane: compiles a folder of Kubernetes, Gateway API and Istio YAML, and serves it to proxies as Envoy xDS.
#[derive(Debug, Parser)]
#[command(name = "ferromesh-controller", version)]
pub struct Args {
    /// Folder (or file) of YAML to serve; watched.
    #[arg(long)]
    pub folder: PathBuf,
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
    /// Trust domain of the proxies' identities.
    #[arg(long, default_value = "cluster.local")]
    pub trust_domain: String,
    /// Without certificates: serve plaintext on loopback or a Unix socket, and believe what proxies say they are.
    #[arg(long, conflicts_with = "tls_cert")]
    pub allow_plaintext: bool,
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
    /// Reads the files that are named.
    ///
    /// # Errors
    /// If one cannot be used, or the arguments leave the xDS port without protection.
    pub fn config(&self) -> anyhow::Result<Config> {
        let folder = Folder::new(&self.folder, FolderOptions::default())?;
        let mut config = Config::new(vec![Box::new(folder)]);
        config.xds_listen = self.xds_address.clone();
        config.admin_listen = self.admin.admin_address;
        config.allow_plaintext_loopback = self.allow_plaintext;
        if let (Some(cert), Some(key), Some(roots)) = (&self.tls_cert, &self.tls_key, &self.client_roots) {
            let domain = TrustDomain::new(&self.trust_domain)?;
            config.tls = Some(ServerTls::from_files(cert, key, roots, domain)?);
        } else if !self.allow_plaintext {
            anyhow::bail!(
                "the xDS port needs --tls-cert, --tls-key and --client-roots (a certificate from the mesh's CA is \
                 not built yet), or --allow-plaintext on loopback"
            );
        }
        Ok(config)
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

    fn config(line: &[&str]) -> Result<Config, String> {
        let args = Args::try_parse_from([&["ferromesh-controller", "--folder", "."], line].concat());
        args.map_err(|error| error.to_string())?.config().map_err(|error| error.to_string())
    }

    #[test]
    fn plaintext_has_to_be_asked_for() {
        assert!(config(&[]).err().is_some_and(|error| error.contains("--allow-plaintext")));
        assert!(config(&["--allow-plaintext"]).is_ok_and(|config| config.allow_plaintext_loopback));
        assert!(config(&["--tls-cert", "cert.pem"]).is_err());
    }

    #[test]
    fn the_xds_address_may_be_a_unix_socket() {
        let config = config(&["--allow-plaintext", "--xds-address", "unix:/run/xds.sock"]).unwrap();
        assert_eq!(config.xds_listen, Address::Unix("/run/xds.sock".into()));
        assert!(Args::try_parse_from(["x", "--folder", ".", "--xds-address", "nowhere"]).is_err());
    }
}
