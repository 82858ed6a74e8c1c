//! Injection of a file's workloads: a Kubernetes object in; the object with its pods injected, or why not.

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Map, Value};

use crate::decide::{self, Decision, Namespace};
use crate::inject::{self, Refused};
use crate::settings::Mesh;

/// What became of an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It makes no pods.
    NoWorkload,
    /// Its pods get no proxy, for this reason.
    Skipped(decide::Reason),
    /// It was changed; with what the user should know.
    Injected(Vec<String>),
}

/// An object that cannot be injected.
#[derive(Debug, thiserror::Error)]
#[error("{kind} {name}: {source}")]
pub struct WorkloadError {
    /// Kind of the object.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Why.
    pub source: Refused,
}

/// Injects `object` in place, where it is a Pod or makes pods (also in a List: see [`items`]). As the namespace's labels
/// are not known, only the pod's own labels and annotations decide, as for `istioctl kube-inject`.
///
/// # Errors
/// If the pod is none, or cannot be injected.
pub fn inject_object(object: &mut Value, default_namespace: &str, mesh: &Mesh) -> Result<Outcome, WorkloadError> {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, api_version, name) = (text("/kind"), text("/apiVersion"), text("/metadata/name"));
    let namespace = Some(text("/metadata/namespace")).filter(|n| !n.is_empty());
    let namespace = namespace.unwrap_or_else(|| default_namespace.to_owned());
    let path = match kind.as_str() {
        "Pod" => "",
        "CronJob" => "/spec/jobTemplate/spec/template",
        "Deployment"
        | "StatefulSet"
        | "DaemonSet"
        | "ReplicaSet"
        | "ReplicationController"
        | "Job"
        | "Rollout"
        | "DeploymentConfig" => "/spec/template",
        _ => return Ok(Outcome::NoWorkload),
    };
    let error = |source| WorkloadError { kind: kind.clone(), name: name.clone(), source };
    let Some(template) = object.pointer_mut(path) else {
        return Err(error(Refused::Pod(format!("{path} is missing", path = path.replace('/', ".")))));
    };
    let pod = pod_of(template).map_err(error)?;
    let generated = if path.is_empty() { pod.clone() } else { as_made(&pod, &kind, &api_version, &name) };
    if let Decision::Skip(reason) = decide::of_pod(&generated, Namespace::unlabelled(&namespace), mesh) {
        return Ok(Outcome::Skipped(reason));
    }
    let injected = inject::inject(&generated, &namespace, mesh).map_err(error)?;
    let mut after = injected.pod;
    // What only the pods that are made have.
    after.metadata.generate_name.clone_from(&pod.metadata.generate_name);
    after.metadata.owner_references.clone_from(&pod.metadata.owner_references);
    write_back(template, &pod, &after).map_err(error)?;
    Ok(Outcome::Injected(injected.warnings))
}

/// The objects of a List; the object itself where it is none.
pub fn items(object: &mut Value) -> Vec<&mut Value> {
    let list = object.get("kind").and_then(Value::as_str).is_some_and(|kind| kind == "List");
    if list && object.get("items").is_some_and(Value::is_array) {
        return object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().collect();
    }
    vec![object]
}

fn pod_of(template: &Value) -> Result<Pod, Refused> {
    let part = |name: &str| template.get(name).cloned().filter(|part| !part.is_null());
    let bad = |error: serde_json::Error| Refused::Pod(error.to_string());
    let metadata: ObjectMeta =
        serde_json::from_value(part("metadata").unwrap_or_else(|| Value::Object(Map::new()))).map_err(bad)?;
    let spec: PodSpec = serde_json::from_value(part("spec").unwrap_or_default()).map_err(bad)?;
    Ok(Pod { metadata, spec: Some(spec), status: None })
}

/// The template as the controller will make pods of it, so that the webhook and this see the same owner.
fn as_made(pod: &Pod, kind: &str, api_version: &str, name: &str) -> Pod {
    let mut pod = pod.clone();
    pod.metadata.generate_name = Some(format!("{name}-"));
    pod.metadata.owner_references = Some(vec![OwnerReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        controller: Some(true),
        ..Default::default()
    }]);
    pod
}

/// Applies the difference only, so that fields of the file that this does not know stay.
fn write_back(template: &mut Value, before: &Pod, after: &Pod) -> Result<(), Refused> {
    let failed = |error: String| Refused::Pod(error);
    let patch = inject::patch(before, after).map_err(|error| failed(error.to_string()))?;
    if let Some(fields) = template.as_object_mut() {
        // The difference of two typed pods begins at fields that a file may leave out.
        fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if fields.get("metadata").is_some_and(Value::is_null) {
            fields.insert("metadata".into(), Value::Object(Map::new()));
        }
    }
    json_patch::patch(template, &patch).map_err(|error| failed(error.to_string()))
}
