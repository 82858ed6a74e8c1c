//! What the injector was told about the mesh: its own settings file and MeshConfig. The same for every pod.

use std::collections::BTreeMap;

use ferromesh_api::istio::mesh_config::{MeshConfig, rules};
use k8s_openapi::api::core::v1::{ResourceRequirements, SeccompProfile};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::{Deserialize, Serialize};

use crate::annotations::{List, check_list};

/// The revision of a control plane that was given no name.
pub const DEFAULT_REVISION: &str = "default";

/// Who puts the redirect rules into a pod's network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RedirectBy {
    /// The init container `istio-init`, with NET_ADMIN.
    #[default]
    InitContainer,
    /// The agent on the node (CNI); `istio-validation` only checks, without any privilege.
    NodeAgent,
}

/// The injector's settings file (YAML). Every field has a default; an unknown one is an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Image of the proxy, with the init program in it.
    pub proxy_image: String,
    /// `Always`, `IfNotPresent` or `Never`; the cluster's default where it is empty.
    pub image_pull_policy: String,
    /// Secrets to pull images with, added to every injected pod.
    pub image_pull_secrets: Vec<String>,
    /// Revision of this control plane.
    pub revision: String,
    /// Where the proxy gets its configuration.
    pub discovery_address: String,
    /// Where the proxy gets its certificate.
    pub ca_address: String,
    /// ConfigMap with the mesh's root certificates, in each namespace.
    pub trust_bundle: String,
    /// Domain of the cluster's Services.
    pub cluster_domain: String,
    /// Name of the cluster.
    pub cluster_id: String,
    /// Name of the mesh; its trust domain where it is empty.
    pub mesh_id: String,
    /// Network that this cluster's pods are in.
    pub network: String,
    /// Whether proxies are native sidecars (Kubernetes from 1.29 on).
    pub native_sidecars: bool,
    /// Who redirects.
    pub redirect_by: RedirectBy,
    /// Resources of the proxy.
    pub resources: ResourceRequirements,
    /// Resources of the init container.
    pub init_resources: ResourceRequirements,
    /// Log level of the proxy.
    pub log_level: String,
    /// Log levels of the proxy's parts.
    pub component_log_level: String,
    /// Log level of the agent.
    pub agent_log_level: String,
    /// Whether logs are JSON.
    pub log_as_json: bool,
    /// Seconds before the proxy's first readiness probe.
    pub readiness_initial_delay_seconds: i32,
    /// Seconds between two of them.
    pub readiness_period_seconds: i32,
    /// How many failures in a row make the proxy not ready.
    pub readiness_failure_threshold: i32,
    /// How many seconds the proxy may take to start, until the kubelet starts it anew.
    pub startup_failure_threshold: i32,
    /// Whether the application waits for the proxy, where the sidecar is not native.
    pub hold_application_until_proxy_starts: bool,
    /// Whether application probes go through the proxy.
    pub rewrite_app_http_probe: bool,
    /// Outbound ranges that are captured.
    pub include_outbound_ip_ranges: String,
    /// Outbound ranges that are not.
    pub exclude_outbound_ip_ranges: String,
    /// Inbound ports that are captured.
    pub include_inbound_ports: String,
    /// Inbound ports that are not.
    pub exclude_inbound_ports: String,
    /// Outbound ports that are captured whatever the ranges say.
    pub include_outbound_ports: String,
    /// Outbound ports that are not.
    pub exclude_outbound_ports: String,
    /// Seccomp profile of the injected containers.
    pub seccomp_profile: Option<SeccompProfile>,
    /// Pods that are never injected, unless their label or annotation asks for it.
    pub never_inject_selector: Vec<LabelSelector>,
    /// Pods that are injected although the namespaces' rules alone would not.
    pub always_inject_selector: Vec<LabelSelector>,
    /// Annotations that every injected pod gets.
    pub injected_annotations: BTreeMap<String, String>,
    /// Labels that every injected pod gets.
    pub injected_labels: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            proxy_image: "ferromesh/proxy:latest".into(),
            image_pull_policy: String::new(),
            image_pull_secrets: Vec::new(),
            revision: DEFAULT_REVISION.into(),
            discovery_address: "ferromesh-controller.ferromesh-system.svc:15012".into(),
            ca_address: "ferromesh-ca.ferromesh-system.svc:15012".into(),
            trust_bundle: "istio-ca-root-cert".into(),
            cluster_domain: "cluster.local".into(),
            cluster_id: "Kubernetes".into(),
            mesh_id: String::new(),
            network: String::new(),
            native_sidecars: true,
            redirect_by: RedirectBy::default(),
            // A proxy of this mesh is at 12 MB idle and uses a third of the usual CPU.
            resources: requirements(("50m", "32Mi"), Some(("2", "512Mi"))),
            init_resources: requirements(("10m", "16Mi"), Some(("1", "64Mi"))),
            log_level: "warning".into(),
            component_log_level: String::new(),
            agent_log_level: "default:info".into(),
            log_as_json: false,
            readiness_initial_delay_seconds: 0,
            readiness_period_seconds: 15,
            readiness_failure_threshold: 4,
            startup_failure_threshold: 600,
            hold_application_until_proxy_starts: false,
            rewrite_app_http_probe: true,
            include_outbound_ip_ranges: "*".into(),
            exclude_outbound_ip_ranges: String::new(),
            include_inbound_ports: "*".into(),
            exclude_inbound_ports: String::new(),
            include_outbound_ports: String::new(),
            exclude_outbound_ports: String::new(),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
            never_inject_selector: Vec::new(),
            always_inject_selector: Vec::new(),
            injected_annotations: BTreeMap::new(),
            injected_labels: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// Whether every list is one.
    pub(crate) fn check(&self) -> Result<(), BadSettings> {
        self.lists().into_iter().try_for_each(|(field, list, text)| {
            check_list(list, text)
                .map_err(|reason| BadSettings { file: "settings", reason: format!("{field}: {reason}") })
        })
    }

    fn lists(&self) -> [(&'static str, List, &str); 6] {
        [
            ("includeOutboundIpRanges", List::RangesOrAll, &self.include_outbound_ip_ranges),
            ("excludeOutboundIpRanges", List::Ranges, &self.exclude_outbound_ip_ranges),
            ("includeInboundPorts", List::PortsOrAll, &self.include_inbound_ports),
            ("excludeInboundPorts", List::Ports, &self.exclude_inbound_ports),
            ("includeOutboundPorts", List::Ports, &self.include_outbound_ports),
            ("excludeOutboundPorts", List::Ports, &self.exclude_outbound_ports),
        ]
    }
}

/// Requests and limits of CPU and memory.
pub(crate) fn requirements(requests: (&str, &str), limits: Option<(&str, &str)>) -> ResourceRequirements {
    let map = |(cpu, memory): (&str, &str)| {
        BTreeMap::from([("cpu".to_owned(), Quantity(cpu.into())), ("memory".to_owned(), Quantity(memory.into()))])
    };
    ResourceRequirements { requests: Some(map(requests)), limits: limits.map(map), claims: None }
}

/// Settings and MeshConfig together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mesh {
    /// The injector's settings.
    pub settings: Settings,
    /// The mesh's.
    pub mesh_config: MeshConfig,
}

/// A file with settings that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct BadSettings {
    /// Which.
    pub file: &'static str,
    /// What is wrong, with the line.
    pub reason: String,
}

impl Mesh {
    /// Reads both texts; an empty one is all defaults.
    ///
    /// # Errors
    /// If one is not YAML, has a field that is not known (settings), a value of the wrong type or a word that is none.
    pub fn read(settings: &str, mesh_config: &str) -> Result<Self, BadSettings> {
        let settings: Settings = yaml("settings", settings)?;
        let mesh_config: MeshConfig = yaml("MeshConfig", mesh_config)?;
        let mesh = Self { settings, mesh_config };
        mesh.check()?;
        Ok(mesh)
    }

    /// Whether every list is one and every word is known.
    pub(crate) fn check(&self) -> Result<(), BadSettings> {
        self.settings.check()?;
        match rules::wrong(&self.mesh_config).into_iter().next() {
            Some(wrong) => Err(BadSettings { file: "MeshConfig", reason: wrong.what }),
            None => Ok(()),
        }
    }

    /// Name of the mesh.
    pub(crate) fn mesh_id(&self) -> &str {
        if self.settings.mesh_id.is_empty() { &self.mesh_config.trust_domain } else { &self.settings.mesh_id }
    }
}

fn yaml<T: serde::de::DeserializeOwned + Default>(file: &'static str, text: &str) -> Result<T, BadSettings> {
    if text.trim().is_empty() {
        return Ok(T::default());
    }
    let value: Option<T> =
        serde_saphyr::from_str(text).map_err(|error| BadSettings { file, reason: error.to_string() })?;
    Ok(value.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_all_defaults_and_a_bad_one_names_the_field() {
        assert_eq!(Mesh::read("", "").unwrap(), Mesh::default());
        let error = Mesh::read("proxyImagee: a\n", "").unwrap_err().to_string();
        assert!(error.contains("settings") && error.contains("proxyImagee"), "{error}");
        let error = Mesh::read("excludeOutboundIpRanges: '*'\n", "").unwrap_err().to_string();
        assert!(error.contains("excludeOutboundIpRanges"), "{error}");
        let error = Mesh::read("", "inboundTrafficPolicy: {mode: LOCALHOSTT}\n").unwrap_err().to_string();
        assert!(error.contains("MeshConfig") && error.contains("LOCALHOSTT"), "{error}");
        let mesh = Mesh::read("proxyImage: r/p:1\n", "trustDomain: corp\n").unwrap();
        assert_eq!((mesh.settings.proxy_image.as_str(), mesh.mesh_id()), ("r/p:1", "corp"));
    }
}
