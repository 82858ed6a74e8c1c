//! The running mesh: starts everything, follows the view, stops everything.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use ferromesh_ca::{Ca, RunningCa, StaticTokens};
use ferromesh_controller::analyze::Finding;
use ferromesh_controller::app::{Config as ControllerConfig, Controller};
use ferromesh_controller::index::{Key, Kind, ObjectRef, View};
use ferromesh_controller::serve::Address;
use ferromesh_controller::source::{Folder, FolderOptions, Memory, MemoryHandle};
use ferromesh_core::{SpiffeId, TrustDomain};
use ferromesh_dashboard::{Config as DashboardConfig, Dashboard};
use ferromesh_proxy::app::{Options, Proxy};
use ferromesh_proxy::identity;

use super::apps::App;
use super::bootstrap;
use super::controller_tls::ControllerTls;
use super::plan::{self, PodPlan, Role};
use super::ports::FreePorts;
use super::state::{MeshState, PodState};
use super::workloads::Workloads;

/// Trust domain of every mesh here.
pub const TRUST_DOMAIN: &str = "cluster.local";
/// Where the first gateway's port 80 is, unless told otherwise.
const GATEWAY_PORT: u16 = 8080;
/// Longest that the controller may take to see a pod.
const KNOWN: Duration = Duration::from_secs(2);
/// Longest that the first configuration may take.
const READY: Duration = Duration::from_secs(20);

/// What to run, and how.
#[derive(Debug, Clone)]
pub struct MeshOptions {
    /// Folder of YAML.
    pub folder: PathBuf,
    /// Namespace of objects that name none and lie at the top of the folder.
    pub default_namespace: String,
    /// What stands behind the pods.
    pub workloads: Workloads,
    /// Port for the first gateway's port 80, which must be free; 0 takes a free one, `None` prefers 8080.
    pub gateway_port: Option<u16>,
    /// Worker threads of each proxy.
    pub concurrency: usize,
    /// Longest time that connections get to end.
    pub drain: Duration,
}

/// A pod that runs.
struct Running {
    plan: PodPlan,
    proxy: Option<Proxy>,
    _app: App,
}

/// The mesh.
pub struct Mesh {
    options: MeshOptions,
    trust_domain: TrustDomain,
    ca: RunningCa,
    tokens: std::sync::Arc<StaticTokens>,
    controller: Controller,
    memory: MemoryHandle,
    ports: FreePorts,
    pods: BTreeMap<Key, Running>,
    dashboard: Dashboard,
    _controller_tls: ControllerTls,
}

impl Mesh {
    /// Starts CA and controller, then what the folder asks for.
    ///
    /// # Errors
    /// Says which part could not start and why.
    pub async fn start(options: MeshOptions) -> anyhow::Result<Self> {
        if let Some(port) = options.gateway_port.filter(|port| *port != 0) {
            FreePorts::check(port)?;
        }
        let trust_domain = TrustDomain::new(TRUST_DOMAIN).context("the trust domain")?;
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let tokens = std::sync::Arc::new(StaticTokens::default());
        let mut ca_config = ferromesh_ca::Config::new(loopback, trust_domain.clone());
        ca_config.authenticators.push(tokens.clone());
        let ca = Ca::start(ca_config).await.context("the CA")?;
        let controller_id = SpiffeId::parse(&format!("spiffe://{TRUST_DOMAIN}/{}", bootstrap::CONTROLLER_ID))?;
        let controller_tls = ControllerTls::start(identity_config(&ca, &tokens, &controller_id)).await?;
        let folder_options = FolderOptions {
            default_namespace: options.default_namespace.clone(),
            namespace_by_folder: true,
            ..FolderOptions::default()
        };
        let folder = Folder::new(&options.folder, folder_options)?;
        let (memory, handle) = Memory::new(Vec::new());
        let mut config = ControllerConfig::new(vec![Box::new(folder), Box::new(memory)]);
        config.xds_listen = Address::Tcp(loopback);
        config.admin_listen = loopback;
        config.tls = Some(controller_tls.server_tls(&trust_domain));
        let controller = Controller::start(config).await.context("the controller")?;
        let dashboard = DashboardConfig { listen: loopback, proxies: Vec::new() };
        let dashboard = Dashboard::start(dashboard).await.context("the dashboard")?;
        let mut mesh = Self {
            options,
            trust_domain,
            ca,
            tokens,
            controller,
            memory: handle,
            ports: FreePorts::default(),
            pods: BTreeMap::new(),
            dashboard,
            _controller_tls: controller_tls,
        };
        mesh.controller.ready().await;
        mesh.reconcile().await?;
        Ok(mesh)
    }

    /// The controller.
    pub fn controller(&self) -> &Controller {
        &self.controller
    }

    /// What analysis finds in the view as it is.
    pub fn findings(&self) -> Vec<Finding> {
        self.controller.findings()
    }

    /// Starts pods that the view asks for and stops those that it no longer does. Says whether anything changed.
    ///
    /// # Errors
    /// If a pod cannot be started.
    pub async fn reconcile(&mut self) -> anyhow::Result<bool> {
        let view = self.controller.view();
        let running = self.pods.iter().map(|(key, pod)| (key.clone(), pod.plan.clone())).collect();
        let gateway_port = self.options.gateway_port.unwrap_or(GATEWAY_PORT);
        let wanted = plan::pods(&view, &self.options.workloads, &running, gateway_port, &mut self.ports);
        let mut changed = false;
        let gone: Vec<Key> = self.pods.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
        for key in gone {
            self.stop_pod(&key).await;
            changed = true;
        }
        let mut starting = Vec::new();
        for (key, plan) in wanted {
            let old = self.pods.get(&key).map(|pod| &pod.plan);
            let restart = old.is_none_or(|old| {
                (&old.ports, &old.behind, &old.env, old.role) != (&plan.ports, &plan.behind, &plan.env, plan.role)
            });
            if restart {
                if old.is_some() {
                    self.stop_pod(&key).await;
                }
                self.announce(&view, &plan).await;
                starting.push(plan);
            } else if let Some(pod) = self.pods.get_mut(&key)
                && pod.plan != plan
            {
                pod.plan = plan.clone();
                self.announce(&view, &plan).await;
                changed = true;
            } else {
                // A new Service may select a pod that runs already.
                self.announce_slices(&view, &plan).await;
            }
        }
        self.known(&starting).await;
        for plan in starting {
            let (key, pod) = (plan.key.clone(), self.start_pod(plan).await?);
            self.pods.insert(key, pod);
            changed = true;
        }
        self.dashboard.set_proxies(self.pods.values().filter_map(|pod| pod.proxy.as_ref()?.admin_addr()).collect());
        Ok(changed)
    }

    /// Waits until the controller knows these pods: it turns away proxies of others, and says so.
    async fn known(&self, plans: &[PodPlan]) {
        let mut views = self.controller.views();
        let all = views.wait_for(|published| plans.iter().all(|plan| published.view.pods.contains_key(&plan.key)));
        // Without it their proxies ask again.
        let _ = tokio::time::timeout(KNOWN, all).await;
    }

    async fn announce(&self, view: &View, plan: &PodPlan) {
        self.memory.apply(plan.pod()).await;
        if let Some(service) = plan.gateway_service() {
            self.memory.apply(service).await;
        }
        self.announce_slices(view, plan).await;
    }

    /// Announces the slices that the view does not have just so: what is announced makes a view, which is reconciled anew.
    async fn announce_slices(&self, view: &View, plan: &PodPlan) {
        for mut slice in plan.endpoint_slices(view) {
            let name = slice.metadata.name.as_deref().unwrap_or_default();
            let known = view.endpoint_slices.named(&plan.key.namespace, name);
            // The index counts generations.
            slice.metadata.generation = known.and_then(|known| known.metadata.generation);
            if known.is_none_or(|known| **known != slice) {
                self.memory.apply(slice).await;
            }
        }
    }

    async fn start_pod(&mut self, plan: PodPlan) -> anyhow::Result<Running> {
        let app = App::start(&plan).await?;
        let proxy = if plan.role == Role::Plain { None } else { Some(self.start_proxy(&plan)?) };
        Ok(Running { plan, proxy, _app: app })
    }

    fn start_proxy(&self, plan: &PodPlan) -> anyhow::Result<Proxy> {
        let xds = xds_address(&self.controller)?;
        let json = bootstrap::bootstrap(plan, xds, TRUST_DOMAIN, None);
        let parsed = ferromesh_proxy::bootstrap::parse(&json.to_string())
            .with_context(|| format!("the bootstrap of {}", plan.key))?;
        let id = SpiffeId::parse(&plan.spiffe_id(TRUST_DOMAIN))?;
        let options = Options {
            concurrency: self.options.concurrency,
            identity: Some(identity_config(&self.ca, &self.tokens, &id)),
            drain_time: self.options.drain,
            ..Options::default()
        };
        Proxy::start(parsed, options).with_context(|| format!("the proxy of {}", plan.key))
    }

    async fn stop_pod(&mut self, key: &Key) {
        let Some(pod) = self.pods.remove(key) else { return };
        let slices = pod.plan.endpoint_slices(&self.controller.view());
        for slice in slices {
            let name = slice.metadata.name.unwrap_or_default();
            self.memory.delete(ObjectRef::new(Kind::EndpointSlice, key.namespace.clone(), name)).await;
        }
        self.memory.delete(ObjectRef::new(Kind::Pod, key.namespace.clone(), key.name.clone())).await;
        if pod.plan.role == Role::Gateway {
            let service = ObjectRef::new(Kind::Service, key.namespace.clone(), pod.plan.workload.clone());
            self.memory.delete(service).await;
        }
        if let Some(proxy) = pod.proxy {
            proxy.drain();
            proxy.shutdown().await;
        }
    }

    /// Waits until every proxy serves its first configuration.
    ///
    /// # Errors
    /// Names the proxies that do not, after 20 s.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let all = async {
            for pod in self.pods.values() {
                if let Some(proxy) = &pod.proxy {
                    proxy.ready().await;
                }
            }
        };
        if tokio::time::timeout(READY, all).await.is_ok() {
            return Ok(());
        }
        let waiting = self.pods.iter().filter(|(_, pod)| pod.proxy.as_ref().is_some_and(|proxy| !proxy.is_ready()));
        let names: Vec<String> = waiting.map(|(key, _)| key.to_string()).collect();
        Err(anyhow!(
            "not ready after {READY:?}: {}; see what the controller says with: ferromesh get gateways -A",
            names.join(", ")
        ))
    }

    /// Waits until every proxy has acknowledged the newest configuration, or the time is up; says which.
    pub async fn settled(&self, limit: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + limit;
        while tokio::time::Instant::now() < deadline {
            let sync = self.controller.sync();
            let proxies = self.pods.values().filter(|pod| pod.proxy.is_some()).count();
            if sync.len() >= proxies && sync.iter().all(|proxy| proxy.is_synced()) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// Addresses, for people and for `get` and `config`.
    pub fn state(&self) -> MeshState {
        let pods = self.pods.iter().map(|(key, pod)| (key.to_string(), pod_state(pod))).collect();
        MeshState {
            pid: std::process::id(),
            controller: Some(self.controller.admin_addr()),
            xds: xds_address(&self.controller).ok(),
            dashboard: Some(self.dashboard.addr()),
            pods,
        }
    }

    /// The trust domain of the mesh.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Ends everything in the order of traffic: gateways, sidecars, applications, controller, CA.
    pub async fn stop(mut self) {
        let mut pods = std::mem::take(&mut self.pods);
        for role in [Role::Gateway, Role::Sidecar] {
            let ending = pods.values().filter(|pod| pod.plan.role == role);
            ending.filter_map(|pod| pod.proxy.as_ref()).for_each(Proxy::drain);
            for pod in pods.values_mut().filter(|pod| pod.plan.role == role) {
                if let Some(proxy) = pod.proxy.take() {
                    proxy.shutdown().await;
                }
            }
        }
        drop(pods);
        self.dashboard.shutdown().await;
        self.controller.shutdown().await;
        self.ca.shutdown().await;
    }
}

fn xds_address(controller: &Controller) -> anyhow::Result<SocketAddr> {
    match controller.xds_addr() {
        Address::Tcp(address) => Ok(*address),
        Address::Unix(path) => Err(anyhow!("the controller listens on {} and not on TCP", path.display())),
    }
}

fn pod_state(pod: &Running) -> PodState {
    let role = match pod.plan.role {
        Role::Gateway => "gateway",
        Role::Sidecar => "sidecar",
        Role::Plain => "plain",
    };
    PodState {
        role: role.into(),
        workload: pod.plan.workload.clone(),
        admin: pod.proxy.as_ref().and_then(Proxy::admin_addr),
        http_proxy: pod.plan.http_proxy,
        ports: pod.plan.ports.iter().map(|port| (port.port, port.listen)).collect(),
        schemes: pod.plan.schemes.iter().map(|(port, scheme)| (*port, (*scheme).to_owned())).collect(),
    }
}

/// How a workload of this mesh gets its certificate: with a token that only this process knows.
fn identity_config(ca: &RunningCa, tokens: &StaticTokens, id: &SpiffeId) -> identity::Config {
    let token = uuid::Uuid::new_v4().to_string();
    tokens.add(&token, id.clone());
    identity::Config::new(ca.addr(), ca.root_pem(), token, id.clone())
}
