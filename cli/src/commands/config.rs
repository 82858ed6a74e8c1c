//! `ferromesh config`: what a proxy is configured with, from its admin pages; of a cluster, or of the mesh that `up` runs.

use anyhow::Context;
use serde_json::Value;

use crate::args::{Config, ConfigPart};
use crate::client::Ask;
use crate::failure::Failure;
use crate::up::state::MeshState;
use crate::{Exit, cluster, output};

/// Shows a part of a proxy's configuration.
///
/// # Errors
/// If no mesh runs, or it has no such workload.
pub async fn run(args: &Config) -> Result<Exit, Failure> {
    super::check_namespace(args.namespace.as_deref())?;
    let value = fetch(args).await?;
    output::value(args.output, &value, |wide| shown(args.part, &value, wide)).map_err(Failure::usage)?;
    Ok(Exit::Ok)
}

async fn fetch(args: &Config) -> Result<Value, Failure> {
    let path = match args.part {
        ConfigPart::Endpoints => "/clusters?format=json",
        ConfigPart::Secrets => "/certs",
        _ => "/config_dump",
    };
    let page = match super::local_mesh(&args.cluster)? {
        Some(state) => of_process(&state, args, path).await?,
        None => of_cluster(args, path).await?,
    };
    Ok(match args.part {
        ConfigPart::Endpoints => page["cluster_statuses"].clone(),
        ConfigPart::Secrets => page["certificates"].clone(),
        ConfigPart::Listeners => section(&page, "ListenersConfigDump", "listener"),
        ConfigPart::Clusters => section(&page, "ClustersConfigDump", "cluster"),
        ConfigPart::Routes => section(&page, "RoutesConfigDump", "route_config"),
        ConfigPart::Bootstrap => dump(&page, "BootstrapConfigDump")["bootstrap"].clone(),
    })
}

async fn of_process(state: &MeshState, args: &Config, path: &str) -> Result<Value, Failure> {
    let (key, pod) = state.pod(&args.workload, args.namespace.as_deref()).map_err(Failure::usage)?;
    let no_proxy = || format!("{key} has no proxy (its namespace is not labelled for injection)");
    let admin = pod.admin.with_context(no_proxy).map_err(Failure::usage)?;
    let answer = Ask::get(admin, path).send().await.context("the mesh does not answer; did it end?");
    answer.and_then(|answer| answer.json()).map_err(Failure::unreachable)
}

async fn of_cluster(args: &Config, path: &str) -> Result<Value, Failure> {
    let cluster = args.cluster.connect().await.map_err(Failure::unreachable)?;
    let pod = cluster::workload(&cluster, &args.workload, args.namespace.as_deref()).await;
    let pod = pod.map_err(Failure::of_cluster)?;
    cluster::proxy_page(&cluster, &pod, path).await.map_err(Failure::of_cluster)
}

fn dump(page: &Value, kind: &str) -> Value {
    let configs = page["configs"].as_array().into_iter().flatten();
    let mut found = configs.filter(|config| config["@type"].as_str().is_some_and(|found| found.ends_with(kind)));
    found.next().cloned().unwrap_or_default()
}

/// The resources of a dump, wherever in it they stand.
fn section(page: &Value, kind: &str, field: &str) -> Value {
    let mut found = Vec::new();
    collect(&dump(page, kind), field, &mut found);
    Value::Array(found)
}

fn collect(value: &Value, field: &str, found: &mut Vec<Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, field, found)),
        Value::Object(fields) => match fields.get(field) {
            Some(resource @ Value::Object(_)) => found.push(resource.clone()),
            _ => fields.values().for_each(|value| collect(value, field, found)),
        },
        _ => {}
    }
}

fn shown(part: ConfigPart, value: &Value, wide: bool) -> String {
    let items = value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    match part {
        ConfigPart::Listeners => {
            let row = |item: &Value| vec![text(&item["name"]), address(&item["address"]), chains(item)];
            output::table(&["NAME", "ADDRESS", "FILTER CHAINS"], &items.iter().map(row).collect::<Vec<_>>())
        }
        ConfigPart::Clusters => {
            let row = |item: &Value| vec![text(&item["name"]), text(&item["type"]), text(&item["lb_policy"])];
            output::table(&["NAME", "TYPE", "BALANCER"], &items.iter().map(row).collect::<Vec<_>>())
        }
        ConfigPart::Routes => output::table(&["TABLE", "DOMAINS", "MATCH", "TO"], &routes(&items, wide)),
        ConfigPart::Endpoints => output::table(&["CLUSTER", "ENDPOINT", "HEALTH", "REQUESTS"], &endpoints(&items)),
        ConfigPart::Secrets => output::table(&["NAME", "KIND", "IDENTITY", "SERIAL", "EXPIRES"], &secrets(&items)),
        ConfigPart::Bootstrap => serde_json::to_string_pretty(value).unwrap_or_default() + "\n",
    }
}

fn address(value: &Value) -> String {
    let socket = &value["socket_address"];
    format!("{}:{}", socket["address"].as_str().unwrap_or("-"), socket["port_value"])
}

fn chains(listener: &Value) -> String {
    let chains = listener["filter_chains"].as_array().cloned().unwrap_or_default();
    let names: Vec<&str> = chains.iter().map(|chain| chain["name"].as_str().unwrap_or("-")).collect();
    names.join("\n")
}

fn routes(tables: &[Value], wide: bool) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for table in tables {
        for host in table["virtual_hosts"].as_array().into_iter().flatten() {
            let domains: Vec<&str> =
                host["domains"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let few = if wide { domains.len() } else { 2 };
            let domains_shown = domains.iter().take(few).copied().collect::<Vec<_>>().join("\n");
            for route in host["routes"].as_array().into_iter().flatten() {
                rows.push(vec![
                    table["name"].as_str().unwrap_or("-").to_owned(),
                    domains_shown.clone(),
                    compact(&route["match"]),
                    target(route),
                ]);
            }
        }
    }
    rows
}

fn compact(value: &Value) -> String {
    let fields = value.as_object().into_iter().flatten();
    fields
        .map(|(name, value)| format!("{name}: {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect::<Vec<_>>()
        .join("\n")
}

fn target(route: &Value) -> String {
    let action = &route["route"];
    if let Some(cluster) = action["cluster"].as_str() {
        return cluster.to_owned();
    }
    let weighted = action["weighted_clusters"]["clusters"].as_array().into_iter().flatten();
    let shares: Vec<String> =
        weighted.map(|share| format!("{} {}", share["weight"], share["name"].as_str().unwrap_or("-"))).collect();
    if !shares.is_empty() {
        return shares.join("\n");
    }
    ["redirect", "direct_response"]
        .iter()
        .find(|kind| !route[**kind].is_null())
        .map_or("-".into(), |kind| (*kind).to_owned())
}

fn secrets(items: &[Value]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for item in items {
        for (kind, list) in [("root", "ca_cert"), ("certificate", "cert_chain")] {
            for certificate in item[list].as_array().into_iter().flatten() {
                let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
                let names = certificate["subject_alt_names"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let names: Vec<&str> = names.collect();
                let identity = if names.is_empty() { word(&certificate["subject"]) } else { names.join("\n") };
                let expires = word(&certificate["expiration_time"]);
                let serial = word(&certificate["serial_number"]).chars().take(8).collect();
                rows.push(vec![word(&item["name"]), kind.to_owned(), identity, serial, expires]);
            }
        }
    }
    rows
}

fn endpoints(clusters: &[Value]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for cluster in clusters {
        for host in cluster["host_statuses"].as_array().into_iter().flatten() {
            let stats = host["stats"].as_array().into_iter().flatten();
            let total = stats.filter(|stat| stat["name"] == "rq_total").find_map(|stat| stat["value"].as_str());
            rows.push(vec![
                cluster["name"].as_str().unwrap_or("-").to_owned(),
                address(&host["address"]),
                host["health_status"]["eds_health_status"].as_str().unwrap_or("-").to_owned(),
                total.unwrap_or("0").to_owned(),
            ]);
        }
    }
    rows
}
