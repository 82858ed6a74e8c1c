//! The snapshot: a table for each kind, and the two lookups that would be slow without an index.

use super::{Key, Object, Problem, Stored, Table};
use ferromesh_api::conditions::{FERROMESH_CONTROLLER, ISTIO_CONTROLLER};
use ferromesh_api::gateway_api::{Gateway, GatewayClass, GrpcRoute, HttpRoute, ReferenceGrant};
use ferromesh_api::istio::{EnvoyFilter, MeshConfig, PeerAuthentication};
use ferromesh_api::labels;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// The GatewayClasses that are built in, with their controllers.
pub const BUILT_IN_CLASSES: [(&str, &str); 2] = [("ferromesh", FERROMESH_CONTROLLER), ("istio", ISTIO_CONTROLLER)];

/// All that the controller knows, at one moment. Cheap to clone; nobody can change it.
#[derive(Clone, Default)]
pub struct View {
    /// Settings of the whole mesh.
    pub mesh: Arc<MeshConfig>,
    /// Namespaces (the key's namespace is empty).
    pub namespaces: Table<Namespace>,
    /// Services.
    pub services: Table<Service>,
    /// EndpointSlices.
    pub endpoint_slices: Table<EndpointSlice>,
    /// Pods.
    pub pods: Table<Pod>,
    /// Deployments.
    pub deployments: Table<Deployment>,
    /// ServiceAccounts.
    pub service_accounts: Table<ServiceAccount>,
    /// ConfigMaps.
    pub config_maps: Table<ConfigMap>,
    /// Secrets.
    pub secrets: Table<Secret>,
    /// GatewayClasses (the key's namespace is empty).
    pub gateway_classes: Table<GatewayClass>,
    /// Gateways.
    pub gateways: Table<Gateway>,
    /// HTTPRoutes.
    pub http_routes: Table<HttpRoute>,
    /// GRPCRoutes.
    pub grpc_routes: Table<GrpcRoute>,
    /// ReferenceGrants.
    pub reference_grants: Table<ReferenceGrant>,
    /// EnvoyFilters.
    pub envoy_filters: Table<EnvoyFilter>,
    /// PeerAuthentications.
    pub peer_authentications: Table<PeerAuthentication>,
    /// GatewayClass `istio` is a real Istio's: nothing of it is looked after.
    pub leaves_istio: bool,
    /// MeshConfig cannot be read at all, and no good one was before: nothing may be published by this view.
    pub is_held: bool,
    /// What sources could not take up.
    pub problems: Arc<Vec<Problem>>,
    pub(super) slices_by_service: Arc<BTreeMap<Key, BTreeSet<Key>>>,
    pub(super) pods_by_ip: Arc<BTreeMap<String, BTreeSet<Key>>>,
}

/// The namespace of Ferromesh itself, the first root namespace.
pub const SYSTEM_NAMESPACE: &str = "ferromesh-system";

impl View {
    /// A view of these objects (with MeshConfig's defaults unless a ConfigMap among them says otherwise).
    pub fn of(objects: impl IntoIterator<Item = Object>) -> Self {
        let mut index = super::Index::new(MeshConfig::default());
        index.apply(objects.into_iter().map(super::Event::Apply));
        index.view
    }

    /// This view with one object more, or another in its place.
    pub fn with(&self, object: Object) -> View {
        let mut view = self.clone();
        view.put(object);
        view
    }

    /// The `controllerName` of a GatewayClass. Those that are built in need no object, as in Istio: in a cluster they are
    /// made, and a folder need not write them.
    pub fn class_controller(&self, class: &str) -> Option<&str> {
        let written = self.gateway_classes.named("", class).map(|found| found.spec.controller_name.as_str());
        let built_in = || BUILT_IN_CLASSES.iter().find(|(name, _)| *name == class).map(|(_, controller)| *controller);
        written.or_else(built_in)
    }

    /// The `controllerName`s of the GatewayClasses that are looked after: ours comes last.
    pub fn controllers(&self) -> &'static [&'static str] {
        static BOTH: [&str; 2] = [ISTIO_CONTROLLER, FERROMESH_CONTROLLER];
        if self.leaves_istio { BOTH.get(1..).unwrap_or_default() } else { &BOTH }
    }

    /// The namespaces whose policies are for the whole mesh, the stronger one first: ours, then Istio's.
    pub fn root_namespaces(&self) -> [&str; 2] {
        [SYSTEM_NAMESPACE, &self.mesh.root_namespace]
    }

    /// True for a root namespace.
    pub fn is_root_namespace(&self, namespace: &str) -> bool {
        self.root_namespaces().contains(&namespace)
    }

    /// The labels of a namespace (with its name, which Kubernetes always adds). A namespace without an object of its
    /// own, as in a folder, has that one label.
    pub fn namespace_labels(&self, namespace: &str) -> BTreeMap<String, String> {
        let object = self.namespaces.named("", namespace);
        let mut labels = object.and_then(|object| object.metadata.labels.clone()).unwrap_or_default();
        labels.entry(labels::NAMESPACE_NAME.to_owned()).or_insert_with(|| namespace.to_owned());
        labels
    }

    pub(super) fn put_into<T: Stored + 'static>(&mut self, mut object: Arc<T>) -> bool {
        let meta = object.metadata();
        let key = Key::new(
            if T::STORED.namespaced() { meta.namespace.as_deref().unwrap_or_default() } else { "" },
            meta.name.as_deref().unwrap_or_default(),
        );
        let old = T::table(self).get(&key).cloned();
        if object.metadata().generation.is_none() {
            // A source without an API server: we count generations, since status conditions name one.
            let last = old.as_ref().and_then(|old| old.metadata().generation);
            Arc::make_mut(&mut object).metadata_mut().generation = Some(last.unwrap_or(1));
            if let (Some(old), Some(last)) = (&old, last)
                && **old != *object
            {
                Arc::make_mut(&mut object).metadata_mut().generation = Some(last + 1);
            }
        }
        if old.as_deref() == Some(&*object) {
            return false;
        }
        if let Some(old) = old {
            self.forget(&key, &*old);
        }
        self.remember(&key, &*object);
        T::table_mut(self).write().insert(key, object);
        true
    }

    pub(super) fn take_from<T: Stored + 'static>(&mut self, key: &Key) -> bool {
        if !T::table(self).contains_key(key) {
            return false;
        }
        if let Some(old) = T::table_mut(self).write().remove(key) {
            self.forget(key, &*old);
        }
        true
    }

    fn remember(&mut self, key: &Key, object: &dyn Any) {
        if let Some(service) = service_of(key, object) {
            Arc::make_mut(&mut self.slices_by_service).entry(service).or_default().insert(key.clone());
        }
        for ip in ips_of(object) {
            Arc::make_mut(&mut self.pods_by_ip).entry(ip).or_default().insert(key.clone());
        }
    }

    fn forget(&mut self, key: &Key, object: &dyn Any) {
        if let Some(service) = service_of(key, object) {
            remove(Arc::make_mut(&mut self.slices_by_service), &service, key);
        }
        for ip in ips_of(object) {
            remove(Arc::make_mut(&mut self.pods_by_ip), &ip, key);
        }
    }
}

fn remove<K: Ord>(map: &mut BTreeMap<K, BTreeSet<Key>>, at: &K, key: &Key) {
    if let Some(keys) = map.get_mut(at) {
        keys.remove(key);
        if keys.is_empty() {
            map.remove(at);
        }
    }
}

fn service_of(key: &Key, object: &dyn Any) -> Option<Key> {
    let slice = object.downcast_ref::<EndpointSlice>()?;
    let name = slice.metadata.labels.as_ref()?.get(labels::SERVICE_NAME)?;
    Some(Key::new(key.namespace.clone(), name.as_str()))
}

fn ips_of(object: &dyn Any) -> Vec<String> {
    let Some(status) = object.downcast_ref::<Pod>().and_then(|pod| pod.status.as_ref()) else { return Vec::new() };
    let more = status.pod_ips.iter().flatten().map(|ip| ip.ip.clone());
    let mut all: Vec<String> = status.pod_ip.clone().into_iter().chain(more).collect();
    all.sort();
    all.dedup();
    all
}

/// Shows how many objects there are, never the objects: Secrets are among them.
impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut view = f.debug_struct("View");
        for kind in super::Kind::ALL {
            view.field(kind.as_str(), &self.objects(*kind).len());
        }
        view.finish()
    }
}
