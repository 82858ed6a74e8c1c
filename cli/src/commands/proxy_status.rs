//! `ferromesh proxy-status`: where each proxy stands, from every controller.

use anyhow::Context;
use serde_json::{Value, json};

use crate::args::ProxyStatus;
use crate::client::Ask;
use crate::failure::Failure;
use crate::{Exit, cluster, output};

/// The controller's page of streams.
const PAGE: &str = "/api/sync";
/// Columns: the types of resources by their short names.
const TYPES: [(&str, &str); 4] = [("LISTENERS", "lds"), ("ROUTES", "rds"), ("CLUSTERS", "cds"), ("ENDPOINTS", "eds")];

/// Shows the proxies that are connected, and what they have.
///
/// # Errors
/// If no controller can be reached.
pub async fn run(args: &ProxyStatus) -> Result<Exit, Failure> {
    super::check_namespace(args.namespace.as_deref())?;
    super::check_namespace(Some(&args.mesh_namespace))?;
    let proxies = proxies(fetch(args).await?, args.namespace.as_deref());
    if proxies.is_empty() {
        output::note("No proxy is connected.");
    }
    output::value(args.output, &json!(proxies), |wide| table(&proxies, wide)).map_err(Failure::usage)?;
    Ok(Exit::Ok)
}

/// The page of each controller, with its name.
async fn fetch(args: &ProxyStatus) -> Result<Vec<(String, Value)>, Failure> {
    if let Some(state) = super::local_mesh(&args.cluster)? {
        let controller =
            state.controller.context("the mesh has no controller address").map_err(Failure::unreachable)?;
        let answer = Ask::get(controller, PAGE).send().await.context("the mesh does not answer; did it end?");
        let page = answer.and_then(|answer| answer.json()).map_err(Failure::unreachable)?;
        return Ok(vec![(controller.to_string(), page)]);
    }
    let cluster = args.cluster.connect().await.map_err(Failure::unreachable)?;
    cluster::controller_pages(&cluster, &args.mesh_namespace, PAGE).await.map_err(Failure::unreachable)
}

/// One list of all, by name; each says which controller serves it.
fn proxies(pages: Vec<(String, Value)>, namespace: Option<&str>) -> Vec<Value> {
    let mut all = Vec::new();
    for (controller, page) in pages {
        for mut proxy in page.as_array().cloned().unwrap_or_default() {
            let (name, of) = split(&proxy);
            if namespace.is_none_or(|wanted| wanted == of) {
                let key = (of, name);
                proxy["controller"] = json!(controller);
                all.push((key, proxy));
            }
        }
    }
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    all.into_iter().map(|(_, proxy)| proxy).collect()
}

/// Name and namespace of `<pod>.<namespace>`; pods' names may have dots, namespaces have none.
fn split(proxy: &Value) -> (String, String) {
    let key = proxy["proxy"].as_str().unwrap_or_default();
    let (name, namespace) = key.rsplit_once('.').unwrap_or((key, ""));
    (name.to_owned(), namespace.to_owned())
}

fn table(proxies: &[Value], wide: bool) -> String {
    let mut header = vec!["NAMESPACE", "NAME"];
    header.extend(TYPES.map(|(column, _)| column));
    header.extend(["CONTROLLER", "VERSION"]);
    if wide {
        header.extend(["ADDRESS", "REJECTED BECAUSE"]);
    }
    let row = |proxy: &Value| {
        let (name, namespace) = split(proxy);
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let mut row = vec![namespace, name];
        row.extend(TYPES.map(|(_, kind)| state(of(proxy, kind)).to_owned()));
        row.extend([text(&proxy["controller"]), text(&proxy["user_agent"])]);
        if wide {
            let reasons: Vec<String> = TYPES.iter().filter_map(|(_, kind)| reason(of(proxy, kind), kind)).collect();
            row.extend([text(&proxy["address"]), if reasons.is_empty() { "-".into() } else { reasons.join("\n") }]);
        }
        row
    };
    output::table(&header, &proxies.iter().map(row).collect::<Vec<_>>())
}

fn of<'a>(proxy: &'a Value, kind: &str) -> Option<&'a Value> {
    proxy["types"].as_array()?.iter().find(|one| one["kind"] == kind)
}

fn state(sync: Option<&Value>) -> &'static str {
    match sync {
        None => "-",
        Some(sync) if !sync["nack"].is_null() => "REJECTED",
        Some(sync) if sync["pending"] == true || sync["sent"] != sync["acked"] => "SENT",
        Some(_) => "SYNCED",
    }
}

fn reason(sync: Option<&Value>, kind: &str) -> Option<String> {
    sync?["nack"]["detail"].as_str().map(|message| format!("{kind}: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_type_is_what_the_proxy_said_last() {
        let sync = |pending: bool, acked: &str, nack: Value| json!({"kind": "cds", "sent": "2", "acked": acked, "pending": pending, "nack": nack});
        assert_eq!(state(None), "-");
        assert_eq!(state(Some(&sync(false, "2", Value::Null))), "SYNCED");
        assert_eq!(state(Some(&sync(true, "1", Value::Null))), "SENT");
        let refused = sync(false, "1", json!({"detail": "clusters[0].name"}));
        assert_eq!(state(Some(&refused)), "REJECTED");
        assert_eq!(reason(Some(&refused), "cds").as_deref(), Some("cds: clusters[0].name"));
    }

    #[test]
    fn proxies_of_all_controllers_are_one_list_by_name() {
        let page = |names: &[&str]| json!(names.iter().map(|name| json!({"proxy": name})).collect::<Vec<_>>());
        let pages = vec![("b".to_owned(), page(&["x.v1.two", "a.one"])), ("a".to_owned(), page(&["b.one"]))];
        let seen = |namespace| -> Vec<String> {
            let all = proxies(pages.clone(), namespace);
            all.iter()
                .map(|one| format!("{}@{}", one["proxy"].as_str().unwrap(), one["controller"].as_str().unwrap()))
                .collect()
        };
        assert_eq!(seen(None), ["a.one@b", "b.one@a", "x.v1.two@b"]);
        assert_eq!(seen(Some("two")), ["x.v1.two@b"]);
    }
}
