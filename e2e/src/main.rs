//! `ferromesh-e2e`: a test cluster, images, comparisons with real peers.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use ferromesh_e2e::bench::peers::Protocol;
use ferromesh_e2e::bench::{self, Part, Plan, page, plot, relay, report};
use ferromesh_e2e::cluster::command::{self as cluster, ClusterCommand};
use ferromesh_e2e::control_plane;
use ferromesh_e2e::identity;
use ferromesh_e2e::image_command::{self as image, ImageCommand};
use ferromesh_e2e::mesh::Images;
use ferromesh_e2e::node_agent;
use ferromesh_e2e::profile;
use ferromesh_e2e::progress::Progress;
use ferromesh_e2e::restarts;
use ferromesh_e2e::rows::{Row, table};
use ferromesh_e2e::soak;
use ferromesh_e2e::tools::{self, Tool, Toolbox};
use ferromesh_e2e::tutorial;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Ferromesh on a real Kubernetes, and beside its peers.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A real Kubernetes cluster on this machine: no Docker, no registry, no trace afterwards.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Images of the workspace's programs.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Run the tutorial on a real Kubernetes, command by command, and show what was seen of each.
    #[command(
        after_help = "Example:\n  cargo run --release -p ferromesh-e2e -- tutorial\n\nExit codes: 0 all holds, 1 something does not, or could not be run."
    )]
    Tutorial {
        /// Folder with the original manifests; the project's own if not given.
        #[arg(long, env = "FERROMESH_TUTORIAL_DIR")]
        folder: Option<PathBuf>,
        #[command(flatten)]
        images: ImageArgs,
        /// Keep the cluster, under this name.
        #[arg(long)]
        keep: Option<String>,
    },
    /// Restart everything that can be restarted, under load, on a real Kubernetes, and show which requests failed.
    #[command(
        after_help = "Examples:\n  ferromesh-e2e restarts\n  ferromesh-e2e restarts --requests 100000\n  ferromesh-e2e restarts --only drain,api-server\n\nExit codes: 0 no request failed and all was seen, 1 otherwise."
    )]
    Restarts {
        /// Requests of each restart, at least.
        #[arg(long, default_value_t = 10_000)]
        requests: u64,
        /// Only these.
        #[arg(long, value_delimiter = ',', value_parser = restart_names())]
        only: Vec<String>,
        /// Print all that was counted, for programs.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        images: ImageArgs,
        /// Keep the cluster, under this name.
        #[arg(long)]
        keep: Option<String>,
    },
    /// See identities on a real Kubernetes: modes of mTLS, tokens at the CA, packets of a pod's link, renewal under load.
    #[command(after_help = "Exit codes: 0 all holds, 1 something does not, or could not be run.")]
    Identity {
        #[command(flatten)]
        images: ImageArgs,
        /// Keep the cluster, under this name.
        #[arg(long)]
        keep: Option<String>,
    },
    /// See the node agent on a real Kubernetes: pods with a sidecar where Pod Security is restricted, with and without an agent.
    #[command(after_help = "Exit codes: 0 all holds, 1 something does not, or could not be run.")]
    Cni {
        #[command(flatten)]
        images: ImageArgs,
        /// Keep the cluster, under this name.
        #[arg(long)]
        keep: Option<String>,
    },
    /// The programs that clusters are made of.
    #[command(subcommand)]
    Tools(ToolsCommand),
    /// Compare a sidecar pair with Envoy (FERROMESH_ENVOY), nginx, HAProxy and a bare relay: CPU, latency, memory.
    #[command(
        after_help = "Example (what docs/performance.md shows):\n  cargo build --profile dist -p ferromesh-proxy -p ferromesh-e2e\n  target/dist/ferromesh-e2e bench --page docs/performance.md"
    )]
    Bench(BenchArgs),
    /// Compare the controller with the real istiod: memory, CPU, time to serve all, time and CPU of a change.
    #[command(
        after_help = "Example (what docs/performance.md shows):\n  cargo build --profile dist -p ferromesh-controller -p ferromesh-e2e\n  GOBIN=$PWD/target go install istio.io/istio/pilot/cmd/pilot-discovery@v0.0.0-20260827124520-eed52ebb66ad\n  target/dist/ferromesh-e2e control-plane --istiod target/pilot-discovery --page docs/performance.md"
    )]
    ControlPlane(ControlPlaneArgs),
    /// Count what a request costs the benchmark's pairs: instructions, allocations, system calls.
    #[command(
        after_help = "Example:\n  cargo build --release -p ferromesh-proxy -p ferromesh-e2e && target/release/ferromesh-e2e profile\n\nExit codes: 0 done, 1 a bound is not kept, or it could not be counted."
    )]
    Profile {
        /// Our proxy.
        #[arg(long, default_value = "target/release/ferromesh-proxy")]
        proxy: PathBuf,
        /// Requests that are counted.
        #[arg(long, default_value_t = 2000)]
        requests: u32,
        /// What the requests are.
        #[arg(long, value_enum, default_value = "http1")]
        protocol: Protocol,
        /// Only instructions and allocations (callgrind).
        #[arg(long)]
        instructions: bool,
        /// Only system calls (strace).
        #[arg(long, conflicts_with = "instructions")]
        syscalls: bool,
        /// So many of the dearest functions are shown.
        #[arg(long, default_value_t = 40)]
        functions: usize,
        /// Hold the instructions against the recorded bounds, and count nothing else.
        #[arg(long, conflicts_with_all = ["syscalls", "protocol"])]
        check: bool,
    },
    /// A pair of sidecars under load for long, while all that may change changes: what fails, and what is not given back.
    #[command(after_help = "Exit codes: 0 all holds, 1 something does not, or could not be run.")]
    Soak(soak::Settings),
    /// The bare relay of the comparison.
    #[command(hide = true)]
    Relay {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        upstream: SocketAddr,
        #[arg(long, value_enum)]
        side: relay::Side,
        #[arg(long, value_enum)]
        protocol: Protocol,
        #[arg(long)]
        certificates: PathBuf,
    },
}

/// What control planes are compared at, and where that is written.
#[derive(clap::Args)]
struct ControlPlaneArgs {
    /// Our controller.
    #[arg(long, default_value = "target/dist/ferromesh-controller")]
    controller: PathBuf,
    /// Istio's `pilot-discovery`; left out if not given.
    #[arg(long)]
    istiod: Option<PathBuf>,
    /// Services and sidecars, with commas between sizes.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "100x200,1000x10,1000x50,1000x200,1000x700,1000x1000,3000x200,10000x200"
    )]
    sizes: Vec<control_plane::Size>,
    /// Endpoints of each service.
    #[arg(long, default_value_t = 10)]
    endpoints: u32,
    /// Endpoint changes at each size, one after the other.
    #[arg(long, default_value_t = 20)]
    changes: u32,
    /// istiod is left out beyond so many services times sidecars: it needs about 4 KB for each.
    #[arg(long, default_value_t = 1_000_000)]
    most_for_istiod: u64,
    /// Write the table into this page, between its marks, and the plot (control-plane.svg) beside it.
    #[arg(long)]
    page: Option<PathBuf>,
    /// Write all that was measured here (JSON).
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What the comparison measures, and where it writes.
#[derive(clap::Args)]
struct BenchArgs {
    /// Our proxy.
    #[arg(long, default_value = "target/dist/ferromesh-proxy")]
    proxy: PathBuf,
    /// Only these.
    #[arg(long, value_delimiter = ',', default_value = "http1,http2,grpc,tcp,handshakes,idle,services")]
    only: Vec<Part>,
    /// Requests at a time.
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
    /// Connections that are opened and left alone, to see their memory.
    #[arg(long, default_value_t = 1000)]
    idle_connections: usize,
    /// Services of the big mesh.
    #[arg(long, default_value_t = 5000)]
    services: usize,
    /// Write tables into this page, between its marks, and the plot (SVG) beside it.
    #[arg(long)]
    page: Option<PathBuf>,
    /// Write the plot here (SVG), and beside it as PNG if Chromium is here.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Write all samples here (JSON).
    #[arg(long)]
    json: Option<PathBuf>,
}

/// How images are built.
#[derive(clap::Args)]
struct ImageArgs {
    /// Cargo's profile of the images: dist is what is shipped; release and dev build faster.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Cargo's target folder for images.
    #[arg(long, env = "FERROMESH_IMAGE_TARGET", default_value = "target/image")]
    target_dir: PathBuf,
}

impl From<ImageArgs> for Images {
    fn from(args: ImageArgs) -> Self {
        Self { profile: args.profile, target: args.target_dir }
    }
}

fn restart_names() -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(restarts::CASES.iter().map(|case| case.name))
}

#[derive(Subcommand)]
enum ToolsCommand {
    /// Build what is missing, into the cache that all work trees share.
    Build {
        /// Only these.
        tools: Vec<Tool>,
    },
    /// Where each is, and whether it is built.
    List,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the table.
fn show(rows: &[Row]) -> anyhow::Result<()> {
    let (text, good) = table(rows, std::io::stdout().is_terminal());
    print!("{text}");
    anyhow::ensure!(good, "not all of it holds");
    Ok(())
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Cluster(command) => cluster::run(command),
        Command::Image(command) => image::run(command),
        Command::Tutorial { folder, images, keep } => {
            let settings = tutorial::Settings { images: images.into(), folder, keep };
            show(&tutorial::run(&settings, &Progress::to_stderr())?)
        }
        Command::Identity { images, keep } => {
            let settings = identity::Settings { images: images.into(), keep };
            show(&identity::run(&settings, &Progress::to_stderr())?)
        }
        Command::Cni { images, keep } => {
            let settings = node_agent::Settings { images: images.into(), keep };
            show(&node_agent::run(&settings, &Progress::to_stderr())?)
        }
        Command::Restarts { requests, only, json, images, keep } => {
            let settings = restarts::Settings { images: images.into(), requests, only, keep };
            let reports = restarts::run(&settings, &Progress::to_stderr())?;
            if !json {
                return show(&restarts::rows(&reports));
            }
            println!("{}", serde_json::to_string_pretty(&reports)?);
            anyhow::ensure!(restarts::rows(&reports).iter().all(|row| row.holds), "not all of it holds");
            Ok(())
        }
        Command::Tools(ToolsCommand::Build { tools }) => {
            let wanted = if tools.is_empty() { Tool::ALL.to_vec() } else { tools };
            for folder in Toolbox::with(&wanted, &Progress::to_stderr())?.folders() {
                println!("{}", folder.display());
            }
            Ok(())
        }
        Command::Tools(ToolsCommand::List) => {
            for tool in Tool::ALL {
                let folder = tools::folder_of(tool)?;
                let state = if folder.is_dir() { "built" } else { "not built" };
                println!("{:<10} {:<8} {state:<10} {}", tool.name(), tool.version(), folder.display());
            }
            Ok(())
        }
        Command::Relay { listen, upstream, side, protocol, certificates } => {
            relay::run(listen, upstream, side, protocol, &certificates)
        }
        Command::Profile { proxy, requests, protocol, instructions, syscalls, functions, check } => {
            let proxy = ours(&proxy, "cargo build --release -p ferromesh-proxy")?;
            let (instructions, syscalls) = (instructions || !syscalls, syscalls || !instructions);
            let bounds = check.then(|| profile::bounds(&proxy)).transpose()?;
            let syscalls = syscalls && !check;
            let plan = profile::Plan { proxy, requests, instructions, syscalls, relay: !check, protocol };
            let counts = profile::run(&plan)?;
            print!("{}", profile::table(&counts, functions));
            bounds.map_or(Ok(()), |bounds| profile::check(&counts, &bounds))
        }
        Command::Soak(settings) => show(&soak::run(&settings, &Progress::to_stderr())?),
        Command::Bench(args) => compare(args),
        Command::ControlPlane(args) => compare_control_planes(args),
    }
}

fn compare(args: BenchArgs) -> anyhow::Result<()> {
    let plan = Plan {
        parts: args.only,
        connections: args.connections,
        duration: Duration::from_secs(args.seconds),
        runs: args.runs,
        proxy: ours(&args.proxy, "cargo build --profile dist -p ferromesh-proxy")?,
        skip: args.skip,
        idle_connections: args.idle_connections,
        services: args.services,
    };
    let before = page::load_average();
    let measured = bench::run(&plan)?;
    let (machine, after) = (page::machine(), page::load_average());
    let text = format!(
        "On {machine}; median of {} runs of {} s, with least and most. Load average {before} before, {after} after.\n{}",
        plan.runs,
        args.seconds,
        report::table(&measured)
    );
    print!("{text}");
    if let Some(file) = &args.page {
        page::write(file, "bench", &text)?;
        std::fs::write(file.with_extension("svg"), plot::svg(&measured))?;
    }
    if let Some(file) = &args.plot {
        std::fs::write(file, plot::svg(&measured))?;
        if !plot::render(file, &file.with_extension("png"))? {
            eprintln!("no Chromium here: no PNG");
        }
    }
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_vec_pretty(&measured)?)?;
    }
    Ok(())
}

fn compare_control_planes(args: ControlPlaneArgs) -> anyhow::Result<()> {
    let ours = ours(&args.controller, "cargo build --profile dist -p ferromesh-controller")?;
    let mut planes = vec![control_plane::Plane::Ferromesh(ours)];
    match &args.istiod {
        Some(file) => planes.push(control_plane::Plane::Istiod(file.canonicalize().context("--istiod")?)),
        None => eprintln!("istiod: not named, left out"),
    }
    let settings = control_plane::Settings {
        sizes: args.sizes,
        endpoints: args.endpoints,
        changes: args.changes,
        planes,
        crds: tools::module_folder(control_plane::ISTIO)?.join("manifests/charts/base/files/crd-all.gen.yaml"),
        most_for_istiod: args.most_for_istiod,
    };
    let measured = control_plane::run(&settings, &Progress::to_stderr())?;
    let text = format!("On {}.\n\n{}", page::machine(), control_plane::table(&measured));
    print!("{text}");
    if let Some(file) = &args.page {
        page::write(file, "control-plane", &text)?;
        std::fs::write(file.with_file_name("control-plane.svg"), control_plane::svg(&measured))?;
    }
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_vec_pretty(&measured)?)?;
    }
    Ok(())
}

/// One of our programs, which must have been built.
fn ours(proxy: &Path, build: &str) -> anyhow::Result<PathBuf> {
    proxy.canonicalize().with_context(|| format!("{} is not there; build it with: {build}", proxy.display()))
}
