use super::*;
use crate::index::kinds::Reader;
use crate::index::{Kind, Object, View};
use ferromesh_proto::json::any_to_json;
use serde_json::Value;

mod agreement;
mod envoy;
mod gateway;
mod laptop;
mod names;
mod properties;
mod proxy;
mod refusals;
mod secrets;
mod sharing;
mod sidecar;
mod tcp;

/// Reads one object.
struct Json(Value);

impl Reader for Json {
    type Error = serde_json::Error;
    fn read<T: serde::de::DeserializeOwned>(self) -> Result<T, Self::Error> {
        serde_json::from_value(self.0)
    }
}

/// Objects from YAML documents; those without a namespace are in `demo`.
fn objects(yaml: &str) -> Vec<Object> {
    let documents = yaml.split("\n---\n").filter(|text| !text.trim().is_empty());
    documents.map(|text| object(ferromesh_proto::json::yaml_value(text).expect("the fixture is YAML"))).collect()
}

fn object(mut value: Value) -> Object {
    let version = value["apiVersion"].as_str().unwrap_or_default().to_owned();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let kind = Kind::named(group, value["kind"].as_str().unwrap_or_default()).expect("the kind is known");
    if kind.namespaced() && value["metadata"].get("namespace").is_none() {
        value["metadata"]["namespace"] = "demo".into();
    }
    Object::read(kind, Json(value)).expect("the fixture has the kind's shape")
}

fn view(yaml: &str) -> View {
    View::of(objects(yaml))
}

/// The objects of the tutorial, with the pods that a cluster makes of them.
fn tutorial() -> String {
    let mut yaml = include_str!("tests/tutorial.yaml").to_owned();
    for (app, version, ip, service) in [
        ("myapp", "v1", "10.1.0.11", "myapp-v1"),
        ("myapp", "v2", "10.1.0.12", "myapp-v2"),
        ("otherapp", "v1", "10.1.0.13", "otherapp"),
    ] {
        yaml += &workload(app, version, ip, service, "");
    }
    yaml
}

/// A pod of a service and its EndpointSlice.
fn workload(app: &str, version: &str, ip: &str, service: &str, annotations: &str) -> String {
    format!(
        "\n---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {service}-0\n  labels: {{app: {app}, version: {version}, \
         security.istio.io/tlsMode: istio}}\n  annotations: {{{annotations}}}\nspec:\n  serviceAccountName: {app}\n  \
         containers: [{{name: app, ports: [{{containerPort: 5678}}]}}]\nstatus: {{podIP: {ip}}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {service}-a\n  labels: \
         {{kubernetes.io/service-name: {service}}}\naddressType: IPv4\nports: [{{name: http, port: 5678}}]\nendpoints:\n\
         - addresses: [{ip}]\n  conditions: {{ready: true}}\n  targetRef: {{kind: Pod, name: {service}-0, namespace: demo}}\n"
    )
}

fn node(kind: NodeKind, pod: &str) -> Node {
    Node { kind, pod: pod.to_owned(), namespace: "demo".to_owned(), version: "1.31.0".to_owned(), ..Node::default() }
}

fn sidecar(pod: &str) -> Node {
    node(NodeKind::Sidecar, pod)
}

fn router() -> Node {
    let mut node = node(NodeKind::Router, "istio-gwapi-istio-0");
    node.labels.insert(ferromesh_api::labels::GATEWAY_NAME.to_owned(), "istio-gwapi".to_owned());
    node
}

/// A resource as JSON.
fn json(resources: &[Resource], name: &str) -> Value {
    let names: Vec<_> = resources.iter().map(|resource| &*resource.name).collect();
    let found = resources.iter().find(|resource| &*resource.name == name);
    any_to_json(&found.unwrap_or_else(|| panic!("{name} is not among {names:?}")).any, false)
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The HTTP connection managers in a listener.
fn managers(listener: &Value) -> Vec<&Value> {
    let chains = listener["filter_chains"].as_array().into_iter().flatten();
    let filters = chains.flat_map(|chain| chain["filters"].as_array().into_iter().flatten());
    filters.filter(|filter| filter["name"] == hcm::NAME).map(|filter| &filter["typed_config"]).collect()
}

fn filter_names(manager: &Value) -> Vec<&str> {
    manager["http_filters"].as_array().into_iter().flatten().filter_map(|filter| filter["name"].as_str()).collect()
}
