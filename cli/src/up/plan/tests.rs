use ferromesh_controller::index::Object;

use super::*;
use crate::up::workloads::Workloads;

/// Ports in order, from 40000.
struct Counting(u16);

impl Ports for Counting {
    fn take(&mut self, wanted: Option<u16>) -> SocketAddr {
        self.0 += 1;
        SocketAddr::from(([127, 0, 0, 1], wanted.unwrap_or(self.0)))
    }
}

fn view(injected: bool) -> View {
    let object = |json: serde_json::Value| json;
    let namespace = object(
        json!({ "metadata": { "name": "demo", "labels": { "istio-injection": if injected { "enabled" } else { "disabled" } } } }),
    );
    let deployment = object(json!({
        "metadata": { "name": "web", "namespace": "demo" },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "web", "image": "i", "env": [{ "name": "A", "value": "b" }],
                    "ports": [{ "name": "admin", "containerPort": 15 }, { "name": "web", "containerPort": 5678 },
                        { "name": "dns", "containerPort": 53, "protocol": "UDP" }] }] },
            },
        },
    }));
    let service = object(json!({
        "metadata": { "name": "web", "namespace": "demo" },
        "spec": { "selector": { "app": "web" }, "ports": [{ "name": "http", "port": 80, "targetPort": "web" },
            { "name": "dns", "port": 53, "targetPort": "dns", "protocol": "UDP" }] },
    }));
    let class =
        object(json!({ "metadata": { "name": "istio" }, "spec": { "controllerName": "istio.io/gateway-controller" } }));
    let foreign = object(json!({ "metadata": { "name": "other" }, "spec": { "controllerName": "example.com/x" } }));
    let gateway = |name: &str, class: &str| {
        json!({
            "metadata": { "name": name, "namespace": "demo" },
            "spec": { "gatewayClassName": class, "listeners": [{ "name": "http", "port": 80, "protocol": "HTTP" },
                { "name": "https", "port": 443, "protocol": "HTTPS" }, { "name": "tcp", "port": 90, "protocol": "TCP" }] },
        })
    };
    View::of([
        Object::Namespace(read(namespace)),
        Object::Deployment(read(deployment)),
        Object::Service(read(service)),
        Object::GatewayClass(read(class)),
        Object::GatewayClass(read(foreign)),
        Object::Gateway(read(gateway("gw", "istio"))),
        Object::Gateway(read(gateway("not-ours", "other"))),
    ])
}

fn read<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> std::sync::Arc<T> {
    std::sync::Arc::new(serde_json::from_value(json).expect("a valid object"))
}

fn plans(view: &View, running: &BTreeMap<Key, PodPlan>) -> BTreeMap<Key, PodPlan> {
    let text = "workloads: [{image: i, builtin: echo}]";
    let workloads = Workloads::parse("w", text).expect("valid");
    pods(view, &workloads, running, 8080, &mut Counting(40000))
}

#[test]
fn each_replica_and_each_gateway_of_ours_becomes_a_pod() {
    let plans = plans(&view(true), &BTreeMap::new());
    let names: Vec<String> = plans.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["demo/gw-istio-0", "demo/web-0", "demo/web-1"]);
    let gateway = &plans[&Key::new("demo", "gw-istio-0")];
    assert_eq!((gateway.role, gateway.ports[0].listen.port()), (Role::Gateway, 8080));
    assert_eq!(gateway.spiffe_id("td"), "spiffe://td/ns/demo/sa/gw-istio");
    assert_eq!(gateway.schemes, BTreeMap::from([(80, "http"), (443, "https")]), "no browser speaks what is behind 90");
}

#[test]
fn a_sidecar_listens_beside_its_application_and_is_marked_as_meshed() {
    let plans = plans(&view(true), &BTreeMap::new());
    let web = &plans[&Key::new("demo", "web-0")];
    assert_eq!(web.role, Role::Sidecar);
    assert_ne!(web.ports[0].listen, web.ports[0].app);
    assert!(web.http_proxy.is_some());
    let pod = web.pod();
    let labels = pod.metadata.labels.expect("labels");
    assert_eq!(labels.get(labels::TLS_MODE).map(String::as_str), Some("istio"));
    let annotations = pod.metadata.annotations.expect("annotations");
    assert!(annotations[annotations::LISTEN].contains("\"5678\""), "{annotations:?}");
}

#[test]
fn without_injection_traffic_goes_to_the_application_itself() {
    let plans = plans(&view(false), &BTreeMap::new());
    let web = &plans[&Key::new("demo", "web-0")];
    assert_eq!((web.role, web.http_proxy), (Role::Plain, None));
    assert_eq!(web.ports[0].listen, web.ports[0].app);
}

#[test]
fn a_pod_that_runs_keeps_its_ports() {
    let view = view(true);
    let first = plans(&view, &BTreeMap::new());
    assert_eq!(plans(&view, &first), first);
}

#[test]
fn an_endpoint_slice_names_the_port_where_traffic_arrives() {
    let view = view(true);
    let plans = plans(&view, &BTreeMap::new());
    let web = &plans[&Key::new("demo", "web-1")];
    let numbers: Vec<u16> = web.ports.iter().map(|port| port.port).collect();
    assert_eq!(numbers, [15, 5678], "a proxy carries no UDP");
    let slices = web.endpoint_slices(&view);
    let ports = slices[0].ports.as_ref().expect("ports");
    assert_eq!(ports.len(), 1, "{ports:?}");
    assert_eq!(ports[0].port, Some(web.ports[1].listen.port().into()), "the port that the name means, not the first");
}
