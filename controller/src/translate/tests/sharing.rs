//! A change costs what it touches: counted in resources that are made anew.
use super::*;
use crate::index::{Event, Index};

fn service(n: usize, port: u16) -> Object {
    object(serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s{n}")},
        "spec": {"ports": [{"name": "http", "port": port}]},
    }))
}

fn slice(n: usize, ip: &str) -> Object {
    object(serde_json::json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("s{n}-a"), "labels": {"kubernetes.io/service-name": format!("s{n}")}},
        "ports": [{"name": "http", "port": 80}], "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}],
    }))
}

#[test]
fn a_change_of_one_of_many_services_makes_one_cluster_and_its_endpoints_anew() {
    let mut index = Index::new(ferromesh_api::istio::MeshConfig::default());
    let all = (0..200).flat_map(|n| [service(n, 80), slice(n, "10.0.0.1")]);
    index.apply(all.map(Event::Apply).collect::<Vec<_>>());
    let translator = Translator::new();
    let names: Vec<_> = (0..200).map(|n| format!("outbound|80||s{n}.demo.svc.cluster.local")).collect();
    // Ten proxies of two namespaces; what they see is the same.
    let all_proxies = |index: &Index| {
        let before = translator.made();
        for n in 0..10 {
            let node = Node { namespace: format!("n{}", n % 2), ..sidecar(&format!("p{n}")) };
            let clusters = translator.clusters(index.view(), &node);
            assert!(clusters.len() >= 200);
            assert!(translator.endpoints(index.view(), &node, &names).len() >= 199);
        }
        translator.made() - before
    };
    assert_eq!(all_proxies(&index), 400);
    assert_eq!(all_proxies(&index), 0, "nothing changed");
    index.apply(vec![Event::Apply(slice(7, "10.0.0.2"))]);
    assert_eq!(all_proxies(&index), 1, "its endpoints");
    index.apply(vec![Event::Apply(service(7, 81))]);
    assert!(all_proxies(&index) <= 2, "its cluster, and its endpoints");
}

#[test]
fn proxies_with_other_patches_or_ports_do_not_share() {
    let filter = "\n---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: f}\nspec:\n  \
                  workloadSelector: {labels: {app: myapp}}\n  configPatches: []\n";
    let view = view(&(tutorial() + filter));
    let translator = Translator::new();
    let clusters = |pod: &str| translator.clusters_shared_by(&view, &sidecar(pod));
    let routes = |pod: &str| translator.routes_shared_by(&view, &sidecar(pod));
    assert_ne!(routes("myapp-v1-0"), routes("otherapp-0"), "one has a patch");
    assert_eq!(routes("otherapp-0"), routes("unknown-0"));
    assert_ne!(clusters("otherapp-0"), clusters("unknown-0"), "one has a port");
    assert_ne!(routes("otherapp-0"), translator.routes_shared_by(&view, &router()));
}

fn pod(account: &str, labels: Value, ready: &str) -> Object {
    object(serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": labels},
        "spec": {"serviceAccountName": account, "containers": []},
        "status": {"podIP": "10.0.0.3", "conditions": [{"type": "Ready", "status": ready}]},
    }))
}

/// What a change of these objects touches: of sidecars, of gateways, and of the pod's own sidecar.
fn touched(before: &[Object], change: Object) -> [TypeSet; 3] {
    use ferromesh_core::names::NodeKind::{Router, Sidecar};
    let mut index = Index::new(ferromesh_api::istio::MeshConfig::default());
    index.apply(before.iter().cloned().map(Event::Apply).collect::<Vec<_>>());
    let old = index.view().clone();
    let changes = index.apply(vec![Event::Apply(change)]);
    let affected = Affected::of(&changes, &old, index.view());
    [(Sidecar, "other"), (Router, "other"), (Sidecar, "p")].map(|(kind, pod)| affected.of_proxy(kind, "demo", pod))
}

#[test]
fn endpoints_touch_clusters_only_by_new_identities_and_listeners_only_of_headless_services() {
    let none = TypeSet::default();
    let endpoints = TypeSet { endpoints: true, ..none };
    let plain = [service(1, 80), slice(1, "10.0.0.1"), pod("a", serde_json::json!({}), "True")];
    assert_eq!(touched(&plain, slice(1, "10.0.0.2")), [endpoints; 3]);
    let with_clusters = TypeSet { clusters: true, ..endpoints };
    assert_eq!(touched(&plain, slice(1, "10.0.0.3")), [with_clusters; 3], "a pod is behind it now");
    let headless = object(serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s1"},
        "spec": {"clusterIP": "None", "ports": [{"name": "tcp", "port": 80}]},
    }));
    let with_names = TypeSet { names: true, ..endpoints };
    let with_listeners = TypeSet { listeners: true, ..with_names };
    let seen = touched(&[headless, slice(1, "10.0.0.1")], slice(1, "10.0.0.2"));
    assert_eq!(seen, [with_listeners, with_names, with_listeners]);
}

#[test]
fn the_health_of_a_pod_touches_nothing_and_its_labels_touch_all_of_its_own_proxy() {
    let before = [pod("a", serde_json::json!({}), "True")];
    assert_eq!(touched(&before, pod("a", serde_json::json!({}), "False")), [TypeSet::default(); 3]);
    let seen = touched(&before, pod("a", serde_json::json!({"app": "x"}), "True"));
    let others = TypeSet { clusters: true, endpoints: true, ..TypeSet::default() };
    assert_eq!(seen, [others, others, TypeSet::ALL]);
}
