//! The backends of a rule go in; the action that divides requests among them comes out.

use ferromesh_api::gateway_api::filter::HttpRouteFilter;
use ferromesh_api::gateway_api::{BackendObjectReference, GROUP, HttpRouteRule};
use ferromesh_proto::envoy::config::route::v3::{
    RouteAction, WeightedCluster,
    route_action::{ClusterNotFoundResponseCode, ClusterSpecifier},
    weighted_cluster::ClusterWeight,
};

use super::super::names;
use super::super::route::to_cluster;
use super::Place;
use super::filters::{self, Headers};
use crate::index::references::End;
use crate::index::services;

/// What was chosen for a rule.
pub struct Chosen {
    /// The action; nothing if no backend can be used, so that the answer is 500.
    pub action: Option<RouteAction>,
    /// Host and port of the first backend.
    pub host_port: Option<String>,
}

/// A backend, resolved: host and port, or why it cannot be used.
pub fn resolve(place: &Place<'_>, backend: &BackendObjectReference) -> Result<(String, u16), String> {
    if (backend.group(), backend.kind()) != ("", "Service") {
        return Err(format!("{} {:?} is not a Service", backend.kind(), backend.name));
    }
    let namespace = backend.namespace_or(&place.key.namespace);
    let from = End { group: GROUP, kind: place.kind, namespace: &place.key.namespace };
    if !place.view.may_refer(from, End { group: "", kind: "Service", namespace }, &backend.name) {
        return Err(format!("Service {namespace}/{} needs a ReferenceGrant", backend.name));
    }
    let service = place.view.services.named(namespace, &backend.name);
    let service = service.ok_or_else(|| format!("there is no Service {namespace}/{}", backend.name))?;
    let port = backend.port.ok_or_else(|| format!("Service {namespace}/{}: port is missing", backend.name))?;
    if services::port(service, port).is_none() {
        return Err(format!("Service {namespace}/{} has no port {port}", backend.name));
    }
    Ok((names::host(namespace, &backend.name), port))
}

/// Divides by weight. A backend that cannot be used takes its share with 500; one of weight zero takes nothing.
pub fn choose(place: &Place<'_>, rule: &HttpRouteRule) -> Chosen {
    let mut clusters = Vec::new();
    let mut valid = Vec::new();
    for backend in rule.backend_refs.iter().filter(|backend| backend.weight() > 0) {
        let name = match resolve(place, &backend.object) {
            Ok((host, port)) => {
                valid.push(format!("{host}:{port}"));
                names::outbound(&host, port)
            }
            Err(_) => missing(place, &backend.object),
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
