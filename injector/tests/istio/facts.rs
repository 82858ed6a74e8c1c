//! A pod as facts: a path and what is there, so that two pods can be compared whatever their order and form.

use std::collections::BTreeMap;

use ferromesh_injector::workload::items;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value};

/// Facts by path.
pub type Facts = BTreeMap<String, String>;

/// The pods of a text, whatever makes them, in order.
pub fn pods(text: &str) -> Vec<Facts> {
    let mut all = Vec::new();
    for (_, document) in ferromesh_api::documents::split(text) {
        let Ok(mut object) = serde_saphyr::from_str::<Value>(document) else { continue };
        for item in items(&mut object) {
            let template = match item["kind"].as_str() {
                Some("Pod") => &*item,
                Some("CronJob") => &item["spec"]["jobTemplate"]["spec"]["template"],
                Some(_) if item.pointer("/spec/template/spec").is_some() => &item["spec"]["template"],
                _ => continue,
            };
            all.push(facts(template));
        }
    }
    all
}

fn facts(template: &Value) -> Facts {
    // Through the types, so that both have the same form.
    let plain = serde_json::json!({ "metadata": template["metadata"], "spec": template["spec"] });
    let pod: Pod = serde_json::from_value(plain).unwrap_or_else(|error| panic!("{error}: {template}"));
    let pod = serde_json::to_value(pod).unwrap();
    let (mut facts, mut spec) = (Facts::new(), pod["spec"].as_object().cloned().unwrap_or_default());
    for kind in ["labels", "annotations"] {
        for (name, value) in pod["metadata"][kind].as_object().into_iter().flatten() {
            flatten(&format!("{kind}.{name}"), &meaning(name, value), &mut facts);
        }
    }
    for list in ["initContainers", "containers"] {
        let containers = spec.remove(list).and_then(|list| list.as_array().cloned()).unwrap_or_default();
        let names: Vec<&str> = containers.iter().filter_map(|one| one["name"].as_str()).collect();
        if !names.is_empty() {
            facts.insert(list.to_owned(), names.join(" "));
        }
        if names.contains(&"istio-proxy") {
            facts.insert("injected".into(), "yes".into());
        }
        for container in &containers {
            self::container(container, &mut facts);
        }
    }
    flatten("spec", &Value::Object(spec), &mut facts);
    facts
}

/// A container under its name; flags and variables under theirs.
fn container(container: &Value, facts: &mut Facts) {
    let mut fields = container.as_object().cloned().unwrap_or_default();
    let name = fields.remove("name").and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
    let ours = ["istio-proxy", "istio-init", "istio-validation"].contains(&name.as_str());
    if let Some(args) = fields.remove("args").filter(|_| ours) {
        let args: Vec<&str> = args.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        flags(&format!("{name}.args"), &args, facts);
    }
    for var in fields.remove("env").as_ref().and_then(Value::as_array).into_iter().flatten() {
        let what = var["name"].as_str().unwrap_or_default();
        let value = match (&var["value"], &var["valueFrom"]) {
            // A variable without a value is empty.
            (Value::Null, Value::Null) => "".into(),
            (value, Value::Null) => meaning(what, value),
            (_, from) => from.clone(),
        };
        flatten(&format!("{name}.env.{what}"), &value, facts);
    }
    if !ours {
        // What a container of the user's own looks like is its own affair, but all of it must stay.
        fields.insert("args".into(), container["args"].clone());
    }
    flatten(&name, &Value::Object(fields), facts);
}

/// `-p 15001`, `--flag=value`, `--flag`, words.
fn flags(path: &str, args: &[&str], facts: &mut Facts) {
    let mut rest = args.iter().peekable();
    while let Some(arg) = rest.next() {
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) if name.starts_with('-') => (name, value),
            _ if arg.starts_with('-') && rest.peek().is_some_and(|next| !next.starts_with('-')) => {
                (*arg, *rest.next().unwrap())
            }
            _ => (*arg, ""),
        };
        facts.insert(format!("{path}.{name}"), value.to_owned());
    }
}

/// Text that is JSON or YAML is read, so that its form does not count.
fn meaning(name: &str, value: &Value) -> Value {
    let read = [
        "PROXY_CONFIG",
        "ISTIO_META_POD_PORTS",
        "ISTIO_KUBE_APP_PROBERS",
        "ISTIO_PROMETHEUS_ANNOTATIONS",
        "sidecar.istio.io/status",
        "proxy.istio.io/overrides",
    ];
    let text = value.as_str().unwrap_or_default();
    if read.contains(&name) { serde_json::from_str(text).unwrap_or_else(|_| value.clone()) } else { value.clone() }
}

/// Every leaf; what is empty is not there. Lists of things with a name are told apart by it.
fn flatten(path: &str, value: &Value, facts: &mut Facts) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, value) in fields {
                flatten(&format!("{path}.{name}"), value, facts);
            }
        }
        Value::Array(list) if list.iter().all(|one| one["name"].is_string()) => {
            for one in list {
                let mut fields: Map<String, Value> = one.as_object().cloned().unwrap_or_default();
                let name = fields.remove("name").and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
                let path = format!("{path}[{name}]");
                let before = facts.len();
                flatten(&path, &Value::Object(fields), facts);
                if facts.len() == before {
                    facts.insert(path, "there".into());
                }
            }
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            for (place, one) in list.iter().enumerate() {
                flatten(&format!("{path}[{place}]"), one, facts);
            }
        }
        Value::Array(list) => {
            let words: Vec<String> = list.iter().map(word).collect();
            facts.insert(path.to_owned(), words.join(","));
        }
        leaf => {
            let mut word = word(leaf);
            if let Some(whole) = word.strip_suffix("000m").filter(|_| path.ends_with(".cpu")) {
                // The same amount.
                word = whole.to_owned();
            }
            facts.insert(path.to_owned(), word);
        }
    }
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
