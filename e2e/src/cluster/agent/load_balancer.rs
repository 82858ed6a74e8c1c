//! In for a cloud: an address of the nodes' network for each Service of type LoadBalancer, and the hub's routes to it.
//!
//! Like a cloud's balancer the hub sends each connection to one of the ready nodes, for `externalTrafficPolicy: Local` to one that says
//! at the Service's health port that it has an endpoint. The Services' own network is routed the same way, so that who stands in the
//! hub (the API server, a test) reaches every Service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::{Node, Service};
use kube::api::{Api, ListParams, Patch, PatchParams, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::plan::{Balanced, plan};
use crate::cluster::layout::{SERVICE_NETWORK, load_balancer_addresses};

/// How often health ports are asked, and everything is looked at again, whatever has changed.
const EVERY: Duration = Duration::from_secs(2);
const SERVICES: &str = "spec.type=LoadBalancer";

/// Runs for ever; what fails is said and tried again.
pub(super) async fn run(kubeconfig: PathBuf) {
    loop {
        if let Err(error) = follow(&kubeconfig).await {
            eprintln!("load balancer: {error:#}");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// A client as the kubeconfig says.
pub(super) async fn client(kubeconfig: &PathBuf) -> anyhow::Result<Client> {
    let config = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

async fn follow(kubeconfig: &PathBuf) -> anyhow::Result<()> {
    let client = client(kubeconfig).await?;
    let changed = Arc::new(Notify::new());
    let services: Api<Service> = Api::all(client.clone());
    let nodes: Api<Node> = Api::all(client.clone());
    let mut watches = tokio::task::JoinSet::new();
    watches.spawn(watch(services.clone(), WatchParams::default().fields(SERVICES), Arc::clone(&changed)));
    watches.spawn(watch(nodes.clone(), WatchParams::default(), Arc::clone(&changed)));
    let mut routes = Routes::default();
    loop {
        reconcile(&client, &services, &nodes, &mut routes).await?;
        let _ = tokio::time::timeout(EVERY, changed.notified()).await;
    }
}

/// Says when anything changes. A watch ends every few minutes; what was missed meanwhile is found by looking again.
async fn watch<K>(api: Api<K>, parameters: WatchParams, changed: Arc<Notify>)
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    loop {
        if let Ok(events) = api.watch(&parameters, "0").await {
            let mut events = std::pin::pin!(events);
            while let Some(Ok(_)) = events.next().await {
                changed.notify_one();
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn reconcile(
    client: &Client,
    services: &Api<Service>,
    nodes: &Api<Node>,
    routes: &mut Routes,
) -> anyhow::Result<()> {
    let nodes = nodes.list(&ListParams::default()).await?;
    let ready: Vec<Ipv4Addr> = nodes.iter().filter_map(ready_address).collect();
    let services = services.list(&ListParams::default().fields(SERVICES)).await?;
    let services: Vec<Balanced> = services.iter().filter_map(balanced).collect();
    let healthy = healthy(&services, &ready).await;
    let plan = plan(&services, load_balancer_addresses(), &ready, &healthy);
    for service in &services {
        let address = plan.addresses.get(&service.key);
        if address.copied() != service.current {
            set_address(client, &service.key, address).await?;
        }
    }
    let mut wanted: BTreeMap<String, Vec<Ipv4Addr>> =
        plan.routes.into_iter().map(|(address, nodes)| (format!("{address}/32"), nodes)).collect();
    wanted.insert(SERVICE_NETWORK.into(), ready);
    routes.set(wanted).await
}

/// A node that is ready, not about to be drained away from balancers, and its address.
fn ready_address(node: &Node) -> Option<Ipv4Addr> {
    let excluded = node.labels().contains_key("node.kubernetes.io/exclude-from-external-load-balancers");
    let status = node.status.as_ref()?;
    let conditions = status.conditions.iter().flatten();
    let ready = conditions.filter(|condition| condition.type_ == "Ready").any(|condition| condition.status == "True");
    let address = status.addresses.iter().flatten().find(|address| address.type_ == "InternalIP")?;
    (ready && !excluded).then(|| address.address.parse().ok())?
}

/// A Service that asks for no other implementation than the cluster's own.
fn balanced(service: &Service) -> Option<Balanced> {
    let spec = service.spec.as_ref()?;
    if spec.load_balancer_class.is_some() || service.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|status| status.ingress.as_ref()).and_then(|ingress| ingress.first());
    Some(Balanced {
        key: (service.namespace()?, service.name_any()),
        current: ingress.and_then(|ingress| ingress.ip.as_ref()?.parse().ok()),
        wanted: spec.load_balancer_ip.as_ref().and_then(|address| address.parse().ok()),
        health_port: spec.health_check_node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0),
    })
}

async fn set_address(
    client: &Client,
    (namespace, name): &(String, String),
    address: Option<&Ipv4Addr>,
) -> anyhow::Result<()> {
    let ingress = address.map(|address| json!([{"ip": address, "ipMode": "VIP"}]));
    let patch = json!({"status": {"loadBalancer": {"ingress": ingress}}});
    let api: Api<Service> = Api::namespaced(client.clone(), namespace);
    match api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        // It was deleted since.
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        result => result.map(|_| ()).with_context(|| format!("address of {namespace}/{name}")),
    }
}

/// Where nodes answer 200 at the health port of a Service.
async fn healthy(services: &[Balanced], nodes: &[Ipv4Addr]) -> BTreeSet<(u16, Ipv4Addr)> {
    let ports = services.iter().filter_map(|service| service.health_port);
    let questions = ports.flat_map(|port| nodes.iter().map(move |node| (port, *node)));
    let answers = questions.map(|(port, node)| async move {
        let ask = async {
            let mut stream = TcpStream::connect((node, port)).await.ok()?;
            stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.ok()?;
            let mut answer = Vec::new();
            stream.take(4096).read_to_end(&mut answer).await.ok()?;
            answer.get(..12).map(|head| head.ends_with(b" 200"))
        };
        let answer = tokio::time::timeout(Duration::from_secs(1), ask).await;
        (answer == Ok(Some(true))).then_some((port, node))
    });
    futures_util::future::join_all(answers).await.into_iter().flatten().collect()
}

/// The hub's routes, as they were set last.
#[derive(Default)]
struct Routes {
    set: BTreeMap<String, Vec<Ipv4Addr>>,
}

impl Routes {
    async fn set(&mut self, wanted: BTreeMap<String, Vec<Ipv4Addr>>) -> anyhow::Result<()> {
        let gone: Vec<String> = self.set.keys().filter(|prefix| !wanted.contains_key(*prefix)).cloned().collect();
        for prefix in gone {
            ip(&["route", "del", &prefix]).await?;
            self.set.remove(&prefix);
        }
        for (prefix, nodes) in wanted {
            if self.set.get(&prefix) == Some(&nodes) {
                continue;
            }
            let nodes_shown: Vec<String> = nodes.iter().map(Ipv4Addr::to_string).collect();
            let mut arguments = vec!["route", "replace"];
            if nodes.is_empty() {
                arguments.push("unreachable");
            }
            arguments.push(&prefix);
            for node in &nodes_shown {
                arguments.extend(["nexthop", "via", node, "dev", "nodes"]);
            }
            ip(&arguments).await?;
            self.set.insert(prefix, nodes);
        }
        Ok(())
    }
}

async fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = tokio::process::Command::new("ip").args(arguments).output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), said.trim());
    Ok(())
}
