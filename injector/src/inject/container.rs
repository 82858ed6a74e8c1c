//! The proxy's container: its image, arguments, environment, probes and rights.

use std::collections::BTreeMap;

use ferromesh_api::istio::mesh_config::InboundMode;
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, ExecAction, HTTPGetAction, Lifecycle,
    LifecycleHandler, ObjectFieldSelector, Probe, ResourceFieldSelector, ResourceRequirements, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Context, PROXY_CONTAINER, PROXY_UID, volumes};
use crate::annotations::InterceptionMode;

/// The proxy's program in its image.
const PROGRAM: &str = "/ferromesh-proxy";
/// Where the proxy says whether it is ready.
const HEALTH_PORT: i32 = 15021;
const HEALTH_PATH: &str = "/healthz/ready";
const PROMETHEUS_PORT: i32 = 15090;

pub(super) fn container(context: &Context<'_>) -> Container {
    let probes = context.status_port() != 0;
    Container {
        name: PROXY_CONTAINER.into(),
        image: Some(image(context)),
        image_pull_policy: pull_policy(context),
        args: Some(args(context)),
        env: Some(env(context)),
        ports: Some(vec![ContainerPort {
            container_port: PROMETHEUS_PORT,
            name: Some("http-envoy-prom".into()),
            protocol: Some("TCP".into()),
            ..Default::default()
        }]),
        lifecycle: lifecycle(context),
        startup_probe: (probes && !context.gateway()).then(|| startup(context)),
        readiness_probe: probes.then(|| readiness(context)),
        resources: Some(resources(context)),
        restart_policy: context.native().then(|| "Always".into()),
        security_context: Some(rights(context)),
        volume_mounts: Some(volumes::mounts(context)),
        ..Default::default()
    }
}

/// The mesh's image, with the pod's type of it as suffix of the tag; or the pod's own.
pub(super) fn image(context: &Context<'_>) -> String {
    let settings = &context.mesh.settings;
    match &context.pod.image {
        Some(image) if image.contains('/') => return image.clone(),
        // A name alone is another image of the same registry, with the mesh's tag.
        Some(name) => {
            let (registry, ours) = settings.proxy_image.rsplit_once('/').unwrap_or(("", &settings.proxy_image));
            let tag = ours.split_once(':').map_or("", |(_, tag)| tag);
            let separator = if registry.is_empty() { "" } else { "/" };
            let tag = if name.contains(':') || tag.is_empty() { String::new() } else { format!(":{tag}") };
            return format!("{registry}{separator}{name}{tag}");
        }
        None => {}
    }
    let kind = context.pod.image_type.as_deref().unwrap_or(&context.config.image_type);
    // `default` is the image as it is.
    if kind.is_empty() || kind == "default" || settings.proxy_image.contains('@') {
        return settings.proxy_image.clone();
    }
    format!("{}-{kind}", settings.proxy_image)
}

pub(super) fn pull_policy(context: &Context<'_>) -> Option<String> {
    let policy = &context.mesh.settings.image_pull_policy;
    (!policy.is_empty()).then(|| policy.clone())
}

pub(super) fn agent_log_level<'a>(context: &'a Context<'_>) -> &'a str {
    context.pod.agent_log_level.as_deref().unwrap_or(&context.mesh.settings.agent_log_level)
}

fn args(context: &Context<'_>) -> Vec<String> {
    let settings = &context.mesh.settings;
    let level = context.pod.log_level.as_ref().unwrap_or(&settings.log_level);
    let mut args = vec![
        "proxy".to_owned(),
        if context.gateway() { "router" } else { "sidecar" }.to_owned(),
        "--domain".to_owned(),
        format!("$(POD_NAMESPACE).svc.{}", settings.cluster_domain),
        format!("--proxyLogLevel={level}"),
    ];
    let parts = context.pod.component_log_level.as_ref().unwrap_or(&settings.component_log_level);
    if !parts.is_empty() {
        args.push(format!("--proxyComponentLogLevel={parts}"));
    }
    args.push(format!("--log_output_level={}", agent_log_level(context)));
    if settings.log_as_json {
        args.push("--log_as_json".into());
    }
    args
}

fn env(context: &Context<'_>) -> Vec<EnvVar> {
    let settings = &context.mesh.settings;
    let mut all = vec![value("CA_ADDR", &settings.ca_address)];
    let fields = [
        ("POD_NAME", "metadata.name"),
        ("POD_NAMESPACE", "metadata.namespace"),
        ("INSTANCE_IP", "status.podIP"),
        ("INSTANCE_IPS", "status.podIPs"),
        ("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        ("HOST_IP", "status.hostIP"),
        ("ISTIO_META_NODE_NAME", "spec.nodeName"),
    ];
    all.extend(fields.map(|(name, path)| field(name, path)));
    all.push(cpu_limit());
    all.push(value("PROXY_CONFIG", &context.config.json));
    all.push(value("ISTIO_META_POD_PORTS", &pod_ports(context)));
    all.push(value("ISTIO_META_APP_CONTAINERS", &app_containers(context).join(",")));
    all.push(value("ISTIO_META_CLUSTER_ID", &settings.cluster_id));
    all.push(value("ISTIO_META_INTERCEPTION_MODE", context.mode().as_str()));
    if !settings.network.is_empty() {
        all.push(value("ISTIO_META_NETWORK", &settings.network));
    }
    let labels = context.original.metadata.labels.as_ref();
    let name = labels.and_then(|labels| labels.get(ferromesh_api::labels::WORKLOAD_NAME)).filter(|v| !v.is_empty());
    let name = name.unwrap_or(&context.owner.name);
    if !name.is_empty() {
        all.push(value("ISTIO_META_WORKLOAD_NAME", name));
    }
    if let Some(uri) = context.owner.uri() {
        all.push(value("ISTIO_META_OWNER", &uri));
    }
    all.push(value("ISTIO_META_MESH_ID", context.mesh.mesh_id()));
    all.push(value("TRUST_DOMAIN", &context.mesh.mesh_config.trust_domain));
    if context.mesh.mesh_config.inbound_traffic_policy.mode == InboundMode::Localhost {
        // The agent asks the application where its traffic comes.
        all.push(value("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION", "true"));
    }
    if context.native() {
        // The application has ended when the proxy is told to; it stays for connections only.
        all.push(value("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "true"));
        all.push(value("MINIMUM_DRAIN_DURATION", "0s"));
    }
    // Last, so that the pod's own metadata wins.
    for (name, text) in &context.config.metadata {
        all.retain(|known| known.name != *name);
        all.push(value(name, text));
    }
    all
}

pub(super) fn value(name: &str, text: &str) -> EnvVar {
    EnvVar { name: name.into(), value: Some(text.into()), ..Default::default() }
}

fn field(name: &str, path: &str) -> EnvVar {
    let source = ObjectFieldSelector { field_path: path.into(), api_version: None };
    let source = EnvVarSource { field_ref: Some(source), ..Default::default() };
    EnvVar { name: name.into(), value_from: Some(source), ..Default::default() }
}

fn cpu_limit() -> EnvVar {
    let source = ResourceFieldSelector {
        resource: "limits.cpu".into(),
        divisor: Some(Quantity("1".into())),
        ..Default::default()
    };
    let source = EnvVarSource { resource_field_ref: Some(source), ..Default::default() };
    EnvVar { name: "ISTIO_CPU_LIMIT".into(), value_from: Some(source), ..Default::default() }
}

/// The names of the pod's containers, without the proxy.
pub(super) fn app_containers(context: &Context<'_>) -> Vec<String> {
    let containers = context.original.spec.iter().flat_map(|spec| &spec.containers);
    containers.filter(|container| container.name != PROXY_CONTAINER).map(|container| container.name.clone()).collect()
}

fn pod_ports(context: &Context<'_>) -> String {
    let containers = context.original.spec.iter().flat_map(|spec| &spec.containers);
    let applications = containers.filter(|container| container.name != PROXY_CONTAINER);
    let ports: Vec<&ContainerPort> = applications.flat_map(|container| container.ports.iter().flatten()).collect();
    serde_json::to_string(&ports).unwrap_or_else(|_| "[]".into())
}

fn lifecycle(context: &Context<'_>) -> Option<Lifecycle> {
    let run = |command: &[&str]| LifecycleHandler {
        exec: Some(ExecAction { command: Some(command.iter().map(|&word| word.to_owned()).collect()) }),
        ..Default::default()
    };
    if context.native() {
        // The drain begins when the pod's end does; SIGTERM comes when the application has ended.
        let port = format!("--debug-port={}", context.status_port());
        let handler = run(&[PROGRAM, "request", &port, "POST", "drain"]);
        return Some(Lifecycle { pre_stop: Some(handler), ..Default::default() });
    }
    let handler = run(&[PROGRAM, "wait"]);
    context.hold_application().then(|| Lifecycle { post_start: Some(handler), ..Default::default() })
}

fn health() -> HTTPGetAction {
    HTTPGetAction { path: Some(HEALTH_PATH.into()), port: IntOrString::Int(HEALTH_PORT), ..Default::default() }
}

fn startup(context: &Context<'_>) -> Probe {
    Probe {
        http_get: Some(health()),
        period_seconds: Some(1),
        timeout_seconds: Some(3),
        failure_threshold: Some(context.mesh.settings.startup_failure_threshold),
        ..Default::default()
    }
}

fn readiness(context: &Context<'_>) -> Probe {
    let (pod, settings) = (context.pod.readiness, &context.mesh.settings);
    let delay = pod.initial_delay.unwrap_or(settings.readiness_initial_delay_seconds);
    Probe {
        http_get: Some(health()),
        // Kubernetes leaves out what is zero.
        initial_delay_seconds: (delay != 0).then_some(delay),
        period_seconds: Some(pod.period.unwrap_or(settings.readiness_period_seconds)),
        timeout_seconds: Some(3),
        failure_threshold: Some(pod.failure_threshold.unwrap_or(settings.readiness_failure_threshold)),
        ..Default::default()
    }
}

/// The mesh's, or those of the pod's annotations alone; a gateway's are its own affair.
pub(super) fn resources(context: &Context<'_>) -> ResourceRequirements {
    let own = &context.pod.resources;
    if own.is_empty() && context.gateway() {
        return ResourceRequirements::default();
    }
    if own.is_empty() {
        return context.mesh.settings.resources.clone();
    }
    let map = |cpu: &Option<Quantity>, memory: &Option<Quantity>| {
        let pairs = [("cpu", cpu), ("memory", memory)];
        let map: BTreeMap<String, Quantity> =
            pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect();
        (!map.is_empty()).then_some(map)
    };
    ResourceRequirements {
        requests: map(&own.cpu, &own.memory),
        limits: map(&own.cpu_limit, &own.memory_limit),
        claims: None,
    }
}

/// Nothing may be done but to serve; of the mesh's user.
pub(super) fn unprivileged(context: &Context<'_>) -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        privileged: Some(false),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".into()]) }),
        read_only_root_filesystem: Some(true),
        run_as_group: Some(PROXY_UID),
        run_as_non_root: Some(true),
        run_as_user: Some(PROXY_UID),
        seccomp_profile: context.mesh.settings.seccomp_profile.clone(),
        ..Default::default()
    }
}

fn rights(context: &Context<'_>) -> SecurityContext {
    let mut rights = unprivileged(context);
    let tproxy = context.mode() == InterceptionMode::Tproxy;
    let mut add = Vec::new();
    if tproxy {
        // Transparent sockets.
        add.push("NET_ADMIN".to_owned());
    }
    if context.pod.bind_service == Some(true) {
        add.push("NET_BIND_SERVICE".to_owned());
    }
    if !add.is_empty() {
        if let Some(capabilities) = &mut rights.capabilities {
            capabilities.add = Some(add);
        }
        // Capabilities that are added reach a process of another user only by files of the image.
        rights.run_as_non_root = Some(false);
        rights.run_as_user = Some(0);
    }
    rights
}
