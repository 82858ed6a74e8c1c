//! One golden file for each rule of injection. Each way to inject gives what the file says: the text of a file
//! (`ferromesh inject`), and each of its pods through the webhook.
//!
//! `UPDATE_GOLDEN=1 cargo test -p ferromesh-injector --test golden` writes them.
//!
//! `rule.yaml` is the input, `rule.settings.yaml` and `rule.mesh.yaml` (if any) are the injector's settings and
//! MeshConfig, `rule.injected.yaml` is the result with what is said about it before.

use std::path::{Path, PathBuf};

use base64::Engine;
use ferromesh_injector::webhook::{InjectorMetrics, answer};
use ferromesh_injector::workload::{Outcome, items};
use ferromesh_injector::{Mesh, manifest};
use serde_json::{Value, json};

/// The one that is an error as a whole.
const REFUSED: &str = "refused";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn text(rule: &str, kind: &str) -> Option<String> {
    std::fs::read_to_string(folder().join(format!("{rule}.{kind}"))).ok()
}

/// A rule: its name, its input and its mesh.
fn rules() -> Vec<(String, String, Mesh)> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries
        .filter_map(|name| name.strip_suffix(".yaml").filter(|name| !name.contains('.')).map(str::to_owned))
        .collect();
    names.sort();
    assert!(names.len() >= 29, "{names:?}");
    let mesh = |rule: &str| {
        let file = |kind: &str| text(rule, kind).unwrap_or_default();
        Mesh::read(&file("settings.yaml"), &file("mesh.yaml")).unwrap()
    };
    names.into_iter().map(|name| (name.clone(), text(&name, "yaml").unwrap(), mesh(&name))).collect()
}

/// The result as the golden file has it.
fn result(input: &str, mesh: &Mesh) -> String {
    let done = match manifest::inject(input, "default", mesh) {
        Ok(done) => done,
        Err(error) => return error.to_string().lines().map(|line| format!("# error: {line}\n")).collect(),
    };
    let mut said = String::new();
    for workload in &done.workloads {
        match &workload.outcome {
            Outcome::Injected(warnings) => {
                for warning in warnings {
                    said.push_str(&format!("# {}: warning: {warning}\n", workload.name));
                }
            }
            Outcome::Skipped(reason) => said.push_str(&format!("# {}: not injected: {reason}\n", workload.name)),
            Outcome::NoWorkload => {}
        }
    }
    said + &done.text
}

#[test]
fn each_rule_gives_what_its_file_says() {
    let mut wrong = Vec::new();
    for (rule, input, mesh) in rules() {
        let result = result(&input, &mesh);
        let path = folder().join(format!("{rule}.injected.yaml"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &result).unwrap();
        }
        let known = std::fs::read_to_string(&path).unwrap_or_default();
        if known != result {
            let line = known.lines().zip(result.lines()).position(|(known, now)| known != now);
            wrong.push(format!("{} differs from line {:?} on", path.display(), line.map(|line| line + 1)));
        }
    }
    assert!(wrong.is_empty(), "{}\nlook at it, then run with UPDATE_GOLDEN=1", wrong.join("\n"));
}

#[test]
fn injecting_the_result_again_changes_nothing() {
    for (rule, input, mesh) in rules() {
        let Ok(once) = manifest::inject(&input, "default", &mesh) else {
            assert_eq!(rule, REFUSED);
            continue;
        };
        let twice = manifest::inject(&once.text, "default", &mesh).unwrap();
        assert!(objects(&once.text) == objects(&twice.text), "{rule}:\n{}", twice.text);
    }
}

#[test]
fn the_webhook_gives_each_pod_the_same() {
    let mut compared = 0;
    for (rule, input, mesh) in rules() {
        let Ok(offline) = manifest::inject(&input, "default", &mesh) else {
            assert_eq!(rule, REFUSED);
            refused_by_the_webhook(&input, &mesh);
            continue;
        };
        for (mut before, mut after) in objects(&input).into_iter().zip(objects(&offline.text)) {
            for (before, after) in items(&mut before).into_iter().zip(items(&mut after)) {
                let Some(made) = made(before) else { continue };
                let admitted = admitted(&made, &mesh).unwrap_or_else(|refusal| panic!("{rule}: {refusal}"));
                let (admitted, after) = (without_owner(admitted), without_owner(self::made(after).unwrap()));
                assert!(admitted == after, "{rule}: webhook\n{admitted:#}\nfile\n{after:#}");
                compared += 1;
            }
        }
    }
    assert!(compared > 30, "{compared}");
}

fn refused_by_the_webhook(input: &str, mesh: &Mesh) {
    let errors = result(input, mesh);
    for made in objects(input).iter().filter_map(made) {
        let refusal = admitted(&made, mesh).expect_err("refused");
        assert!(errors.contains(&refusal), "{refusal} is not in\n{errors}");
    }
}

fn objects(text: &str) -> Vec<Value> {
    let documents = ferromesh_api::documents::split(text).into_iter();
    documents
        .filter_map(|(_, document)| serde_saphyr::from_str(document).ok())
        .filter(|v: &Value| !v.is_null())
        .collect()
}

/// The pod that Kubernetes makes of a workload, as the API server shows it to the webhook.
fn made(workload: &Value) -> Option<Value> {
    let (kind, name) = (workload["kind"].as_str()?, workload["metadata"]["name"].as_str()?);
    let template = match kind {
        "Pod" => return Some(workload.clone()),
        "CronJob" => &workload["spec"]["jobTemplate"]["spec"]["template"],
        _ => &workload["spec"]["template"],
    };
    template.as_object()?;
    let mut pod =
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"] });
    let (kind, owner) = match kind {
        "Deployment" => ("ReplicaSet", format!("{name}-6d4f")),
        "CronJob" => ("Job", format!("{name}-29012345")),
        kind => (kind, name.to_owned()),
    };
    let api = if kind == "Job" { "batch/v1" } else { workload["apiVersion"].as_str()? };
    pod["metadata"]["generateName"] = json!(format!("{owner}-"));
    pod["metadata"]["namespace"] = workload["metadata"]["namespace"].clone();
    pod["metadata"]["ownerReferences"] =
        json!([{ "apiVersion": api, "kind": kind, "name": owner, "controller": true, "uid": "u" }]);
    if kind == "ReplicaSet" && owner.ends_with("-6d4f") {
        pod["metadata"]["labels"]["pod-template-hash"] = json!("6d4f");
    }
    Some(pod)
}

/// The pod with the webhook's patch, or why it is refused.
fn admitted(pod: &Value, mesh: &Mesh) -> Result<Value, String> {
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("default");
    let request = json!({ "uid": "u", "namespace": namespace, "object": pod });
    let review = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request });
    let answer = answer(review.to_string().as_bytes(), mesh, &InjectorMetrics::default()).unwrap();
    let response = &answer["response"];
    if response["allowed"] == false {
        return Err(response["status"]["message"].as_str().unwrap().to_owned());
    }
    let mut pod = pod.clone();
    if let Some(patch) = response.get("patch").and_then(Value::as_str) {
        let patch = base64::engine::general_purpose::STANDARD.decode(patch).unwrap();
        json_patch::patch(&mut pod, &serde_json::from_slice::<json_patch::Patch>(&patch).unwrap()).unwrap();
    }
    Ok(pod)
}

/// Takes away what only the pod has, and what Kubernetes has for its template.
fn without_owner(mut pod: Value) -> Value {
    let metadata = pod["metadata"].as_object_mut().unwrap();
    for field in ["generateName", "ownerReferences", "namespace"] {
        metadata.remove(field);
    }
    if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
        labels.remove("pod-template-hash");
    }
    pod
}
