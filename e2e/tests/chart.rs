//! The chart, rendered by the real Helm: against golden files, so that a right or a value that changes is seen.
//!
//! `UPDATE_GOLDEN=1 cargo test -p ferromesh-e2e --test chart` writes them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ferromesh_e2e::progress::Progress;
use ferromesh_e2e::tools::{Tool, Toolbox};
use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn chart() -> PathBuf {
    Path::new(ROOT).join("charts/ferromesh")
}

/// Helm, if it has been built; where it must be there, it is built.
fn helm(args: &[&str]) -> Option<Output> {
    let must = std::env::var_os("CI").is_some();
    let tools = if must {
        Toolbox::with(&[Tool::Helm], &Progress::silent()).unwrap()
    } else {
        Toolbox::present(&[Tool::Helm]).unwrap()
    };
    match tools.program("helm") {
        Ok(helm) => Some(Command::new(helm).args(args).output().unwrap()),
        Err(reason) if must => panic!("{reason:#}"),
        Err(reason) => {
            eprintln!("SKIPPED: {reason:#}");
            None
        }
    }
}

fn render(values: Option<&str>, more: &[&str]) -> Option<Output> {
    let chart = chart();
    let mut args = vec!["template", "ferromesh", chart.to_str()?, "--namespace", "ferromesh-system", "--include-crds"];
    let file = values.map(|name| chart.join(format!("ci/{name}-values.yaml")));
    if let Some(file) = &file {
        args.extend(["--values", file.to_str()?]);
    }
    args.extend(more);
    helm(&args)
}

fn golden(name: &str, text: &str) {
    let path = Path::new(ROOT).join("e2e/tests/golden/chart").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = known.lines().zip(text.lines()).position(|(known, now)| known != now);
    assert!(
        known == text,
        "{} differs from line {:?} on; look at it, then run with UPDATE_GOLDEN=1",
        path.display(),
        differs.map(|line| line + 1)
    );
}

#[test]
fn what_is_installed_is_what_the_golden_files_say() {
    for (name, values) in [("default.yaml", None), ("tutorial.yaml", Some("tutorial")), ("small.yaml", Some("small"))] {
        let Some(out) = render(values, &[]) else { return };
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        golden(name, &String::from_utf8(out.stdout).unwrap());
    }
}

#[test]
fn helm_lint_finds_nothing() {
    let Some(out) = helm(&["lint", "--strict", chart().to_str().unwrap()]) else { return };
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
}

#[test]
fn a_value_that_is_not_known_is_refused_by_name() {
    for (set, needle) in [
        ("controler.replicas=1", "controler"),
        ("ca.replicas=0", "replicas"),
        ("injector.failurePolicy=Maybe", "failurePolicy"),
    ] {
        let Some(out) = render(None, &["--set", set]) else { return };
        let text = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && text.contains(needle), "{set}: {text}");
    }
}

/// Every rule of every role in the golden file of the defaults.
fn rules() -> Vec<(String, Value)> {
    let all = rules_of("default");
    assert!(all.len() > 10, "{}", all.len());
    all
}

/// Every rule of every role in a golden file.
fn rules_of(golden: &str) -> Vec<(String, Value)> {
    let path = Path::new(ROOT).join(format!("e2e/tests/golden/chart/{golden}.yaml"));
    let text = std::fs::read_to_string(path).unwrap();
    let mut all = Vec::new();
    for document in text.split("\n---\n") {
        let Ok(object) = serde_saphyr::from_str::<Value>(document) else { continue };
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        for rule in object.get("rules").and_then(Value::as_array).into_iter().flatten() {
            if rule.get("verbs").is_some() {
                all.push((name.clone(), rule.clone()));
            }
        }
    }
    all
}

#[test]
fn the_nodes_agent_may_only_what_it_does() {
    let rules = rules_of("small").into_iter().filter(|(role, _)| role.starts_with("ferromesh-cni"));
    let rules: Vec<Value> = rules.map(|(_, rule)| rule).collect();
    let expected = serde_json::json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "delete"]},
        {"apiGroups": [""], "resources": ["pods/status"], "verbs": ["patch"]},
        {"apiGroups": ["apps"], "resources": ["daemonsets"], "resourceNames": ["ferromesh-cni"], "verbs": ["get"]},
    ]);
    assert_eq!(Value::from(rules), expected);
    let Some(out) = render(None, &["--set", "cni.enabled=true", "--show-only", "templates/cni.yaml"]) else { return };
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains("verbs: [get]\n---"), "without the repair, pods are got and no more: {text}");
    assert!(!text.contains("pods/status"), "{text}");
}

#[test]
fn nobody_reads_secrets_of_the_cluster_and_nobody_may_do_all() {
    for (role, rule) in rules() {
        let has = |field: &str, word: &str| rule[field].as_array().into_iter().flatten().any(|one| one == word);
        assert!(!has("verbs", "*") && !has("resources", "*") && !has("apiGroups", "*"), "{role}: {rule}");
        if has("resources", "secrets") {
            assert_eq!(rule["resourceNames"], serde_json::json!(["ferromesh-ca-root"]), "{role}: {rule}");
            assert_eq!(role, "ferromesh-ca");
        }
        for resource in ["pods/exec", "roles", "clusterroles", "rolebindings", "clusterrolebindings"] {
            assert!(!has("resources", resource), "{role}: {rule}");
        }
    }
}

#[test]
fn no_webhook_can_lock_the_cluster_out() {
    let path = Path::new(ROOT).join("e2e/tests/golden/chart/default.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let document = text.split("\n---\n").find(|one| one.contains("kind: MutatingWebhookConfiguration")).unwrap();
    let object: Value = serde_saphyr::from_str(document).unwrap();
    let hooks = object["webhooks"].as_array().unwrap();
    assert_eq!(hooks.len(), 4);
    for hook in hooks {
        let selector = hook["namespaceSelector"]["matchExpressions"].as_array().unwrap();
        let outside = selector.iter().find(|one| one["key"] == "kubernetes.io/metadata.name").unwrap();
        assert_eq!(outside["operator"], "NotIn");
        for name in ["kube-system", "ferromesh-system"] {
            assert!(outside["values"].as_array().unwrap().iter().any(|one| one == name), "{hook}");
        }
        let object = hook["objectSelector"]["matchExpressions"].as_array().unwrap();
        assert!(object.iter().any(|one| one["key"] == "sidecar.istio.io/inject"), "{hook}");
    }
}

/// `docs/values.md`, made of the schema and the defaults.
#[test]
fn the_reference_of_values_is_that_of_the_schema() {
    let read = |name: &str| std::fs::read_to_string(chart().join(name)).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let defaults: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    let mut text = String::from(
        "# Values of the chart\n\nMade of `charts/ferromesh/values.schema.json`; a value that is not here is refused.\n\n| value | default | what |\n|---|---|---|\n",
    );
    rows(&schema, &defaults, "", &mut text);
    let path = Path::new(ROOT).join("docs/values.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert!(std::fs::read_to_string(path).unwrap_or_default() == text, "docs/values.md: run with UPDATE_GOLDEN=1");
}

fn rows(schema: &Value, defaults: &Value, path: &str, text: &mut String) {
    for (name, one) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let default = &defaults[name.as_str()];
        if one.get("properties").is_some() {
            rows(one, default, &path, text);
        } else if let Some(inner) = one.get("additionalProperties").filter(|inner| inner.get("properties").is_some()) {
            let first = default.as_object().and_then(|all| all.values().next()).cloned().unwrap_or_default();
            rows(inner, &first, &format!("{path}.<name>"), text);
        } else {
            let default = if default.is_null() { String::new() } else { format!("`{default}`") };
            let words = one["enum"].as_array().map(|all| {
                let all: Vec<String> =
                    all.iter().map(|word| format!("`{}`", word.as_str().unwrap_or_default())).collect();
                format!(" One of {}.", all.join(", "))
            });
            let what = one["description"].as_str().unwrap_or_default();
            text.push_str(&format!(
                "| `{path}` | {} | {what}{} |\n",
                default.replace('|', "\\|"),
                words.unwrap_or_default()
            ));
        }
    }
}
