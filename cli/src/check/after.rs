//! What must hold where the mesh is installed. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ferromesh_api::conditions::{FERROMESH_CONTROLLER, ISTIO_CONTROLLER};
use ferromesh_api::labels::REVISION;
use ferromesh_injector::decide::{self, Decision};
use ferromesh_injector::inject::PROXY_CONTAINER;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, Namespace, Pod};

use super::Check;
use super::look::{DAEMONS, Seen};
use crate::cluster::{has_proxy, is_running, key};

/// What the controller calls itself in GatewayClasses.
const CONTROLLERS: [&str; 2] = [ISTIO_CONTROLLER, FERROMESH_CONTROLLER];
/// Names that a line shows.
const SHOWN: usize = 5;

/// Of the mesh.
pub(super) fn mesh(seen: &Seen) -> Vec<Check> {
    let mut checks: Vec<Check> = DAEMONS.iter().map(|(what, name)| daemon(seen, what, name)).collect();
    checks.extend([webhook(seen), classes(seen), injected(seen), ready(seen), versions(seen)]);
    checks
}

fn named<'a>(seen: &'a Seen, name: &str) -> Option<&'a Deployment> {
    seen.deployments.iter().find(|one| one.metadata.name.as_deref() == Some(name))
}

fn daemon(seen: &Seen, what: &'static str, name: &str) -> Check {
    let namespace = &seen.namespace;
    let Some(deployment) = named(seen, name) else {
        return Check::error(what, format!("there is no Deployment {name}"), "ferromesh install");
    };
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let ready = deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    let text = format!("{ready} of {wanted} pods are ready");
    let remedy =
        format!("kubectl describe pods -n {namespace} -l app={name}; kubectl logs -n {namespace} deployment/{name}");
    match ready {
        0 => Check::error(what, text, remedy),
        some if some < wanted => Check::warning(what, text, remedy),
        _ => Check::good(what, text),
    }
}

/// The API server calls the injector only where it trusts its certificate.
fn webhook(seen: &Seen) -> Check {
    let what = "injection webhook";
    let calls_ours = |client: &k8s_openapi::api::admissionregistration::v1::WebhookClientConfig| {
        client
            .service
            .as_ref()
            .is_some_and(|service| service.namespace == seen.namespace && service.name == "ferromesh-injector")
    };
    let hooks = seen.webhooks.iter().flat_map(|one| one.webhooks.iter().flatten());
    let clients: Vec<_> = hooks.map(|hook| &hook.client_config).filter(|client| calls_ours(client)).collect();
    let trusted = |client: &&&k8s_openapi::api::admissionregistration::v1::WebhookClientConfig| {
        client.ca_bundle.as_ref().is_some_and(|bundle| !bundle.0.is_empty())
    };
    let good = clients.iter().filter(trusted).count();
    if clients.is_empty() {
        let remedy = "ferromesh install (it makes the MutatingWebhookConfiguration of the injector again)";
        return Check::error(what, "the API server does not call the injector", remedy);
    }
    let text = format!("{good} of {} rules have the injector's certificate", clients.len());
    if good == clients.len() {
        return Check::good(what, text);
    }
    let remedy = format!(
        "see why the injector cannot write it: kubectl logs -n {} deployment/ferromesh-injector",
        seen.namespace
    );
    Check::error(what, text, remedy)
}

fn classes(seen: &Seen) -> Check {
    let what = "GatewayClasses";
    let ours: Vec<_> = seen.classes.iter().filter(|(_, by, _)| CONTROLLERS.contains(&by.as_str())).collect();
    let names: Vec<&str> = ours.iter().map(|(name, ..)| name.as_str()).collect();
    let remedy = || format!("kubectl logs -n {} deployment/ferromesh-controller", seen.namespace);
    match ours.iter().find(|(.., accepted)| !accepted) {
        _ if seen.gateway_api.is_none() => Check::good(what, "none, as Gateway API is not installed"),
        _ if ours.is_empty() => Check::warning(what, "none of ours", remedy()),
        Some((name, ..)) => Check::warning(what, format!("{name} is not accepted"), remedy()),
        None => Check::good(what, format!("{} accepted", names.join(", "))),
    }
}

/// Whether the injector would give a pod a sidecar, that of whichever revision its namespace names.
fn is_wanted(pod: &Pod, namespaces: &[Namespace]) -> bool {
    let none = BTreeMap::new();
    let (name, metadata) = (key(pod).0, &pod.metadata);
    let namespace = namespaces.iter().find(|one| one.metadata.name.as_deref() == Some(name));
    let labels = namespace.and_then(|one| one.metadata.labels.as_ref()).unwrap_or(&none);
    let asking = decide::Pod {
        labels: metadata.labels.as_ref().unwrap_or(&none),
        annotations: metadata.annotations.as_ref().unwrap_or(&none),
        host_network: pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false),
    };
    let revisions = [Some(decide::DEFAULT_REVISION), labels.get(REVISION).map(String::as_str)];
    let is_for = |revision| decide::decide(asking, decide::Namespace { name, labels }, revision) == Decision::Inject;
    revisions.into_iter().flatten().any(is_for)
}

fn injected(seen: &Seen) -> Check {
    let what = "sidecars";
    let wanted = seen.pods.iter().filter(|pod| is_running(pod) && is_wanted(pod, &seen.namespaces));
    let (with, without): (Vec<&Pod>, Vec<&Pod>) = wanted.partition(|pod| has_proxy(pod));
    if without.is_empty() {
        let spaces: BTreeSet<&str> = with.iter().map(|pod| key(pod).0).collect();
        return Check::good(what, format!("{} pods in {} namespaces", with.len(), spaces.len()));
    }
    let spaces: BTreeSet<&str> = without.iter().map(|pod| key(pod).0).collect();
    let commands: Vec<String> =
        spaces.iter().take(SHOWN).map(|one| format!("kubectl rollout restart deployment -n {one}")).collect();
    let text = format!(
        "{} pods were made before their namespace asked for sidecars, and have none: {}",
        without.len(),
        names(&without)
    );
    Check::warning(what, text, commands.join("; "))
}

fn ready(seen: &Seen) -> Check {
    let what = "proxies";
    let running: Vec<&Pod> = seen.pods.iter().filter(|pod| is_running(pod) && has_proxy(pod)).collect();
    let not: Vec<&Pod> = running.iter().copied().filter(|pod| !proxy_is_ready(pod)).collect();
    match not.first() {
        None => Check::good(what, format!("{} are ready", running.len())),
        Some(first) => {
            let (namespace, name) = key(first);
            let text = format!("{} of {} are not ready: {}", not.len(), running.len(), names(&not));
            Check::warning(
                what,
                text,
                format!("kubectl logs -n {namespace} {name} -c istio-proxy; ferromesh proxy-status"),
            )
        }
    }
}

fn proxy_is_ready(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let all = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
    all.into_iter().any(|one| one.name == PROXY_CONTAINER && one.ready)
}

/// The tag of an image.
fn tag(image: &str) -> &str {
    image.rsplit_once('/').map_or(image, |(_, name)| name).split_once(':').map_or("latest", |(_, tag)| tag)
}

fn container<'a>(containers: impl IntoIterator<Item = &'a Container>, name: &str) -> Option<&'a str> {
    containers.into_iter().find(|one| one.name == name)?.image.as_deref()
}

/// Proxies stay as they are when the control plane is upgraded.
fn versions(seen: &Seen) -> Check {
    let what = "versions";
    let spec = named(seen, "ferromesh-controller").and_then(|one| one.spec.template.spec.as_ref());
    let Some(own) = spec.and_then(|spec| container(&spec.containers, "controller")).map(tag) else {
        return Check::good(what, "the controller's is not known");
    };
    let other: Vec<&Pod> = seen
        .pods
        .iter()
        .filter(|pod| {
            let spec = pod.spec.as_ref();
            let all = spec.map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
            is_running(pod)
                && all.and_then(|all| container(all, PROXY_CONTAINER)).is_some_and(|image| tag(image) != own)
        })
        .collect();
    if other.is_empty() {
        return Check::good(what, format!("all are {own}"));
    }
    let text =
        format!("{} proxies are of another version than the control plane ({own}): {}", other.len(), names(&other));
    Check::warning(what, text, "kubectl rollout restart deployment -n NAMESPACE, where they should become the same")
}

fn names(pods: &[&Pod]) -> String {
    let shown: Vec<String> = pods.iter().take(SHOWN).map(|pod| format!("{}/{}", key(pod).0, key(pod).1)).collect();
    format!("{}{}", shown.join(", "), if pods.len() > SHOWN { ", ..." } else { "" })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::Level;
    use super::*;

    fn pod(name: &str, proxy: &str, ready: bool) -> Pod {
        let containers = if proxy.is_empty() { json!([]) } else { json!([{"name": "istio-proxy", "image": proxy}]) };
        let status = json!([{"name": "istio-proxy", "ready": ready, "image": "", "imageID": "", "restartCount": 0}]);
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "demo"},
            "spec": {"containers": [{"name": "app"}], "initContainers": containers},
            "status": {"phase": "Running", "initContainerStatuses": status},
        }))
        .unwrap()
    }

    fn deployment(name: &str, ready: i32) -> Deployment {
        let container = name.trim_start_matches("ferromesh-");
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"replicas": 2, "selector": {}, "template": {"spec": {"containers": [{"name": container, "image": "r.example:5000/x/controller:1.2"}]}}},
            "status": {"readyReplicas": ready},
        }))
        .unwrap()
    }

    fn good() -> Seen {
        let hook = |bundle: &str| {
            json!({"name": "a", "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": {
                "caBundle": bundle, "service": {"name": "ferromesh-injector", "namespace": "ferromesh-system"}}})
        };
        let namespace = json!({"metadata": {"name": "demo", "labels": {"istio-injection": "enabled"}}});
        Seen {
            namespace: "ferromesh-system".into(),
            gateway_api: Some("v1.1.0".into()),
            deployments: DAEMONS.iter().map(|(_, name)| deployment(name, 2)).collect(),
            webhooks: vec![serde_json::from_value(json!({"metadata": {}, "webhooks": [hook("QQ==")]})).unwrap()],
            namespaces: vec![serde_json::from_value(namespace).unwrap()],
            pods: vec![pod("web", "ferromesh/proxy:1.2", true)],
            classes: vec![("istio".into(), CONTROLLERS[0].into(), true)],
            ..Seen::default()
        }
    }

    fn worst(seen: &Seen, what: &str) -> Level {
        let checks = mesh(seen);
        for check in &checks {
            assert_eq!(check.level == Level::Good, check.remedy.is_empty(), "{check:?}");
            assert!(check.what == what || check.level == Level::Good, "{check:?}");
        }
        checks.iter().find(|check| check.what == what).unwrap().level
    }

    #[test]
    fn each_thing_that_is_wrong_is_seen_by_one_check_with_a_remedy() {
        assert_eq!(worst(&good(), "controller"), Level::Good);
        let mut seen = good();
        seen.deployments[1] = deployment("ferromesh-ca", 1);
        assert_eq!(worst(&seen, "CA"), Level::Warning);
        seen.deployments.remove(1);
        assert_eq!(worst(&seen, "CA"), Level::Error);
        let mut seen = good();
        let client = &mut seen.webhooks[0].webhooks.as_mut().unwrap()[0].client_config;
        client.ca_bundle = None;
        assert_eq!(worst(&seen, "injection webhook"), Level::Error);
        let mut seen = good();
        seen.pods.push(pod("old", "", false));
        assert_eq!(worst(&seen, "sidecars"), Level::Warning);
        let mut seen = good();
        seen.pods.push(pod("slow", "ferromesh/proxy:1.2", false));
        assert_eq!(worst(&seen, "proxies"), Level::Warning);
        let mut seen = good();
        seen.pods.push(pod("before", "ferromesh/proxy:1.1", true));
        assert_eq!(worst(&seen, "versions"), Level::Warning);
        let mut seen = good();
        seen.classes[0].2 = false;
        assert_eq!(worst(&seen, "GatewayClasses"), Level::Warning);
    }

    #[test]
    fn pods_that_decline_are_not_missed() {
        let mut seen = good();
        let mut declining = pod("own", "", false);
        declining.metadata.labels = Some([("sidecar.istio.io/inject".to_owned(), "false".to_owned())].into());
        seen.pods.push(declining);
        assert_eq!(worst(&seen, "sidecars"), Level::Good);
        let demo = |labels: Value| -> [Namespace; 1] {
            [serde_json::from_value(json!({"metadata": {"name": "demo", "labels": labels}})).unwrap()]
        };
        let bare = pod("bare", "", false);
        assert!(is_wanted(&bare, &demo(json!({"istio.io/rev": "canary"}))));
        assert!(!is_wanted(&bare, &demo(json!({"istio.io/rev": "canary", "istio-injection": "disabled"}))));
    }
}
