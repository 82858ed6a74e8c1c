//! What the API server is asked. Only few fields of each object are read.

use ferromesh_api::cluster::{Cluster, ClusterError, Place, Resource};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cluster::PODS;

const CRDS: Resource = Resource::cluster_wide("apiextensions.k8s.io", "v1", "customresourcedefinitions");
const WEBHOOKS: Resource =
    Resource::cluster_wide("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations");
const DEPLOYMENTS: Resource = Resource::namespaced("apps", "v1", "deployments");
const NAMESPACES: Resource = Resource::cluster_wide("", "v1", "namespaces");
const NODES: Resource = Resource::cluster_wide("", "v1", "nodes");
const CLASSES: Resource = Resource::cluster_wide("gateway.networking.k8s.io", "v1", "gatewayclasses");
const REVIEWS: Resource = Resource::cluster_wide("authorization.k8s.io", "v1", "selfsubjectaccessreviews");
/// Gateway API's CRD that says which release is there.
const GATEWAYS_CRD: &str = "gateways.gateway.networking.k8s.io";

/// The daemons, by their Deployments.
pub const DAEMONS: [(&str, &str); 3] =
    [("controller", "ferromesh-controller"), ("CA", "ferromesh-ca"), ("injector", "ferromesh-injector")];

/// What an installation makes: group, resource.
pub(super) const MADE: [(&str, &str); 8] = [
    ("", "namespaces"),
    ("", "serviceaccounts"),
    ("apps", "deployments"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
];

/// What was seen of a cluster.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Namespace of the mesh.
    pub namespace: String,
    /// `v1.35.4`
    pub version: String,
    /// Nodes.
    pub nodes: Vec<Node>,
    /// Release of Gateway API, if it is there; empty if it does not say.
    pub gateway_api: Option<String>,
    /// Resources of [`MADE`] that the caller may not make.
    pub forbidden: Vec<&'static str>,
    /// All mutating webhooks.
    pub webhooks: Vec<MutatingWebhookConfiguration>,
    /// Deployments of the mesh's namespace.
    pub deployments: Vec<Deployment>,
    /// All namespaces.
    pub namespaces: Vec<Namespace>,
    /// All pods.
    pub pods: Vec<Pod>,
    /// GatewayClasses: name, controller, whether it is accepted.
    pub classes: Vec<(String, String, bool)>,
    /// Where Helm is, if it is in PATH.
    pub helm: Option<String>,
}

impl Seen {
    /// Whether any of the mesh's own Deployments is there.
    pub fn is_installed(&self) -> bool {
        let is_ours = |name: &str| DAEMONS.iter().any(|(_, daemon)| *daemon == name);
        self.deployments.iter().any(|one| one.metadata.name.as_deref().is_some_and(is_ours))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    git_version: String,
}

#[derive(Deserialize)]
struct Definition {
    metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
}

/// Asks for all of it.
pub(super) async fn look(cluster: &Cluster, namespace: &str) -> Result<Seen, ClusterError> {
    let version: Version = cluster.get_path("/version").await?;
    let gateway_api = absent_is_none(cluster.get::<Definition>(&CRDS.named("", GATEWAYS_CRD)).await)?;
    let bundle = |crd: Definition| {
        let annotations = crd.metadata.annotations.unwrap_or_default();
        annotations.get("gateway.networking.k8s.io/bundle-version").cloned().unwrap_or_default()
    };
    let classes = if gateway_api.is_some() { all::<Value>(cluster, &CLASSES.all(None)).await? } else { Vec::new() };
    Ok(Seen {
        namespace: namespace.to_owned(),
        version: version.git_version,
        nodes: all(cluster, &NODES.all(None)).await?,
        gateway_api: gateway_api.map(bundle),
        forbidden: forbidden(cluster, namespace).await?,
        webhooks: all(cluster, &WEBHOOKS.all(None)).await?,
        deployments: all(cluster, &DEPLOYMENTS.all(Some(namespace))).await?,
        namespaces: all(cluster, &NAMESPACES.all(None)).await?,
        pods: all(cluster, &PODS.all(None)).await?,
        classes: classes.iter().map(class).collect(),
        helm: crate::install::helm().map(|path| path.display().to_string()),
    })
}

async fn all<T: DeserializeOwned>(cluster: &Cluster, place: &Place<'_>) -> Result<Vec<T>, ClusterError> {
    absent_is_none(cluster.list(place, "").await).map(Option::unwrap_or_default)
}

fn absent_is_none<T>(found: Result<T, ClusterError>) -> Result<Option<T>, ClusterError> {
    match found {
        Err(error) if error.is_not_found() => Ok(None),
        other => other.map(Some),
    }
}

fn class(object: &Value) -> (String, String, bool) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let accepted = conditions.into_iter().any(|one| one["type"] == "Accepted" && one["status"] == "True");
    (text(&object["metadata"]["name"]), text(&object["spec"]["controllerName"]), accepted)
}

/// What the caller may not make, as the API server sees it.
async fn forbidden(cluster: &Cluster, namespace: &str) -> Result<Vec<&'static str>, ClusterError> {
    let mut forbidden = Vec::new();
    for (group, resource) in MADE {
        let attributes = json!({"verb": "create", "group": group, "resource": resource, "namespace": namespace});
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        });
        let answer: Value = cluster.create(&REVIEWS.all(None), &review).await?;
        if answer["status"]["allowed"] != true {
            forbidden.push(resource);
        }
    }
    Ok(forbidden)
}
