//! Steps on the cluster: what is applied, and what is waited for.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::{Manifests, Run};

/// For the Gateway to be programmed.
const PATIENCE: &str = "--timeout=180s";

impl Run {
    pub(super) fn install(&mut self, manifests: &Manifests) -> anyhow::Result<()> {
        self.mesh.gateway_api()?;
        // It may have to be built; that is not what is measured.
        self.mesh.ferromesh()?;
        let (file, begin) = (manifests.operator.display().to_string(), Instant::now());
        let said = self.mesh.ferromesh_output(&["install", "-y", "-f", &file])?;
        let ignored: Vec<&str> = said.lines().filter(|line| line.contains("has no effect")).collect();
        let seen = format!(
            "control plane and gateway ready after {:.0} s, fields without effect: {}",
            begin.elapsed().as_secs_f64(),
            ignored.len()
        );
        self.row("ferromesh install, with the tutorial's IstioOperator file", ignored.is_empty(), seen);
        let path = "jsonpath={.spec.type}";
        let kind = self.mesh.kubectl(&["get", "service", "-n", "istio-system", "istio-ingressgateway", "-o", path])?;
        self.row("its istio-ingressgateway is a NodePort", kind == "NodePort", kind);
        Ok(())
    }

    pub(super) fn applications(&mut self, manifests: &Manifests) -> anyhow::Result<()> {
        self.mesh.kubectl(&["create", "namespace", "demo"])?;
        self.mesh.kubectl(&["label", "namespace", "demo", "istio-injection=enabled"])?;
        self.mesh.apply_in("demo", &manifests.applications)?;
        for name in ["myapp-v1", "myapp-v2", "otherapp"] {
            self.mesh.rollout("demo", name)?;
        }
        let path = r"jsonpath={range .items[*]}{.metadata.name}:{range .status.containerStatuses[*]}{.ready},{end}{range .status.initContainerStatuses[*]}{.name}={.ready},{end}{'\n'}{end}";
        let pods = self.mesh.kubectl(&["get", "pods", "-n", "demo", "-o", path])?;
        let good = pods.lines().filter(|line| line.contains("true") && line.contains("istio-proxy=true")).count();
        self.row("every pod has its application and its proxy ready", good == 3, format!("{good} of 3 pods, 2/2"));
        Ok(())
    }

    pub(super) fn gateway(&mut self, manifests: &Manifests) -> anyhow::Result<()> {
        self.mesh.apply_in("demo", &manifests.gateway)?;
        self.mesh.apply_in("demo", &manifests.routes)?;
        self.mesh.kubectl(&["wait", "-n", "demo", "--for=condition=Programmed", PATIENCE, "gateway/istio-gwapi"])?;
        self.mesh.rollout("demo", "istio-gwapi-istio")?;
        let address = self.mesh.kubectl(&[
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
        let routes = self.mesh.kubectl(&["get", "httproute", "-n", "demo", "-o", accepted])?;
        let good = routes.matches("Accepted=True").count() == 2 && routes.matches("ResolvedRefs=True").count() == 2;
        self.row("both routes are accepted", good, routes.trim());
        self.answers("/")?;
        Ok(())
    }

    /// `http://<node>:<NodePort>`, as somebody outside the cluster reaches the Gateway.
    pub(super) fn url(&self) -> anyhow::Result<String> {
        let path = "jsonpath={.spec.ports[?(@.port==80)].nodePort}";
        let port = self.mesh.kubectl(&["get", "service", "-n", "demo", "istio-gwapi-istio", "-o", path])?;
        ensure!(!port.is_empty(), "service istio-gwapi-istio has no NodePort for port 80");
        Ok(format!("http://{}:{port}", self.mesh.cluster.node_address(1)))
    }

    /// Waits until `path` is answered with 200.
    fn answers(&self, path: &str) -> anyhow::Result<()> {
        let url = self.url()? + path;
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let code = self.mesh.curl(&["-o", "/dev/null", "-w", "%{http_code}", &url])?;
            if code == "200" {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{url} answers {code}\n{}", self.mesh.pods());
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}
