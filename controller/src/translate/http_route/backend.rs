//! The backends of a rule go in; the action that divides requests among them comes out.

use ferromesh_api::gateway_api::filter::HttpRouteFilter;
use ferromesh_api::gateway_api::{BackendObjectReference, HttpRouteRule};
use ferromesh_proto::envoy::config::route::v3::{
    RouteAction, WeightedCluster,
    route_action::{ClusterNotFoundResponseCode, ClusterSpecifier},
    weighted_cluster::ClusterWeight,
};

use super::super::names;
use super::super::route::to_cluster;
use super::Place;
use super::filters::{self, Headers};
use crate::index::{Key, ObjectRef, references};

/// What was chosen for a rule.
pub struct Chosen {
    /// The action; nothing if no backend can be used, so that the answer is 500.
    pub action: Option<RouteAction>,
    /// Host and port of the first backend.
    pub host_port: Option<String>,
}

/// A backend, resolved: host and port; nothing where status says why it cannot be used.
pub fn resolve(place: &Place<'_>, backend: &BackendObjectReference) -> Option<(String, u16)> {
    let route = ObjectRef { kind: place.kind, key: place.key.clone() };
    let (service, port) = references::backend(place.view, &route, backend, place.callers).ok()?;
    let meant = alias(place, &route, &service, port).unwrap_or(service);
    Some((names::host(&meant.namespace, &meant.name), port))
}

/// The Service of the mesh that an ExternalName is another name of, if the route may refer to that one, too.
fn alias(place: &Place<'_>, route: &ObjectRef, service: &Key, port: u16) -> Option<Key> {
    let spec = place.view.services.get(service)?.spec.as_ref()?;
    let name = spec.external_name.as_deref().filter(|_| spec.type_.as_deref() == Some("ExternalName"))?;
    let (namespace, name) = names::service_of_host(name.trim_end_matches('.'))?;
    let reference = BackendObjectReference {
        name: name.to_owned(),
        namespace: Some(namespace.to_owned()),
        port: Some(port),
        ..BackendObjectReference::default()
    };
    references::backend(place.view, route, &reference, place.callers).ok().map(|(meant, _)| meant)
}

/// Divides by weight. A backend that cannot be used takes its share with 500; one of weight zero takes nothing.
pub fn choose(place: &Place<'_>, rule: &HttpRouteRule) -> Chosen {
    let mut clusters = Vec::new();
    let mut valid = Vec::new();
    for backend in rule.backend_refs.iter().filter(|backend| backend.weight() > 0) {
        let name = match resolve(place, &backend.object) {
            Some((host, port)) => {
                valid.push(format!("{host}:{port}"));
                names::outbound(&host, port)
            }
            None => missing(place, &backend.object),
        };
        clusters.push(weighted(name, backend.weight(), &backend.filters));
    }
    let host_port = valid.first().cloned();
    if valid.is_empty() {
        return Chosen { action: None, host_port };
    }
    let invalid = valid.len() < clusters.len();
    let plain = |cluster: &ClusterWeight| {
        cluster.request_headers_to_add.is_empty()
            && cluster.request_headers_to_remove.is_empty()
            && cluster.response_headers_to_add.is_empty()
            && cluster.response_headers_to_remove.is_empty()
            && cluster.host_rewrite_specifier.is_none()
    };
    let mut action = match clusters.as_slice() {
        [only] if plain(only) => to_cluster(&only.name),
        _ => {
            let mut action = to_cluster("");
            let weighted = WeightedCluster { clusters, ..WeightedCluster::default() };
            action.cluster_specifier = Some(ClusterSpecifier::WeightedClusters(weighted));
            action
        }
    };
    if invalid {
        action.cluster_not_found_response_code = ClusterNotFoundResponseCode::InternalServerError as i32;
    }
    Chosen { action: Some(action), host_port }
}

/// The name of a cluster that is never there.
fn missing(place: &Place<'_>, backend: &BackendObjectReference) -> String {
    let namespace = backend.namespace_or(&place.key.namespace);
    format!("invalid|{}||{}.{namespace}.{}", backend.port.unwrap_or_default(), backend.name, backend.kind())
}

fn weighted(name: String, weight: u32, filters: &[HttpRouteFilter]) -> ClusterWeight {
    let Headers { request_add, request_remove, response_add, response_remove, host } = filters::collect(filters);
    use ferromesh_proto::envoy::config::route::v3::weighted_cluster::cluster_weight::HostRewriteSpecifier;
    ClusterWeight {
        name,
        weight: Some(weight),
        request_headers_to_add: request_add,
        request_headers_to_remove: request_remove,
        response_headers_to_add: response_add,
        response_headers_to_remove: response_remove,
        host_rewrite_specifier: host.map(HostRewriteSpecifier::HostRewriteLiteral),
        ..ClusterWeight::default()
    }
}
