//! A mesh in a test cluster: images of this source tree, the chart, and the few commands that all runs give.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::cluster::{Cluster, Options};
use crate::image::build::{self, Plan};
use crate::progress::Progress;
use crate::tools::{self, Tool, Toolbox};

/// For pods to be ready: images are there, the machine may be busy.
const PATIENCE: &str = "--timeout=180s";
/// The release of Gateway API that the tutorial installs.
const GATEWAY_API: &str = "sigs.k8s.io/gateway-api@v1.1.0";
/// Where the chart is installed.
pub const NAMESPACE: &str = "ferromesh-system";

/// How images are built.
#[derive(Debug, Clone)]
pub struct Images {
    /// Cargo's profile.
    pub profile: String,
    /// Cargo's target folder.
    pub target: PathBuf,
}

impl Images {
    /// The mesh's four with a tag, as archives.
    ///
    /// # Errors
    /// If they cannot be built.
    pub fn mesh(&self, tag: &str, progress: &Progress) -> anyhow::Result<Vec<PathBuf>> {
        self.build(&["proxy", "controller", "ca", "injector"], tag, progress)
    }

    /// The node agent.
    ///
    /// # Errors
    /// If it cannot be built.
    pub fn node_agent(&self, tag: &str, progress: &Progress) -> anyhow::Result<Vec<PathBuf>> {
        self.build(&["cni"], tag, progress)
    }

    /// The demo application, with the tag that no tag means.
    ///
    /// # Errors
    /// If it cannot be built.
    pub fn application(&self, progress: &Progress) -> anyhow::Result<Vec<PathBuf>> {
        self.build(&["demo"], "latest", progress)
    }

    fn build(&self, only: &[&str], tag: &str, progress: &Progress) -> anyhow::Result<Vec<PathBuf>> {
        let plan = Plan {
            only: only.iter().map(|name| (*name).to_owned()).collect(),
            profile: self.profile.clone(),
            target: std::path::absolute(&self.target).context("the target folder")?,
            output: crate::tools::cache()?.join("images").join(&self.profile).join(tag),
            tag: tag.to_owned(),
        };
        let built = build::build(&plan, progress)?;
        ensure!(built.len() == only.len(), "{} images of {} were built", built.len(), only.len());
        Ok(built.into_iter().map(|built| built.archive).collect())
    }
}

/// The tag of the images that the chart means.
pub const fn chart_tag() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// A cluster with images in its nodes.
pub struct Mesh {
    /// The cluster.
    pub cluster: Cluster,
    /// Who is told how it goes.
    pub progress: Progress,
}

impl Mesh {
    /// A new cluster; kept under a name, if there is one.
    ///
    /// # Errors
    /// If it does not come up, or refuses an image.
    pub fn up(nodes: u8, keep: Option<&str>, images: &[PathBuf], progress: &Progress) -> anyhow::Result<Self> {
        progress.step(&format!("a cluster, nodes: {nodes}"));
        let mut options = Options::new(nodes);
        options.progress = progress.clone();
        let cluster = match keep {
            Some(name) => {
                options.name = name.to_owned();
                Cluster::up_detached(options)?
            }
            None => Cluster::up(options)?,
        };
        for image in images {
            progress.step(&format!("loading {}", image.display()));
            cluster.load_image(image)?;
        }
        Ok(Self { cluster, progress: progress.clone() })
    }

    /// `helm VERB ferromesh CHART`, with these further arguments; waits until all of it is ready.
    ///
    /// # Errors
    /// With what Helm says, and how the pods are.
    pub fn helm(&self, verb: &str, arguments: &[&str]) -> anyhow::Result<Duration> {
        self.progress.step(&format!("helm {verb}"));
        let mut helm = self.cluster.helm(&self.progress)?;
        helm.args([verb, "ferromesh"]);
        if verb != "rollback" {
            helm.arg(chart());
        }
        helm.args(["--namespace", NAMESPACE, "--wait", "--timeout", "180s"]).args(arguments);
        let begin = Instant::now();
        let out = helm.output().context("helm")?;
        if !out.status.success() {
            bail!("helm {verb}: {}\n{}", String::from_utf8_lossy(&out.stderr).trim(), self.pods());
        }
        Ok(begin.elapsed())
    }

    /// `ferromesh`, of this source tree, for this cluster, with Helm in its path.
    ///
    /// # Errors
    /// If it cannot be built.
    pub fn ferromesh(&self) -> anyhow::Result<Command> {
        let helm = Toolbox::with(&[Tool::Helm], &self.progress)?.program("helm")?;
        let mut path = helm.parent().map(|folder| folder.as_os_str().to_owned()).unwrap_or_default();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = Command::new(command()?);
        command.env("KUBECONFIG", self.cluster.kubeconfig()).env("PATH", path).stdin(Stdio::null());
        // A mesh that `ferromesh up` runs on this machine is another one.
        command.env("XDG_RUNTIME_DIR", self.cluster.kubeconfig().parent().context("the cluster's folder")?);
        Ok(command)
    }

    /// Runs `ferromesh`; gives what it prints, results first.
    ///
    /// # Errors
    /// If it does not end well, with what it says.
    pub fn ferromesh_output(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let out = self.ferromesh()?.args(arguments).output().context("ferromesh")?;
        let said = String::from_utf8_lossy(&out.stderr);
        let printed = String::from_utf8_lossy(&out.stdout);
        ensure!(out.status.success(), "ferromesh {}: {printed}{}\n{}", arguments.join(" "), said.trim(), self.pods());
        Ok(format!("{printed}{said}"))
    }

    /// Gateway API's CRDs.
    ///
    /// # Errors
    /// If Go does not have them.
    pub fn gateway_api(&self) -> anyhow::Result<()> {
        let folder = tools::module_folder(GATEWAY_API)?.join("config/crd/standard");
        self.kubectl(&["apply", "--server-side", "-f", &folder.display().to_string()]).map(drop)
    }

    /// `kubectl`; what it prints.
    ///
    /// # Errors
    /// If it fails, with what it says.
    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.cluster.kubectl_output(arguments)
    }

    /// Applies; gives the warnings of the API server.
    ///
    /// # Errors
    /// If it is refused.
    pub fn apply_in(&self, namespace: &str, yaml: &str) -> anyhow::Result<String> {
        use std::io::Write;
        let mut command = self.cluster.kubectl()?;
        command.args(["apply", "--server-side", "--force-conflicts", "-n", namespace, "-f", "-"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("standard input")?.write_all(yaml.as_bytes())?;
        let out = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        ensure!(out.status.success(), "kubectl apply: {said}");
        Ok(said)
    }

    /// Waits for a Deployment's rollout.
    ///
    /// # Errors
    /// If it does not end.
    pub fn rollout(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        let done = self.kubectl(&["rollout", "status", "-n", namespace, PATIENCE, &format!("deployment/{name}")]);
        done.map(drop).with_context(|| self.pods())
    }

    /// All pods as they are, for messages.
    pub fn pods(&self) -> String {
        self.kubectl(&["get", "pods", "-A", "-o", "wide"]).unwrap_or_default()
    }

    /// `curl -s`, from outside the nodes; what it prints, also where it fails.
    ///
    /// # Errors
    /// If there is no curl.
    pub fn curl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let out = self.cluster.exec(None, "curl")?.args(["-s", "-m", "30"]).args(arguments).output().context("curl")?;
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Asks again until there is something; `None` after half a minute.
    ///
    /// # Errors
    /// The question's own.
    pub fn until<T>(&self, ask: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<Option<T>> {
        self.until_within(Duration::from_secs(30), ask)
    }

    /// Asks again until there is something; `None` after `patience`.
    ///
    /// # Errors
    /// The question's own.
    pub fn until_within<T>(
        &self,
        patience: Duration,
        mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<Option<T>> {
        let end = Instant::now() + patience;
        loop {
            if let Some(found) = ask()? {
                return Ok(Some(found));
            }
            if Instant::now() > end {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// The program `ferromesh`, built as developers do.
fn command() -> anyhow::Result<PathBuf> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(program) = BUILT.get() {
        return Ok(program.clone());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--locked", "-p", "ferromesh-cli", "--message-format=json-render-diagnostics"]);
    let out = build.current_dir(root()).stderr(Stdio::inherit()).output().context("running cargo")?;
    ensure!(out.status.success(), "ferromesh cannot be built: cargo ended with {}", out.status);
    let artifacts = String::from_utf8_lossy(&out.stdout);
    let artifacts = artifacts.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let programs = artifacts.filter_map(|one| one["executable"].as_str().map(PathBuf::from));
    let program = programs.into_iter().find(|path| path.file_name().is_some_and(|name| name == "ferromesh"));
    let program = program.context("cargo built no program ferromesh")?;
    Ok(BUILT.get_or_init(|| program).clone())
}

/// The chart's folder.
pub fn chart() -> PathBuf {
    root().join("charts/ferromesh")
}

/// The workspace's folder.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
