//! What is restarted, and who asks: a server of two pods, a client in the mesh, a Gateway of two pods.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::processes::of_pod;
use crate::load::{Aim, Load, Protocol};
use crate::mesh::Mesh;

/// Where it plays.
pub(crate) const NAMESPACE: &str = "restarts";
/// What the server, the client and the Gateway are made of.
const MANIFESTS: &str = include_str!("scene.yaml");
/// Between two requests of a connection.
const PAUSE: Duration = Duration::from_millis(10);
/// For a number of requests to be made, however slow the machine is.
const PATIENCE: Duration = Duration::from_secs(900);

/// The mesh with what is restarted in it.
pub(crate) struct Scene {
    /// The mesh.
    pub mesh: Mesh,
    /// The server's Service.
    service: SocketAddr,
    /// The Gateway, from outside.
    gateway: SocketAddr,
    /// A process in the client's pod.
    client: i32,
}

impl Scene {
    /// Installs the mesh, and sets the scene.
    pub(super) fn set(mesh: Mesh) -> anyhow::Result<Self> {
        mesh.helm("install", &["--create-namespace"])?;
        mesh.gateway_api()?;
        mesh.kubectl(&["create", "namespace", NAMESPACE])?;
        mesh.kubectl(&["label", "namespace", NAMESPACE, "istio-injection=enabled"])?;
        mesh.apply_in(NAMESPACE, MANIFESTS)?;
        for name in ["server", "client", "bystander"] {
            mesh.rollout(NAMESPACE, name)?;
        }
        let wait = ["wait", "-n", NAMESPACE, "--for=condition=Programmed", "--timeout=120s", "gateway/edge"];
        mesh.kubectl(&wait)?;
        // The number of its pods is the operator's: the controller does not take it back.
        mesh.kubectl(&["scale", "-n", NAMESPACE, "deployment/edge-istio", "--replicas=2"])?;
        mesh.rollout(NAMESPACE, "edge-istio")?;
        let of = |kind: &str, name: &str, path: &str| -> anyhow::Result<SocketAddr> {
            let text = mesh.kubectl(&["get", kind, "-n", NAMESPACE, name, "-o", &format!("jsonpath={path}")])?;
            let address: IpAddr = text.parse().with_context(|| format!("{kind} {name} has no address: {text:?}"))?;
            Ok(SocketAddr::new(address, 80))
        };
        let service = of("service", "server", "{.spec.clusterIP}")?;
        let gateway = of("gateway", "edge", "{.status.addresses[0].value}")?;
        let client = pod_of(&mesh, "client")?;
        let client = of_pod(mesh.cluster.name(), &client)?;
        let scene = Self { mesh, service, gateway, client };
        scene.settle()?;
        Ok(scene)
    }

    /// The load: from the client's pod through both sidecars, from outside through the Gateway.
    pub(super) fn aims(&self) -> anyhow::Result<Vec<Aim>> {
        let hub = self.mesh.cluster.process(None)?;
        let aim = |name, process, address, host: &str, protocol, connections| Aim {
            name,
            process,
            address,
            host: host.to_owned(),
            path: "/".into(),
            protocol,
            connections,
            pause: PAUSE,
        };
        let (service, gateway) = (self.service, self.gateway);
        Ok(vec![
            aim("mesh", self.client, service, "server", Protocol::Http1, 3),
            aim("mesh, a connection each", self.client, service, "server", Protocol::Http1Anew, 1),
            aim("gateway", hub, gateway, "server.test", Protocol::Http1, 2),
            aim("gateway, a connection each", hub, gateway, "server.test", Protocol::Http1Anew, 1),
            aim("gateway, HTTP/2", hub, gateway, "server.test", Protocol::Http2, 1),
        ])
    }

    /// Waits until every part of the load gets answers.
    pub(super) fn settle(&self) -> anyhow::Result<()> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let load = Load::start(self.aims()?)?;
            self.progressed(&load, 40)?;
            let seen = load.end();
            if seen.iter().all(|load| load.failed == 0) {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("before anything is restarted, requests fail: {seen:?}\n{}", self.mesh.pods());
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Waits until there were so many requests.
    pub(super) fn progressed(&self, load: &Load, requests: u64) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        while load.requests() < requests {
            ensure!(Instant::now() < end, "{} of {requests} requests in {PATIENCE:?}", load.requests());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// The Gateway's address, from outside.
    pub(super) fn gateway(&self) -> SocketAddr {
        self.gateway
    }

    /// The name of the one pod of an application.
    pub(super) fn pod(&self, app: &str) -> anyhow::Result<String> {
        pod_of(&self.mesh, app)
    }
}

fn pod_of(mesh: &Mesh, app: &str) -> anyhow::Result<String> {
    let path = "jsonpath={.items[*].metadata.name}";
    let selector = format!("app={app}");
    let arguments =
        ["get", "pods", "-n", NAMESPACE, "-l", &selector, "--field-selector=status.phase=Running", "-o", path];
    let names = mesh.kubectl(&arguments)?;
    names.split_whitespace().next().map(str::to_owned).with_context(|| format!("no pod of {app} runs"))
}
