//! The parts of a view that a kept result was made from.

use std::sync::Arc;

use ferromesh_api::gateway_api::{Gateway, GatewayClass, GrpcRoute, HttpRoute, ReferenceGrant};
use ferromesh_api::istio::{MeshConfig, PeerAuthentication};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::super::cache::Inputs;
use super::super::service::pod_of_endpoint;
use crate::index::{Key, Table, View};

macro_rules! inputs {
    ($(#[$doc:meta])* $name:ident { $($table:ident: $kind:ty),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub(super) struct $name {
            mesh: Arc<MeshConfig>,
            $($table: Table<$kind>,)+
        }

        impl $name {
            pub(super) fn of(view: &View) -> Self {
                Self { mesh: view.mesh.clone(), $($table: view.$table.clone(),)+ }
            }
        }

        impl Inputs for $name {
            fn same(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.mesh, &other.mesh) $(&& self.$table.same(&other.$table))+
            }
        }
    };
}

inputs! {
    /// What Services are.
    ServiceInputs { services: Service }
}
inputs! {
    /// What Services are, and who is behind them by address.
    NameInputs { services: Service, endpoint_slices: EndpointSlice }
}
inputs! {
    /// Who is behind them.
    IdentityInputs { services: Service, endpoint_slices: EndpointSlice, pods: Pod }
}
inputs! {
    /// Which requests go to them.
    RouteInputs {
        services: Service, http_routes: HttpRoute, grpc_routes: GrpcRoute, reference_grants: ReferenceGrant,
        gateways: Gateway, gateway_classes: GatewayClass, namespaces: Namespace,
    }
}

/// What the endpoints of one Service were made from: they are made anew only if one of these is another object.
#[derive(Clone)]
pub(super) struct EndpointParts {
    service: Arc<Service>,
    slices: Vec<Arc<EndpointSlice>>,
    /// The pod behind each endpoint.
    pods: Vec<Option<Arc<Pod>>>,
    peer_authentications: Table<PeerAuthentication>,
    mesh: Arc<MeshConfig>,
}

impl EndpointParts {
    pub(super) fn of(view: &View, key: &Key, service: &Arc<Service>) -> Self {
        let slices: Vec<_> = view.slices_of(&key.namespace, &key.name).cloned().collect();
        let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
        let pods = endpoints.map(|endpoint| pod_of_endpoint(view, &key.namespace, endpoint).cloned()).collect();
        let (peer_authentications, mesh) = (view.peer_authentications.clone(), view.mesh.clone());
        Self { service: service.clone(), slices, pods, peer_authentications, mesh }
    }
}

impl Inputs for EndpointParts {
    fn same(&self, other: &Self) -> bool {
        let pod = |(a, b): (&Option<Arc<Pod>>, &Option<Arc<Pod>>)| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        Arc::ptr_eq(&self.service, &other.service)
            && Arc::ptr_eq(&self.mesh, &other.mesh)
            && self.peer_authentications.same(&other.peer_authentications)
            && self.slices.len() == other.slices.len()
            && self.slices.iter().zip(&other.slices).all(|(a, b)| Arc::ptr_eq(a, b))
            && self.pods.len() == other.pods.len()
            && self.pods.iter().zip(&other.pods).all(pod)
    }
}
