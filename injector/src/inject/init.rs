//! The init container: `istio-init` redirects, `istio-validation` checks what the node's agent has redirected.

use k8s_openapi::api::core::v1::{Capabilities, Container, EnvVar, ResourceRequirements, SecurityContext};

use super::{Context, INIT_CONTAINER, PROXY_UID, VALIDATION_CONTAINER, container};
use crate::annotations::InterceptionMode;
use crate::settings::RedirectBy;

/// The init program in the proxy's image.
pub(super) const PROGRAM: &str = "/ferromesh-init";
/// Inbound ports that are the proxy's own.
const OWN_PORTS: [&str; 2] = ["15090", "15021"];

/// None where nothing is redirected.
pub(super) fn container(context: &Context<'_>) -> Option<Container> {
    if context.gateway() || context.mode() == InterceptionMode::None {
        return None;
    }
    let by_node = context.mesh.settings.redirect_by == RedirectBy::NodeAgent;
    let mut args = redirect_args(context);
    if by_node {
        args.extend(["--run-validation".to_owned(), "--skip-rule-apply".to_owned()]);
    }
    Some(Container {
        name: if by_node { VALIDATION_CONTAINER } else { INIT_CONTAINER }.into(),
        image: Some(container::image(context)),
        image_pull_policy: container::pull_policy(context),
        command: Some(vec![PROGRAM.into()]),
        args: Some(args),
        env: env(context),
        resources: Some(resources(context)),
        // The reason that it says last is then seen by `kubectl describe pod`.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        security_context: Some(if by_node { container::unprivileged(context) } else { redirects(context) }),
        ..Default::default()
    })
}

/// In the words of `istio-iptables`, which `ferromesh-init` speaks.
pub(super) fn redirect_args(context: &Context<'_>) -> Vec<String> {
    let (traffic, settings) = (&context.pod.traffic, &context.mesh.settings);
    let or = |pod: &Option<String>, mesh: &String| pod.clone().unwrap_or_else(|| mesh.clone());
    let mut args: Vec<String> = Vec::new();
    let mut pair = |flag: &str, value: String| args.extend([flag.to_owned(), value]);
    pair("-p", "15001".into());
    pair("-z", "15006".into());
    pair("-u", proxy_uid(context).to_string());
    pair("-m", context.mode().as_str().into());
    pair("-i", or(&traffic.include_outbound_ip_ranges, &settings.include_outbound_ip_ranges));
    pair("-x", or(&traffic.exclude_outbound_ip_ranges, &settings.exclude_outbound_ip_ranges));
    pair("-b", or(&traffic.include_inbound_ports, &settings.include_inbound_ports));
    pair("-d", excluded_inbound(context, &or(&traffic.exclude_inbound_ports, &settings.exclude_inbound_ports)));
    let outbound = or(&traffic.include_outbound_ports, &settings.include_outbound_ports);
    if !outbound.is_empty() {
        pair("-q", outbound);
    }
    let outbound = or(&traffic.exclude_outbound_ports, &settings.exclude_outbound_ports);
    if !outbound.is_empty() {
        pair("-o", outbound);
    }
    if let Some(interfaces) = &traffic.reroute_interfaces {
        pair("-k", interfaces.clone());
    }
    if let Some(interfaces) = &traffic.exclude_interfaces {
        pair("-c", interfaces.clone());
    }
    if context.config.metadata.get("ISTIO_META_DNS_CAPTURE").is_some_and(|value| value == "true") {
        args.push("--redirect-dns".into());
    }
    args.push(format!("--log_output_level={}", container::agent_log_level(context)));
    if settings.log_as_json {
        args.push("--log_as_json".into());
    }
    args
}

/// The proxy's own ports, the pod's (which may be those of an earlier injection), and the status port; each once.
fn excluded_inbound(context: &Context<'_>, of_pod: &str) -> String {
    let status = context.status_port().to_string();
    let mut all: Vec<&str> = OWN_PORTS.to_vec();
    for port in of_pod.split(',').chain([status.as_str()]) {
        if !["", "0"].contains(&port) && !all.contains(&port) {
            all.push(port);
        }
    }
    all.join(",")
}

/// Whom the proxy runs as, if the pod's own container of that name says otherwise; never root, whom rules cannot exempt.
fn proxy_uid(context: &Context<'_>) -> i64 {
    let own = super::overrides::own(context.original, super::PROXY_CONTAINER);
    let user = own.and_then(|own| own.security_context.as_ref()?.run_as_user).filter(|user| *user != 0);
    user.filter(|_| context.mode() != InterceptionMode::Tproxy).unwrap_or(PROXY_UID)
}

fn env(context: &Context<'_>) -> Option<Vec<EnvVar>> {
    let metadata = &context.config.metadata;
    let vars = metadata.iter().map(|(name, value)| EnvVar {
        name: name.clone(),
        value: Some(value.clone()),
        ..Default::default()
    });
    (!metadata.is_empty()).then(|| vars.collect())
}

/// Those of the proxy where the pod sets them (its quota may demand that), else small ones.
fn resources(context: &Context<'_>) -> ResourceRequirements {
    if context.pod.resources.is_empty() {
        context.mesh.settings.init_resources.clone()
    } else {
        container::resources(context)
    }
}

/// Root with NET_ADMIN and nothing else: it changes the pod's own network namespace.
fn redirects(context: &Context<'_>) -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        privileged: Some(false),
        capabilities: Some(Capabilities { add: Some(vec!["NET_ADMIN".into()]), drop: Some(vec!["ALL".into()]) }),
        read_only_root_filesystem: Some(true),
        run_as_group: Some(0),
        run_as_non_root: Some(false),
        run_as_user: Some(0),
        seccomp_profile: context.mesh.settings.seccomp_profile.clone(),
        ..Default::default()
    }
}
