//! What the controller never looks at is dropped before it is kept: of a Pod that is nine tenths. What is dropped makes
//! no new view when it changes.

use ferromesh_api::ObjectMeta;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, PodSpec, PodStatus, Secret, Service};
use std::sync::Arc;

use crate::index::Object;

/// The annotation in which `kubectl apply` keeps the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The values of a Secret that a TLS configuration can use, in Kubernetes' form and in Istio's.
const CERTIFICATE_KEYS: [&str; 8] = ["tls.crt", "tls.key", "ca.crt", "ca.crl", "cert", "key", "cacert", "crl"];
/// The keys of a ConfigMap that are read: MeshConfig, and roots for the certificates of a Gateway's clients.
const CONFIG_MAP_KEYS: [&str; 2] = [crate::index::mesh::KEY, "ca.crt"];

/// Drops what is not used.
pub(super) fn trim(object: &mut Object) {
    trim_metadata(object.metadata_mut());
    match object {
        Object::Pod(pod) => trim_pod(Arc::make_mut(pod)),
        Object::Secret(secret) => trim_secret(Arc::make_mut(secret)),
        Object::ConfigMap(map) => trim_config_map(Arc::make_mut(map)),
        Object::Service(service) => trim_service(Arc::make_mut(service)),
        Object::Namespace(namespace) => {
            let namespace = Arc::make_mut(namespace);
            (namespace.spec, namespace.status) = (None, None);
        }
        _ => {}
    }
}

fn trim_metadata(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    // It changes with every write, whatever is written.
    metadata.resource_version = None;
    metadata.self_link = None;
    metadata.finalizers = None;
    metadata.owner_references = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
        if annotations.is_empty() {
            metadata.annotations = None;
        }
    }
}

fn trim_pod(pod: &mut Pod) {
    if let Some(spec) = pod.spec.take() {
        let port_only = |container: Container| Container {
            name: container.name,
            ports: container.ports,
            restart_policy: container.restart_policy,
            ..Container::default()
        };
        pod.spec = Some(PodSpec {
            service_account_name: spec.service_account_name,
            node_name: spec.node_name,
            hostname: spec.hostname,
            subdomain: spec.subdomain,
            host_network: spec.host_network,
            containers: spec.containers.into_iter().map(port_only).collect(),
            init_containers: spec.init_containers.map(|all| all.into_iter().map(port_only).collect()),
            ..PodSpec::default()
        });
    }
    if let Some(status) = pod.status.take() {
        let conditions = status.conditions.map(|all| {
            let ready = all.into_iter().filter(|condition| condition.type_ == "Ready");
            let bare = ready.map(|mut condition| {
                (condition.last_probe_time, condition.message, condition.reason) = (None, None, None);
                condition
            });
            bare.collect()
        });
        pod.status = Some(PodStatus {
            phase: status.phase,
            pod_ip: status.pod_ip,
            pod_ips: status.pod_ips,
            conditions,
            ..PodStatus::default()
        });
    }
}

fn trim_secret(secret: &mut Secret) {
    if let Some(data) = &mut secret.data {
        data.retain(|key, _| CERTIFICATE_KEYS.contains(&key.as_str()));
    }
    secret.string_data = None;
}

/// Of a ConfigMap, MeshConfig and roots are used. Other annotations change with every renewal of an old kind of lease.
fn trim_config_map(map: &mut ConfigMap) {
    if let Some(annotations) = &mut map.metadata.annotations {
        annotations.retain(|name, _| name == ferromesh_api::annotations::ANALYZE_SUPPRESS);
    }
    if let Some(data) = &mut map.data {
        data.retain(|key, _| CONFIG_MAP_KEYS.contains(&key.as_str()));
    }
    if let Some(data) = &mut map.binary_data {
        data.retain(|key, _| CONFIG_MAP_KEYS.contains(&key.as_str()));
    }
}

fn trim_service(service: &mut Service) {
    if let Some(status) = &mut service.status {
        status.conditions = None;
    }
}
