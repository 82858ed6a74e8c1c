//! `ferromesh get`: objects with their status, from the controller of the mesh that runs.

use anyhow::{Context, anyhow};
use serde_json::Value;

use crate::args::{Get, Output};
use crate::client::Ask;
use crate::failure::Failure;
use crate::up::state::MeshState;
use crate::{Exit, output};

/// Shows objects.
///
/// # Errors
/// If no mesh runs, or it knows no such kind or object.
pub async fn run(args: &Get) -> Result<Exit, Failure> {
    let word =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    if !word(&args.kind) {
        return Err(Failure::usage(anyhow!(
            "{:?} is not a kind; write e.g. httproutes (ferromesh get --help)",
            args.kind
        )));
    }
    super::check_namespace(args.namespace.as_deref())?;
    let objects = fetch(args).await?;
    if let (Some(name), true) = (&args.name, objects.is_empty()) {
        return Err(Failure::usage(anyhow!("{} {name:?} is not there", args.kind)));
    }
    if objects.is_empty() && matches!(args.output, Output::Table | Output::Wide) {
        output::note("No objects found.");
        return Ok(Exit::Ok);
    }
    let value = match (&args.name, objects.as_slice()) {
        (Some(_), [one]) => one.clone(),
        _ => serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": objects }),
    };
    output::value(args.output, &value, |wide| table(&objects, wide)).map_err(Failure::usage)?;
    Ok(Exit::Ok)
}

async fn fetch(args: &Get) -> Result<Vec<Value>, Failure> {
    let state = MeshState::read().map_err(Failure::unreachable)?;
    let controller = state.controller.context("the mesh has no controller address").map_err(Failure::unreachable)?;
    let ask = Ask::get(controller, format!("/api/objects/{}", args.kind));
    let answer = ask.send().await.context("the mesh does not answer; did it end?").map_err(Failure::unreachable)?;
    if answer.status != 200 {
        return Err(Failure::usage(anyhow!("{}", answer.text().trim())));
    }
    let list = answer.json().map_err(Failure::unreachable)?;
    let items = list.as_array().or_else(|| list["items"].as_array()).cloned().unwrap_or_default();
    let fits = |object: &Value| {
        let metadata = &object["metadata"];
        let namespaced = args.all_namespaces
            || args.namespace.is_none()
            || metadata["namespace"].is_null()
            || metadata["namespace"].as_str() == args.namespace.as_deref();
        namespaced && args.name.as_ref().is_none_or(|name| metadata["name"].as_str() == Some(name))
    };
    Ok(items.into_iter().filter(fits).collect())
}

fn table(objects: &[Value], wide: bool) -> String {
    let mut header = vec!["NAMESPACE", "NAME", "STATUS"];
    if wide {
        header.push("REASON");
    }
    let rows: Vec<Vec<String>> = objects
        .iter()
        .map(|object| {
            let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
            let conditions = conditions(object);
            let mut row =
                vec![text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]), summary(&conditions)];
            if wide {
                let good = |condition: &Value| {
                    let trouble = condition["type"].as_str().is_some_and(|kind| TROUBLES.contains(&kind));
                    condition["status"] == if trouble { "False" } else { "True" }
                };
                let reasons = conditions.iter().filter(|condition| !good(condition));
                row.push(
                    reasons
                        .map(|condition| format!("{}: {}", text(&condition["type"]), text(&condition["message"])))
                        .collect::<Vec<_>>()
                        .join("\n"),
                );
            }
            row
        })
        .collect();
    output::table(&header, &rows)
}

/// Conditions wherever a kind has them: on the object, on each parent, on each listener.
fn conditions(object: &Value) -> Vec<Value> {
    let status = &object["status"];
    let mut all: Vec<Value> = status["conditions"].as_array().cloned().unwrap_or_default();
    for list in ["parents", "listeners"] {
        for entry in status[list].as_array().into_iter().flatten() {
            all.extend(entry["conditions"].as_array().cloned().unwrap_or_default());
        }
    }
    all
}

/// Gateway API's conditions that are True when something is wrong.
const TROUBLES: [&str; 3] = ["Conflicted", "PartiallyInvalid", "OverlappingTLSConfig"];

fn summary(conditions: &[Value]) -> String {
    let mut words: Vec<String> = Vec::new();
    for condition in conditions {
        let kind = condition["type"].as_str().unwrap_or("?");
        let word = match condition["status"].as_str() {
            Some("True") => kind.to_owned(),
            // Conditions that tell of trouble are good when they are False.
            Some("False") if TROUBLES.contains(&kind) => continue,
            _ => format!(
                "{kind}={}({})",
                condition["status"].as_str().unwrap_or("?"),
                condition["reason"].as_str().unwrap_or("?")
            ),
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    if words.is_empty() { "-".into() } else { words.join(",") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_route_shows_the_conditions_of_its_parents() {
        let route = json!({ "status": { "parents": [{ "conditions": [
            { "type": "Accepted", "status": "True", "reason": "Accepted" },
            { "type": "ResolvedRefs", "status": "False", "reason": "BackendNotFound" },
        ] }] } });
        assert_eq!(summary(&conditions(&route)), "Accepted,ResolvedRefs=False(BackendNotFound)");
    }

    #[test]
    fn a_trouble_that_is_not_there_is_not_shown() {
        let conflicted =
            |status: &str| [json!({ "type": "Conflicted", "status": status, "reason": "HostnameConflict" })];
        assert_eq!((summary(&conflicted("False")), summary(&conflicted("True"))), ("-".into(), "Conflicted".into()));
    }
}
