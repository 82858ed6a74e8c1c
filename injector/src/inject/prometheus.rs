//! Prometheus: the agent answers for the proxy and the application on one port, so that a scrape works under STRICT.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::{Context, Refused, container, proxy_of};

/// Where the agent answers.
const PATH: &str = "/stats/prometheus";
/// The variable with what the pod's own annotations said.
const ANNOTATIONS: &str = "ISTIO_PROMETHEUS_ANNOTATIONS";
/// Ports where the proxy itself answers.
const RESERVED: [u16; 8] = [15000, 15001, 15006, 15008, 15020, 15021, 15053, 15090];

/// Prometheus reads `prometheus.io/port` and `prometheus_io_port` alike.
fn is(annotation: &str, what: &str) -> bool {
    let mut plain = String::with_capacity(annotation.len());
    plain.extend(annotation.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
    plain == format!("prometheus_io_{what}")
}

fn find(annotations: &BTreeMap<String, String>, what: &str) -> Option<(String, String)> {
    annotations.iter().find(|(name, _)| is(name, what)).map(|(name, value)| (name.clone(), value.clone()))
}

pub(super) fn merge(context: &Context<'_>, metadata: &mut ObjectMeta, spec: &mut PodSpec) -> Result<(), Refused> {
    let annotations = metadata.annotations.get_or_insert_default();
    let wanted = context.pod.merge_metrics.unwrap_or(context.mesh.mesh_config.enable_prometheus_merge);
    let scrape = find(annotations, "scrape").map_or("true".to_owned(), |(_, value)| value);
    let agent = context.config.status_port;
    if !wanted || !matches!(scrape.as_str(), "true" | "1" | "t" | "T" | "TRUE" | "True") || agent == 0 {
        return Ok(());
    }
    let (port, path) = (find(annotations, "port"), find(annotations, "path"));
    if port.as_ref().is_some_and(|(_, value)| *value == agent.to_string()) {
        // It has been merged already, or the user knows what to do.
        keep(context, spec);
        return Ok(());
    }
    if let Some((name, value)) = &port {
        check_port(name, value, agent)?;
    }
    let asked = find(annotations, "scrape").map(|(_, value)| value);
    if asked.is_some() || port.is_some() || path.is_some() {
        let mut own = serde_json::Map::new();
        let pairs = [("scrape", asked), ("path", path.map(|(_, v)| v)), ("port", port.map(|(_, v)| v))];
        for (key, value) in pairs {
            own.insert(key.into(), json!(value.unwrap_or_default()));
        }
        tell(spec, &serde_json::Value::Object(own).to_string());
    }
    annotations.retain(|name, _| !["scrape", "path", "port"].iter().any(|what| is(name, what)));
    annotations.insert("prometheus.io/port".into(), agent.to_string());
    annotations.insert("prometheus.io/path".into(), PATH.into());
    annotations.insert("prometheus.io/scrape".into(), "true".into());
    Ok(())
}

fn tell(spec: &mut PodSpec, text: &str) {
    if let Some(proxy) = proxy_of(spec) {
        let env = proxy.env.get_or_insert_default();
        env.retain(|var| var.name != ANNOTATIONS);
        env.push(container::value(ANNOTATIONS, text));
    }
}

/// Takes over what an earlier injection found.
fn keep(context: &Context<'_>, spec: &mut PodSpec) {
    let mut before = context.original.spec.clone().unwrap_or_default();
    let env = proxy_of(&mut before).and_then(|proxy| proxy.env.take()).unwrap_or_default();
    if let Some(text) = env.into_iter().find(|var| var.name == ANNOTATIONS).and_then(|var| var.value) {
        tell(spec, &text);
    }
}

fn check_port(name: &str, value: &str, agent: u16) -> Result<(), Refused> {
    let bad = |reason: String| Refused::Prometheus { name: name.to_owned(), reason };
    let port: u16 = value
        .trim()
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| bad(format!("{value:?} is not a port, a whole number from 1 to 65535")))?;
    if port == agent || RESERVED.contains(&port) {
        return Err(bad(format!("{port} is a port of the proxy itself; give the application another")));
    }
    Ok(())
}
