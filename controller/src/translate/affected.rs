//! What changed goes in; which resource types of a proxy it can touch comes out.

use std::collections::BTreeSet;
use std::sync::Arc;

use ferromesh_core::names::NodeKind;
use k8s_openapi::api::core::v1::Pod;

use super::service::{Reach, ServiceInfo, service_identities};
use crate::index::{Changes, Key, Kind, ObjectRef, View};

/// A set of resource types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TypeSet {
    /// CDS.
    pub clusters: bool,
    /// EDS.
    pub endpoints: bool,
    /// LDS.
    pub listeners: bool,
    /// RDS.
    pub routes: bool,
    /// SDS.
    pub secrets: bool,
    /// ECDS.
    pub extension_configs: bool,
    /// NDS.
    pub names: bool,
}

impl TypeSet {
    /// Every type.
    pub const ALL: Self = Self {
        clusters: true,
        endpoints: true,
        listeners: true,
        routes: true,
        secrets: true,
        extension_configs: true,
        names: true,
    };

    /// Whether nothing is in it.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// What is in either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            clusters: self.clusters || other.clusters,
            endpoints: self.endpoints || other.endpoints,
            listeners: self.listeners || other.listeners,
            routes: self.routes || other.routes,
            secrets: self.secrets || other.secrets,
            extension_configs: self.extension_configs || other.extension_configs,
            names: self.names || other.names,
        }
    }
}

/// What a batch of changes can touch: more than need be, never fewer.
#[derive(Clone, Debug, Default)]
pub struct Affected {
    sidecars: TypeSet,
    routers: TypeSet,
    /// Whose own pod changed.
    pods: BTreeSet<Key>,
}

impl Affected {
    /// Of `changes`, which made `new` of `old`.
    pub fn of(changes: &Changes, old: &View, new: &View) -> Self {
        if changes.mesh {
            return Self { sidecars: TypeSet::ALL, routers: TypeSet::ALL, pods: BTreeSet::new() };
        }
        let mut found = Self::default();
        let mut services = BTreeSet::new();
        for object in &changes.objects {
            match object.kind {
                Kind::EndpointSlice => services.extend(
                    [old, new]
                        .into_iter()
                        .filter_map(|view| view.service_of_slice(view.endpoint_slices.get(&object.key)?)),
                ),
                Kind::Pod if same_pod(old.pods.get(&object.key), new.pods.get(&object.key)) => continue,
                Kind::Pod => {
                    found.pods.insert(object.key.clone());
                }
                _ => {}
            }
            found.sidecars = found.sidecars.union(touched(object, false));
            found.routers = found.routers.union(touched(object, true));
        }
        for service in &services {
            let (identities, headless) = endpoints_touch(service, old, new);
            found.sidecars = found.sidecars.union(TypeSet {
                clusters: identities,
                listeners: headless,
                names: headless,
                ..TypeSet::default()
            });
            found.routers.clusters |= identities;
            found.routers.names |= headless;
        }
        found
    }

    /// The types of this proxy.
    pub fn of_proxy(&self, kind: NodeKind, namespace: &str, pod: &str) -> TypeSet {
        if !self.pods.is_empty() && self.pods.contains(&Key::new(namespace, pod)) {
            return TypeSet::ALL;
        }
        match kind {
            NodeKind::Router => self.routers,
            NodeKind::Sidecar => self.sidecars,
            _ => TypeSet::default(),
        }
    }
}

/// What other endpoints of a Service mean beside themselves: other identities, which stand in its clusters; other
/// addresses, which have listeners of their own, and names, if it is headless.
fn endpoints_touch(key: &Key, old: &View, new: &View) -> (bool, bool) {
    let identities = |view: &View| view.services.get(key).map(|service| service_identities(view, key, service));
    let headless = |view: &View| {
        view.services.get(key).is_some_and(|service| ServiceInfo::new(key, service).reach == Reach::Headless)
    };
    (identities(old) != identities(new), headless(old) || headless(new))
}

/// Whether two states of a pod are one to the mesh: most of what changes is about its containers' health.
fn same_pod(old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return old.is_none() && new.is_none() };
    let meta = |pod: &Pod| {
        let meta = &pod.metadata;
        (
            meta.labels.clone(),
            meta.annotations.clone(),
            meta.owner_references.clone(),
            meta.deletion_timestamp.is_some(),
        )
    };
    let status = |pod: &Pod| {
        let status = pod.status.as_ref();
        status
            .map(|status| (status.phase.clone(), status.pod_ip.clone(), status.pod_ips.clone(), status.host_ip.clone()))
    };
    old.spec == new.spec && meta(old) == meta(new) && status(old) == status(new)
}

fn touched(object: &ObjectRef, router: bool) -> TypeSet {
    let none = TypeSet::default();
    match object.kind {
        Kind::Service => TypeSet { secrets: false, ..TypeSet::ALL },
        Kind::EndpointSlice => TypeSet { endpoints: true, ..none },
        Kind::Pod => TypeSet { clusters: true, endpoints: true, ..none },
        Kind::HttpRoute
        | Kind::GrpcRoute
        | Kind::ReferenceGrant
        | Kind::Namespace
        | Kind::Gateway
        | Kind::GatewayClass => TypeSet { listeners: router, routes: true, secrets: router, ..none },
        Kind::Secret => TypeSet { listeners: router, routes: router, secrets: router, ..none },
        Kind::EnvoyFilter => TypeSet { secrets: false, endpoints: false, names: false, ..TypeSet::ALL },
        Kind::PeerAuthentication => TypeSet { endpoints: true, listeners: !router, ..none },
        // Roots for the certificates of a gateway's clients.
        Kind::ConfigMap => TypeSet { listeners: router, routes: router, ..none },
        Kind::Deployment | Kind::ServiceAccount => none,
    }
}
