//! The node agent on a real Kubernetes: pods with a sidecar where Pod Security is `restricted`, what is on each node, and what
//! happens while the agent is away and when it goes.
//!
//! ```text
//! images -> cluster (two nodes) -> helm install (cni.enabled) -> restricted namespace: client, server, plain (no proxy)
//!   -> admission, mTLS, rules in the pods' namespaces -> the chain overwritten -> no agent -> an agent -> helm uninstall
//! ```

use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::cluster::daemons::node_paths;
use crate::cluster::network;
use crate::identity::http;
use crate::mesh::{self, Images, Mesh, chart_tag};
use crate::progress::Progress;
use crate::restarts::of_pod;
use crate::rows::Row;

/// Where it plays.
const NAMESPACE: &str = "restricted";
const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: server}\nspec: {selector: {app: server}, ports: [{name: http, port: 80, targetPort: 5678}]}\n";
const STRICT: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default}\nspec: {mtls: {mode: STRICT}}\n";
const APPLICATION: u16 = 5678;
const NODES: [&str; 2] = ["node1", "node2"];
/// What the nodes' network configuration is called.
const CONFLIST: &str = "10-pods.conflist";
const DAEMON_SET: &str = "ferromesh-cni";

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
    images.extend(settings.images.node_agent(chart_tag(), progress)?);
    images.extend(settings.images.application(progress)?);
    let mesh = Mesh::up(2, settings.keep.as_deref(), &images, progress)?;
    let folders = [format!("cni.confDir={}", node_paths::CNI), format!("cni.binDir={}", node_paths::CNI_PLUGINS)];
    let sets = ["--set", "cni.enabled=true", "--set", &folders[0], "--set", &folders[1]];
    mesh.helm("install", &[&["--create-namespace"], &sets[..]].concat())?;
    let mut run = Run { mesh, rows: Vec::new() };
    run.installed()?;
    run.admission()?;
    run.traffic()?;
    run.rules()?;
    run.overwritten()?;
    run.away()?;
    run.uninstalled()?;
    Ok(run.rows)
}

/// A pod that Pod Security `restricted` admits.
fn pod(name: &str, node: &str, sidecar: bool) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name, "sidecar.istio.io/inject": sidecar.to_string()}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "app",
                "image": "rlawnsdud/demo",
                "imagePullPolicy": "IfNotPresent",
                "ports": [{"containerPort": APPLICATION}],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}

/// A run in progress.
struct Run {
    mesh: Mesh,
    rows: Vec<Row>,
}

impl Run {
    fn row(&mut self, what: impl Into<String>, holds: bool, seen: impl Into<String>) {
        let (what, seen) = (what.into(), seen.into());
        self.mesh.progress.step(&format!("{} {what}: {seen}", if holds { "ok " } else { "NO " }));
        self.rows.push(Row { what, holds, seen });
    }

    /// The plugins of a node's chain, in their order.
    fn chain(&self, node: &str) -> anyhow::Result<Vec<String>> {
        let file = format!("{}/{CONFLIST}", node_paths::CNI);
        let out = self.mesh.cluster.exec(Some(node), "cat")?.arg(file).output()?;
        let list: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
        let plugins = list["plugins"].as_array().into_iter().flatten();
        Ok(plugins.map(|plugin| plugin["type"].as_str().unwrap_or_default().to_owned()).collect())
    }

    fn chains(&self) -> anyhow::Result<Vec<Vec<String>>> {
        NODES.iter().map(|node| self.chain(node)).collect()
    }

    fn make(&self, pods: &[Value]) -> anyhow::Result<()> {
        pods.iter().try_for_each(|pod| self.mesh.apply_in(NAMESPACE, &pod.to_string()).map(drop))
    }

    fn ready(&self, pods: &[&str]) -> anyhow::Result<()> {
        let wait = ["wait", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=120s", "pod"];
        self.mesh.kubectl(&[&wait, pods].concat()).map(drop).with_context(|| self.mesh.pods())
    }

    /// Ready containers of all, as kubectl shows them.
    fn ready_of(&self, pod: &str) -> anyhow::Result<String> {
        let line = self.mesh.kubectl(&["get", "pod", "-n", NAMESPACE, "--no-headers", pod])?;
        Ok(line.split_whitespace().skip(1).take(2).collect::<Vec<_>>().join(" "))
    }

    fn installed(&mut self) -> anyhow::Result<()> {
        let path = "jsonpath={.status.numberReady} of {.status.desiredNumberScheduled}";
        let ready = self.mesh.kubectl(&["get", "daemonset", "-n", "kube-system", DAEMON_SET, "-o", path])?;
        let chains = self.chains()?;
        let expected = vec!["ptp".to_owned(), "portmap".into(), "ferromesh-cni".into()];
        let holds = ready == "2 of 2" && chains.iter().all(|chain| *chain == expected);
        self.row("an agent is ready on each node, its plugin behind the others", holds, format!("{ready}; {chains:?}"));
        Ok(())
    }

    fn admission(&mut self) -> anyhow::Result<()> {
        self.mesh.kubectl(&["create", "namespace", NAMESPACE])?;
        let labels = ["istio-injection=enabled", "pod-security.kubernetes.io/enforce=restricted"];
        self.mesh.kubectl(&[&["label", "namespace", NAMESPACE], &labels[..]].concat())?;
        let mut rights = pod("rights", NODES[0], false);
        rights["spec"]["containers"][0]["securityContext"]["capabilities"]["add"] = json!(["NET_ADMIN"]);
        let refused = self.mesh.apply_in(NAMESPACE, &rights.to_string());
        let said = refused.err().map(|error| format!("{error:#}")).unwrap_or_default();
        let said: String = said.split("violates").skip(1).collect();
        self.row("a pod with NET_ADMIN is refused there", said.contains("restricted"), format!("violates{said}"));
        self.mesh.apply_in(NAMESPACE, SERVICE)?;
        self.make(&[pod("client", NODES[0], true), pod("server", NODES[1], true), pod("plain", NODES[0], false)])?;
        self.ready(&["client", "server", "plain"])?;
        let seen = (self.ready_of("client")?, self.ready_of("server")?, self.ready_of("plain")?);
        let holds = seen.0 == "2/2 Running" && seen.1 == "2/2 Running" && seen.2 == "1/1 Running";
        self.row("pods with a sidecar are admitted and run", holds, format!("{seen:?}"));
        let path = "jsonpath={.spec.initContainers[*].name}";
        let names = self.mesh.kubectl(&["get", "pod", "-n", NAMESPACE, "client", "-o", path])?;
        self.row("they check what the node has redirected", names == "istio-validation istio-proxy", names);
        Ok(())
    }

    /// What a GET from a pod's network is answered with.
    fn get(&self, from: &str, address: (IpAddr, u16)) -> anyhow::Result<String> {
        let process = of_pod(self.mesh.cluster.name(), from)?;
        network::inside(process, || http::status(address.into(), "server", "/"))
    }

    fn traffic(&mut self) -> anyhow::Result<()> {
        let address = |kind: &str, path: &str| -> anyhow::Result<IpAddr> {
            let address = self.mesh.kubectl(&["get", kind, "-n", NAMESPACE, "server", "-o", path])?;
            address.parse().with_context(|| format!("{kind} server has no address"))
        };
        let service = (address("service", "jsonpath={.spec.clusterIP}")?, 80);
        let direct = (address("pod", "jsonpath={.status.podIP}")?, APPLICATION);
        self.mesh.apply_in(NAMESPACE, STRICT)?;
        let refused = self.mesh.until(|| Ok(Some(self.get("plain", direct)?).filter(|seen| seen != "200")))?;
        let holds = refused.as_ref().is_some_and(|seen| seen.parse::<u16>().is_err());
        self.row("STRICT: what comes in goes through the proxy", holds, refused.unwrap_or_else(|| "200".into()));
        let meshed = self.mesh.until(|| Ok(Some(self.get("client", service)?).filter(|seen| seen == "200")))?;
        let holds = meshed.is_some();
        self.row("STRICT: what goes out does, with mTLS", holds, meshed.unwrap_or_else(|| "never 200".into()));
        Ok(())
    }

    /// The names of the tables in a pod's network namespace.
    fn tables(&self, pod: &str) -> anyhow::Result<String> {
        let process = of_pod(self.mesh.cluster.name(), pod)?.to_string();
        let out = Command::new("nsenter").args(["--target", &process, "--net", "nft", "list", "tables"]).output()?;
        ensure!(out.status.success(), "nft: {}", String::from_utf8_lossy(&out.stderr));
        Ok(String::from_utf8_lossy(&out.stdout).trim().replace('\n', ", "))
    }

    fn rules(&mut self) -> anyhow::Result<()> {
        let (client, plain) = (self.tables("client")?, self.tables("plain")?);
        let holds = client == "table inet ferromesh" && plain.is_empty();
        self.row(
            "rules are in pods with a sidecar, and in no other",
            holds,
            format!("client: {client}; plain: {plain:?}"),
        );
        Ok(())
    }

    /// As the agent of the pods' network writes its file when it starts.
    fn overwritten(&mut self) -> anyhow::Result<()> {
        let file = format!("{}/{CONFLIST}", node_paths::CNI);
        let bare = crate::cluster::daemons::cni_config(1);
        let script = format!("printf %s '{bare}' > {file}");
        let begin = std::time::Instant::now();
        let status = self.mesh.cluster.exec(Some(NODES[0]), "sh")?.args(["-c", &script]).status()?;
        ensure!(status.success(), "the configuration of {} cannot be written", NODES[0]);
        let back = self.mesh.until(|| Ok(Some(self.chain(NODES[0])?).filter(|chain| chain.len() == 3)))?;
        let seen =
            back.map_or("not in it again".to_owned(), |chain| format!("{chain:?} after {:.1?}", begin.elapsed()));
        self.row(
            "a network configuration that is written anew is chained to again",
            seen.contains("ferromesh-cni"),
            seen,
        );
        Ok(())
    }

    fn select(&self, nodes: &Value) -> anyhow::Result<()> {
        let patch = json!({"spec": {"template": {"spec": {"nodeSelector": nodes}}}}).to_string();
        let patch = ["patch", "daemonset", "-n", "kube-system", DAEMON_SET, "--type=merge", "-p", &patch];
        self.mesh.kubectl(&patch).map(drop)
    }

    /// The agent's pods go and the DaemonSet stays, as in an upgrade that does not end.
    fn away(&mut self) -> anyhow::Result<()> {
        self.select(&json!({"nowhere": "yes"}))?;
        let gone = ["wait", "-n", "kube-system", "--for=delete", "pod", "-l", "app=ferromesh-cni", "--timeout=60s"];
        self.mesh.kubectl(&gone)?;
        let chains = self.chains()?;
        let holds = chains.iter().all(|chain| chain.len() == 3);
        self.row("while the DaemonSet is there the plugin stays", holds, format!("{chains:?}"));
        self.make(&[pod("other", NODES[0], false), pod("waits", NODES[0], true)])?;
        self.ready(&["other"])?;
        let seen = self.ready_of("other")?;
        self.row("without an agent a pod without a sidecar starts", seen == "1/1 Running", seen);
        let select = "involvedObject.name=waits,reason=FailedCreatePodSandBox";
        let path = "jsonpath={.items[0].message}";
        let events = ["get", "events", "-n", NAMESPACE, "--field-selector", select, "-o", path];
        let event = self.mesh.until(|| Ok(self.mesh.kubectl(&events).ok().filter(|event| !event.is_empty())))?;
        let event = event.unwrap_or_default();
        let reason = event.split("failed (add): ").nth(1).unwrap_or(&event).to_owned();
        let holds = reason.contains("has a sidecar") && reason.contains("app=ferromesh-cni");
        self.row("one with a sidecar waits, and its event says why", holds, reason);
        self.select(&json!({"nowhere": null}))?;
        self.ready(&["waits"])?;
        let seen = self.ready_of("waits")?;
        self.row("with the next agent it starts", seen == "2/2 Running", seen);
        Ok(())
    }

    fn uninstalled(&mut self) -> anyhow::Result<()> {
        let mut helm = self.mesh.cluster.helm(&self.mesh.progress)?;
        helm.args(["uninstall", "ferromesh", "--namespace", mesh::NAMESPACE, "--wait", "--timeout", "120s"]);
        let out = helm.output().context("helm")?;
        ensure!(out.status.success(), "helm uninstall: {}", String::from_utf8_lossy(&out.stderr).trim());
        let bare = |chains: &Vec<Vec<String>>| chains.iter().all(|chain| *chain == ["ptp", "portmap"]);
        let left = self.mesh.until(|| Ok(Some(self.chains()?).filter(bare)))?;
        let holds = left.is_some();
        self.row(
            "after helm uninstall the nodes' network is as it was",
            holds,
            format!("{:?}", left.unwrap_or(self.chains()?)),
        );
        self.make(&[pod("late", NODES[0], false)])?;
        self.ready(&["late"])?;
        let seen = self.ready_of("late")?;
        self.row("pods start after it", seen == "1/1 Running", seen);
        Ok(())
    }
}
