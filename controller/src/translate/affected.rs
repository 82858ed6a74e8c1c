//! What changed goes in; which resource types of a proxy it can touch comes out.

use super::node::{Node, NodeKind};
use crate::index::{Changes, Kind, ObjectRef};

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

/// The types that a change can touch for this proxy: more than need be, never fewer.
pub fn affected(changes: &Changes, node: &Node) -> TypeSet {
    if changes.mesh {
        return TypeSet::ALL;
    }
    changes.objects.iter().fold(TypeSet::default(), |set, object| set.union(touched(object, node)))
}

fn touched(object: &ObjectRef, node: &Node) -> TypeSet {
    let none = TypeSet::default();
    let router = node.kind == NodeKind::Router;
    match object.kind {
        Kind::Service => TypeSet { secrets: false, ..TypeSet::ALL },
        // Identities of pods are in clusters; headless addresses have listeners of their own, and names.
        Kind::EndpointSlice => TypeSet { clusters: true, endpoints: true, listeners: !router, names: true, ..none },
        Kind::Pod if *object.key.namespace == *node.namespace && *object.key.name == *node.pod => TypeSet::ALL,
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
