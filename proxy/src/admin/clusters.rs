//! `/clusters`: hosts and their state, as text or as Envoy's `admin.v3.Clusters`.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::{Admin, json as json_reply, parameter, text};
use crate::cluster::{Cluster, Discovery, Host, HostAddress, health::Unhealthy};
use crate::matcher::re2;

/// What circuit breakers limit, in the order of their limits.
const LIMITS: [&str; 4] = ["connections", "pending_requests", "requests", "retries"];

/// The clusters that are asked for.
pub(super) fn page(admin: &Admin, query: &str) -> Response<Full<Bytes>> {
    let filter = match parameter(query, "filter").map(|filter| re2::search(&filter)).transpose() {
        Ok(filter) => filter,
        Err(error) => return text(StatusCode::BAD_REQUEST, format!("filter: {error}\n")),
    };
    let clusters = admin.context.clusters.all();
    let is_wanted =
        |cluster: &&Arc<Cluster>| filter.as_ref().is_none_or(|filter| filter.is_match(&cluster.config.name));
    let mut names: Vec<_> = clusters.values().filter(is_wanted).collect();
    names.sort_by(|a, b| a.config.name.cmp(&b.config.name));
    if parameter(query, "format").as_deref() == Some("json") {
        let statuses: Vec<Value> = names.iter().map(|cluster| cluster_json(cluster)).collect();
        return json_reply(&json!({ "cluster_statuses": statuses }));
    }
    text(StatusCode::OK, names.iter().map(|cluster| cluster_text(cluster)).collect::<String>())
}

fn cluster_text(cluster: &Cluster) -> String {
    let name = &cluster.config.name;
    let mut shown = format!("{name}::observability_name::{}\n", cluster.config.stat_name);
    for (priority, breakers) in ["default", "high"].iter().zip(&cluster.breakers) {
        for (what, max) in LIMITS.iter().zip(breakers.limits()) {
            shown.push_str(&format!("{name}::{priority}_priority::max_{what}::{max}\n"));
        }
    }
    for host in &hosts_of(cluster) {
        let address = address_of(host);
        for (field, value) in [
            ("cx_active", host.stats.cx_active.get().to_string()),
            ("cx_connect_fail", host.stats.cx_connect_fail.get().to_string()),
            ("cx_total", host.stats.cx_total.get().to_string()),
            ("rq_active", host.active_requests().to_string()),
            ("rq_error", host.stats.rq_error.get().to_string()),
            ("rq_success", host.stats.rq_success.get().to_string()),
            ("rq_timeout", host.stats.rq_timeout.get().to_string()),
            ("rq_total", host.stats.rq_total.get().to_string()),
            ("hostname", host.hostname.to_string()),
            ("health_flags", health_flags(host)),
            ("weight", host.weight.to_string()),
            ("region", host.locality[0].to_string()),
            ("zone", host.locality[1].to_string()),
            ("sub_zone", host.locality[2].to_string()),
            ("canary", host.lb_metadata("canary").and_then(Value::as_bool).unwrap_or_default().to_string()),
            ("priority", host.priority.to_string()),
            ("success_rate", rate(host.health.outlier.success_rate())),
            ("local_origin_success_rate", rate(host.health.outlier.local_origin_success_rate())),
        ] {
            shown.push_str(&format!("{name}::{address}::{field}::{value}\n"));
        }
    }
    shown
}

/// A success rate as Envoy shows it: -1 if there is none.
fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-1".into(), |rate| rate.to_string())
}

fn hosts_of(cluster: &Cluster) -> Vec<Arc<Host>> {
    match &cluster.discovery {
        Discovery::OriginalDst(destinations) => destinations.hosts(),
        _ => cluster.hosts.load().hosts.clone(),
    }
}

fn cluster_json(cluster: &Cluster) -> Value {
    let hosts: Vec<Value> = hosts_of(cluster)
        .iter()
        .map(|host| {
            let address = match &host.address {
                HostAddress::Tcp(address) => {
                    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
                }
                HostAddress::Unix(path) => json!({ "pipe": { "path": path.as_str() } }),
            };
            json!({
                "address": address,
                "hostname": host.hostname.as_str(),
                "weight": host.weight,
                "priority": host.priority,
                "health_status": health_json(host),
                "success_rate": host.health.outlier.success_rate().map(|value| json!({ "value": value })),
                "local_origin_success_rate":
                    host.health.outlier.local_origin_success_rate().map(|value| json!({ "value": value })),
                "stats": [
                    { "name": "cx_connect_fail", "value": host.stats.cx_connect_fail.get().to_string() },
                    { "name": "cx_total", "value": host.stats.cx_total.get().to_string() },
                    { "name": "rq_error", "value": host.stats.rq_error.get().to_string() },
                    { "name": "rq_success", "value": host.stats.rq_success.get().to_string() },
                    { "name": "rq_timeout", "value": host.stats.rq_timeout.get().to_string() },
                    { "name": "rq_total", "value": host.stats.rq_total.get().to_string() },
                    { "name": "cx_active", "value": host.stats.cx_active.get().to_string(), "type": "GAUGE" },
                    { "name": "rq_active", "value": host.active_requests().to_string(), "type": "GAUGE" },
                ],
                "locality": {
                    "region": host.locality[0].as_str(),
                    "zone": host.locality[1].as_str(),
                    "sub_zone": host.locality[2].as_str(),
                },
            })
        })
        .collect();
    json!({
        "name": cluster.config.name.as_str(),
        "observability_name": cluster.config.stat_name.as_str(),
        "circuit_breakers": { "thresholds": [thresholds(cluster, 0), thresholds(cluster, 1)] },
        "host_statuses": hosts,
    })
}

fn thresholds(cluster: &Cluster, priority: usize) -> Value {
    let mut shown = json!({ "priority": if priority == 0 { "DEFAULT" } else { "HIGH" } });
    for (what, max) in LIMITS.iter().zip(cluster.breakers[priority].limits()) {
        shown[format!("max_{what}")] = max.into();
    }
    shown
}

fn address_of(host: &Host) -> String {
    match &host.address {
        HostAddress::Tcp(address) => address.to_string(),
        HostAddress::Unix(path) => path.to_string(),
    }
}

fn health_flags(host: &Host) -> String {
    let flags: String = host.health.reasons().iter().map(|flag| format!("/{flag}")).collect();
    if flags.is_empty() { "healthy".into() } else { flags }
}

fn health_json(host: &Host) -> Value {
    let eds = if host.health.has(Unhealthy::Eds) {
        "UNHEALTHY"
    } else if host.health.has(Unhealthy::Draining) {
        "DRAINING"
    } else if host.health.has(Unhealthy::Degraded) {
        "DEGRADED"
    } else {
        "HEALTHY"
    };
    let mut health = json!({ "eds_health_status": eds });
    for flag in host.health.reasons() {
        // Envoy's message says these two by `eds_health_status`.
        if !matches!(flag, "failed_eds_health" | "eds_status_draining" | "degraded_eds_health") {
            health[flag] = true.into();
        }
    }
    health
}
