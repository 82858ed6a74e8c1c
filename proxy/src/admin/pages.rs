//! The admin pages: one row each, in the order in which `/help` lists them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::{Admin, Command, DrainListeners, json as json_reply, parameter, process, reply, server, text};
use crate::cluster::{Cluster, Discovery, Host, HostAddress, health::Unhealthy};
use crate::matcher::re2;
use crate::stats::render::{self, Selection};
use crate::tls::CertificateFacts;

/// A page.
pub(super) struct Page {
    pub(super) path: &'static str,
    /// Whether it changes the proxy (POST, from the loopback only).
    pub(super) changes: bool,
    pub(super) what: &'static str,
    pub(super) answer: fn(&Admin, &str) -> Response<Full<Bytes>>,
}

const fn get(path: &'static str, what: &'static str, answer: fn(&Admin, &str) -> Response<Full<Bytes>>) -> Page {
    Page { path, changes: false, what, answer }
}

const fn post(path: &'static str, what: &'static str, answer: fn(&Admin, &str) -> Response<Full<Bytes>>) -> Page {
    Page { path, changes: true, what, answer }
}

pub(super) static PAGES: &[Page] = &[
    get("/", "this list", |_, _| text(StatusCode::OK, help())),
    get("/help", "this list", |_, _| text(StatusCode::OK, help())),
    get("/certs", "certificates and their expiry", certs),
    get("/clusters", "hosts of each cluster and their state (?format=json)", clusters),
    get(
        "/config_dump",
        "configuration as it came (?include_eds, ?resource=static_clusters, ?mask=cluster.name,..., ?name_regex=)",
        config_dump,
    ),
    get(
        "/explain",
        "what a cause, a response flag or response_code_details means (?code=UF, ?format=json)",
        |_, query| super::explain::page(query),
    ),
    post("/drain_listeners", "close listeners (?graceful, ?inboundonly, ?skip_exit)", drain_listeners),
    post("/healthcheck/fail", "make the health_check filter fail", |admin, _| {
        command(admin, Command::HealthCheck(false))
    }),
    post("/healthcheck/ok", "make the health_check filter pass again", |admin, _| {
        command(admin, Command::HealthCheck(true))
    }),
    get("/hot_restart_version", "version of hot restart, or disabled", process::hot_restart_version),
    get("/init_dump", "what has not come yet that a part of the configuration waits for", process::init_dump),
    get("/listeners", "listeners and their addresses (?format=json)", listeners),
    post("/logging", "set the log filter (?level=debug, or ?paths=target:level,...)", logging),
    get("/memory", "memory that the process has", process::memory),
    post("/quitquitquit", "exit", |admin, _| command(admin, Command::Quit)),
    get("/ready", "200 LIVE once the first configuration serves", ready),
    post("/reopen_logs", "open the access logs anew, after they were rotated", |admin, _| {
        command(admin, Command::ReopenLogs)
    }),
    post("/reset_counters", "count from zero again", process::reset_counters),
    get("/runtime", "values of layered_runtime, by key and layer", |admin, _| {
        json_reply(&admin.context.runtime.to_json())
    }),
    post("/runtime_modify", "set keys of the admin layer (?key=value&..., also as a form)", process::runtime_modify),
    get("/server_info", "version, node, uptime", server_info),
    get("/stats", "metrics (?filter=regex, ?usedonly, ?format=json|prometheus)", stats),
    get("/stats/prometheus", "metrics for Prometheus (?filter=regex, ?usedonly)", prometheus),
];

/// What `/help` shows.
pub(super) fn help() -> String {
    let mut help = String::from("admin commands:\n");
    for page in PAGES {
        let method = if page.changes { " (POST)" } else { "" };
        help.push_str(&format!("  {}{method}: {}\n", page.path, page.what));
    }
    help
}

fn ready(admin: &Admin, _: &str) -> Response<Full<Bytes>> {
    let state = admin.state();
    let status = if state == "LIVE" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    text(status, format!("{state}\n"))
}

fn server_info(admin: &Admin, _: &str) -> Response<Full<Bytes>> {
    json_reply(&json!({
        "version": format!("ferromesh-proxy/{}", env!("CARGO_PKG_VERSION")),
        "state": admin.state(),
        "uptime_current_epoch": format!("{}s", admin.started.elapsed().as_secs()),
        "command_line_options": { "concurrency": admin.concurrency },
        "node": ferromesh_proto::json::to_json(&admin.context.local.node),
    }))
}

fn config_dump(admin: &Admin, query: &str) -> Response<Full<Bytes>> {
    let asked = |name| parameter(query, name).filter(|value| !value.is_empty());
    let names = match asked("name_regex").map(|regex| re2::full(&regex)).transpose() {
        Ok(names) => names,
        Err(error) => return text(StatusCode::BAD_REQUEST, format!("name_regex: {error}\n")),
    };
    let dump = admin.dump.to_json(parameter(query, "include_eds").is_some(), names.as_ref());
    match super::config_dump::select(dump, asked("resource").as_deref(), asked("mask").as_deref()) {
        Ok(kept) => json_reply(&kept),
        Err((status, why)) => text(status, why),
    }
}

fn command(admin: &Admin, command: Command) -> Response<Full<Bytes>> {
    match admin.commands.try_send(command) {
        Ok(()) => text(StatusCode::OK, "OK\n"),
        Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "the proxy is busy with an earlier command\n"),
    }
}

fn drain_listeners(admin: &Admin, query: &str) -> Response<Full<Bytes>> {
    let asked = |name| parameter(query, name).is_some();
    let (graceful, inbound_only, skip_exit) = (asked("graceful"), asked("inboundonly"), asked("skip_exit"));
    if skip_exit && !graceful {
        return text(StatusCode::BAD_REQUEST, "skip_exit requires graceful\n");
    }
    command(admin, Command::DrainListeners(DrainListeners { graceful, inbound_only, skip_exit }))
}

fn logging(admin: &Admin, query: &str) -> Response<Full<Bytes>> {
    let level = parameter(query, "level").or_else(|| parameter(query, "paths"));
    let (Some(level), Some(set)) = (level, &admin.set_log_level) else {
        return text(StatusCode::BAD_REQUEST, "say ?level=debug, or ?paths=target:level,target:level\n");
    };
    // Envoy's `target:level`; a target may have colons of its own.
    let directive = |part: &str| match part.rsplit_once(':') {
        Some((target, level)) if !part.contains('=') => format!("{target}={level}"),
        _ => part.to_owned(),
    };
    match set(&level.split(',').map(directive).collect::<Vec<_>>().join(",")) {
        Ok(()) => text(StatusCode::OK, "OK\n"),
        Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

fn listeners(admin: &Admin, query: &str) -> Response<Full<Bytes>> {
    let listeners = admin.listeners.borrow();
    if parameter(query, "format").as_deref() == Some("json") {
        let statuses: Vec<Value> = listeners
            .iter()
            .map(|(name, address)| {
                let socket = json!({ "address": address.ip().to_string(), "port_value": address.port() });
                json!({ "name": name, "local_address": { "socket_address": socket } })
            })
            .collect();
        return json_reply(&json!({ "listener_statuses": statuses }));
    }
    let lines: String = listeners.iter().map(|(name, address)| format!("{name}::{address}\n")).collect();
    text(StatusCode::OK, lines)
}

fn certs(admin: &Admin, _: &str) -> Response<Full<Bytes>> {
    let shown = |facts: &CertificateFacts| {
        json!({
            "serial_number": facts.serial,
            "subject": facts.subject,
            "subject_alt_names": facts.uris.iter().chain(&facts.dns).collect::<Vec<_>>(),
            "valid_from": timestamp(facts.not_before),
            "expiration_time": timestamp(facts.not_after),
        })
    };
    let secrets = admin.context.secrets.snapshot();
    let certificates: Vec<Value> = secrets
        .iter()
        .map(|secret| {
            json!({
                "name": secret.name,
                "version": secret.version,
                "withdrawn": secret.withdrawn,
                "cert_chain": secret.chain.iter().map(shown).collect::<Vec<_>>(),
                "ca_cert": secret.roots.iter().map(shown).collect::<Vec<_>>(),
            })
        })
        .collect();
    json_reply(&json!({ "certificates": certificates }))
}

fn timestamp(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default()
}

/// Which metrics a query asks for.
fn selection(query: &str) -> Result<Selection, Box<Response<Full<Bytes>>>> {
    let filter = parameter(query, "filter").filter(|filter| !filter.is_empty());
    Selection::new(filter.as_deref(), parameter(query, "usedonly").is_some())
        .map_err(|error| Box::new(text(StatusCode::BAD_REQUEST, format!("filter: {error}\n"))))
}

fn stats(admin: &Admin, query: &str) -> Response<Full<Bytes>> {
    let selection = match selection(query) {
        Ok(selection) => selection,
        Err(response) => return *response,
    };
    server::refresh(admin);
    match parameter(query, "format").as_deref() {
        Some("prometheus") => prometheus(admin, query),
        Some("json") => json_reply(&render::json(&admin.context.stats, &selection)),
        _ => text(StatusCode::OK, render::text(&admin.context.stats, &selection)),
    }
}

fn prometheus(admin: &Admin, query: &str) -> Response<Full<Bytes>> {
    match selection(query) {
        Ok(selection) => {
            server::refresh(admin);
            let shown = render::prometheus(&admin.context.stats, &selection);
            reply(StatusCode::OK, "text/plain; version=0.0.4; charset=UTF-8", shown)
        }
        Err(response) => *response,
    }
}

fn clusters(admin: &Admin, query: &str) -> Response<Full<Bytes>> {
    let clusters = admin.context.clusters.all();
    let mut names: Vec<_> = clusters.values().collect();
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
        for (what, max) in ["connections", "pending_requests", "requests", "retries"].iter().zip(breakers.limits()) {
            shown.push_str(&format!("{name}::{priority}_priority::max_{what}::{max}\n"));
        }
    }
    for host in &hosts_of(cluster) {
        let address = address_of(host);
        for (field, value) in [
            ("cx_active", host.stats.cx_active.get().to_string()),
            ("cx_connect_fail", host.stats.cx_connect_fail.get().to_string()),
            ("cx_total", host.stats.cx_total.get().to_string()),
            ("rq_active", host.active.load(Ordering::Relaxed).to_string()),
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
                "stats": [
                    { "name": "rq_total", "value": host.stats.rq_total.get().to_string() },
                    { "name": "rq_success", "value": host.stats.rq_success.get().to_string() },
                    { "name": "rq_error", "value": host.stats.rq_error.get().to_string() },
                    { "name": "cx_total", "value": host.stats.cx_total.get().to_string() },
                    { "name": "cx_active", "value": host.stats.cx_active.get().to_string(), "type": "GAUGE" },
                ],
                "locality": {
                    "region": host.locality[0].as_str(),
                    "zone": host.locality[1].as_str(),
                    "sub_zone": host.locality[2].as_str(),
                },
            })
        })
        .collect();
    json!({ "name": cluster.config.name.as_str(), "host_statuses": hosts })
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
