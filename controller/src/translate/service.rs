//! A Service goes in; its names, addresses, ports and the identities behind it come out.

use std::collections::BTreeSet;
use std::sync::Arc;

use ferromesh_api::{annotations, labels as names_of_labels};
use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names;
use super::protocol::Protocol;
use crate::index::{Key, View, labels, pods};

/// How a Service is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// By its own addresses.
    Addresses(Vec<String>),
    /// By the addresses of its pods.
    Headless,
    /// By another name.
    ExternalName(String),
}

/// A TCP port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Number.
    pub number: u16,
    /// Name; may be empty.
    pub name: String,
    /// What it speaks.
    pub protocol: Protocol,
}

/// What translation wants to know of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceInfo {
    /// Namespace and name.
    pub key: Key,
    /// Full name.
    pub host: String,
    /// How it is reached.
    pub reach: Reach,
    /// Its TCP ports.
    pub ports: Vec<Port>,
}

impl ServiceInfo {
    /// Reads a Service.
    pub fn new(key: &Key, service: &Service) -> Self {
        let spec = service.spec.as_ref();
        let addresses = || {
            let one = spec.and_then(|spec| spec.cluster_ip.clone());
            let all = spec.and_then(|spec| spec.cluster_ips.clone()).unwrap_or_default();
            let mut addresses: Vec<String> = one.into_iter().chain(all).filter(|ip| !ip.is_empty()).collect();
            let mut seen = BTreeSet::new();
            addresses.retain(|ip| seen.insert(ip.clone()));
            addresses
        };
        let external = spec.filter(|spec| spec.type_.as_deref() == Some("ExternalName"));
        let reach = match external.and_then(|spec| spec.external_name.clone()) {
            Some(name) => Reach::ExternalName(name.trim_end_matches('.').to_owned()),
            None => match addresses() {
                found if found.iter().any(|ip| ip == "None") => Reach::Headless,
                found => Reach::Addresses(found),
            },
        };
        let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
        Self {
            host: names::host(&key.namespace, &key.name),
            key: key.clone(),
            reach,
            ports: ports.iter().filter_map(port).collect(),
        }
    }

    /// Whether connections to some port of it go to the pod that the client meant, unbalanced.
    pub fn is_passed_through(&self) -> bool {
        self.reach == Reach::Headless && self.ports.iter().any(|port| !port.protocol.is_http())
    }

    /// The port with this number.
    pub fn port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.number == number)
    }
}

fn port(port: &ServicePort) -> Option<Port> {
    let protocol = Protocol::of(port);
    let number = u16::try_from(port.port).ok().filter(|number| *number > 0)?;
    (protocol != Protocol::Udp).then(|| Port { number, name: port.name.clone().unwrap_or_default(), protocol })
}

/// Whether workloads of `namespace` may see a Service (`networking.istio.io/exportTo`, else MeshConfig).
pub fn visible(view: &View, key: &Key, service: &Service, namespace: &str) -> bool {
    let own = &*key.namespace == namespace;
    let allows = |word: &str| match word.trim() {
        "*" => true,
        "." => own,
        "~" => false,
        other => other == namespace,
    };
    match labels::annotation(&service.metadata, annotations::EXPORT_TO) {
        Some(words) => words.split(',').any(allows),
        None => view.mesh.default_service_export_to.iter().any(|word| allows(word)),
    }
}

/// Whether every namespace sees every Service.
pub fn all_visible(view: &View) -> bool {
    let is_open = |service: &Service| match labels::annotation(&service.metadata, annotations::EXPORT_TO) {
        Some(words) => words.split(',').any(|word| word.trim() == "*"),
        None => view.mesh.default_service_export_to.iter().any(|word| word.trim() == "*"),
    };
    view.services.values().all(|service| is_open(service))
}

/// Whether a pod's proxy speaks mesh mTLS.
pub fn is_meshed(pod: &Pod) -> bool {
    let own = labels::of(&pod.metadata);
    let told = own.get(names_of_labels::TLS_MODE).map(String::as_str);
    let gateway = own.contains_key(names_of_labels::GATEWAY_NAME);
    match told {
        Some(mode) => mode == names_of_labels::TLS_MODE_ISTIO,
        // On a laptop the annotation says that there is a sidecar.
        None => !gateway && labels::annotation(&pod.metadata, annotations::LISTEN).is_some(),
    }
}

/// The SPIFFE IDs that a pod may show: in the trust domain and its aliases.
pub fn identities<'a>(view: &'a View, pod: &Pod) -> impl Iterator<Item = String> + 'a {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let account = pods::service_account(pod).to_owned();
    let domains = std::iter::once(&view.mesh.trust_domain).chain(&view.mesh.trust_domain_aliases);
    domains.map(move |domain| format!("spiffe://{domain}/ns/{namespace}/sa/{account}"))
}

/// The SPIFFE IDs of all pods behind a Service.
pub fn service_identities(view: &View, key: &Key, service: &Service) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for slice in view.slices_of(&key.namespace, &key.name) {
        for endpoint in slice.endpoints.iter().flatten() {
            if let Some(pod) = pod_of_endpoint(view, &key.namespace, endpoint) {
                found.extend(identities(view, pod));
            }
        }
    }
    if found.is_empty() {
        for (_, pod) in view.pods_of_service(&key.namespace, service) {
            found.extend(identities(view, pod));
        }
    }
    found
}

/// The pod behind an endpoint, by its reference, or else by an address that only one pod has.
pub fn pod_of_endpoint<'a>(
    view: &'a View,
    namespace: &str,
    endpoint: &k8s_openapi::api::discovery::v1::Endpoint,
) -> Option<&'a Arc<Pod>> {
    if let Some(target) = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod")) {
        let namespace = target.namespace.as_deref().unwrap_or(namespace);
        return view.pods.named(namespace, target.name.as_deref()?);
    }
    let mut pods = view.pods_with_ip(endpoint.addresses.first()?);
    let (_, pod) = pods.next()?;
    pods.next().is_none().then_some(pod)
}

/// The pod's own port that a Service's port means.
pub fn target_port(port: &ServicePort, pod: &Pod) -> Option<u16> {
    match &port.target_port {
        None => u16::try_from(port.port).ok(),
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
        Some(IntOrString::String(name)) => {
            let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
            let mut ports = containers.iter().flat_map(|container| container.ports.iter().flatten());
            let found = ports.find(|port| port.name.as_ref() == Some(name))?;
            u16::try_from(found.container_port).ok()
        }
    }
    .filter(|number| *number > 0)
}

/// Name of the workload that a pod belongs to.
pub fn workload_name(pod: &Pod) -> String {
    let own = labels::of(&pod.metadata);
    if let Some(name) = own.get(names_of_labels::WORKLOAD_NAME) {
        return name.clone();
    }
    let owner = pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    if let Some(owner) = owner {
        let hash = own.get(names_of_labels::POD_TEMPLATE_HASH).map(|hash| format!("-{hash}"));
        let stripped = hash.as_deref().and_then(|hash| owner.name.strip_suffix(hash));
        return stripped.unwrap_or(&owner.name).to_owned();
    }
    let canonical = own.get(names_of_labels::CANONICAL_NAME).or_else(|| own.get(names_of_labels::APP));
    canonical.cloned().or_else(|| pod.metadata.name.clone()).unwrap_or_default()
}
