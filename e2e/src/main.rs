//! `ferromesh-e2e`: comparisons with real peers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use ferromesh_e2e::bench::{self, Plan, relay, report};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Ferromesh beside its peers.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compare CPU, latency and memory of a sidecar pair with Envoy (FERROMESH_ENVOY), nginx and a bare relay.
    #[command(
        after_help = "Example:\n  cargo build --profile dist -p ferromesh-proxy && cargo run --release -p ferromesh-e2e -- bench"
    )]
    Bench {
        /// Our proxy.
        #[arg(long, default_value = "target/dist/ferromesh-proxy")]
        proxy: PathBuf,
        /// Connections.
        #[arg(long, value_delimiter = ',', default_value = "1,32,256")]
        connections: Vec<u32>,
        /// Seconds of each measurement.
        #[arg(long, default_value_t = 3)]
        seconds: u64,
        /// Runs of each measurement.
        #[arg(long, default_value_t = 3)]
        runs: u32,
        /// Peers to leave out.
        #[arg(long, value_delimiter = ',')]
        skip: Vec<String>,
        /// Write the plot here (SVG).
        #[arg(long)]
        plot: Option<PathBuf>,
        /// Write all samples here (JSON).
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// The bare relay of the comparison.
    #[command(hide = true)]
    Relay {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        upstream: SocketAddr,
        #[arg(long, value_enum)]
        side: Side,
        #[arg(long)]
        certificates: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Side {
    Client,
    Server,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Relay { listen, upstream, side, certificates } => {
            let side = match side {
                Side::Client => relay::Side::Client,
                Side::Server => relay::Side::Server,
            };
            relay::run(listen, upstream, side, &certificates)
        }
        Command::Bench { proxy, connections, seconds, runs, skip, plot, json } => {
            let proxy = proxy.canonicalize().with_context(|| {
                format!(
                    "{} is not there; build it with: cargo build --profile dist -p ferromesh-proxy",
                    proxy.display()
                )
            })?;
            let plan = Plan { connections, duration: Duration::from_secs(seconds), runs, proxy, skip };
            let measured = bench::run(&plan)?;
            print!("{}", report::table(&measured));
            if let Some(file) = plot {
                std::fs::write(&file, report::plot(&measured))?;
            }
            if let Some(file) = json {
                std::fs::write(&file, serde_json::to_vec_pretty(&measured)?)?;
            }
            Ok(())
        }
    }
}
