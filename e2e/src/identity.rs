//! Identities on a real Kubernetes: who is served, by which name, who gets which certificate, what stands on the wire, and
//! renewal under load.
//!
//! ```text
//! images -> cluster (one node) -> helm install -> pods: client, server (short certificates), plain (no proxy)
//!   -> PERMISSIVE, STRICT -> names (DNS is captured in the client) -> tokens at the CA, each from a pod's address -> packets of the server's link -> renewals under load
//! ```

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::cluster::layout::DNS_SERVICE;
use crate::cluster::network;
use crate::load::{Aim, Load, Protocol};
use crate::mesh::{Images, Mesh, chart_tag};
use crate::progress::Progress;
use crate::restarts::of_pod;
use crate::rows::Row;

mod capture;
mod certify;
pub(crate) mod http;
mod names;
mod token_checks;

/// Where it plays.
const NAMESPACE: &str = "identity";
const MANIFESTS: &str = include_str!("identity/pods.yaml");
const STRICT: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default}\nspec: {mtls: {mode: STRICT}}\n";
/// In the path of every request of the captured load; no packet between meshed pods may hold it.
const MARK: &str = "seen-in-plaintext";
/// How long certificates are renewed under load. They live for 20 s (`pods.yaml`), and are renewed at half of it.
const RENEWING: Duration = Duration::from_secs(50);
/// Certificates that a proxy must have had in that time, at least.
const RENEWED: usize = 4;
const APPLICATION: u16 = 5678;

/// How it is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How images are built.
    pub images: Images,
    /// Keep the cluster, under this name.
    pub keep: Option<String>,
}

/// Does it.
///
/// # Errors
/// If something fails that all need.
pub fn run(settings: &Settings, progress: &Progress) -> anyhow::Result<Vec<Row>> {
    let mut images = settings.images.mesh(chart_tag(), progress)?;
    images.extend(settings.images.application(progress)?);
    let mesh = Mesh::up(1, settings.keep.as_deref(), &images, progress)?;
    mesh.helm("install", &["--create-namespace"])?;
    mesh.kubectl(&["create", "namespace", NAMESPACE])?;
    mesh.kubectl(&["label", "namespace", NAMESPACE, "istio-injection=enabled"])?;
    mesh.apply_in(NAMESPACE, MANIFESTS)?;
    mesh.kubectl(&["wait", "-n", NAMESPACE, "--for=condition=Ready", "pod", "--all", "--timeout=180s"])?;
    let pod = |name| Pod::of(&mesh, name);
    let (client, server, plain) = (pod("client")?, pod("server")?, pod("plain")?);
    let mut run = Run { mesh, client, server, plain, rows: Vec::new() };
    run.modes()?;
    run.names()?;
    run.tokens()?;
    run.wire()?;
    run.renewal()?;
    Ok(run.rows)
}

/// A pod, and a process in it.
#[derive(Debug, Clone)]
struct Pod {
    name: &'static str,
    address: IpAddr,
    process: i32,
}

impl Pod {
    fn of(mesh: &Mesh, name: &'static str) -> anyhow::Result<Self> {
        let address = mesh.kubectl(&["get", "pod", "-n", NAMESPACE, name, "-o", "jsonpath={.status.podIP}"])?;
        let address = address.parse().with_context(|| format!("pod {name} has no address"))?;
        Ok(Self { name, address, process: of_pod(mesh.cluster.name(), name)? })
    }

    /// What a GET from this pod's network is answered with: the status, or why there is none.
    fn get(&self, address: (IpAddr, u16), host: &str, path: &str) -> anyhow::Result<String> {
        network::inside(self.process, || http::status(address.into(), host, path))
    }
}

/// A run in progress.
struct Run {
    mesh: Mesh,
    client: Pod,
    server: Pod,
    plain: Pod,
    rows: Vec<Row>,
}

impl Run {
    fn row(&mut self, what: impl Into<String>, holds: bool, seen: impl Into<String>) {
        let (what, seen) = (what.into(), seen.into());
        self.mesh.progress.step(&format!("{} {what}: {seen}", if holds { "ok " } else { "NO " }));
        self.rows.push(Row { what, holds, seen });
    }

    /// The address of the server's Service.
    fn service(&self) -> anyhow::Result<(IpAddr, u16)> {
        let address =
            self.mesh.kubectl(&["get", "service", "-n", NAMESPACE, "server", "-o", "jsonpath={.spec.clusterIP}"])?;
        Ok((address.parse().context("the service has no address")?, 80))
    }

    fn modes(&mut self) -> anyhow::Result<()> {
        let (service, direct) = (self.service()?, (self.server.address, APPLICATION));
        let from_plain = self.plain.get(direct, "server", "/")?;
        self.row("PERMISSIVE: a pod without a sidecar is served", from_plain == "200", from_plain);
        self.mesh.apply_in(NAMESPACE, STRICT)?;
        let refused =
            self.mesh.until(|| Ok(Some(self.plain.get(direct, "server", "/")?).filter(|seen| seen != "200")))?;
        let holds = refused.as_ref().is_some_and(|seen| seen.parse::<u16>().is_err());
        self.row("STRICT: it is refused", holds, refused.unwrap_or_else(|| "200, for half a minute".into()));
        let meshed = self.client.get(service, "server", "/")?;
        self.row("STRICT: a pod with a sidecar is served", meshed == "200", meshed);
        Ok(())
    }

    /// A short name that only the DNS proxy of the client's pod knows, and one that only the cluster's DNS knows.
    fn names(&mut self) -> anyhow::Result<()> {
        let dns = (IpAddr::from(DNS_SERVICE), 53).into();
        let look_up = |pod: &Pod, name: &str| network::inside(pod.process, || names::look_up(dns, name));
        let (service, short) = (self.service()?.0.to_string(), format!("server.{NAMESPACE}"));
        let seen = self.mesh.until(|| Ok(Some(look_up(&self.client, &short)?).filter(|seen| *seen == service)))?;
        let text = seen.clone().unwrap_or(look_up(&self.client, &short)?);
        self.row("DNS capture: the proxy answers a name of the mesh in its short form", seen.is_some(), text);
        let without = look_up(&self.plain, &short)?;
        self.row(
            "a pod without a sidecar asks the cluster's DNS, which does not know that form",
            without != service,
            without,
        );
        // By address, the name of which is no Service's; the proxy asks the cluster's DNS for it.
        let pod = self.server.address.to_string();
        let foreign = format!("{}.{NAMESPACE}.pod.cluster.local", pod.replace('.', "-"));
        let seen = look_up(&self.client, &foreign)?;
        self.row("DNS capture: another name is asked of the pod's name server", seen == pod, seen);
        Ok(())
    }

    /// Packets of the server's link, while the client asks it (and the pod without a sidecar does, without success).
    fn wire(&mut self) -> anyhow::Result<()> {
        let (service, direct) = (self.service()?, (self.server.address, APPLICATION));
        let path = format!("/{MARK}");
        let capture = capture::Capture::start(self.server.process)?;
        let load = Load::start(vec![self.aim("mesh", service, &path, 4)])?;
        let end = Instant::now() + Duration::from_secs(60);
        while load.requests() < 500 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        let outcome = load.end().remove(0);
        let refused = self.plain.get(direct, "server", &path)?;
        let seen = capture.end()?;
        let pods = (self.client.address, self.server.address);
        let told = seen.between(pods.0, pods.1, MARK.as_bytes());
        let requests = format!("{} requests, {} failed", outcome.requests, outcome.failed);
        let holds = outcome.failed == 0 && told.connections > 0 && told.bytes > 0 && told.other == 0 && told.marks == 0;
        let text = format!(
            "{requests}; {} connections, {} packets, {} bytes, all TLS records but {}; the path is in {} packets",
            told.connections, told.packets, told.bytes, told.other, told.marks
        );
        self.row("between meshed pods only TLS is on the link", holds, text);
        // A capture that could not see plaintext would prove nothing.
        let control = seen.between(self.plain.address, self.server.address, MARK.as_bytes());
        let text = format!("answer {refused:?}; its path is in {} packets", control.marks);
        self.row("the same capture sees plaintext where there is some", control.marks > 0, text);
        Ok(())
    }

    fn aim(&self, name: &'static str, address: (IpAddr, u16), path: &str, connections: usize) -> Aim {
        Aim {
            name,
            process: self.client.process,
            address: address.into(),
            host: "server".into(),
            path: path.to_owned(),
            protocol: if name == "anew" { Protocol::Http1Anew } else { Protocol::Http1 },
            connections,
            pause: Duration::from_millis(5),
        }
    }

    fn renewal(&mut self) -> anyhow::Result<()> {
        let service = self.service()?;
        let load = Load::start(vec![self.aim("kept", service, "/", 3), self.aim("anew", service, "/", 2)])?;
        let (begin, mut serials) = (Instant::now(), [Vec::new(), Vec::new()]);
        while begin.elapsed() < RENEWING {
            for (pod, serials) in [&self.client, &self.server].into_iter().zip(&mut serials) {
                let serial = network::inside(pod.process, http::serial)?;
                let serial = serial.with_context(|| format!("the certificate of {}'s proxy", pod.name))?;
                if serials.last() != Some(&serial) {
                    serials.push(serial);
                }
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        let outcomes = load.end();
        let requests: u64 = outcomes.iter().map(|load| load.requests).sum();
        let failed: u64 = outcomes.iter().map(|load| load.failed).sum();
        let causes: Vec<String> = outcomes
            .iter()
            .flat_map(|load| &load.causes)
            .map(|cause| format!("{} times {}", cause.count, cause.what))
            .collect();
        let seen = format!(
            "{requests} requests in {:.0} s, {failed} failed {}; certificates: client {}, server {}",
            begin.elapsed().as_secs_f64(),
            causes.join(", "),
            serials[0].len(),
            serials[1].len()
        );
        ensure!(requests > 0, "no request was made");
        let holds = failed == 0 && serials.iter().all(|serials| serials.len() >= RENEWED);
        self.row("certificates that live for 20 s are renewed under load", holds, seen);
        Ok(())
    }
}
