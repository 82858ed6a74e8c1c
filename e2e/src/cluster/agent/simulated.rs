//! Nodes without machines: pods that the scheduler puts there are Running and Ready at once, and run nothing.
//!
//! For questions of scale: thousands of pods, EndpointSlices and rollouts, with the real API server, scheduler and controllers.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Container, Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::load_balancer;

/// Label of the nodes, and key of the taint that they have beside real ones.
const LABEL: &str = "ferromesh-e2e/simulated";
/// Renewed well before the node controller's patience (50 s) is over.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Requests under way.
const AT_ONCE: usize = 16;

fn node_name(number: u16) -> String {
    format!("simulated-{number}")
}

/// Runs for ever; what fails is said and tried again.
pub(super) async fn run(kubeconfig: PathBuf, nodes: u16, beside_real: bool) {
    let mut next = Addresses(0);
    loop {
        if let Err(error) = follow(&kubeconfig, nodes, beside_real, &mut next).await {
            eprintln!("simulated nodes: {error:#}");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn follow(kubeconfig: &PathBuf, nodes: u16, beside_real: bool, next: &mut Addresses) -> anyhow::Result<()> {
    let client = load_balancer::client(kubeconfig).await?;
    for number in 1..=nodes {
        register(&client, number, beside_real).await?;
    }
    let beating = client.clone();
    let beats = async move {
        loop {
            if let Err(error) = heartbeat(&beating, nodes).await {
                eprintln!("heartbeat of simulated nodes: {error:#}");
            }
            tokio::time::sleep(HEARTBEAT).await;
        }
    };
    tokio::select! {
        () = beats => Ok(()),
        result = pods(&client, next) => result,
    }
}

async fn register(client: &Client, number: u16, beside_real: bool) -> anyhow::Result<()> {
    let name = node_name(number);
    let taints = if beside_real { json!([{"key": LABEL, "effect": "NoSchedule"}]) } else { json!([]) };
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            (LABEL): "true",
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "node.kubernetes.io/exclude-from-external-load-balancers": "true",
        }},
        "spec": {"taints": taints},
    });
    let nodes: Api<Node> = Api::all(client.clone());
    let ours = PatchParams::apply("ferromesh-e2e").force();
    nodes.patch(&name, &ours, &Patch::Apply(&node)).await?;
    let capacity = json!({"cpu": "10000", "memory": "100Ti", "pods": "10000", "ephemeral-storage": "100Ti"});
    let now = Timestamp::now().to_string();
    let status = json!({"status": {
        "capacity": capacity, "allocatable": capacity,
        "addresses": [{"type": "InternalIP", "address": Ipv4Addr::from(0x0a5a_0000 + u32::from(number))}],
        "conditions": [{"type": "Ready", "status": "True", "reason": "Simulated", "message": "",
            "lastHeartbeatTime": now, "lastTransitionTime": now}],
        "nodeInfo": {"architecture": "amd64", "bootID": "", "containerRuntimeVersion": "simulated://1", "kernelVersion": "",
            "kubeProxyVersion": "", "kubeletVersion": format!("v{}", crate::tools::KUBERNETES_VERSION), "machineID": "",
            "operatingSystem": "linux", "osImage": "simulated", "systemUUID": ""},
    }});
    nodes.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await?;
    Ok(())
}

async fn heartbeat(client: &Client, nodes: u16) -> anyhow::Result<()> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let ours = PatchParams::apply("ferromesh-e2e").force();
    for number in 1..=nodes {
        let name = node_name(number);
        // A MicroTime has exactly six digits.
        let now = Timestamp::now();
        let renewed = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": format!("{now:.6}")},
        });
        leases.patch(&name, &ours, &Patch::Apply(&renewed)).await?;
    }
    Ok(())
}

/// Every pod of a simulated node, now and later. Returns when the watch ends.
async fn pods(client: &Client, next: &mut Addresses) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::all(client.clone());
    let listed = pods.list(&ListParams::default()).await?;
    let version = listed.metadata.resource_version.clone().unwrap_or_default();
    for pod in &listed {
        next.taken(pod);
    }
    let known = listed.items.into_iter().filter_map(|pod| step(pod, next)).collect::<Vec<_>>();
    futures_util::stream::iter(known).for_each_concurrent(AT_ONCE, |step| carry_out(client, step)).await;
    let events = pods.watch(&WatchParams::default(), &version).await?;
    let steps = events.filter_map(|event| {
        let step = match event {
            Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod)) => step(pod, next),
            _ => None,
        };
        async move { step }
    });
    pin!(steps).for_each_concurrent(AT_ONCE, |step| carry_out(client, step)).await;
    Ok(())
}

/// What a kubelet would do.
enum Step {
    Run(Box<Pod>, Ipv4Addr),
    Remove(Box<Pod>),
}

fn step(pod: Pod, next: &mut Addresses) -> Option<Step> {
    let node = pod.spec.as_ref()?.node_name.as_ref()?;
    if !node.starts_with("simulated-") {
        return None;
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return Some(Step::Remove(Box::new(pod)));
    }
    let has_address = pod.status.as_ref().is_some_and(|status| status.pod_ip.is_some());
    (!has_address).then(|| Step::Run(Box::new(pod), next.free()))
}

async fn carry_out(client: &Client, step: Step) {
    let result = match step {
        Step::Remove(pod) => {
            let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
            let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
            api.delete(&pod.name_any(), &now).await.map(|_| ())
        }
        Step::Run(pod, address) => {
            let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
            let patch = json!({"status": running(&pod, address)});
            api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await.map(|_| ())
        }
    };
    match result {
        // It went away meanwhile.
        Err(kube::Error::Api(answer)) if answer.code == 404 => {}
        Err(error) => eprintln!("a simulated pod: {error}"),
        Ok(()) => {}
    }
}

fn running(pod: &Pod, address: Ipv4Addr) -> Value {
    let now = Timestamp::now().to_string();
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now});
    let container = |container: &Container| {
        json!({
            "name": container.name, "image": container.image, "imageID": "", "containerID": "simulated://1",
            "ready": true, "started": true, "restartCount": 0, "state": {"running": {"startedAt": now}},
        })
    };
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
    let containers = spec.map(|spec| spec.containers.iter().map(container).collect::<Vec<_>>());
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    json!({
        "phase": "Running", "startTime": now, "podIP": address, "podIPs": [{"ip": address}],
        "conditions": conditions,
        "initContainerStatuses": init.map(container).collect::<Vec<_>>(),
        "containerStatuses": containers,
    })
}

/// Addresses of simulated pods, one after the other from 10.128.0.0/9: more than a cluster can hold.
struct Addresses(u32);

impl Addresses {
    const FIRST: u32 = 0x0a80_0000;

    fn free(&mut self) -> Ipv4Addr {
        self.0 += 1;
        Ipv4Addr::from(Self::FIRST | (self.0 & 0x007f_ffff))
    }

    /// After a restart: those in use are not given again.
    fn taken(&mut self, pod: &Pod) {
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()?.parse::<Ipv4Addr>().ok());
        if let Some(address) = address.map(u32::from).filter(|address| address & !0x007f_ffff == Self::FIRST) {
            self.0 = self.0.max(address & 0x007f_ffff);
        }
    }
}
