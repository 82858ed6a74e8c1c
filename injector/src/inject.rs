//! The rules of injection, pure: a pod as it was asked for and the mesh's settings in; the pod with its proxy out.
//!
//! ```text
//! pod --annotations--> settings --proxy_config--> what this pod's proxy is told
//!     --init, container, volumes--> partial pod --overrides--> laid over the pod
//!     --prometheus, probes, metadata, order--> the pod that runs --diff--> JSON patch
//! ```
//!
//! Source: Istio's injection template and webhook; `ferromesh-proxy` and `ferromesh-init` are the programs in the image.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Sysctl};

use crate::annotations::{self, BadAnnotation, InterceptionMode, PodSettings, Template};
use crate::settings::Mesh;

mod container;
mod init;
mod metadata;
mod order;
mod overrides;
mod owner;
mod probes;
mod prometheus;
mod proxy_config;
mod volumes;

/// The proxy's container.
pub const PROXY_CONTAINER: &str = "istio-proxy";
/// The init container that redirects.
pub const INIT_CONTAINER: &str = "istio-init";
/// The init container that checks what the node's agent has redirected.
pub const VALIDATION_CONTAINER: &str = "istio-validation";
/// User and group of the proxy, whose own traffic is not redirected.
pub const PROXY_UID: i64 = 1337;

/// Why a pod cannot be injected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Annotations with wrong values.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Annotations(Vec<BadAnnotation>),
    /// ProxyConfig of the annotation, laid over the mesh's.
    #[error("annotation proxy.istio.io/config: {0}")]
    ProxyConfig(String),
    /// The application's metrics cannot be merged.
    #[error("annotation {name}: {reason}")]
    Prometheus {
        /// Which.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The pod's own container of the proxy's name is no overlay for it.
    #[error("container {container}: {reason}")]
    Override {
        /// Which.
        container: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It is no pod.
    #[error("the pod: {0}")]
    Pod(String),
}

/// A pod with its proxy.
#[derive(Debug, Clone, PartialEq)]
pub struct Injected {
    /// The pod that runs.
    pub pod: Pod,
    /// What was asked for and is not done.
    pub warnings: Vec<String>,
}

/// What the rules of one pod need: the pod as it was, its settings, the mesh's, and its owner.
struct Context<'a> {
    original: &'a Pod,
    mesh: &'a Mesh,
    pod: PodSettings,
    config: proxy_config::ProxyConfig,
    owner: owner::Owner,
}

impl Context<'_> {
    fn mode(&self) -> InterceptionMode {
        self.pod.traffic.mode.unwrap_or(self.config.interception_mode)
    }

    fn gateway(&self) -> bool {
        self.pod.template == Template::Gateway
    }

    fn native(&self) -> bool {
        !self.gateway() && self.pod.native_sidecar.unwrap_or(self.mesh.settings.native_sidecars)
    }

    fn status_port(&self) -> u16 {
        self.pod.status_port.unwrap_or(self.config.status_port)
    }

    fn hold_application(&self) -> bool {
        !self.gateway() && (self.config.hold_application || self.mesh.settings.hold_application_until_proxy_starts)
    }
}

/// Adds the proxy to a pod of `namespace`. Injecting what was injected before changes nothing.
///
/// # Errors
/// If the pod's annotations, or its own container of the proxy's name, cannot be honoured.
pub fn inject(original: &Pod, namespace: &str, mesh: &Mesh) -> Result<Injected, Refused> {
    let annotations = original.metadata.annotations.clone().unwrap_or_default();
    let settings = annotations::read(&annotations).map_err(Refused::Annotations)?;
    let mut warnings = settings.warnings.clone();
    let config = proxy_config::merged(mesh, settings.proxy_config.as_ref(), &mut warnings)?;
    let owner = owner::of(original, namespace);
    let context = Context { original, mesh, pod: settings, config, owner };

    let mut pod = original.clone();
    let spec = pod.spec.get_or_insert_with(PodSpec::default);
    let parts = Parts {
        init: init::container(&context),
        proxy: container::container(&context),
        volumes: volumes::volumes(&context),
        image_pull_secrets: mesh.settings.image_pull_secrets.clone(),
    };
    let saved = overrides::apply(&context, spec, &parts)?;
    volumes::merge(spec, &parts);
    let metadata = &mut pod.metadata;
    prometheus::merge(&context, metadata, spec)?;
    probes::rewrite(&context, spec);
    if context.gateway() {
        low_ports(spec);
    }
    metadata::apply(&context, metadata, &parts, saved);
    order::containers(&context, spec);
    if uses_ports_of_the_proxy(spec) {
        warnings.push("a container uses port 15000 to 15100, which the proxy needs; give it another".into());
    }
    Ok(Injected { pod, warnings })
}

/// A gateway may bind ports below 1024 without a right.
fn low_ports(spec: &mut PodSpec) {
    const SYSCTL: &str = "net.ipv4.ip_unprivileged_port_start";
    let sysctls = spec.security_context.get_or_insert_default().sysctls.get_or_insert_default();
    if !sysctls.iter().any(|sysctl| sysctl.name == SYSCTL) {
        sysctls.push(Sysctl { name: SYSCTL.into(), value: "0".into() });
    }
}

/// What is added.
struct Parts {
    init: Option<Container>,
    proxy: Container,
    volumes: Vec<k8s_openapi::api::core::v1::Volume>,
    image_pull_secrets: Vec<String>,
}

/// Whether an application container says that it listens where the proxy does.
fn uses_ports_of_the_proxy(spec: &PodSpec) -> bool {
    let applications = spec.containers.iter().filter(|container| container.name != PROXY_CONTAINER);
    applications
        .flat_map(|container| container.ports.iter().flatten())
        .any(|port| matches!(port.container_port, 15000 | 15001 | 15006 | 15020 | 15021 | 15053 | 15090))
}

/// Every container of a pod but the proxy's and its init program's.
fn applications(spec: &mut PodSpec) -> impl Iterator<Item = &mut Container> {
    let init = spec.init_containers.iter_mut().flatten();
    init.chain(&mut spec.containers)
        .filter(|container| ![PROXY_CONTAINER, INIT_CONTAINER, VALIDATION_CONTAINER].contains(&container.name.as_str()))
}

/// The proxy's container, wherever it is.
fn proxy_of(spec: &mut PodSpec) -> Option<&mut Container> {
    spec.containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten())
        .find(|container| container.name == PROXY_CONTAINER)
}

/// The JSON patch (RFC 6902) that makes `pod` of `original`.
///
/// # Errors
/// If one of them cannot be written as JSON.
pub fn patch(original: &Pod, pod: &Pod) -> Result<json_patch::Patch, serde_json::Error> {
    Ok(json_patch::diff(&serde_json::to_value(original)?, &serde_json::to_value(pod)?))
}

#[cfg(test)]
mod tests;
