//! Steps on the cluster: what is applied, and what is waited for.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::{Manifests, Run, root};

/// For pods to be ready: images are there, the machine may be busy.
const PATIENCE: &str = "--timeout=180s";
/// The release of Gateway API that the tutorial installs.
const GATEWAY_API: &str = "sigs.k8s.io/gateway-api@v1.1.0";

impl Run {
    pub(super) fn install(&mut self, _: &Manifests) -> anyhow::Result<()> {
        self.progress.step("helm install");
        let chart = root().join("charts/ferromesh");
        let mut helm = self.cluster.helm(&self.progress)?;
        helm.args(["install", "ferromesh"]).arg(&chart);
        helm.args(["--namespace", "ferromesh-system", "--create-namespace", "--wait", "--timeout", "180s", "--values"]);
        helm.arg(chart.join("ci/tutorial-values.yaml"));
        let begin = Instant::now();
        let out = helm.output().context("helm")?;
        let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        if !out.status.success() {
            bail!("helm install: {said}\n{}", self.pods());
        }
        let seen = format!("control plane and gateway ready after {:.0} s", begin.elapsed().as_secs_f64());
        self.row("helm install", true, seen);
        let crds = gateway_api_crds()?;
        self.kubectl(&["apply", "--server-side", "-f", &crds])?;
        Ok(())
    }

    pub(super) fn applications(&mut self, manifests: &Manifests) -> anyhow::Result<()> {
        self.kubectl(&["create", "namespace", "demo"])?;
        self.kubectl(&["label", "namespace", "demo", "istio-injection=enabled"])?;
        self.apply_in("demo", &manifests.applications)?;
        for name in ["myapp-v1", "myapp-v2", "otherapp"] {
            self.rollout("demo", name)?;
        }
        let path = r"jsonpath={range .items[*]}{.metadata.name}:{range .status.containerStatuses[*]}{.ready},{end}{range .status.initContainerStatuses[*]}{.name}={.ready},{end}{'\n'}{end}";
        let pods = self.kubectl(&["get", "pods", "-n", "demo", "-o", path])?;
        let good = pods.lines().filter(|line| line.contains("true") && line.contains("istio-proxy=true")).count();
        self.row("every pod has its application and its proxy ready", good == 3, format!("{good} of 3 pods, 2/2"));
        Ok(())
    }

    pub(super) fn gateway(&mut self, manifests: &Manifests) -> anyhow::Result<()> {
        self.apply_in("demo", &manifests.gateway)?;
        self.apply_in("demo", &manifests.routes)?;
        self.kubectl(&["wait", "-n", "demo", "--for=condition=Programmed", PATIENCE, "gateway/istio-gwapi"])?;
        self.rollout("demo", "istio-gwapi-istio")?;
        let address = self.kubectl(&[
            "get",
            "gateway",
            "-n",
            "demo",
            "istio-gwapi",
            "-o",
            "jsonpath={.status.addresses[0].value}",
        ])?;
        self.row("the Gateway is programmed, with an address", !address.is_empty(), address);
        let accepted =
            r"jsonpath={range .items[*]}{range .status.parents[*].conditions[*]}{.type}={.status} {end}{end}";
        let routes = self.kubectl(&["get", "httproute", "-n", "demo", "-o", accepted])?;
        let good = routes.matches("Accepted=True").count() == 2 && routes.matches("ResolvedRefs=True").count() == 2;
        self.row("both routes are accepted", good, routes.trim());
        self.answers("/")?;
        Ok(())
    }

    /// `http://<node>:<NodePort>`, as somebody outside the cluster reaches the Gateway.
    pub(super) fn url(&self) -> anyhow::Result<String> {
        let path = "jsonpath={.spec.ports[?(@.port==80)].nodePort}";
        let port = self.kubectl(&["get", "service", "-n", "demo", "istio-gwapi-istio", "-o", path])?;
        ensure!(!port.is_empty(), "service istio-gwapi-istio has no NodePort for port 80");
        Ok(format!("http://{}:{port}", self.cluster.node_address(1)))
    }

    /// Waits until `path` is answered with 200.
    fn answers(&self, path: &str) -> anyhow::Result<()> {
        let url = self.url()? + path;
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let code = self.curl(&["-o", "/dev/null", "-w", "%{http_code}", &url])?;
            if code == "200" {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{url} answers {code}\n{}", self.pods());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// `curl -s`, from outside the nodes; what it prints, also where it fails.
    pub(super) fn curl(&self, args: &[&str]) -> anyhow::Result<String> {
        let out = self.cluster.exec(None, "curl")?.args(["-s", "-m", "30"]).args(args).output().context("curl")?;
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    pub(super) fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        self.cluster.kubectl_output(args)
    }

    /// Applies; gives the warnings of the API server.
    pub(super) fn apply_in(&self, namespace: &str, yaml: &str) -> anyhow::Result<String> {
        use std::io::Write;
        let mut command: Command = self.cluster.kubectl()?;
        command.args(["apply", "--server-side", "--force-conflicts", "-n", namespace, "-f", "-"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("standard input")?.write_all(yaml.as_bytes())?;
        let out = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        ensure!(out.status.success(), "kubectl apply: {said}");
        Ok(said)
    }

    pub(super) fn rollout(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        let deployment = format!("deployment/{name}");
        let done = self.kubectl(&["rollout", "status", "-n", namespace, PATIENCE, &deployment]);
        done.map(drop).with_context(|| self.pods())
    }

    /// All pods as they are, for messages.
    fn pods(&self) -> String {
        self.kubectl(&["get", "pods", "-A"]).unwrap_or_default()
    }
}

/// The folder of the CRDs, in Go's cache of modules.
fn gateway_api_crds() -> anyhow::Result<String> {
    let out = Command::new("go").args(["mod", "download", "-json", GATEWAY_API]).output().context("go")?;
    let told: serde_json::Value = serde_json::from_slice(&out.stdout).context("go mod download")?;
    let folder = told["Dir"].as_str().with_context(|| format!("{GATEWAY_API}: {}", told["Error"]))?;
    Ok(format!("{folder}/config/crd/standard"))
}
