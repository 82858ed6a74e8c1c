//! `ferromesh install`, `upgrade` and `uninstall`: the chart that this program holds, by Helm.

use std::path::PathBuf;

use anyhow::{Context, bail};
use serde_json::{Map, Value};
use tokio::process::Command;

use crate::args::{Install, Release, Uninstall, Upgrade, Wanted};
use crate::check::{self, Level};
use crate::cluster::ClusterArgs;
use crate::failure::Failure;
use crate::install::{chart, helm, operator};
use crate::{Exit, output};

mod purge;

/// Helm's name of it.
const RELEASE: &str = "ferromesh";

/// Installs, or makes what is installed as it is asked for.
///
/// # Errors
/// If a file cannot be used, or the cluster cannot be reached.
pub async fn install(args: &Install) -> Result<Exit, Failure> {
    super::check_namespace(Some(&args.release.namespace))?;
    let values = values(&args.wanted).map_err(Failure::usage)?;
    if args.wanted.dry_run {
        return show(&values);
    }
    if !args.force {
        let cluster = args.release.cluster.connect().await.map_err(Failure::unreachable)?;
        let checks = check::before(&cluster, &args.release.namespace).await.map_err(Failure::unreachable)?;
        let bad: Vec<_> = checks.into_iter().filter(|check| check.level != Level::Good).collect();
        if !bad.is_empty() {
            output::note(super::check::shown(&bad).trim_end());
        }
        if bad.iter().any(|check| check.level == Level::Error) {
            output::note("Nothing was installed; --force goes on all the same.");
            return Ok(Exit::Failed);
        }
    }
    let ran = release(&args.wanted, &args.release, &values, &["--install", "--create-namespace", "--reset-values"]);
    done(ran.await, "installed", &args.release.namespace)
}

/// Upgrades what is installed.
///
/// # Errors
/// The same.
pub async fn upgrade(args: &Upgrade) -> Result<Exit, Failure> {
    super::check_namespace(Some(&args.release.namespace))?;
    let values = values(&args.wanted).map_err(Failure::usage)?;
    if args.wanted.dry_run {
        return show(&values);
    }
    let wanted = &args.wanted;
    let same = wanted.files.is_empty() && wanted.values.is_empty() && wanted.set.is_empty();
    let kept = if same { "--reset-then-reuse-values" } else { "--reset-values" };
    done(release(wanted, &args.release, &values, &[kept]).await, "upgraded", &args.release.namespace)
}

/// Takes the mesh out.
///
/// # Errors
/// If the cluster cannot be reached.
pub async fn uninstall(args: &Uninstall) -> Result<Exit, Failure> {
    super::check_namespace(Some(&args.namespace))?;
    let mut command = helm_command(&args.cluster, &args.namespace).map_err(Failure::usage)?;
    command.args(["uninstall", RELEASE, "--ignore-not-found", "--wait"]);
    if let Err(error) = run(command).await {
        output::note(&format!("error: {error:#}"));
        return Ok(Exit::Failed);
    }
    let cluster = args.cluster.connect().await.map_err(Failure::unreachable)?;
    if args.purge {
        for gone in purge::purge(&cluster, &args.namespace).await.map_err(Failure::unreachable)? {
            output::note(&format!("deleted {gone}"));
        }
    } else {
        output::note("The CRDs, the CA's root and the trust bundles are still there; --purge deletes them.");
    }
    let left = purge::meshed(&cluster).await.map_err(Failure::unreachable)?;
    if !left.is_empty() {
        output::note(&format!(
            "Pods keep their proxies until they are made anew, in: {}\n  kubectl rollout restart deployment -n NAMESPACE",
            left.join(", ")
        ));
    }
    output::line(&format!("Ferromesh is out of namespace {}.", args.namespace));
    Ok(Exit::Ok)
}

/// The values of the chart that the IstioOperator files come to; what has no effect is said.
fn values(wanted: &Wanted) -> anyhow::Result<Map<String, Value>> {
    if wanted.files.is_empty() {
        return Ok(Map::new());
    }
    let texts = wanted.files.iter().map(|file| super::inject::read(file)).collect::<anyhow::Result<Vec<_>>>()?;
    let names: Vec<String> = wanted.files.iter().map(|file| file.display().to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let read = operator::read(&texts).with_context(|| names.join(", "))?;
    for (path, reason) in &read.ignored {
        let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        output::note(&format!("warning: {path} has no effect here{reason}"));
    }
    Ok(read.values)
}

fn show(values: &Map<String, Value>) -> Result<Exit, Failure> {
    output::value(crate::args::Output::Yaml, &Value::Object(values.clone()), |_| String::new())
        .map_err(Failure::usage)?;
    Ok(Exit::Ok)
}

/// `helm upgrade`, with everything that was asked for.
async fn release(wanted: &Wanted, release: &Release, values: &Map<String, Value>, how: &[&str]) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("a folder for the chart")?;
    let own = folder.path().join("ferromesh");
    let chart = match &release.chart {
        Some(path) => path.clone(),
        None => {
            chart::write(&own)?;
            own
        }
    };
    let file = folder.path().join("values.json");
    std::fs::write(&file, serde_json::to_vec(values)?).with_context(|| format!("writing {}", file.display()))?;
    let mut command = helm_command(&release.cluster, &release.namespace)?;
    command.arg("upgrade").arg(RELEASE).arg(chart).args(how);
    command.args(["--wait", "--timeout", &release.timeout]);
    if !values.is_empty() {
        command.arg("--values").arg(&file);
    }
    for path in &wanted.values {
        command.arg("--values").arg(path);
    }
    for set in &wanted.set {
        command.arg("--set").arg(set);
    }
    run(command).await
}

fn helm_command(cluster: &ClusterArgs, namespace: &str) -> anyhow::Result<Command> {
    let helm: PathBuf =
        helm().context("helm is not in PATH; install Helm 3.14 or later: https://helm.sh/docs/intro/install")?;
    let mut command = Command::new(helm);
    if let Some(file) = &cluster.kubeconfig {
        command.arg("--kubeconfig").arg(file);
    }
    if let Some(context) = &cluster.context {
        command.arg("--kube-context").arg(context);
    }
    command.arg("--namespace").arg(namespace);
    Ok(command)
}

/// Runs Helm; what it says is shown where it fails.
async fn run(mut command: Command) -> anyhow::Result<()> {
    command.kill_on_drop(true).stdin(std::process::Stdio::null());
    let out = command.output().await.context("running helm")?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
    bail!("helm: {}", if said.is_empty() { out.status.to_string() } else { said })
}

fn done(ran: anyhow::Result<()>, what: &str, namespace: &str) -> Result<Exit, Failure> {
    match ran {
        Ok(()) => {
            output::line(&format!("Ferromesh {} is {what} in namespace {namespace}.", env!("CARGO_PKG_VERSION")));
            output::note(
                "Let a namespace join: kubectl label namespace NAME istio-injection=enabled\nSee that all is well: ferromesh check",
            );
            Ok(Exit::Ok)
        }
        Err(error) => {
            output::note(&format!("error: {error:#}"));
            output::note(&format!("See why: ferromesh check -n {namespace}"));
            Ok(Exit::Failed)
        }
    }
}
