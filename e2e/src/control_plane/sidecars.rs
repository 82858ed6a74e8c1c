//! Simulated sidecars: delta ADS streams that ask as Envoy does, acknowledge all, and keep nothing.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use ferromesh_proto::envoy::config::core::v3::Node;
use ferromesh_proto::envoy::config::listener::v3::Listener;
use ferromesh_proto::envoy::config::listener::v3::filter::ConfigType;
use ferromesh_proto::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use ferromesh_proto::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use ferromesh_proto::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use ferromesh_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use ferromesh_proto::prost::Message;
use ferromesh_proto::wire::{Parts, Payload};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::channel::Channel;
use super::{Probe, objects};
use crate::cluster::Cluster;

const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// `Cluster.type`, and its value EDS.
const CLUSTER_TYPE: (u32, u64) = (2, 3);
/// Largest response that is read, bytes.
const MOST: usize = 512 << 20;
/// For all sidecars to have all.
const PATIENCE: Duration = Duration::from_secs(600);
/// For all sidecars to have a change.
const CHANGE_PATIENCE: Duration = Duration::from_secs(60);

/// What was seen.
pub(super) struct Seen {
    /// Until all had their config.
    pub served: Duration,
    /// CPU of the control plane since its start, then; seconds.
    pub cpu_served: f64,
    /// Bytes of resources until then.
    pub sent: u64,
    /// How long each change took to the last acknowledgement, sorted.
    pub changes: Vec<Duration>,
    /// CPU of all changes, seconds.
    pub cpu_changes: f64,
}

/// What sidecars tell.
#[derive(Clone, Default)]
struct Told {
    complete: u32,
    sent: u64,
    /// How many have acknowledged change n, at place n.
    changed: Vec<u32>,
    failed: Option<String>,
}

/// Connects all sidecars at once, waits until they have all, then makes the changes, one after the other.
pub(super) fn run(cluster: &Cluster, xds: SocketAddr, probe: &Probe<'_>) -> anyhow::Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, drive(cluster, xds, probe))
}

async fn drive(cluster: &Cluster, xds: SocketAddr, probe: &Probe<'_>) -> anyhow::Result<Seen> {
    let client = objects::client(&cluster.inside_kubeconfig()).await?;
    let told = Told { changed: vec![0; probe.changes as usize + 1], ..Told::default() };
    let (tell, mut told) = watch::channel(told);
    let tell = Rc::new(tell);
    let begin = Instant::now();
    for number in 0..probe.size.sidecars {
        let tell = tell.clone();
        tokio::task::spawn_local(async move {
            if let Err(error) = sidecar(number, xds, &tell).await {
                tell.send_modify(|told| told.failed = Some(format!("sidecar {number}: {error:#}")));
            }
        });
    }
    let all = probe.size.sidecars;
    until(&mut told, PATIENCE, |told| told.complete == all).await.context("config for all")?;
    let (served, sent) = (begin.elapsed(), told.borrow().sent);
    let cpu_served = probe.process.cpu_seconds()?;
    let mut changes = Vec::new();
    for change in 1..=probe.changes {
        let (begin, service) = (Instant::now(), change % probe.size.services);
        objects::change(&client, service, probe.endpoints, change).await?;
        let done = |told: &Told| told.changed[change as usize] == all;
        until(&mut told, CHANGE_PATIENCE, done).await.with_context(|| format!("endpoint change {change}"))?;
        changes.push(begin.elapsed());
    }
    let cpu_changes = probe.process.cpu_seconds()? - cpu_served;
    // The next control plane finds what this one found.
    for change in 1..=probe.changes {
        objects::change(&client, change % probe.size.services, probe.endpoints, 0).await?;
    }
    changes.sort_unstable();
    Ok(Seen { served, cpu_served, sent, changes, cpu_changes })
}

async fn until(told: &mut watch::Receiver<Told>, patience: Duration, is: impl Fn(&Told) -> bool) -> anyhow::Result<()> {
    let over = |told: &Told| told.failed.is_some() || is(told);
    let in_time = tokio::time::timeout(patience, told.wait_for(over)).await.is_ok();
    let told = told.borrow();
    match &told.failed {
        Some(failed) => bail!("{failed}"),
        None if in_time => Ok(()),
        None => bail!("not in {patience:?}; {} sidecars have all", told.complete),
    }
}

/// What a stream waits for.
#[derive(Default)]
struct Waits {
    clusters: bool,
    listeners: bool,
    endpoints: BTreeSet<String>,
    routes: BTreeSet<String>,
    complete: bool,
    change: u32,
}

impl Waits {
    fn is_over(&self) -> bool {
        self.clusters && self.listeners && self.endpoints.is_empty() && self.routes.is_empty()
    }
}

async fn sidecar(number: u32, xds: SocketAddr, tell: &watch::Sender<Told>) -> anyhow::Result<()> {
    let origin = http::Uri::from_static("http://control-plane");
    let client = AggregatedDiscoveryServiceClient::with_origin(Channel::connect(xds).await?, origin);
    let mut client = client.max_decoding_message_size(MOST);
    let (requests, receiver) = mpsc::channel(16);
    let node = Some(node(number)?);
    for type_url in [CLUSTER, LISTENER] {
        let node = if type_url == CLUSTER { node.clone() } else { None };
        requests.send(DeltaDiscoveryRequest { node, type_url: type_url.into(), ..Default::default() }).await?;
    }
    let mut responses =
        client.delta_aggregated_resources(ReceiverStream::new(receiver)).await.context("the stream")?.into_inner();
    let mut waits = Waits { change: 1, ..Waits::default() };
    while let Some(response) = responses.message().await? {
        let (bytes, asks) = read(&response, &mut waits)?;
        let ack = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..Default::default()
        };
        requests.send(ack).await?;
        if let Some((type_url, names)) = asks {
            let ask = DeltaDiscoveryRequest {
                type_url: type_url.into(),
                resource_names_subscribe: names,
                ..Default::default()
            };
            requests.send(ask).await?;
        }
        report(&response, bytes, &mut waits, tell);
    }
    bail!("the control plane closed the stream")
}

fn report(response: &DeltaDiscoveryResponse, bytes: u64, waits: &mut Waits, tell: &watch::Sender<Told>) {
    let is_complete = !waits.complete && waits.is_over();
    waits.complete |= is_complete;
    let marker = objects::marker(waits.change);
    let is_changed = response.type_url == ENDPOINTS && response.resources.iter().any(|one| holds(one, &marker));
    if is_changed {
        waits.change += 1;
    }
    let change = waits.change as usize - 1;
    tell.send_if_modified(|told| {
        told.sent += bytes;
        told.complete += u32::from(is_complete);
        if let Some(count) = told.changed.get_mut(change).filter(|_| is_changed) {
            *count += 1;
        }
        is_complete || is_changed
    });
}

fn holds(resource: &ferromesh_proto::envoy::service::discovery::v3::Resource, marker: &str) -> bool {
    let payload = resource.resource.as_ref().map(|any| any.value.as_ref()).unwrap_or_default();
    payload.windows(marker.len()).any(|window| window == marker.as_bytes())
}

/// Names to ask for, with their type.
type Asks = Option<(&'static str, Vec<String>)>;

/// Takes what a response brings: bytes of its resources, and what is asked for next.
fn read(response: &DeltaDiscoveryResponse, waits: &mut Waits) -> anyhow::Result<(u64, Asks)> {
    let payload = |one: &ferromesh_proto::envoy::service::discovery::v3::Resource| {
        one.resource.as_ref().map(|any| any.value.clone()).unwrap_or_default()
    };
    let bytes = response.resources.iter().map(|one| payload(one).len() as u64).sum();
    let mut asks = Vec::new();
    match response.type_url.as_str() {
        CLUSTER => {
            waits.clusters = true;
            for one in &response.resources {
                if is_eds(&payload(one))? {
                    asks.push(one.name.clone());
                }
            }
            waits.endpoints.extend(asks.iter().cloned());
            Ok((bytes, (!asks.is_empty()).then_some((ENDPOINTS, asks))))
        }
        LISTENER => {
            waits.listeners = true;
            for one in &response.resources {
                let listener = Listener::decode(payload(one)).with_context(|| one.name.clone())?;
                asks.extend(route_names(&listener)?);
            }
            waits.routes.extend(asks.iter().cloned());
            Ok((bytes, (!asks.is_empty()).then_some((ROUTES, asks))))
        }
        ENDPOINTS => {
            for one in &response.resources {
                waits.endpoints.remove(&one.name);
            }
            Ok((bytes, None))
        }
        ROUTES => {
            for one in &response.resources {
                waits.routes.remove(&one.name);
            }
            Ok((bytes, None))
        }
        other => bail!("{other} was not asked for"),
    }
}

/// Whether a cluster's endpoints come by EDS. Thousands are read by each sidecar: only that one field is looked for.
fn is_eds(cluster: &[u8]) -> anyhow::Result<bool> {
    for part in Parts::of(cluster) {
        let part = part?;
        if part.number == CLUSTER_TYPE.0 {
            return Ok(part.payload == Payload::Varint(CLUSTER_TYPE.1));
        }
    }
    Ok(false)
}

/// Names of the routes that a listener's connection managers ask for.
fn route_names(listener: &Listener) -> anyhow::Result<BTreeSet<String>> {
    let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
    let mut names = BTreeSet::new();
    for filter in chains.flat_map(|chain| &chain.filters) {
        let Some(ConfigType::TypedConfig(config)) = &filter.config_type else { continue };
        if !config.type_url.ends_with(".HttpConnectionManager") {
            continue;
        }
        let manager = HttpConnectionManager::decode(config.value.clone())?;
        if let Some(RouteSpecifier::Rds(rds)) = manager.route_specifier {
            ensure!(!rds.route_config_name.is_empty(), "{}: an RDS without a name", listener.name);
            names.insert(rds.route_config_name);
        }
    }
    Ok(names)
}

fn node(number: u32) -> anyhow::Result<Node> {
    let (namespace, address) =
        (format!("scale-{}", number % 20), format!("10.1.{}.{}", number / 250, number % 250 + 1));
    let node = json!({
        "id": format!("sidecar~{address}~client-{number}.{namespace}~{namespace}.svc.cluster.local"),
        "cluster": format!("client.{namespace}"),
        "metadata": {
            "NAMESPACE": namespace,
            "CLUSTER_ID": "Kubernetes",
            "MESH_ID": "cluster.local",
            "ISTIO_VERSION": "1.27.0",
            "INSTANCE_IPS": address,
            "NAME": format!("client-{number}"),
            "SERVICE_ACCOUNT": "default",
            "INTERCEPTION_MODE": "REDIRECT",
            "LABELS": { "app": "client" },
        },
    });
    Ok(ferromesh_proto::json::from_json(node)?)
}
