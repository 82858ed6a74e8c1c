//! What was typed: commands and flags, nothing derived.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cluster::ClusterArgs;

/// Ferromesh: a service mesh compatible with Istio and Gateway API.
#[derive(Debug, Parser)]
#[command(name = "ferromesh", version, propagate_version = true, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes:\n  0  done; for demo, analyze and check: nothing is wrong\n  1  a check failed, analyze found an error, or Helm did\n  2  the command line or the input cannot be used\n  3  the mesh or the cluster could not be started or reached";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a folder of Kubernetes YAML as a mesh on this machine.
    Up(Up),
    /// Run the tutorial as a mesh on this machine and check that each step behaves as it says.
    Demo(Demo),
    /// Find mistakes in a folder of Kubernetes YAML.
    Analyze(Analyze),
    /// Add the proxy to the workloads of a file, as the webhook does when they are created.
    Inject(Inject),
    /// Show objects and their status, of a mesh that `up` runs.
    Get(Get),
    /// Show what a workload's proxy is configured with, in a cluster or in a mesh that `up` runs.
    Config(Config),
    /// Show which proxies have the newest configuration, in a cluster or in a mesh that `up` runs.
    ProxyStatus(ProxyStatus),
    /// Check a cluster before the mesh is installed, and the mesh once it is.
    Check(Check),
    /// Install the mesh in a cluster.
    Install(Install),
    /// Upgrade the mesh of a cluster to this version.
    Upgrade(Upgrade),
    /// Take the mesh out of a cluster.
    Uninstall(Uninstall),
    /// Show versions.
    Version(Version),
    /// Print a completion script for a shell.
    #[command(after_help = "Example:\n  ferromesh completion bash > /etc/bash_completion.d/ferromesh")]
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// A table for people.
    #[default]
    Table,
    /// A table with more columns.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// `ferromesh up`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ferromesh up -f ./mesh\n  ferromesh up -f ./mesh --workloads ./workloads.yaml --gateway-port 8080\n\nObjects without a namespace get the name of the folder they lie in (mesh/demo/app.yaml: demo).\nA workload file says what stands behind the pods; see docs/workloads.md."
)]
pub struct Up {
    /// Folder of YAML.
    #[arg(short = 'f', long = "filename", value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Workload file; default: workloads.yaml in the folder.
    #[arg(long, value_name = "FILE")]
    pub workloads: Option<PathBuf>,
    /// Port on 127.0.0.1 for the first gateway's port 80; 0 is any free one. Default: 8080, or a free one if it is taken.
    #[arg(long, value_name = "PORT")]
    pub gateway_port: Option<u16>,
    /// Worker threads of each proxy.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub concurrency: usize,
    /// Namespace of objects that name none and lie at the top of the folder.
    #[arg(short = 'n', long, default_value = "default")]
    pub namespace: String,
    /// Print the addresses as JSON once the mesh is ready.
    #[arg(long)]
    pub json: bool,
}

/// `ferromesh demo`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ferromesh demo\n  ferromesh demo --keep\n  ferromesh demo --json | jq .checks")]
pub struct Demo {
    /// Leave the mesh running after the checks, until Ctrl-C.
    #[arg(long)]
    pub keep: bool,
    /// Print the results as JSON.
    #[arg(long)]
    pub json: bool,
    /// Requests to send for the canary's share; fewer than 100 would prove nothing.
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub requests: u32,
    /// Run these manifests of the tutorial in place of the built-in ones.
    #[arg(long, value_name = "FOLDER")]
    pub manifests: Option<PathBuf>,
}

/// `ferromesh analyze`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ferromesh analyze -f ./mesh\n  cat route.yaml | ferromesh analyze -n demo -f -")]
pub struct Analyze {
    /// Folder or file of YAML; - is standard input.
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    pub folder: PathBuf,
    /// Namespace of objects that name none and lie at the top of the folder.
    #[arg(short = 'n', long, default_value = "default")]
    pub namespace: String,
    /// How to print.
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: Output,
}

/// `ferromesh inject`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ferromesh inject -f deployment.yaml | kubectl apply -f -\n  kubectl get deployment web -o yaml | ferromesh inject -f - | kubectl apply -f -\n\nWith the settings of the mesh that runs:\n  kubectl get configmap ferromesh-injector -n ferromesh-system -o jsonpath='{.data.settings\\.yaml}' > settings.yaml\n  kubectl get configmap istio -n ferromesh-system -o jsonpath='{.data.mesh}' > mesh.yaml\n  ferromesh inject -f deployment.yaml --injectConfigFile settings.yaml --meshConfigFile mesh.yaml\n\nPods, workloads that make pods, and Lists of them are injected; everything else keeps its text. The labels of the\nnamespace are not known here: only the pod's own labels and annotations keep it from being injected."
)]
pub struct Inject {
    /// File of Kubernetes objects (YAML or JSON); - is standard input.
    #[arg(short = 'f', long, value_name = "FILE")]
    pub filename: PathBuf,
    /// File to write; default: standard output.
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Settings of the injector (settings.yaml of ConfigMap ferromesh-injector); default: those of the chart.
    #[arg(long = "injectConfigFile", alias = "inject-config-file", value_name = "FILE")]
    pub inject_config_file: Option<PathBuf>,
    /// MeshConfig (mesh of ConfigMap istio).
    #[arg(long = "meshConfigFile", alias = "mesh-config-file", value_name = "FILE")]
    pub mesh_config_file: Option<PathBuf>,
    /// Values of Istio's charts, laid over the settings; what has no counterpart here is named.
    #[arg(long = "valuesFile", alias = "values-file", value_name = "FILE")]
    pub values_file: Option<PathBuf>,
    /// Revision of the control plane that the pods are for.
    #[arg(short = 'r', long, value_name = "NAME")]
    pub revision: Option<String>,
    /// Namespace of objects that name none.
    #[arg(short = 'n', long, default_value = "default")]
    pub namespace: String,
}

/// `ferromesh get`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ferromesh get httproutes -n demo\n  ferromesh get gateway istio-gwapi -n demo -o yaml\n  ferromesh get envoyfilters -A"
)]
pub struct Get {
    /// Kind of object: gateways, httproutes, grpcroutes, services, pods, envoyfilters, ...
    pub kind: String,
    /// Name of one object.
    pub name: Option<String>,
    /// Namespace.
    #[arg(short = 'n', long, conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// How to print.
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: Output,
}

/// What of a proxy's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConfigPart {
    /// Listeners.
    Listeners,
    /// Routes.
    Routes,
    /// Clusters.
    Clusters,
    /// Endpoints and their health.
    Endpoints,
    /// Certificates; private keys are never shown.
    Secrets,
    /// The bootstrap.
    Bootstrap,
}

/// `ferromesh config`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ferromesh config myapp-v1 listeners -n demo\n  ferromesh config istio-gwapi-istio routes -n demo -o json\n\nWhere a mesh of `ferromesh up` runs on this machine it is asked, unless --kubeconfig or --context is given. In a\ncluster the proxy is reached through the API server (pods/portforward in its namespace)."
)]
pub struct Config {
    /// Workload: name of a pod, or of its Deployment or Gateway.
    pub workload: String,
    /// Which part.
    #[arg(value_enum)]
    pub part: ConfigPart,
    /// Namespace of the workload; default in a cluster: the context's.
    #[arg(short = 'n', long)]
    pub namespace: Option<String>,
    /// How to print.
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: Output,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `ferromesh proxy-status`
#[derive(Debug, Args)]
#[command(
    visible_alias = "ps",
    after_help = "Examples:\n  ferromesh proxy-status\n  ferromesh proxy-status -n demo -o wide\n\nSYNCED: the proxy has accepted what was sent last. SENT: an answer is awaited. REJECTED: it has refused it, and goes on\nwith what it had; -o wide says why. A proxy that is connected to no controller is not in the list."
)]
pub struct ProxyStatus {
    /// Only proxies of this namespace.
    #[arg(short = 'n', long)]
    pub namespace: Option<String>,
    /// Namespace of the mesh.
    #[arg(long, default_value = crate::cluster::NAMESPACE, value_name = "NAMESPACE")]
    pub mesh_namespace: String,
    /// How to print.
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: Output,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `ferromesh check`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ferromesh check\n  ferromesh check --context staging -o json\n\nWhere the mesh is not installed: whether it can be. Where it is: whether it works. What fails comes with a remedy."
)]
pub struct Check {
    /// Namespace of the mesh.
    #[arg(short = 'n', long, default_value = crate::cluster::NAMESPACE)]
    pub namespace: String,
    /// How to print.
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: Output,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// What the mesh is to be like.
#[derive(Debug, Clone, Default, Args)]
pub struct Wanted {
    /// IstioOperator file (- is standard input); may be repeated, the later one wins. What it says and is not honoured is named.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Values of the chart (docs/values.md), laid over what -f says; may be repeated.
    #[arg(long = "values", value_name = "FILE")]
    pub values: Vec<PathBuf>,
    /// One value of the chart: path.to.it=value; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print the values of the chart that the files of -f come to, and change nothing.
    #[arg(long, conflicts_with_all = ["values", "set"])]
    pub dry_run: bool,
    /// Nothing is asked here; taken for the sake of scripts.
    #[arg(short = 'y', long = "skip-confirmation", hide = true)]
    pub yes: bool,
}

/// Where the mesh is, and for how long one waits.
#[derive(Debug, Clone, Args)]
pub struct Release {
    /// Namespace of the mesh; made if it is not there.
    #[arg(short = 'n', long, default_value = crate::cluster::NAMESPACE)]
    pub namespace: String,
    /// Folder or archive of another chart than the one in this program.
    #[arg(long, value_name = "PATH")]
    pub chart: Option<PathBuf>,
    /// How long to wait until all of it is ready, as Helm takes it.
    #[arg(long, default_value = "5m", value_name = "TIME")]
    pub timeout: String,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `ferromesh install`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ferromesh install --set image.registry=registry.example/ferromesh\n  ferromesh install -f istio-gwapi.yaml\n  ferromesh install -f istio-gwapi.yaml --dry-run\n\nHelm does it (helm in PATH), as release `ferromesh`: helm upgrade, rollback and uninstall work with it, too. Where it is\ninstalled already it becomes as it is asked for here."
)]
pub struct Install {
    /// What the mesh is to be like.
    #[command(flatten)]
    pub wanted: Wanted,
    /// Go on although a check of the cluster fails.
    #[arg(long)]
    pub force: bool,
    /// Where.
    #[command(flatten)]
    pub release: Release,
}

/// `ferromesh upgrade`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ferromesh upgrade\n  ferromesh upgrade -f istio-gwapi.yaml\n\nWithout -f, --values and --set what was asked for before stays, over the defaults of this version. Proxies go on as they\nare until their pods are made anew: kubectl rollout restart deployment -n NAMESPACE."
)]
pub struct Upgrade {
    /// What the mesh is to be like.
    #[command(flatten)]
    pub wanted: Wanted,
    /// Where.
    #[command(flatten)]
    pub release: Release,
}

/// `ferromesh uninstall`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ferromesh uninstall\n  ferromesh uninstall --purge\n\nCRDs, with the objects of their kinds, and the CA's root stay unless --purge is given. Pods keep their proxies until they\nare made anew; those proxies go on with what they have, and their certificates end within a day."
)]
pub struct Uninstall {
    /// The CRDs that were installed (and with them every object of their kinds), the CA's root and the trust bundles go too.
    #[arg(long)]
    pub purge: bool,
    /// Namespace of the mesh.
    #[arg(short = 'n', long, default_value = crate::cluster::NAMESPACE)]
    pub namespace: String,
    /// Nothing is asked here; taken for the sake of scripts.
    #[arg(short = 'y', long = "skip-confirmation", hide = true)]
    pub yes: bool,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `ferromesh version`
#[derive(Debug, Args)]
pub struct Version {
    /// How to print.
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: Output,
}
