//! What a proxy rejects is said of the Gateway that it serves and of the EnvoyFilter that may be the cause, until the
//! proxy takes something better or leaves.

#[path = "support/client.rs"]
mod client;

use client::{PATIENCE, Stream, eventually};
use ferromesh_controller::app::{Config, Controller};
use ferromesh_controller::index::{Key, Object};
use ferromesh_controller::serve::{Address, Kind};
use ferromesh_controller::source::{Memory, parse};

const NODE: &str = "router~127.0.0.1~edge-0.default~default.svc.cluster.local";

fn objects(listeners: &str) -> Vec<Object> {
    let yaml = format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: istio}}
spec: {{controllerName: istio.io/gateway-controller}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge, namespace: default}}
spec: {{gatewayClassName: istio, listeners: [{listeners}]}}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: limit, namespace: default}}
spec: {{configPatches: [{{applyTo: LISTENER, match: {{context: GATEWAY}}, patch: {{operation: MERGE, value: {{stat_prefix: a}}}}}}]}}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: other, namespace: default}}
spec: {{configPatches: [{{applyTo: CLUSTER, patch: {{operation: MERGE, value: {{connect_timeout: 1s}}}}}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: edge-0, namespace: default, labels: {{gateway.networking.k8s.io/gateway-name: edge}}}}
spec: {{containers: []}}
status: {{podIP: 127.0.0.1, conditions: [{{type: Ready, status: \"True\"}}]}}
"
    );
    parse::documents(&yaml).objects.into_iter().map(|found| found.object).collect()
}

/// The Gateway's Programmed, as `status: message`.
fn programmed(controller: &Controller) -> String {
    let statuses = controller.statuses();
    let conditions = &statuses.gateways[&Key::new("default", "edge")].conditions;
    let found = conditions.iter().find(|condition| condition.type_ == "Programmed").unwrap();
    format!("{} {}: {}", found.status, found.reason, found.message)
}

/// The listeners whose Programmed is true.
fn served(controller: &Controller) -> Vec<String> {
    let statuses = controller.statuses();
    let listeners = statuses.gateways[&Key::new("default", "edge")].listeners.iter();
    let programmed = listeners.filter(|listener| {
        listener.conditions.iter().any(|found| found.type_ == "Programmed" && found.status == "True")
    });
    programmed.map(|listener| listener.name.clone()).collect()
}

fn says_of_filter(controller: &Controller, name: &str) -> bool {
    let statuses = controller.statuses();
    let conditions = &statuses.envoy_filters[&Key::new("default", name)].conditions;
    conditions.iter().any(|found| found.type_ == "Programmed" && found.status == "False")
}

fn found(controller: &Controller) -> Vec<String> {
    let findings = controller.findings().into_iter().filter(|finding| finding.code == "FM0011");
    findings.map(|finding| finding.to_string()).collect()
}

#[tokio::test]
async fn what_a_proxy_rejects_is_said_of_its_gateway_until_it_takes_something_better() {
    let (memory, handle) =
        Memory::new(objects("{name: a, port: 80, protocol: HTTP}, {name: b, port: 8080, protocol: HTTP}"));
    let mut config = Config::new(vec![Box::new(memory)]);
    config.allow_plaintext_loopback = true;
    let controller = Controller::start(config).await.unwrap();
    tokio::time::timeout(PATIENCE, controller.ready()).await.unwrap();
    let connect = async || {
        let Address::Tcp(address) = controller.xds_addr() else { panic!("TCP") };
        Stream::delta(tokio::net::TcpStream::connect(address).await.unwrap(), NODE).await.unwrap()
    };
    assert!(programmed(&controller).starts_with("True Programmed"), "{}", programmed(&controller));

    let mut stream = connect().await;
    stream.subscribe(Kind::Listener, &["*"]).await;
    let response = stream.must().await;
    stream.answer(&response, Some("0.0.0.0_80: no such field")).await;
    eventually("the Gateway says so", || programmed(&controller).starts_with("False Invalid")).await;
    let message = programmed(&controller);
    assert!(message.contains("edge-0.default") && message.contains("0.0.0.0_80: no such field"), "{message}");
    assert_eq!(served(&controller), ["b"], "the listener that is not named is served");
    assert!(says_of_filter(&controller, "limit") && !says_of_filter(&controller, "other"));
    let said = found(&controller);
    assert!(said.len() == 1 && said[0].contains("Gateway default/edge"), "{said:?}");
    assert!(said[0].contains("EnvoyFilter default/limit") && !said[0].contains("other"), "{said:?}");

    for object in objects("{name: a, port: 81, protocol: HTTP}, {name: b, port: 8080, protocol: HTTP}") {
        handle.apply(object).await;
    }
    loop {
        let response = stream.must().await;
        stream.answer(&response, None).await;
        if client::text(&response).contains("0.0.0.0_81") {
            break;
        }
    }
    eventually("all is well again", || programmed(&controller).starts_with("True Programmed")).await;
    assert!(found(&controller).is_empty() && !says_of_filter(&controller, "limit"));

    // A proxy that leaves takes its word with it.
    let mut second = connect().await;
    second.subscribe(Kind::Listener, &["*"]).await;
    let response = second.must().await;
    second.answer(&response, Some("again")).await;
    eventually("the second says so", || programmed(&controller).starts_with("False Invalid")).await;
    drop(second);
    eventually("it is gone", || programmed(&controller).starts_with("True Programmed")).await;
}
