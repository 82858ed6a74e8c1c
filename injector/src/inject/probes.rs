//! Application probes through the proxy: the kubelet has no certificate, so under STRICT it asks the agent, which asks
//! the application beside it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, GRPCAction, HTTPGetAction, LifecycleHandler, PodSpec, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};

use super::{Context, applications, container, proxy_of};

/// The variable that tells the agent what to ask.
const PROBERS: &str = "ISTIO_KUBE_APP_PROBERS";

/// One question, as the agent reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Prober {
    #[serde(skip_serializing_if = "Option::is_none")]
    http_get: Option<HTTPGetAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp_socket: Option<TCPSocketAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc: Option<GRPCAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_seconds: Option<i32>,
}

/// Turns the pod's probes to the agent and tells the agent what they were.
pub(super) fn rewrite(context: &Context<'_>, spec: &mut PodSpec) {
    let port = context.status_port();
    let wanted = context.pod.rewrite_probes.unwrap_or(context.mesh.settings.rewrite_app_http_probe);
    if !wanted || port == 0 {
        return;
    }
    let mut probers = BTreeMap::new();
    for application in applications(spec) {
        rewrite_container(application, port, &mut probers);
    }
    // What an earlier injection found has been rewritten already, and stays.
    if let Some(known) = earlier(context) {
        probers.extend(known);
    }
    if let Some(proxy) = proxy_of(spec)
        && !probers.is_empty()
        && let Ok(text) = serde_json::to_string(&probers)
    {
        let env = proxy.env.get_or_insert_default();
        env.retain(|var| var.name != PROBERS);
        env.push(container::value(PROBERS, &text));
    }
}

fn earlier(context: &Context<'_>) -> Option<BTreeMap<String, Prober>> {
    let mut spec = super::metadata::is_injected(context.original).then(|| context.original.spec.clone())??;
    let env = proxy_of(&mut spec)?.env.take()?;
    let text = env.into_iter().find(|var| var.name == PROBERS)?.value?;
    serde_json::from_str(&text).ok()
}

fn rewrite_container(application: &mut Container, status_port: u16, probers: &mut BTreeMap<String, Prober>) {
    let ports: BTreeMap<String, i32> =
        application.ports.iter().flatten().filter_map(|port| Some((port.name.clone()?, port.container_port))).collect();
    let name = application.name.clone();
    let probes = [
        ("readyz", &mut application.readiness_probe),
        ("livez", &mut application.liveness_probe),
        ("startupz", &mut application.startup_probe),
    ];
    for (what, probe) in probes {
        let path = format!("/app-health/{name}/{what}");
        if let Some(probe) = probe
            && let Some(prober) = rewrite_probe(probe, &path, status_port, &ports)
        {
            probers.insert(path, prober);
        }
    }
    if let Some(lifecycle) = &mut application.lifecycle {
        for (what, handler) in [("prestopz", &mut lifecycle.pre_stop), ("poststartz", &mut lifecycle.post_start)] {
            let path = format!("/app-lifecycle/{name}/{what}");
            if let Some(handler) = handler
                && let Some(prober) = rewrite_handler(handler, &path, status_port, &ports)
            {
                probers.insert(path, prober);
            }
        }
    }
}

fn rewrite_probe(probe: &mut Probe, path: &str, status_port: u16, ports: &BTreeMap<String, i32>) -> Option<Prober> {
    let mut prober = Prober {
        http_get: probe.http_get.clone(),
        tcp_socket: probe.tcp_socket.clone().filter(|_| probe.http_get.is_none()),
        grpc: probe.grpc.clone().filter(|_| probe.http_get.is_none() && probe.tcp_socket.is_none()),
        timeout_seconds: probe.timeout_seconds,
    };
    resolve(&mut prober, status_port, ports)?;
    probe.http_get = Some(to_agent(probe.http_get.take(), path, status_port));
    probe.tcp_socket = None;
    probe.grpc = None;
    Some(prober)
}

fn rewrite_handler(
    handler: &mut LifecycleHandler,
    path: &str,
    status_port: u16,
    ports: &BTreeMap<String, i32>,
) -> Option<Prober> {
    let mut prober = Prober {
        http_get: handler.http_get.clone(),
        tcp_socket: handler.tcp_socket.clone().filter(|_| handler.http_get.is_none()),
        grpc: None,
        timeout_seconds: None,
    };
    resolve(&mut prober, status_port, ports)?;
    handler.http_get = Some(to_agent(handler.http_get.take(), path, status_port));
    handler.tcp_socket = None;
    Some(prober)
}

/// Puts numbers for the names of ports. `None` leaves the probe to the kubelet: it asks in another way (exec), by a
/// name that is no port's, another host than the pod, or the agent already.
fn resolve(prober: &mut Prober, status_port: u16, ports: &BTreeMap<String, i32>) -> Option<()> {
    let port = match (&mut prober.http_get, &mut prober.tcp_socket, &prober.grpc) {
        (Some(http), _, _) => &mut http.port,
        (None, Some(tcp), _) => &mut tcp.port,
        (None, None, Some(_)) => return Some(()),
        (None, None, None) => return None,
    };
    match port {
        IntOrString::Int(number) if *number == i32::from(status_port) => None,
        IntOrString::Int(_) => Some(()),
        IntOrString::String(name) => {
            *port = IntOrString::Int(*ports.get(name.as_str())?);
            Some(())
        }
    }
}

/// The question to the agent: always plain HTTP, the rest as it was.
fn to_agent(http: Option<HTTPGetAction>, path: &str, status_port: u16) -> HTTPGetAction {
    let mut http = http.unwrap_or_default();
    http.path = Some(path.to_owned());
    http.port = IntOrString::Int(i32::from(status_port));
    if http.scheme.as_deref() == Some("HTTPS") {
        http.scheme = Some("HTTP".into());
    }
    http
}
