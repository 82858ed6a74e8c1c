//! What a pod belongs to: the pod's metadata in, the workload's kind and name out.

use ferromesh_api::labels::POD_TEMPLATE_HASH;
use k8s_openapi::api::core::v1::Pod;

/// A workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    /// `apps/v1`.
    pub(super) api_version: String,
    /// `Deployment`.
    pub(super) kind: String,
    /// Its name; empty if it is not known yet.
    pub(super) name: String,
    /// Its namespace.
    pub(super) namespace: String,
}

impl Owner {
    /// As Istio writes it, `kubernetes://apis/apps/v1/namespaces/shop/deployments/cart`.
    pub(super) fn uri(&self) -> Option<String> {
        let Self { api_version, kind, name, namespace } = self;
        let kind = kind.to_ascii_lowercase();
        (!name.is_empty()).then(|| format!("kubernetes://apis/{api_version}/namespaces/{namespace}/{kind}s/{name}"))
    }
}

/// The workload of a pod. What makes a ReplicaSet or a Job cannot be seen in the pod; it is told by the name.
pub(super) fn of(pod: &Pod, namespace: &str) -> Owner {
    let metadata = &pod.metadata;
    let mut owner = Owner {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: metadata.name.clone().unwrap_or_default(),
        namespace: metadata.namespace.clone().unwrap_or_else(|| namespace.to_owned()),
    };
    let generated = metadata.generate_name.as_ref().is_some_and(|name| !name.is_empty());
    let controller = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    let Some(controller) = controller.filter(|_| generated) else { return owner };
    owner.api_version.clone_from(&controller.api_version);
    owner.kind.clone_from(&controller.kind);
    owner.name.clone_from(&controller.name);
    let label = |key: &str| metadata.labels.as_ref().and_then(|labels| labels.get(key)).filter(|v| !v.is_empty());
    let without = |hash: Option<&String>| {
        hash.and_then(|hash| controller.name.strip_suffix(hash.as_str())?.strip_suffix('-')).map(str::to_owned)
    };
    match controller.kind.as_str() {
        "ReplicaSet" => {
            if let Some(name) = without(label(POD_TEMPLATE_HASH)) {
                owner.kind = "Deployment".into();
                owner.name = name;
            } else if let Some(name) = without(label("rollouts-pod-template-hash")) {
                owner.kind = "Rollout".into();
                owner.api_version = "v1alpha1".into();
                owner.name = name;
            }
        }
        "ReplicationController" => {
            if let Some(name) = label("deploymentconfig") {
                owner.kind = "DeploymentConfig".into();
                owner.name.clone_from(name);
            }
        }
        "Job" => {
            if let Some(name) = cron_job(&controller.name) {
                owner.kind = "CronJob".into();
                owner.api_version = "batch/v1".into();
                owner.name = name.to_owned();
            }
        }
        _ => {}
    }
    owner
}

/// The CronJob of a Job that is named `<CronJob>-<8 to 10 digits>`.
fn cron_job(job: &str) -> Option<&str> {
    let (name, time) = job.rsplit_once('-')?;
    let digits = (8..=10).contains(&time.len()) && time.bytes().all(|byte| byte.is_ascii_digit());
    (digits && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

    use super::*;

    fn pod(kind: &str, name: &str, label: (&str, &str)) -> Pod {
        let reference =
            OwnerReference { kind: kind.into(), name: name.into(), controller: Some(true), ..Default::default() };
        let metadata = ObjectMeta {
            generate_name: Some("x-".into()),
            owner_references: Some(vec![reference]),
            labels: Some([(label.0.to_owned(), label.1.to_owned())].into()),
            ..Default::default()
        };
        Pod { metadata, ..Default::default() }
    }

    #[test]
    fn the_workload_behind_a_generated_pod_is_told_by_its_controllers_name() {
        let table = [
            ("ReplicaSet", "cart-6d4", (POD_TEMPLATE_HASH, "6d4"), ("Deployment", "cart")),
            ("ReplicaSet", "cart-6d4", (POD_TEMPLATE_HASH, "7"), ("ReplicaSet", "cart-6d4")),
            ("ReplicaSet", "cart-6d4", ("rollouts-pod-template-hash", "6d4"), ("Rollout", "cart")),
            ("ReplicationController", "cart-1", ("deploymentconfig", "cart"), ("DeploymentConfig", "cart")),
            ("Job", "report-29012345", ("a", "b"), ("CronJob", "report")),
            ("Job", "report-1", ("a", "b"), ("Job", "report-1")),
            ("StatefulSet", "db", ("a", "b"), ("StatefulSet", "db")),
        ];
        for (kind, name, label, expected) in table {
            let owner = of(&pod(kind, name, label), "shop");
            assert_eq!((owner.kind.as_str(), owner.name.as_str()), expected, "{kind} {name}");
        }
    }

    #[test]
    fn a_pod_of_its_own_is_its_own_workload() {
        let pod = Pod { metadata: ObjectMeta { name: Some("p".into()), ..Default::default() }, ..Default::default() };
        assert_eq!(of(&pod, "shop").uri().as_deref(), Some("kubernetes://apis/v1/namespaces/shop/pods/p"));
    }
}
