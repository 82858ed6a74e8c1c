//! The parts of a view that a kept result was made from.

use std::sync::Arc;

use ferromesh_api::gateway_api::{Gateway, GatewayClass, GrpcRoute, HttpRoute, ReferenceGrant};
use ferromesh_api::istio::{MeshConfig, PeerAuthentication};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::super::cache::Inputs;
use crate::index::{Table, View};

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
    /// Who is behind them.
    IdentityInputs { services: Service, endpoint_slices: EndpointSlice, pods: Pod }
}
inputs! {
    /// Where they are, and what they take.
    EndpointInputs {
        services: Service, endpoint_slices: EndpointSlice, pods: Pod, peer_authentications: PeerAuthentication,
    }
}
inputs! {
    /// Which requests go to them.
    RouteInputs {
        services: Service, http_routes: HttpRoute, grpc_routes: GrpcRoute, reference_grants: ReferenceGrant,
        gateways: Gateway, gateway_classes: GatewayClass, namespaces: Namespace,
    }
}
