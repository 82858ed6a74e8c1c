//! The decision, pure: what is known of a pod and its namespace in, inject or not out.
//!
//! The rules are those of Istio's four webhook selectors (`rev.namespace`, `rev.object`, `namespace`, `object`) and of
//! the checks that its injector makes behind them.

use std::collections::BTreeMap;

use ferromesh_api::labels::{INJECTION, REVISION, SIDECAR_INJECT};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::settings::Mesh;

pub use crate::settings::DEFAULT_REVISION;

/// Namespaces of Kubernetes itself, whose pods are never injected.
pub const NEVER_INJECTED_NAMESPACES: [&str; 4] =
    ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];

/// What the decision needs to know of a pod.
#[derive(Debug, Clone, Copy)]
pub struct Pod<'a> {
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: &'a BTreeMap<String, String>,
    /// Whether it uses the network of its node.
    pub host_network: bool,
}

/// What the decision needs to know of the pod's namespace.
#[derive(Debug, Clone, Copy)]
pub struct Namespace<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

impl<'a> Namespace<'a> {
    /// One whose labels are not known: whoever asks has looked at them (the webhook's selectors), or cannot (a file).
    pub fn unlabelled(name: &'a str) -> Self {
        Self { name, labels: &NO_LABELS }
    }
}

/// Whether a pod gets a sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It does.
    Inject,
    /// It does not, for this reason.
    Skip(Reason),
}

/// Why a pod gets no sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The pod uses the network of its node; redirecting there would capture the node's traffic.
    HostNetwork,
    /// The namespace is one of Kubernetes' own.
    SystemNamespace,
    /// The namespace says `istio-injection: disabled`.
    NamespaceDisabled,
    /// The pod says `sidecar.istio.io/inject: "false"` as label.
    PodLabelDisabled,
    /// The pod says it as annotation (the older way).
    PodAnnotationDisabled,
    /// Neither the namespace nor the pod asks for it.
    NotAsked,
    /// The namespace or the pod asks another revision for it.
    OtherRevision(String),
    /// The pod's value is neither `true` nor `false`.
    BadValue(String),
    /// The pod's labels are of `neverInjectSelector`.
    NeverSelected,
}

/// Decides for the control plane that is called `revision` (see [`DEFAULT_REVISION`]).
pub fn decide(pod: Pod<'_>, namespace: Namespace<'_>, revision: &str) -> Decision {
    match asked(pod, namespace, revision).and_then(|()| allowed(pod, namespace)) {
        Ok(()) => Decision::Inject,
        Err(reason) => Decision::Skip(reason),
    }
}

/// Decides for a pod that was brought here because its namespace or its labels ask for it (by the webhook's selectors,
/// or by a file on the command line): the checks behind the selectors only.
pub fn of_pod(pod: &k8s_openapi::api::core::v1::Pod, namespace: Namespace<'_>, mesh: &Mesh) -> Decision {
    let metadata = &pod.metadata;
    let labels = metadata.labels.as_ref().unwrap_or(&NO_LABELS);
    let annotations = metadata.annotations.as_ref().unwrap_or(&NO_LABELS);
    let host_network = pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false);
    if let Err(reason) = allowed(Pod { labels, annotations, host_network }, namespace) {
        return Decision::Skip(reason);
    }
    let said = labels.get(SIDECAR_INJECT).or_else(|| annotations.get(SIDECAR_INJECT)).is_some_and(|v| !v.is_empty());
    let never = mesh.settings.never_inject_selector.iter().any(|selector| selects(selector, labels));
    if never && !said { Decision::Skip(Reason::NeverSelected) } else { Decision::Inject }
}

/// Whether a selector that says something is met (Kubernetes' label selectors).
fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().collect::<Vec<_>>();
    let expressions = selector.match_expressions.iter().flatten().collect::<Vec<_>>();
    if equal.is_empty() && expressions.is_empty() {
        return false;
    }
    let one_of = |key: &String, values: &Option<Vec<String>>| {
        labels.get(key).is_some_and(|value| values.iter().flatten().any(|known| known == value))
    };
    equal.iter().all(|(key, value)| labels.get(*key) == Some(*value))
        && expressions.iter().all(|rule| match rule.operator.as_str() {
            "In" => one_of(&rule.key, &rule.values),
            "NotIn" => !one_of(&rule.key, &rule.values),
            "Exists" => labels.contains_key(&rule.key),
            "DoesNotExist" => !labels.contains_key(&rule.key),
            _ => false,
        })
}

/// Whether one of the webhooks of `revision` would be called for the pod.
fn asked(pod: Pod<'_>, namespace: Namespace<'_>, revision: &str) -> Result<(), Reason> {
    let pod_inject = pod.labels.get(SIDECAR_INJECT).map(String::as_str);
    if pod_inject == Some("false") {
        return Err(Reason::PodLabelDisabled);
    }
    let pod_revision = pod.labels.get(REVISION);
    let of_pod = |none| match pod_revision {
        Some(asked) if asked == revision => Ok(()),
        Some(asked) => Err(Reason::OtherRevision(asked.clone())),
        None => none,
    };
    let default = || match revision {
        DEFAULT_REVISION => Ok(()),
        _ => Err(Reason::OtherRevision(DEFAULT_REVISION.into())),
    };
    // The older label of the namespace wins over its revision.
    match (namespace.labels.get(INJECTION).map(String::as_str), namespace.labels.get(REVISION)) {
        (Some("disabled"), _) => Err(Reason::NamespaceDisabled),
        (Some("enabled"), _) => default(),
        // Any other value of the label takes the namespace out of the revision's webhook, and out of the pods' own.
        (Some(_), _) => Err(Reason::NotAsked),
        (None, Some(asked)) if asked == revision => Ok(()),
        (None, Some(asked)) => Err(Reason::OtherRevision(asked.clone())),
        (None, None) if pod_inject == Some("true") => of_pod(default()),
        (None, None) => of_pod(Err(Reason::NotAsked)),
    }
}

/// What the injector itself checks for a pod that reached it.
fn allowed(pod: Pod<'_>, namespace: Namespace<'_>) -> Result<(), Reason> {
    if pod.host_network {
        return Err(Reason::HostNetwork);
    }
    if NEVER_INJECTED_NAMESPACES.contains(&namespace.name) {
        return Err(Reason::SystemNamespace);
    }
    let annotation = pod.annotations.get(SIDECAR_INJECT);
    // The label wins over the annotation.
    match (pod.labels.get(SIDECAR_INJECT), annotation) {
        (Some(value), _) | (None, Some(value)) => match truth(value) {
            Some(true) => Ok(()),
            Some(false) if pod.labels.contains_key(SIDECAR_INJECT) => Err(Reason::PodLabelDisabled),
            Some(false) => Err(Reason::PodAnnotationDisabled),
            // An empty value says nothing.
            None if value.is_empty() => Ok(()),
            None => Err(Reason::BadValue(value.clone())),
        },
        (None, None) => Ok(()),
    }
}

/// The words for yes and no that the injector reads (those of YAML 1.1).
fn truth(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "y" | "yes" | "true" | "on" => Some(true),
        "n" | "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> BTreeMap<String, String> {
        let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn run(namespace: &str, pod: &str, annotations: &str, revision: &str) -> Decision {
        let (pod_labels, annotations, labels) = (map(pod), map(annotations), map(namespace));
        let pod = Pod { labels: &pod_labels, annotations: &annotations, host_network: false };
        decide(pod, Namespace { name: "shop", labels: &labels }, revision)
    }

    #[test]
    fn labels_of_namespace_and_pod_decide_as_in_istio() {
        use Reason::{NamespaceDisabled, NotAsked, PodLabelDisabled};
        let other = |name: &str| Decision::Skip(Reason::OtherRevision(name.into()));
        let skip = Decision::Skip;
        const ON: &str = "sidecar.istio.io/inject=true";
        const OFF: &str = "sidecar.istio.io/inject=false";
        // namespace labels, pod labels, our revision, decision
        let table = [
            ("", "", "default", skip(NotAsked)),
            ("istio-injection=enabled", "", "default", Decision::Inject),
            ("istio-injection=enabled", ON, "default", Decision::Inject),
            ("istio-injection=enabled", OFF, "default", skip(PodLabelDisabled)),
            ("istio-injection=enabled", "", "canary", other("default")),
            ("istio-injection=disabled", "", "default", skip(NamespaceDisabled)),
            ("istio-injection=disabled", ON, "default", skip(NamespaceDisabled)),
            ("istio-injection=disabled istio.io/rev=canary", "", "canary", skip(NamespaceDisabled)),
            ("istio-injection=enabled istio.io/rev=canary", "", "canary", other("default")),
            ("istio-injection=maybe", ON, "default", skip(NotAsked)),
            ("istio.io/rev=canary", "", "canary", Decision::Inject),
            ("istio.io/rev=canary", "", "default", other("canary")),
            ("istio.io/rev=canary", OFF, "canary", skip(PodLabelDisabled)),
            ("istio.io/rev=canary", "istio.io/rev=default", "canary", Decision::Inject),
            ("istio.io/rev=default", "", "default", Decision::Inject),
            ("", ON, "default", Decision::Inject),
            ("", ON, "canary", other("default")),
            ("", OFF, "default", skip(PodLabelDisabled)),
            ("", "istio.io/rev=canary", "canary", Decision::Inject),
            ("", "istio.io/rev=canary", "default", other("canary")),
            ("", "istio.io/rev=canary sidecar.istio.io/inject=true", "canary", Decision::Inject),
            ("", "istio.io/rev=canary sidecar.istio.io/inject=true", "default", other("canary")),
            ("", "istio.io/rev=canary sidecar.istio.io/inject=false", "canary", skip(PodLabelDisabled)),
        ];
        for (namespace, pod, revision, decision) in table {
            assert_eq!(
                run(namespace, pod, "", revision),
                decision,
                "namespace {namespace:?} pod {pod:?} rev {revision}"
            );
        }
    }

    #[test]
    fn the_annotation_is_heard_only_where_there_is_no_label() {
        let enabled = "istio-injection=enabled";
        let (yes, no) = ("sidecar.istio.io/inject=yes", "sidecar.istio.io/inject=false");
        assert_eq!(run(enabled, "", no, "default"), Decision::Skip(Reason::PodAnnotationDisabled));
        assert_eq!(run(enabled, "", yes, "default"), Decision::Inject);
        assert_eq!(run(enabled, "sidecar.istio.io/inject=true", no, "default"), Decision::Inject);
        assert_eq!(run("", "", yes, "default"), Decision::Skip(Reason::NotAsked), "the annotation calls no webhook");
        assert_eq!(
            run(enabled, "", "sidecar.istio.io/inject=2", "default"),
            Decision::Skip(Reason::BadValue("2".into()))
        );
    }

    #[test]
    fn pods_on_the_nodes_network_and_of_kubernetes_itself_are_never_injected() {
        let (none, enabled) = (BTreeMap::new(), map("istio-injection=enabled"));
        let pod = |host_network| Pod { labels: &none, annotations: &none, host_network };
        let namespace = |name| Namespace { name, labels: &enabled };
        assert_eq!(decide(pod(true), namespace("shop"), "default"), Decision::Skip(Reason::HostNetwork));
        for name in NEVER_INJECTED_NAMESPACES {
            assert_eq!(decide(pod(false), namespace(name), "default"), Decision::Skip(Reason::SystemNamespace));
        }
    }
}
