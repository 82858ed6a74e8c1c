//! The admin pages: one row each, in the order in which `/help` lists them.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::{Admin, Command, DrainListeners, json as json_reply, parameter, process, reply, server, text};
use crate::matcher::re2;
use crate::stats::render::{self, Selection, Shape};
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
    get("/clusters", "hosts of each cluster and their state (?filter=regex, ?format=json)", super::clusters::page),
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
    post(
        "/logging",
        "what is logged, and change it (?level=debug, ?paths=logger:level,..., ?logger=level)",
        super::logging::page,
    ),
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
    get(
        "/stats",
        "metrics (?filter=regex, ?usedonly, ?type=Counters|Gauges|Histograms, ?format=json|prometheus)",
        stats,
    ),
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
    let refuse = |why: String| Box::new(text(StatusCode::BAD_REQUEST, why));
    let filter = parameter(query, "filter").filter(|filter| !filter.is_empty());
    let kind = match parameter(query, "type").as_deref() {
        None | Some("All") => None,
        Some("Counters") => Some(Shape::Counter),
        Some("Gauges") => Some(Shape::Gauge),
        Some("Histograms") => Some(Shape::Histogram),
        Some("TextReadouts") => Some(Shape::Text),
        Some(_) => return Err(refuse("usage: /stats?type=(All|Counters|Gauges|Histograms|TextReadouts)\n".into())),
    };
    if parameter(query, "histogram_buckets").is_some_and(|buckets| buckets != "summary") {
        return Err(refuse("usage: /stats?histogram_buckets=(summary); ?format=json has the buckets\n".into()));
    }
    Selection::new(filter.as_deref(), parameter(query, "usedonly").is_some())
        .map(|selection| Selection { kind, ..selection })
        .map_err(|error| refuse(format!("filter: {error}\n")))
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
        Some(format) if format != "text" => {
            text(StatusCode::BAD_REQUEST, "usage: /stats?format=(json|prometheus|text)\n")
        }
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
