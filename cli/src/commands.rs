//! One file a command; each says how it ended.

use crate::Exit;
use crate::args::{Cli, Command};
use crate::cluster::ClusterArgs;
use crate::failure::Failure;
use crate::up::state::MeshState;

pub mod analyze;
pub mod check;
pub mod config;
pub mod get;
pub mod inject;
pub mod install;
pub mod proxy_status;
pub mod up;
pub mod version;

/// The mesh that `up` runs on this machine, if one does and no cluster was asked for. Without a cluster either, that is
/// the error.
fn local_mesh(cluster: &ClusterArgs) -> Result<Option<MeshState>, Failure> {
    if cluster.is_given() {
        return Ok(None);
    }
    match MeshState::read() {
        Ok(state) => Ok(Some(state)),
        // What kubectl would use: a file that is named, or the usual one, or a pod's own credentials.
        Err(_) if has_kubeconfig() => Ok(None),
        Err(error) => Err(Failure::unreachable(error.context("no cluster (KUBECONFIG, --kubeconfig)"))),
    }
}

fn has_kubeconfig() -> bool {
    let usual = || std::env::var_os("HOME").map(|home| std::path::Path::new(&home).join(".kube/config"));
    std::env::var_os("KUBECONFIG").is_some_and(|value| !value.is_empty())
        || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
        || usual().is_some_and(|file| file.is_file())
}

/// A namespace that cannot be one is a slip of the keyboard, not an empty result.
fn check_namespace(namespace: Option<&str>) -> Result<(), Failure> {
    let is_one = |name: &str| {
        let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&name.len()) && name.bytes().all(inside) && !name.starts_with('-') && !name.ends_with('-')
    };
    match namespace.filter(|name| !is_one(name)) {
        Some(name) => Err(Failure::usage(anyhow::anyhow!(
            "{name:?} cannot be a namespace: lower-case letters, digits and hyphens, at most 63 (RFC 1123)"
        ))),
        None => Ok(()),
    }
}

/// Runs a command.
///
/// # Errors
/// If it could not do its work.
pub async fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Up(args) => up::run(&args).await,
        Command::Demo(args) => crate::demo::run(&args).await,
        Command::Analyze(args) => analyze::run(&args).await,
        Command::Inject(args) => inject::run(&args),
        Command::Get(args) => get::run(&args).await,
        Command::Config(args) => config::run(&args).await,
        Command::ProxyStatus(args) => proxy_status::run(&args).await,
        Command::Check(args) => check::run(&args).await,
        Command::Install(args) => install::install(&args).await,
        Command::Upgrade(args) => install::upgrade(&args).await,
        Command::Uninstall(args) => install::uninstall(&args).await,
        Command::Version(args) => version::run(&args),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut <Cli as clap::CommandFactory>::command(), "ferromesh", &mut script);
            crate::output::print(&String::from_utf8_lossy(&script));
            Ok(Exit::Ok)
        }
    }
}
