//! The translator: what is shared among proxies is kept, what is a proxy's own is made when it is asked for.

mod inputs;
mod make;
mod scene;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ferromesh_api::istio::{EnvoyFilter, MeshConfig};
use ferromesh_proto::envoy::config::bootstrap::v3::Bootstrap;
use ferromesh_proto::envoy::config::core::v3::TypedExtensionConfig;
use k8s_openapi::api::core::v1::Service;
use parking_lot::Mutex;

use super::cache::{Memo, Parts, Shelf};
use super::node::{Node, NodeKind};
use super::resource::Resource;
use super::service::{ServiceInfo, is_meshed, service_identities, visible};
use super::virtual_hosts::MeshRoutes;
use super::{cluster, gateway, inbound, name_table, secret};
use crate::envoyfilter::{CompiledFilter, Facts, PatchReport, PatchSet, cluster as patch_cluster};
use crate::index::{Key, View, workloads};
use inputs::{EndpointParts, IdentityInputs, NameInputs, RouteInputs, ServiceInputs};
use scene::Scene;

/// Labels by which pods of one workload differ.
const OF_ONE_POD: [&str; 4] = [
    "pod-template-hash",
    "controller-revision-hash",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
];
/// The version of Istio whose configuration this is; `match.proxy` of patches reads it where no proxy says its own.
const ISTIO: &str = "1.31.0";

/// The clusters of one Service, with what they were made from.
struct ServiceClusters {
    mesh: Arc<MeshConfig>,
    service: Arc<Service>,
    identities: BTreeSet<String>,
    clusters: Arc<Vec<Resource>>,
    /// The same for proxies whose clients meant no pod, where they differ.
    balanced: Option<Arc<Vec<Resource>>>,
}

impl ServiceClusters {
    fn for_client(&self, meant_a_pod: bool) -> &[Resource] {
        if meant_a_pod { &self.clusters } else { self.balanced.as_ref().unwrap_or(&self.clusters) }
    }
}

/// Compiled EnvoyFilters, with what they were compiled from.
type Compiled = BTreeMap<Key, (Arc<EnvoyFilter>, Arc<CompiledFilter>)>;

/// Makes xDS resources from views.
#[derive(Default)]
pub struct Translator {
    services: Memo<ServiceInputs, BTreeMap<Key, Arc<ServiceInfo>>>,
    clusters: Memo<IdentityInputs, BTreeMap<Key, ServiceClusters>>,
    mesh_routes: Memo<RouteInputs, MeshRoutes>,
    endpoints: Parts<EndpointParts, Resource>,
    outbound_listeners: Shelf<IdentityInputs, Arc<Vec<Resource>>>,
    routes: Shelf<RouteInputs, Option<Resource>>,
    names: Shelf<NameInputs, Resource>,
    filters: Mutex<Compiled>,
    made: AtomicU64,
}

impl Translator {
    /// A translator with nothing kept yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// LDS.
    pub fn listeners(&self, view: &View, node: &Node) -> Vec<Resource> {
        let scene = self.scene(view, node);
        self.make_listeners(&scene, &mut scene.run())
    }

    /// RDS: those of `names` that there are.
    pub fn routes(&self, view: &View, node: &Node, names: &[String]) -> Vec<Resource> {
        let scene = self.scene(view, node);
        self.make_routes(&scene, &mut scene.run(), names)
    }

    /// CDS.
    pub fn clusters(&self, view: &View, node: &Node) -> Vec<Resource> {
        let scene = self.scene(view, node);
        self.make_clusters(&scene, &mut scene.run())
    }

    /// EDS: those of `names` that there are.
    pub fn endpoints(&self, view: &View, node: &Node, names: &[String]) -> Vec<Resource> {
        let services = self.services(view);
        names.iter().filter_map(|name| self.load_assignment(view, node, &services, name)).collect()
    }

    /// SDS: those of `names` that this gateway may have.
    pub fn secrets(&self, view: &View, node: &Node, names: &[String]) -> Vec<Resource> {
        let scene = self.scene(view, node);
        if !scene.is_router() || !scene.is_its_pod() {
            return Vec::new();
        }
        let allowed = gateway::certificates(&scene.served());
        let one = |name: &String| {
            let (gateway, reference) = allowed.get(name)?;
            Some(Resource::new(name, &secret::secret(view, gateway, reference, name)?))
        };
        names.iter().filter_map(one).collect()
    }

    /// ECDS: those of `names` that there are.
    pub fn extension_configs(&self, view: &View, node: &Node, names: &[String]) -> Vec<Resource> {
        let scene = self.scene(view, node);
        let found = patch_cluster::extension_configs(&mut scene.run(), scene.contexts(), Some(names));
        found.iter().map(|config: &TypedExtensionConfig| Resource::new(&config.name, config)).collect()
    }

    /// NDS: the names of the mesh, if the proxy has a DNS proxy that answers them.
    pub fn name_table(&self, view: &View, node: &Node) -> Option<Resource> {
        name_table::is_wanted(node).then(|| {
            self.names.get(NameInputs::of(view), &self.names_shared_by(view, node), || {
                self.count(1);
                let services = self.visible_services(&self.scene(view, node));
                let services: Vec<&ServiceInfo> = services.iter().map(|service| &**service).collect();
                let table = name_table::name_table(view, &services, name_table::Families::of(node));
                Resource::new(name_table::NAME, &table)
            })
        })
    }

    /// Proxies of which this says the same have the same names: most namespaces see every Service.
    pub fn names_shared_by(&self, view: &View, node: &Node) -> String {
        let wanted = name_table::is_wanted(node);
        let hidden = |(key, service): (&Key, &Arc<Service>)| {
            (!visible(view, key, service, &node.namespace)).then(|| format!("{}/{}", key.namespace, key.name))
        };
        let hidden: Vec<String> = view.services.iter().filter_map(hidden).collect();
        format!("{wanted} {:?} {}", name_table::Families::of(node), hidden.join(" "))
    }

    /// Names of the route configurations that this proxy's listeners ask for.
    pub fn route_names(&self, view: &View, node: &Node) -> Vec<String> {
        let scene = self.scene(view, node);
        scene.route_names(&self.visible_services(&scene))
    }

    /// Applies `BOOTSTRAP` patches, before the proxy starts.
    pub fn bootstrap(&self, view: &View, node: &Node, bootstrap: &mut Bootstrap) {
        let scene = self.scene(view, node);
        patch_cluster::patch_bootstrap(&mut scene.run(), scene.contexts(), bootstrap);
    }

    /// What became of each patch of each EnvoyFilter that selects this proxy.
    pub fn patch_reports(&self, view: &View, node: &Node) -> Vec<PatchReport> {
        let scene = self.scene(view, node);
        let mut run = scene.run();
        if run.is_empty() {
            return Vec::new();
        }
        self.make_listeners(&scene, &mut run);
        self.make_clusters(&scene, &mut run);
        let names = scene.route_names(&self.visible_services(&scene));
        self.make_routes(&scene, &mut run, &names);
        patch_cluster::extension_configs(&mut run, scene.contexts(), None);
        patch_cluster::patch_bootstrap(&mut run, scene.contexts(), &mut Bootstrap::default());
        run.report()
    }

    /// What became of each patch, over the meshed pods of a view and what will be some; of pods that differ in their
    /// names only, one counts.
    pub fn facts(&self, view: &View) -> Facts {
        let mut facts = Facts::default();
        if view.envoy_filters.is_empty() {
            return facts;
        }
        let mut seen = BTreeSet::new();
        // What is written and has no pods yet, as in a folder.
        for workload in workloads::coming(view).into_iter().filter(|workload| workload.meshed) {
            let node = Node {
                kind: if workload.gateway { NodeKind::Router } else { NodeKind::Sidecar },
                namespace: workload.namespace,
                labels: workload.labels,
                version: ISTIO.to_owned(),
                ..Node::default()
            };
            facts.add(self.patch_reports(view, &node));
        }
        for (key, pod) in view.pods.iter() {
            let gateway = crate::index::envoy_filters::is_gateway(&pod.metadata);
            let mut labels = crate::index::labels::of(&pod.metadata).clone();
            labels.retain(|name, _| !OF_ONE_POD.contains(&name.as_str()));
            if !(gateway || is_meshed(pod)) || !seen.insert((key.namespace.clone(), gateway, labels)) {
                continue;
            }
            let node = Node {
                kind: if gateway { NodeKind::Router } else { NodeKind::Sidecar },
                pod: key.name.to_string(),
                namespace: key.namespace.to_string(),
                version: ISTIO.to_owned(),
                ..Node::default()
            };
            facts.add(self.patch_reports(view, &node));
        }
        facts
    }

    /// Proxies of which this says the same have the same clusters.
    pub fn clusters_shared_by(&self, view: &View, node: &Node) -> String {
        let scene = self.scene(view, node);
        let ports = (!scene.is_router()).then(|| inbound::ports(view, &scene.pod_or_self()));
        format!("{}{}{ports:?}", scene.sees(), scene.is_laptop())
    }

    /// Proxies of which this says the same have the same route configurations.
    pub fn routes_shared_by(&self, view: &View, node: &Node) -> String {
        let scene = self.scene(view, node);
        let gateway = scene.is_router().then(|| gateway::name_of(node, scene.pod));
        format!("{}{gateway:?}", scene.sees())
    }

    /// How many resources that proxies share were made anew so far.
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    fn count(&self, made: usize) {
        self.made.fetch_add(made as u64, Ordering::Relaxed);
    }

    fn scene<'a>(&self, view: &'a View, node: &'a Node) -> Scene<'a> {
        let pod = view.pods.named(&node.namespace, &node.pod).map(|pod| &**pod);
        let labels = pod.map_or(&node.labels, |pod| crate::index::labels::of(&pod.metadata));
        let filters = view.envoy_filters_for(&node.namespace, labels);
        let filters = filters.into_iter().filter_map(|(key, filter)| self.compiled(view, key, filter)).collect();
        Scene { view, node, pod, patches: PatchSet { filters }, proxy: node.proxy() }
    }

    fn compiled(&self, view: &View, key: &Key, filter: &Arc<EnvoyFilter>) -> Option<Arc<CompiledFilter>> {
        let mut kept = self.filters.lock();
        if let Some((made_from, compiled)) = kept.get(key)
            && Arc::ptr_eq(made_from, filter)
        {
            return Some(compiled.clone());
        }
        let spec = serde_json::to_value(&filter.spec).ok()?;
        let compiled = Arc::new(CompiledFilter::new(&key.namespace, &key.name, &spec).ok()?);
        kept.retain(|key, _| view.envoy_filters.contains_key(key));
        kept.insert(key.clone(), (filter.clone(), compiled.clone()));
        Some(compiled)
    }

    fn services(&self, view: &View) -> Arc<BTreeMap<Key, Arc<ServiceInfo>>> {
        self.services.get(ServiceInputs::of(view), |_| {
            let all = view.services.iter();
            all.map(|(key, service)| (key.clone(), Arc::new(ServiceInfo::new(key, service)))).collect()
        })
    }

    /// The Services that a proxy sees.
    fn visible_services(&self, scene: &Scene<'_>) -> Vec<Arc<ServiceInfo>> {
        let services = self.services(scene.view);
        let visible = |(key, service): (&Key, &Arc<Service>)| {
            visible(scene.view, key, service, &scene.node.namespace).then(|| services.get(key).cloned())?
        };
        scene.view.services.iter().filter_map(visible).collect()
    }

    /// The clusters of every Service; those of a Service that did not change are kept.
    fn service_clusters(&self, view: &View) -> Arc<BTreeMap<Key, ServiceClusters>> {
        let infos = self.services(view);
        let mesh = view.mesh.clone();
        self.clusters.get(IdentityInputs::of(view), |old| {
            let one = |(key, service): (&Key, &Arc<Service>)| {
                let info = infos.get(key)?;
                let identities = service_identities(view, key, service);
                let kept = old.and_then(|old| old.get(key)).filter(|kept| {
                    Arc::ptr_eq(&kept.service, service)
                        && kept.identities == identities
                        && Arc::ptr_eq(&kept.mesh, &mesh)
                });
                let make = |balanced: bool| {
                    self.count(info.ports.len());
                    let ports = info.ports.iter();
                    let made = ports.map(|port| cluster::outbound(&mesh, info, port, &identities, balanced));
                    Arc::new(made.map(|cluster| Resource::new(&cluster.name, &cluster)).collect())
                };
                let (clusters, balanced) = match kept {
                    Some(kept) => (kept.clusters.clone(), kept.balanced.clone()),
                    None => (make(false), info.is_passed_through().then(|| make(true))),
                };
                let (mesh, service) = (mesh.clone(), service.clone());
                Some((key.clone(), ServiceClusters { mesh, service, identities, clusters, balanced }))
            };
            view.services.iter().filter_map(one).collect()
        })
    }
}
