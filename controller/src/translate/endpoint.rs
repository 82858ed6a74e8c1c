//! A Service's port with its EndpointSlices and pods goes in; a `ClusterLoadAssignment` comes out.

use std::collections::{BTreeMap, BTreeSet};

use ferromesh_api::istio::peer_authentication::MtlsMode;
use ferromesh_api::labels as known;
use ferromesh_proto::envoy::config::core::v3::{Locality, Metadata};
use ferromesh_proto::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use ferromesh_proto::json::json_to_struct;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1 as discovery;
use serde_json::json;

use super::message::address;
use super::service::{Port, ServiceInfo, is_meshed, pod_of_endpoint, workload_name};
use crate::index::{View, labels};

type ByLocality = BTreeMap<(String, String, String), Vec<LbEndpoint>>;

/// The endpoints of one port of a Service.
pub fn load_assignment(view: &View, service: &ServiceInfo, port: &Port, cluster: &str) -> ClusterLoadAssignment {
    let mut groups = ByLocality::new();
    let mut seen = BTreeSet::new();
    let key = &service.key;
    // Where nothing is ready, what still serves while it ends is better than nothing.
    let any_ready = view
        .slices_of(&key.namespace, &key.name)
        .any(|slice| slice.endpoints.iter().flatten().any(is_ready) && port_of(slice, port).is_some());
    for slice in view.slices_of(&key.namespace, &key.name) {
        let Some(number) = port_of(slice, port) else { continue };
        if slice.address_type == "FQDN" {
            continue;
        }
        for endpoint in slice.endpoints.iter().flatten() {
            if !(is_ready(endpoint) || (!any_ready && is_serving(endpoint))) {
                continue;
            }
            let pod = pod_of_endpoint(view, &key.namespace, endpoint).map(|pod| &**pod);
            for ip in &endpoint.addresses {
                if seen.insert((ip.clone(), number)) {
                    let lb = lb_endpoint(view, pod, ip, number);
                    groups.entry(locality(pod, endpoint)).or_default().push(lb);
                }
            }
        }
    }
    ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: groups.into_iter().map(group).collect(),
        ..ClusterLoadAssignment::default()
    }
}

pub(super) fn is_ready(endpoint: &discovery::Endpoint) -> bool {
    endpoint.conditions.as_ref().is_none_or(|conditions| conditions.ready != Some(false))
}

fn is_serving(endpoint: &discovery::Endpoint) -> bool {
    endpoint.conditions.as_ref().is_some_and(|conditions| conditions.serving == Some(true))
}

fn port_of(slice: &discovery::EndpointSlice, port: &Port) -> Option<u32> {
    let ports = slice.ports.as_deref().unwrap_or_default();
    let found = ports.iter().find(|candidate| candidate.name.as_deref().unwrap_or_default() == port.name)?;
    u32::try_from(found.port?).ok().filter(|number| (1..=65535).contains(number))
}

fn locality(pod: Option<&Pod>, endpoint: &discovery::Endpoint) -> (String, String, String) {
    let label = |key: &str| pod.and_then(|pod| labels::of(&pod.metadata).get(key)).cloned();
    let zone = label(known::TOPOLOGY_ZONE).or_else(|| endpoint.zone.clone());
    (
        label(known::TOPOLOGY_REGION).unwrap_or_default(),
        zone.unwrap_or_default(),
        label(known::TOPOLOGY_SUBZONE).unwrap_or_default(),
    )
}

fn group(((region, zone, sub_zone), lb_endpoints): ((String, String, String), Vec<LbEndpoint>)) -> LocalityLbEndpoints {
    LocalityLbEndpoints {
        locality: Some(Locality { region, zone, sub_zone }),
        load_balancing_weight: u32::try_from(lb_endpoints.len()).ok(),
        lb_endpoints,
        ..LocalityLbEndpoints::default()
    }
}

fn lb_endpoint(view: &View, pod: Option<&Pod>, ip: &str, port: u32) -> LbEndpoint {
    let mut metadata = Metadata::default();
    if let Some(pod) = pod {
        let mode = u16::try_from(port).map(|port| view.mtls_mode_of_pod(&pod.metadata, own_port(pod, port)));
        if is_meshed(pod) && mode != Ok(MtlsMode::Disable) {
            let value = json_to_struct(&json!({ "tlsMode": known::TLS_MODE_ISTIO }));
            metadata.filter_metadata.insert("envoy.transport_socket_match".to_owned(), value);
        }
        let value = json_to_struct(&json!({ "workload": workload(pod) }));
        metadata.filter_metadata.insert("istio".to_owned(), value);
    }
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(address(ip, port)),
            ..Endpoint::default()
        })),
        metadata: Some(metadata).filter(|metadata| !metadata.filter_metadata.is_empty()),
        load_balancing_weight: Some(1),
        ..LbEndpoint::default()
    }
}

/// The pod's own port for one at which its sidecar listens; they differ on a laptop only.
fn own_port(pod: &Pod, port: u16) -> u16 {
    let listens = super::laptop::listens(&pod.metadata);
    listens.iter().find(|listen| listen.listen.1 == u32::from(port)).map_or(port, |listen| listen.port)
}

/// `name;namespace;canonical name;canonical revision;cluster`, as Istio's telemetry reads it.
fn workload(pod: &Pod) -> String {
    let own = labels::of(&pod.metadata);
    let first = |keys: [&str; 3]| keys.iter().find_map(|key| own.get(*key)).map(String::as_str);
    let name = workload_name(pod);
    let canonical = first([known::CANONICAL_NAME, known::APP_NAME, known::APP]).unwrap_or(&name);
    let revision = first([known::CANONICAL_REVISION, known::APP_VERSION, known::VERSION]).unwrap_or("latest");
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    format!("{name};{namespace};{canonical};{revision};Kubernetes")
}
