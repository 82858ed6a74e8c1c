//! From what a folder says to what must run here: pods with their ports, applications and endpoints. Pure.
//!
//! Kubernetes would make a Pod of each replica of a Deployment and of each Gateway; here this does, with every pod
//! on 127.0.0.1 and told apart by port.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ferromesh_api::gateway_api::Gateway;
use ferromesh_api::gateway_api::gateway::{Listener, Protocol};
use ferromesh_api::{annotations, labels};
use ferromesh_controller::index::{Key, View};
use ferromesh_injector::decide;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, PodSpec, PodStatus, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::workloads::{Behind, Workloads};

/// Longest a Deployment may be here: each replica is a proxy and an application.
const MAX_REPLICAS: i32 = 32;

/// A pod to run.
#[derive(Debug, Clone, PartialEq)]
pub struct PodPlan {
    /// Namespace and name.
    pub key: Key,
    /// Deployment or gateway that it belongs to.
    pub workload: String,
    /// Service account; its identity.
    pub service_account: String,
    /// What it is.
    pub role: Role,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Environment of the first container.
    pub env: BTreeMap<String, String>,
    /// What stands behind it.
    pub behind: Behind,
    /// Its ports.
    pub ports: Vec<PortPlan>,
    /// Numbers of the containers' ports that have names.
    pub port_names: BTreeMap<String, u16>,
    /// Of a gateway: how a browser asks at those ports that serve HTTP.
    pub schemes: BTreeMap<u16, &'static str>,
    /// Its outbound HTTP proxy.
    pub http_proxy: Option<SocketAddr>,
    /// Containers' images.
    pub images: Vec<String>,
}

/// What a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An application with a proxy beside it.
    Sidecar,
    /// An application alone (its namespace does not ask for injection).
    Plain,
    /// A gateway.
    Gateway,
}

/// One port of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortPlan {
    /// The port that the YAML knows: a container's, or a Gateway listener's.
    pub port: u16,
    /// Where its traffic arrives here.
    pub listen: SocketAddr,
    /// Where the application listens; the same as `listen` for gateways and pods without a proxy.
    pub app: SocketAddr,
}

/// Gives out ports that are free here.
pub trait Ports {
    /// A free address on the loopback; `wanted` if that port is free.
    fn take(&mut self, wanted: Option<u16>) -> SocketAddr;
}

/// Pods that the view asks for. Those in `running` keep their ports; only new ones take some.
pub fn pods(
    view: &View,
    workloads: &Workloads,
    running: &BTreeMap<Key, PodPlan>,
    gateway_port: u16,
    ports: &mut dyn Ports,
) -> BTreeMap<Key, PodPlan> {
    let mut plans = BTreeMap::new();
    for (key, deployment) in view.deployments.iter() {
        for replica in 0..replicas(deployment) {
            let plan = deployment_pod(view, (key, deployment), replica, workloads, running, ports);
            plans.insert(plan.key.clone(), plan);
        }
    }
    for (key, gateway) in view.gateways.iter() {
        if is_ours(view, &gateway.spec.gateway_class_name) {
            let plan = gateway_pod(key, gateway, running, gateway_port, ports);
            plans.insert(plan.key.clone(), plan);
        }
    }
    plans
}

fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.replicas.unwrap_or(1).clamp(0, MAX_REPLICAS)
}

/// Whether a GatewayClass is Ferromesh's to serve.
fn is_ours(view: &View, class: &str) -> bool {
    view.class_controller(class).is_some_and(|controller| view.controllers().contains(&controller))
}

fn deployment_pod(
    view: &View,
    (key, deployment): (&Key, &Deployment),
    replica: i32,
    workloads: &Workloads,
    running: &BTreeMap<Key, PodPlan>,
    ports: &mut dyn Ports,
) -> PodPlan {
    let pod_key = Key::new(key.namespace.clone(), format!("{}-{replica}", key.name));
    let template = deployment.spec.template.clone();
    let metadata = template.metadata.unwrap_or_default();
    let spec = template.spec.unwrap_or_default();
    let mut labels = metadata.labels.unwrap_or_default();
    let injected = is_injected(view, key, &labels, &metadata.annotations.unwrap_or_default(), &spec);
    let role = if injected { Role::Sidecar } else { Role::Plain };
    if injected {
        labels.insert(labels::TLS_MODE.into(), labels::TLS_MODE_ISTIO.into());
    }
    let images: Vec<String> = spec.containers.iter().filter_map(|container| container.image.clone()).collect();
    let image_names: Vec<&str> = images.iter().map(String::as_str).collect();
    let behind = workloads.behind(&key.to_string(), &image_names);
    let old = running.get(&pod_key).filter(|old| old.role == role && old.behind == behind);
    let plan_port = |port: u16, ports: &mut dyn Ports| {
        if let Some(old) = old.and_then(|old| old.ports.iter().find(|old| old.port == port)) {
            return *old;
        }
        let app = if let Behind::Address(address) = behind { address } else { ports.take(None) };
        let listen = if injected { ports.take(None) } else { app };
        PortPlan { port, listen, app }
    };
    let wanted = container_ports(view, key, &labels, &spec.containers);
    let planned = wanted.into_iter().map(|port| plan_port(port, ports)).collect();
    let http_proxy = match old.and_then(|old| old.http_proxy) {
        Some(address) => Some(address),
        None => injected.then(|| ports.take(None)),
    };
    PodPlan {
        key: pod_key,
        workload: key.name.to_string(),
        service_account: spec.service_account_name.unwrap_or_else(|| "default".into()),
        role,
        labels,
        env: spec.containers.first().map(environment).unwrap_or_default(),
        behind,
        ports: planned,
        port_names: port_names(&spec.containers),
        schemes: BTreeMap::new(),
        http_proxy,
        images,
    }
}

fn is_injected(
    view: &View,
    key: &Key,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
    spec: &PodSpec,
) -> bool {
    let namespace_labels = view.namespace_labels(&key.namespace);
    let pod = decide::Pod { labels, annotations, host_network: spec.host_network.unwrap_or(false) };
    let namespace = decide::Namespace { name: &key.namespace, labels: &namespace_labels };
    matches!(decide::decide(pod, namespace, decide::DEFAULT_REVISION), decide::Decision::Inject)
}

/// Ports that traffic can come to: the containers' own, and those that Services of the pod name.
fn container_ports(
    view: &View,
    key: &Key,
    labels: &BTreeMap<String, String>,
    containers: &[Container],
) -> BTreeSet<u16> {
    let declared = containers.iter().flat_map(|container| container.ports.iter().flatten());
    let declared = declared.filter(|port| is_tcp(port.protocol.as_deref()));
    let mut ports: BTreeSet<u16> = declared.filter_map(|port| u16::try_from(port.container_port).ok()).collect();
    for (_, service) in view.services.in_namespace(&key.namespace).filter(|(_, service)| selects(service, labels)) {
        let spec = service.spec.as_ref();
        let service_ports = spec.into_iter().flat_map(|spec| spec.ports.iter().flatten());
        let service_ports = service_ports.filter(|port| is_tcp(port.protocol.as_deref()));
        ports.extend(service_ports.filter_map(|port| target_port(port, containers)));
    }
    ports
}

fn port_names(containers: &[Container]) -> BTreeMap<String, u16> {
    let ports = containers.iter().flat_map(|container| container.ports.iter().flatten());
    ports.filter_map(|port| Some((port.name.clone()?, u16::try_from(port.container_port).ok()?))).collect()
}

/// Proxies carry TCP; a port of another protocol is the application's own affair.
fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}

fn selects(service: &Service, labels: &BTreeMap<String, String>) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| {
        !selector.is_empty() && selector.iter().all(|(name, value)| labels.get(name) == Some(value))
    })
}

/// The container port that a service port leads to.
fn target_port(port: &ServicePort, containers: &[Container]) -> Option<u16> {
    match &port.target_port {
        None => u16::try_from(port.port).ok(),
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
        Some(IntOrString::String(name)) => containers
            .iter()
            .flat_map(|container| container.ports.iter().flatten())
            .find(|found| found.name.as_deref() == Some(name))
            .and_then(|found| u16::try_from(found.container_port).ok()),
    }
}

fn environment(container: &Container) -> BTreeMap<String, String> {
    let entries = container.env.iter().flatten();
    entries.filter_map(|entry| Some((entry.name.clone(), entry.value.clone()?))).collect()
}

fn gateway_pod(
    key: &Key,
    gateway: &Gateway,
    running: &BTreeMap<Key, PodPlan>,
    gateway_port: u16,
    ports: &mut dyn Ports,
) -> PodPlan {
    let workload = gateway_workload(key, gateway);
    let pod_key = Key::new(key.namespace.clone(), format!("{workload}-0"));
    let old = running.get(&pod_key);
    let mut labels = gateway.spec.infrastructure.as_ref().map(|more| more.labels.clone()).unwrap_or_default();
    labels.insert(labels::GATEWAY_NAME.into(), key.name.to_string());
    labels.insert(labels::GATEWAY_CLASS_NAME.into(), gateway.spec.gateway_class_name.clone());
    labels.insert(labels::CANONICAL_NAME.into(), workload.clone());
    labels.insert(labels::CANONICAL_REVISION.into(), "latest".into());
    let wanted: BTreeSet<u16> = gateway.spec.listeners.iter().map(|listener| listener.port).collect();
    let planned = wanted
        .into_iter()
        .map(|port| {
            if let Some(old) = old.and_then(|old| old.ports.iter().find(|old| old.port == port)) {
                return *old;
            }
            let listen = ports.take((port == 80).then_some(gateway_port));
            PortPlan { port, listen, app: listen }
        })
        .collect();
    PodPlan {
        key: pod_key,
        service_account: workload.clone(),
        workload,
        role: Role::Gateway,
        labels,
        env: BTreeMap::new(),
        behind: Behind::Nothing,
        ports: planned,
        port_names: BTreeMap::new(),
        schemes: gateway.spec.listeners.iter().filter_map(scheme).collect(),
        http_proxy: None,
        images: Vec::new(),
    }
}

fn scheme(listener: &Listener) -> Option<(u16, &'static str)> {
    match listener.protocol {
        Protocol::Http => Some((listener.port, "http")),
        Protocol::Https => Some((listener.port, "https")),
        _ => None,
    }
}

/// Name of what Istio makes for a Gateway: `<gateway>-<class>`.
fn gateway_workload(key: &Key, gateway: &Gateway) -> String {
    let overridden = gateway.metadata.annotations.as_ref().and_then(|all| all.get(annotations::GATEWAY_NAME_OVERRIDE));
    overridden.cloned().unwrap_or_else(|| format!("{}-{}", key.name, gateway.spec.gateway_class_name))
}

impl PodPlan {
    /// The Pod as the controller sees it.
    pub fn pod(&self) -> Pod {
        let listen: serde_json::Map<String, serde_json::Value> = self
            .ports
            .iter()
            .map(|port| {
                let entry = match self.role {
                    Role::Gateway => json!({ "listen": port.listen.to_string() }),
                    _ => json!({ "listen": port.listen.to_string(), "app": port.app.to_string() }),
                };
                (port.port.to_string(), entry)
            })
            .collect();
        let mut annotations = BTreeMap::new();
        if self.role != Role::Plain {
            annotations.insert(annotations::LISTEN.to_owned(), serde_json::Value::Object(listen).to_string());
            annotations.insert(annotations::SIDECAR_STATUS.to_owned(), json!({ "revision": "default" }).to_string());
        }
        if let Some(address) = self.http_proxy {
            annotations.insert(annotations::HTTP_PROXY.to_owned(), address.to_string());
        }
        let ready = PodCondition { status: "True".into(), type_: "Ready".into(), ..PodCondition::default() };
        let container = |image: &String| Container { image: Some(image.clone()), ..Container::default() };
        Pod {
            metadata: ObjectMeta {
                name: Some(self.key.name.to_string()),
                namespace: Some(self.key.namespace.to_string()),
                labels: Some(self.labels.clone()),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                service_account_name: Some(self.service_account.clone()),
                containers: self.images.iter().map(container).collect(),
                ..PodSpec::default()
            }),
            status: Some(PodStatus {
                phase: Some("Running".into()),
                pod_ip: Some("127.0.0.1".into()),
                conditions: Some(vec![ready]),
                ..PodStatus::default()
            }),
        }
    }

    /// Endpoints of this pod: one slice for each Service that selects it (pods differ by port, which a slice has once).
    pub fn endpoint_slices(&self, view: &View) -> Vec<EndpointSlice> {
        if self.role == Role::Gateway {
            return Vec::new();
        }
        let services = view.services.in_namespace(&self.key.namespace);
        services
            .filter(|(_, service)| selects(service, &self.labels))
            .map(|(key, service)| self.endpoint_slice(&key.name, service))
            .collect()
    }

    fn endpoint_slice(&self, service_name: &str, service: &Service) -> EndpointSlice {
        let service_ports = service.spec.as_ref().into_iter().flat_map(|spec| spec.ports.iter().flatten());
        let ports = service_ports
            .filter(|port| is_tcp(port.protocol.as_deref()))
            .filter_map(|port| {
                let target = match &port.target_port {
                    Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
                    Some(IntOrString::String(name)) => self.port_names.get(name).copied(),
                    None => u16::try_from(port.port).ok(),
                };
                let planned = self.ports.iter().find(|planned| Some(planned.port) == target)?;
                Some(EndpointPort {
                    name: port.name.clone(),
                    port: Some(planned.listen.port().into()),
                    app_protocol: port.app_protocol.clone(),
                    protocol: Some("TCP".into()),
                })
            })
            .collect();
        let endpoint = Endpoint {
            addresses: vec!["127.0.0.1".into()],
            conditions: Some(EndpointConditions { ready: Some(true), serving: Some(true), terminating: Some(false) }),
            target_ref: Some(k8s_openapi::api::core::v1::ObjectReference {
                kind: Some("Pod".into()),
                name: Some(self.key.name.to_string()),
                namespace: Some(self.key.namespace.to_string()),
                ..Default::default()
            }),
            ..Endpoint::default()
        };
        EndpointSlice {
            address_type: "IPv4".into(),
            metadata: ObjectMeta {
                name: Some(format!("{service_name}-{}", self.key.name)),
                namespace: Some(self.key.namespace.to_string()),
                labels: Some(BTreeMap::from([(labels::SERVICE_NAME.to_owned(), service_name.to_owned())])),
                ..ObjectMeta::default()
            },
            endpoints: Some(vec![endpoint]),
            ports: Some(ports),
        }
    }

    /// The Service that Istio would make for a gateway.
    pub fn gateway_service(&self) -> Option<Service> {
        if self.role != Role::Gateway {
            return None;
        }
        let ports = self
            .ports
            .iter()
            .map(|port| ServicePort {
                name: Some(format!("http-{}", port.port)),
                port: port.port.into(),
                ..ServicePort::default()
            })
            .collect();
        let gateway = self.labels.get(labels::GATEWAY_NAME).cloned().unwrap_or_default();
        Some(Service {
            metadata: ObjectMeta {
                name: Some(self.workload.clone()),
                namespace: Some(self.key.namespace.to_string()),
                labels: Some(self.labels.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(ServiceSpec {
                type_: Some("LoadBalancer".into()),
                selector: Some(BTreeMap::from([(labels::GATEWAY_NAME.to_owned(), gateway)])),
                ports: Some(ports),
                ..ServiceSpec::default()
            }),
            status: None,
        })
    }

    /// The identity that the CA gives it.
    pub fn spiffe_id(&self, trust_domain: &str) -> String {
        format!("spiffe://{trust_domain}/ns/{}/sa/{}", self.key.namespace, self.service_account)
    }
}

#[cfg(test)]
mod tests;
