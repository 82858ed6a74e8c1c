//! What is made for a Gateway.

use std::collections::BTreeMap;

use ferromesh_api::conditions::ISTIO_CONTROLLER;
use ferromesh_api::gateway_api::Gateway;
use serde_json::{Value, json};

use super::render::{Made, Settings, render, wants_deployment};

fn settings() -> Settings {
    Settings {
        image: "proxy:1".into(),
        pull_policy: Some("Never".into()),
        pull_secret: None,
        discovery_address: "ferromesh-controller.ferromesh-system.svc:15012".into(),
        ca_address: "ferromesh-ca.ferromesh-system.svc:15012".into(),
        trust_domain: "cluster.local".into(),
        cluster_id: "Kubernetes".into(),
    }
}

fn gateway(more: Value) -> Gateway {
    let mut object = json!({
        "metadata": {"name": "web", "namespace": "demo", "uid": "1"},
        "spec": {"gatewayClassName": "istio", "listeners": [
            {"name": "http", "port": 80, "protocol": "HTTP"},
            {"name": "http.other", "port": 80, "protocol": "HTTP", "hostname": "b"},
            {"name": "tls.x", "port": 443, "protocol": "HTTPS"},
        ]},
    });
    super::overlay::merge(&mut object, &more);
    serde_json::from_value(object).unwrap()
}

fn made(more: Value, parameters: &[(&str, &str)]) -> BTreeMap<&'static str, Made> {
    let parameters = parameters.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
    let made = render(&gateway(more), ISTIO_CONTROLLER, &settings(), &parameters).unwrap();
    made.into_iter().map(|one| (one.kind, one)).collect()
}

#[test]
fn a_gateway_is_given_what_istio_would_give_it() {
    let made = made(json!({"spec": {"infrastructure": {"labels": {"team": "a"}, "annotations": {"note": "b"}}}}), &[]);
    assert_eq!(made.keys().copied().collect::<Vec<_>>(), ["Deployment", "Service", "ServiceAccount"]);
    for one in made.values() {
        let metadata = &one.object["metadata"];
        assert_eq!((metadata["name"].as_str(), metadata["namespace"].as_str()), (Some("web-istio"), Some("demo")));
        assert_eq!(metadata["labels"]["gateway.networking.k8s.io/gateway-name"], "web");
        assert_eq!((&metadata["labels"]["team"], &metadata["annotations"]["note"]), (&json!("a"), &json!("b")));
        assert_eq!(metadata["ownerReferences"][0]["uid"], "1");
    }
    let service = &made["Service"].object["spec"];
    assert_eq!(service["type"], "LoadBalancer");
    let ports: Vec<_> = service["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| (port["name"].as_str().unwrap(), port["port"].as_u64().unwrap()))
        .collect();
    assert_eq!(ports, [("status-port", 15021), ("http", 80), ("tls-x", 443)]);
    let deployment = &made["Deployment"].object["spec"];
    assert!(deployment.get("replicas").is_none(), "an autoscaler may own it");
    let container = &deployment["template"]["spec"]["containers"][0];
    assert_eq!((&container["image"], &container["imagePullPolicy"]), (&json!("proxy:1"), &json!("Never")));
    assert_eq!(container["securityContext"]["runAsUser"], 1337);
    assert_eq!(deployment["template"]["metadata"]["labels"]["sidecar.istio.io/inject"], "false");
}

#[test]
fn annotations_and_addresses_change_it_as_in_istio() {
    let changed = json!({
        "metadata": {"annotations": {"networking.istio.io/service-type": "ClusterIP", "gateway.istio.io/name-override": "edge",
            "gateway.istio.io/service-account": "mine"}},
        "spec": {"addresses": [{"value": "10.0.0.9"}]},
    });
    let made = made(changed, &[]);
    assert!(!made.contains_key("ServiceAccount"));
    let service = &made["Service"].object;
    assert_eq!((&service["metadata"]["name"], &service["spec"]["type"]), (&json!("edge"), &json!("ClusterIP")));
    assert_eq!(service["spec"]["loadBalancerIP"], "10.0.0.9");
    assert_eq!(made["Deployment"].object["spec"]["template"]["spec"]["serviceAccountName"], "mine");
    assert!(!wants_deployment(&gateway(json!({"spec": {"addresses": [{"type": "Hostname", "value": "a.b.svc"}]}}))));
}

#[test]
fn parameters_are_merged_but_cannot_make_it_something_else() {
    let parameters = [
        (
            "deployment",
            "metadata: {name: other, namespace: kube-system}\nspec: {replicas: 3, selector: {matchLabels: {a: b}}, template: {spec: {containers: [{name: istio-proxy, resources: {requests: {cpu: 1}}}]}}}",
        ),
        ("horizontalPodAutoscaler", "spec: {minReplicas: 2, maxReplicas: 5}"),
        ("podDisruptionBudget", "spec: {minAvailable: 1}"),
    ];
    let made = made(json!({}), &parameters);
    let deployment = &made["Deployment"].object;
    assert_eq!(
        (&deployment["metadata"]["name"], &deployment["metadata"]["namespace"]),
        (&json!("web-istio"), &json!("demo"))
    );
    assert_eq!(deployment["spec"]["replicas"], 3);
    assert_eq!(
        deployment["spec"]["selector"],
        json!({"matchLabels": {"gateway.networking.k8s.io/gateway-name": "web"}})
    );
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!((&container["resources"]["requests"]["cpu"], &container["image"]), (&json!(1), &json!("proxy:1")));
    assert_eq!(made["HorizontalPodAutoscaler"].object["spec"]["maxReplicas"], 5);
    assert_eq!(made["HorizontalPodAutoscaler"].object["spec"]["scaleTargetRef"]["name"], "web-istio");
    assert_eq!(made["PodDisruptionBudget"].object["spec"]["minAvailable"], 1);
}

#[test]
fn parameters_that_cannot_be_used_are_refused_by_their_key() {
    for (key, text) in [("deployments", "{}"), ("deployment", "{"), ("service", "[1]")] {
        let parameters = BTreeMap::from([(key.to_owned(), text.to_owned())]);
        let error = render(&gateway(json!({})), ISTIO_CONTROLLER, &settings(), &parameters).unwrap_err();
        assert!(error.starts_with(key), "{error}");
    }
}
