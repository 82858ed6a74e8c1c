//! Arguments of `ferromesh-proxy`; Envoy's names where it has them.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use ferromesh_core::args::{LogArgs, OtlpArgs};

use crate::agent::{ProxyArgs, RequestArgs, WaitArgs};

/// The data plane of Ferromesh: runs an Envoy v3 bootstrap.
#[derive(Debug, Parser)]
#[command(name = "ferromesh-proxy", version, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    /// In a pod.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Bootstrap file: YAML, JSON, or binary (.pb).
    #[arg(short = 'c', long, value_name = "FILE", required_unless_present = "sds_only")]
    pub config_path: Option<PathBuf>,
    /// Worker threads; default: one for each CPU.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: Option<u16>,
    /// Check the bootstrap and exit.
    #[arg(long)]
    pub validate: bool,
    /// Write the admin address to this file, once it is bound.
    #[arg(long, value_name = "FILE")]
    pub admin_address_path: Option<PathBuf>,
    /// Hot restart: a process started with the same socket takes over the listeners, and this one ends.
    #[arg(long, value_name = "SOCKET")]
    pub hot_restart_path: Option<PathBuf>,
    /// Longest time that connections get to end in a drain, in seconds.
    #[arg(long, default_value_t = 45, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=86_400))]
    pub drain_time_s: u64,
    /// Fetch the workload's certificate and serve it by SDS on this Unix socket, for an Envoy; no proxy runs.
    #[arg(long, value_name = "SOCKET")]
    pub sds_only: Option<PathBuf>,
    /// The CA (`<name or address>:<port>`), for the workload's own certificate.
    #[arg(long, env = "CA_ADDR", value_name = "ADDRESS", requires = "ca_root")]
    pub ca_address: Option<String>,
    /// Name in the CA's server certificate.
    #[arg(long, default_value = "localhost", value_name = "NAME")]
    pub ca_server_name: String,
    /// PEM file of the root that the CA's server certificate chains to.
    #[arg(long, value_name = "FILE")]
    pub ca_root: Option<PathBuf>,
    /// File with the bearer token for the CA; read again for each certificate.
    #[arg(long, default_value = "/var/run/secrets/tokens/istio-token", value_name = "FILE")]
    pub token_file: PathBuf,
    /// Logs.
    #[command(flatten)]
    pub log: LogArgs,
    /// Traces of the proxy itself.
    #[command(flatten)]
    pub otlp: OtlpArgs,
}

/// What the proxy's image runs in a pod.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Run as the proxy of this pod.
    Proxy(ProxyArgs),
    /// Wait until the proxy of this pod is ready.
    Wait(WaitArgs),
    /// Send a request to the proxy of this pod.
    Request(RequestArgs),
}

const EXAMPLES: &str = "Examples:\n  ferromesh-proxy -c envoy.yaml --concurrency 2\n  ferromesh-proxy -c envoy.yaml --validate\n  ferromesh-proxy --sds-only /run/sds.sock --ca-address 127.0.0.1:15012 --ca-root root.pem --token-file token\n\nExit codes: 0 ended as asked; 1 the bootstrap cannot be used; 2 wrong arguments; 3 could not run.";

impl Args {
    /// Worker threads.
    pub fn workers(&self) -> usize {
        let cpus = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.concurrency.map_or_else(cpus, usize::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_cannot_be_meant_are_refused() {
        let parse = |more: &[&str]| Args::try_parse_from(["ferromesh-proxy", "-c", "file"].iter().chain(more));
        assert_eq!(parse(&["--concurrency", "2"]).unwrap().workers(), 2);
        assert!(parse(&[]).unwrap().workers() > 0);
        for more in [["--concurrency", "0"], ["--concurrency", "70000"], ["--drain-time-s", "18446744073709551615"]] {
            assert!(parse(&more).is_err(), "{more:?}");
        }
    }
}
