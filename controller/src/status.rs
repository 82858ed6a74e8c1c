//! A view in, the status of every object that has one out: conditions as Gateway API v1 defines them, and our own for
//! EnvoyFilter. Pure: the time is an argument, and a condition that does not change keeps its own.

pub mod envoy_filter;
pub mod gateway;
pub mod route;
mod set;
#[cfg(test)]
mod tests;

pub use crate::envoyfilter::{Facts, PatchOutcome};
use crate::index::{Key, View};
use ferromesh_api::Time;
use ferromesh_api::gateway_api::RouteStatus;
use ferromesh_api::gateway_api::gateway::GatewayStatus;
use ferromesh_api::gateway_api::gateway_class::GatewayClassStatus;
use ferromesh_api::istio::selector::IstioStatus;
use std::collections::BTreeMap;

/// The status of every object that has one.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Statuses {
    /// GatewayClasses of ours.
    #[serde(serialize_with = "by_name")]
    pub gateway_classes: BTreeMap<Key, GatewayClassStatus>,
    /// Gateways of ours.
    #[serde(serialize_with = "by_name")]
    pub gateways: BTreeMap<Key, GatewayStatus>,
    /// HTTPRoutes: the parents that are ours.
    #[serde(serialize_with = "by_name")]
    pub http_routes: BTreeMap<Key, RouteStatus>,
    /// GRPCRoutes: the parents that are ours.
    #[serde(serialize_with = "by_name")]
    pub grpc_routes: BTreeMap<Key, RouteStatus>,
    /// EnvoyFilters.
    #[serde(serialize_with = "by_name")]
    pub envoy_filters: BTreeMap<Key, IstioStatus>,
}

fn by_name<T: serde::Serialize, S: serde::Serializer>(
    map: &BTreeMap<Key, T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(map.iter().map(|(key, status)| (key.to_string(), status)))
}

/// Computes every status. `previous` is what was computed last: what does not change keeps its time.
pub fn compute(view: &View, facts: &Facts, now: &Time, previous: &Statuses) -> Statuses {
    let mut statuses = Statuses::default();
    for (key, class) in view.gateway_classes.iter() {
        if gateway::is_ours(view, class) {
            let old = previous.gateway_classes.get(key).map(|status| status.conditions.as_slice());
            statuses.gateway_classes.insert(key.clone(), gateway::class_status(class, now, old.unwrap_or_default()));
        }
    }
    let attached = route::attached_counts(view);
    for (key, object) in view.gateways.iter() {
        if crate::index::attachment::our_controller(view, object).is_some() {
            let rejections: Vec<_> =
                facts.rejections.iter().filter(|one| one.gateway().as_ref() == Some(key)).collect();
            let known = gateway::Known { attached: &attached, rejections: &rejections };
            let status = gateway::gateway_status(view, key, object, &known, now, previous.gateways.get(key));
            statuses.gateways.insert(key.clone(), status);
        }
    }
    for (key, object) in view.http_routes.iter() {
        let status = route::http_status(view, key, object, now, previous.http_routes.get(key));
        statuses.http_routes.insert(key.clone(), status);
    }
    for (key, object) in view.grpc_routes.iter() {
        let status = route::grpc_status(view, key, object, now, previous.grpc_routes.get(key));
        statuses.grpc_routes.insert(key.clone(), status);
    }
    for (key, object) in view.envoy_filters.iter() {
        let status = envoy_filter::status(view, key, object, facts, now, previous.envoy_filters.get(key));
        statuses.envoy_filters.insert(key.clone(), status);
    }
    statuses
}
