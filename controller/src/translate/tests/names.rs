//! What a DNS proxy is told.
use super::*;

const SERVICES: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, 'fd00:96::1'], ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: udp, namespace: other}
spec: {clusterIP: 10.96.0.2, ports: [{port: 53, protocol: UDP}]}
---
apiVersion: v1
kind: Service
metadata: {name: hidden, namespace: other, annotations: {networking.istio.io/exportTo: .}}
spec: {clusterIP: 10.96.0.3, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {type: ExternalName, externalName: example.com, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: pending}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, ports: [{port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-a, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{port: 5432}]
endpoints:
- {addresses: [10.1.0.1], hostname: db-0, conditions: {ready: true}}
- {addresses: [10.1.0.2], hostname: db-1, conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.1.0.3]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-b, labels: {kubernetes.io/service-name: db}}
addressType: IPv6
ports: [{port: 5432}]
endpoints:
- {addresses: ['fd00:1::1'], hostname: db-0, conditions: {ready: true}}
---
apiVersion: v1
kind: Service
metadata: {name: peers}
spec: {clusterIP: None, publishNotReadyAddresses: true, ports: [{port: 7000}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: peers-a, labels: {kubernetes.io/service-name: peers}}
addressType: IPv4
ports: [{port: 7000}]
endpoints:
- {addresses: [10.1.0.9], conditions: {ready: false}}
---
apiVersion: v1
kind: Service
metadata: {name: portless}
spec: {clusterIP: None}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: portless-a, labels: {kubernetes.io/service-name: portless}}
addressType: IPv4
endpoints:
- {addresses: [10.1.0.10], conditions: {ready: true}}
";

/// A sidecar of `namespace` with these addresses and a DNS proxy.
fn with_dns(namespace: &str, ips: &str) -> Node {
    let metadata = [("DNS_CAPTURE", "true"), ("INSTANCE_IPS", ips)];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    Node { namespace: namespace.to_owned(), metadata, ..sidecar("web-0") }
}

/// `<name>: <addresses> <short name> <namespace>` of each name.
fn names(translator: &Translator, view: &View, node: &Node) -> Vec<String> {
    let Some(resource) = translator.name_table(view, node) else { return Vec::new() };
    assert_eq!(&*resource.name, "");
    let table = any_to_json(&resource.any, false)["table"].clone();
    let one = |(name, info): (&String, &Value)| {
        assert_eq!(info["registry"], "Kubernetes");
        let ips: Vec<&str> = info["ips"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let text = |key: &str| info[key].as_str().unwrap_or_default().to_owned();
        format!("{name}: {} {} {}", ips.join(","), text("shortname"), text("namespace"))
    };
    table.as_object().into_iter().flatten().map(one).collect()
}

#[test]
fn services_have_their_addresses_and_headless_ones_those_of_their_pods_by_name_too() {
    let view = view(SERVICES);
    assert_eq!(
        names(&Translator::new(), &view, &with_dns("demo", "10.1.0.7")),
        [
            "db-0.db.demo.svc.cluster.local: 10.1.0.1,fd00:1::1 db-0.db demo",
            "db.demo.svc.cluster.local: 10.1.0.1,10.1.0.3,fd00:1::1 db demo",
            "peers.demo.svc.cluster.local: 10.1.0.9 peers demo",
            "udp.other.svc.cluster.local: 10.96.0.2 udp other",
            "web.demo.svc.cluster.local: 10.96.0.1 web demo",
        ]
    );
}

#[test]
fn a_pod_is_told_addresses_of_its_families_and_services_that_it_sees() {
    let view = view(SERVICES);
    let translator = Translator::new();
    let has = |node: &Node, line: &str| names(&translator, &view, node).iter().any(|found| found == line);
    assert!(has(&with_dns("demo", "fd00:1::7"), "web.demo.svc.cluster.local: fd00:96::1 web demo"));
    assert!(has(&with_dns("demo", "10.1.0.7,fd00:1::7"), "web.demo.svc.cluster.local: 10.96.0.1,fd00:96::1 web demo"));
    let hidden = "hidden.other.svc.cluster.local: 10.96.0.3 hidden other";
    assert!(has(&with_dns("other", "10.1.0.7"), hidden));
    assert!(!has(&with_dns("demo", "10.1.0.7"), hidden));
}

#[test]
fn who_has_no_dns_proxy_is_told_no_names() {
    let view = view(SERVICES);
    let translator = Translator::new();
    let of = |key: &str, value: &str| {
        let metadata = [(key.to_owned(), value.to_owned())].into();
        translator.name_table(&view, &Node { metadata, ..sidecar("web-0") }).is_some()
    };
    assert!(!of("OTHER", "true"));
    assert!(!of("DNS_CAPTURE", "false"));
    assert!(of("DNS_CAPTURE", "true") && of("DNS_CAPTURE", "1"));
    assert!(of("ENABLE_DNS_SERVER", "true"), "a gateway with a DNS proxy");
}

#[test]
fn namespaces_that_see_the_same_share_one_table_and_other_changes_make_none() {
    let mut index = crate::index::Index::new(ferromesh_api::istio::MeshConfig::default());
    index.apply(objects(SERVICES).into_iter().map(crate::index::Event::Apply).collect::<Vec<_>>());
    let translator = Translator::new();
    let made = |index: &crate::index::Index| {
        let before = translator.made();
        for namespace in ["demo", "n1", "n2", "n3"] {
            assert!(translator.name_table(index.view(), &with_dns(namespace, "10.1.0.7")).is_some());
        }
        translator.made() - before
    };
    assert_eq!(made(&index), 1);
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: []}\nstatus: {podIP: 10.1.0.99}\n";
    index.apply(objects(pod).into_iter().map(crate::index::Event::Apply).collect::<Vec<_>>());
    assert_eq!(made(&index), 0, "pods are not in it");
}
