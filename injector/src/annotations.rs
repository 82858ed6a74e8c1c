//! A pod's annotations, read once into types; a wrong value is refused with the annotation's name and what is right.
//!
//! Source of names and values: Istio's "Resource Annotations" page. An annotation that is read by nobody here is
//! either not for pods or named in [`PodSettings::warnings`].

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Volume, VolumeMount};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::Value;

mod parse;

/// Prefix of the annotations that choose what traffic is redirected.
const TRAFFIC: &str = "traffic.sidecar.istio.io/";

/// How traffic gets into the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InterceptionMode {
    /// By destination NAT: the application sees the proxy's address as its client's.
    #[default]
    Redirect,
    /// By a transparent socket: the application sees its client's address.
    Tproxy,
    /// Not at all.
    None,
}

impl InterceptionMode {
    /// The word, as Istio writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redirect => "REDIRECT",
            Self::Tproxy => "TPROXY",
            Self::None => "NONE",
        }
    }
}

/// What a pod is injected as (Istio's injection templates).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Template {
    /// A proxy beside the application, with its traffic redirected.
    #[default]
    Sidecar,
    /// A proxy that is the pod's purpose: nothing is redirected.
    Gateway,
}

/// Which traffic is redirected: lists as they are written, checked, without blanks; `*` is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How.
    pub mode: Option<InterceptionMode>,
    /// Outbound ranges that are captured.
    pub include_outbound_ip_ranges: Option<String>,
    /// Outbound ranges that are not.
    pub exclude_outbound_ip_ranges: Option<String>,
    /// Inbound ports that are captured.
    pub include_inbound_ports: Option<String>,
    /// Inbound ports that are not.
    pub exclude_inbound_ports: Option<String>,
    /// Outbound ports that are captured whatever the ranges say.
    pub include_outbound_ports: Option<String>,
    /// Outbound ports that are not.
    pub exclude_outbound_ports: Option<String>,
    /// Interfaces whose traffic is left alone.
    pub exclude_interfaces: Option<String>,
    /// Interfaces (of virtual machines) whose inbound traffic counts as outbound.
    pub reroute_interfaces: Option<String>,
}

/// The proxy's CPU and memory. If any of them is set, none of the mesh's are used (Istio's rule).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resources {
    /// Requested CPU.
    pub cpu: Option<Quantity>,
    /// Requested memory.
    pub memory: Option<Quantity>,
    /// Most CPU.
    pub cpu_limit: Option<Quantity>,
    /// Most memory.
    pub memory_limit: Option<Quantity>,
}

impl Resources {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The readiness probe of the proxy, in seconds and times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Seconds before the first.
    pub initial_delay: Option<i32>,
    /// Seconds between two.
    pub period: Option<i32>,
    /// How many failures in a row make it not ready.
    pub failure_threshold: Option<i32>,
}

/// What a pod's annotations ask for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodSettings {
    /// As what it is injected.
    pub template: Template,
    /// What is redirected.
    pub traffic: Traffic,
    /// ProxyConfig, to be laid over the mesh's.
    pub proxy_config: Option<Value>,
    /// Image of the proxy.
    pub image: Option<String>,
    /// Suffix of the image's tag: `debug`, `distroless`.
    pub image_type: Option<String>,
    /// Resources of the proxy.
    pub resources: Resources,
    /// Log level of the proxy.
    pub log_level: Option<String>,
    /// Log levels of the proxy's parts.
    pub component_log_level: Option<String>,
    /// Log level of the agent.
    pub agent_log_level: Option<String>,
    /// Volumes that only the proxy uses.
    pub volumes: Vec<Volume>,
    /// Where the proxy mounts them.
    pub volume_mounts: Vec<VolumeMount>,
    /// Port of the agent's status; 0 switches the proxy's probes off.
    pub status_port: Option<u16>,
    /// The proxy's readiness probe.
    pub readiness: Readiness,
    /// Whether application probes go through the proxy.
    pub rewrite_probes: Option<bool>,
    /// Whether the application's metrics are merged with the proxy's.
    pub merge_metrics: Option<bool>,
    /// Whether the proxy is a native sidecar (an init container that stays).
    pub native_sidecar: Option<bool>,
    /// Whether the proxy may bind ports below 1024.
    pub bind_service: Option<bool>,
    /// What was asked for and is not done; sentences for the user.
    pub warnings: Vec<String>,
}

/// One annotation with a value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadAnnotation {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl fmt::Display for BadAnnotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "annotation {}: {:?} {}", self.name, self.value, self.reason)
    }
}

/// Annotations of Istio that are known and do nothing here, and what to do instead.
const NOT_HONOURED: [(&str, &str); 10] = [
    ("prometheus.istio.io/scrape-targets", "one port is merged: write prometheus.io/port and prometheus.io/path"),
    ("sidecar.istio.io/bootstrapOverride", "use an EnvoyFilter with applyTo: BOOTSTRAP"),
    ("sidecar.istio.io/statsInclusionPrefixes", "all of the proxy's statistics are served"),
    ("sidecar.istio.io/statsInclusionSuffixes", "all of the proxy's statistics are served"),
    ("sidecar.istio.io/statsInclusionRegexps", "all of the proxy's statistics are served"),
    ("sidecar.istio.io/extraStatTags", "use a Telemetry object's tagOverrides"),
    ("sidecar.istio.io/statsHistogramBuckets", "the buckets are Istio's standard ones"),
    ("sidecar.istio.io/statsFlushInterval", "statistics are always current"),
    ("sidecar.istio.io/statsEvictionInterval", "label sets are bounded instead"),
    ("readiness.status.sidecar.istio.io/applicationPorts", "the application has readiness probes of its own"),
];

/// Reads a pod's annotations.
///
/// # Errors
/// Every annotation whose value cannot be used, in the order of their names.
pub fn read(annotations: &BTreeMap<String, String>) -> Result<PodSettings, Vec<BadAnnotation>> {
    let mut reader = Reader { annotations, problems: Vec::new() };
    let mut settings = PodSettings {
        template: reader.get("inject.istio.io/templates", parse::template).unwrap_or_default(),
        traffic: reader.traffic(),
        proxy_config: reader.get("proxy.istio.io/config", parse::proxy_config),
        image: reader.get("sidecar.istio.io/proxyImage", parse::image),
        image_type: reader.get("sidecar.istio.io/proxyImageType", parse::word),
        resources: reader.resources(),
        log_level: reader.get("sidecar.istio.io/logLevel", parse::log_level),
        component_log_level: reader.get("sidecar.istio.io/componentLogLevel", parse::component_log_level),
        agent_log_level: reader.get("sidecar.istio.io/agentLogLevel", parse::agent_log_level),
        volumes: reader.get("sidecar.istio.io/userVolume", parse::volumes).unwrap_or_default(),
        volume_mounts: reader.get("sidecar.istio.io/userVolumeMount", parse::volume_mounts).unwrap_or_default(),
        status_port: reader.get("status.sidecar.istio.io/port", parse::port),
        readiness: reader.readiness(),
        rewrite_probes: reader.get("sidecar.istio.io/rewriteAppHTTPProbers", parse::boolean),
        merge_metrics: reader.get("prometheus.istio.io/merge-metrics", parse::boolean),
        native_sidecar: reader.get("sidecar.istio.io/nativeSidecar", parse::boolean),
        bind_service: reader.get("sidecar.istio.io/capNetBindService", parse::boolean),
        warnings: Vec::new(),
    };
    for (name, instead) in NOT_HONOURED {
        if annotations.contains_key(name) {
            settings.warnings.push(format!("annotation {name} has no effect; {instead}"));
        }
    }
    let mut problems = reader.problems;
    problems.sort_by(|a, b| a.name.cmp(&b.name));
    if problems.is_empty() { Ok(settings) } else { Err(problems) }
}

/// What a list of the mesh's settings may have; the rules are those of the annotations of the same meaning.
#[derive(Debug, Clone, Copy)]
pub(crate) enum List {
    RangesOrAll,
    Ranges,
    PortsOrAll,
    Ports,
}

/// Checks a list; the error shows it.
pub(crate) fn check_list(kind: List, text: &str) -> Result<(), String> {
    let checked = match kind {
        List::RangesOrAll => parse::ranges_or_all(text),
        List::Ranges => parse::ranges(text),
        List::PortsOrAll => parse::ports_or_all(text),
        List::Ports => parse::ports(text),
    };
    checked.map(drop).map_err(|reason| format!("{text:?} {reason}"))
}

struct Reader<'a> {
    annotations: &'a BTreeMap<String, String>,
    problems: Vec<BadAnnotation>,
}

impl Reader<'_> {
    fn get<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let value = self.annotations.get(name)?;
        match parse(value) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.problems.push(BadAnnotation { name: name.to_owned(), value: value.clone(), reason });
                None
            }
        }
    }

    fn traffic(&mut self) -> Traffic {
        let mut list =
            |name: &str, parse: fn(&str) -> Result<String, String>| self.get(&format!("{TRAFFIC}{name}"), parse);
        let include_outbound_ip_ranges = list("includeOutboundIPRanges", parse::ranges_or_all);
        let exclude_outbound_ip_ranges = list("excludeOutboundIPRanges", parse::ranges);
        let include_inbound_ports = list("includeInboundPorts", parse::ports_or_all);
        let exclude_inbound_ports = list("excludeInboundPorts", parse::ports);
        let include_outbound_ports = list("includeOutboundPorts", parse::ports);
        let exclude_outbound_ports = list("excludeOutboundPorts", parse::ports);
        let exclude_interfaces = list("excludeInterfaces", parse::interfaces);
        // The older name for the same.
        let kubevirt = list("kubevirtInterfaces", parse::interfaces);
        Traffic {
            mode: self.get("sidecar.istio.io/interceptionMode", parse::interception_mode),
            include_outbound_ip_ranges,
            exclude_outbound_ip_ranges,
            include_inbound_ports,
            exclude_inbound_ports,
            include_outbound_ports,
            exclude_outbound_ports,
            exclude_interfaces,
            reroute_interfaces: self.get("istio.io/reroute-virtual-interfaces", parse::interfaces).or(kubevirt),
        }
    }

    fn resources(&mut self) -> Resources {
        Resources {
            cpu: self.get("sidecar.istio.io/proxyCPU", parse::quantity),
            memory: self.get("sidecar.istio.io/proxyMemory", parse::quantity),
            cpu_limit: self.get("sidecar.istio.io/proxyCPULimit", parse::quantity),
            memory_limit: self.get("sidecar.istio.io/proxyMemoryLimit", parse::quantity),
        }
    }

    fn readiness(&mut self) -> Readiness {
        Readiness {
            initial_delay: self.get("readiness.status.sidecar.istio.io/initialDelaySeconds", parse::count),
            period: self.get("readiness.status.sidecar.istio.io/periodSeconds", parse::count),
            failure_threshold: self.get("readiness.status.sidecar.istio.io/failureThreshold", parse::count),
        }
    }
}

#[cfg(test)]
mod tests;
