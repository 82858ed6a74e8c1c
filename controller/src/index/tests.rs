//! The index: what events do to the view.

use super::attachment::{self, Parent, Refusal, intersection};
use super::{Event, Index, Kind, Object, ObjectRef, View};
use ferromesh_api::istio::MeshConfig;
use ferromesh_api::istio::peer_authentication::MtlsMode;
use std::collections::BTreeMap;

fn objects(yaml: &str) -> Vec<Object> {
    let parsed = crate::source::parse::documents(yaml);
    assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
    parsed.objects.into_iter().map(|found| found.object).collect()
}

fn view(yaml: &str) -> View {
    View::of(objects(yaml))
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn service(port: u16) -> Object {
    let yaml = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: a, namespace: n}}\nspec: {{ports: [{{port: {port}}}]}}"
    );
    objects(&yaml).remove(0)
}

#[test]
fn the_same_object_again_is_no_change_and_another_spec_counts_a_generation() {
    let mut index = Index::new(MeshConfig::default());
    let generation = |index: &Index| index.view().services.named("n", "a").and_then(|s| s.metadata.generation);
    assert_eq!(index.apply([Event::Apply(service(80))]).objects.len(), 1);
    let old = index.view().clone();
    assert!(index.apply([Event::Apply(service(80))]).is_empty());
    assert_eq!(generation(&index), Some(1));
    assert!(!index.apply([Event::Apply(service(81))]).is_empty());
    assert_eq!(generation(&index), Some(2));
    assert_eq!(old.services.named("n", "a").and_then(|s| s.metadata.generation), Some(1), "a view does not change");
    assert_eq!(index.apply([Event::Delete(ObjectRef::new(Kind::Service, "n", "a"))]).objects.len(), 1);
    assert!(index.view().services.is_empty());
}

#[test]
fn endpoint_slices_and_pods_are_found_and_forgotten() {
    let yaml = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-1, namespace: n, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
endpoints: []
---
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: n, labels: {app: a}}
spec: {containers: []}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: n}
spec: {selector: {app: a}, ports: [{port: 80}]}
";
    let mut index = Index::new(MeshConfig::default());
    index.apply(objects(yaml).into_iter().map(Event::Apply));
    let view = index.view();
    assert_eq!(view.slices_of("n", "a").count(), 1);
    let (_, pod) = view.pods_with_ip("10.0.0.1").next().expect("the pod has this address");
    assert_eq!(view.services_of_pod(pod).map(|(key, _)| key.to_string()).collect::<Vec<_>>(), ["n/a"]);
    index.apply([
        Event::Delete(ObjectRef::new(Kind::EndpointSlice, "n", "a-1")),
        Event::Delete(ObjectRef::new(Kind::Pod, "n", "p")),
    ]);
    assert_eq!(index.view().slices_of("n", "a").count(), 0);
    assert_eq!(index.view().pods_with_ip("10.0.0.1").count(), 0);
}

#[test]
fn a_bad_mesh_config_is_a_problem_and_the_last_good_one_stays() {
    let map = |mesh: &str| {
        let json = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": mesh}});
        Event::Apply(objects(&json.to_string()).remove(0))
    };
    let mut index = Index::new(MeshConfig::default());
    assert!(index.apply([map("accessLogFile: /dev/stdout\nfoo: 1\n")]).mesh);
    assert_eq!(index.view().mesh.access_log_file, "/dev/stdout");
    assert!(index.view().mesh.other.contains_key("foo"));
    assert!(index.apply([map("accessLogFile: /dev/null\nconnectTimeout: soon\n")]).problems);
    assert_eq!(index.view().mesh.access_log_file, "/dev/stdout");
    assert_eq!(index.view().problems[0].line, 2, "{}", index.view().problems[0]);
    index.apply([map("accessLogFile: /dev/stderr")]);
    assert!(index.view().problems.is_empty());
    for (wrong, says) in [
        ("outboundTrafficPolicy: {mode: REGISTRY_ONLYY}", "REGISTRY_ONLYY"),
        ("trustDomain: other.example", "\"cluster.local\""),
        ("accessLogFormat: \"%NOPE%\"", "%NOPE%"),
    ] {
        let changes = index.apply([map(&format!("accessLogFile: /dev/null\n{wrong}\n"))]);
        assert!(changes.problems && !changes.mesh, "{wrong}");
        assert_eq!(index.view().mesh.access_log_file, "/dev/stderr", "{wrong}");
        let problem = &index.view().problems[0];
        assert!(problem.line == 2 && problem.message.contains(says), "{wrong}: {problem}");
    }
}

#[test]
fn a_first_mesh_config_that_is_wrong_is_never_taken_for_a_laxer_one() {
    let map = |mesh: &str| {
        let json = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": mesh}});
        Event::Apply(objects(&json.to_string()).remove(0))
    };
    let mode = |index: &Index| index.view().mesh.outbound_traffic_policy.mode.to_string();
    let said = |index: &Index| index.view().problems[0].to_string();
    let wrong = "accessLogFile: a\noutboundTrafficPolicy: {mode: REGISTRY_ONLYY}\n";
    let mut index = Index::new(MeshConfig::default());
    index.apply([map(wrong), Event::Synced]);
    assert_eq!((mode(&index).as_str(), index.view().mesh.access_log_file.as_str()), ("REGISTRY_ONLY", "a"));
    assert!(!index.view().is_held && said(&index).contains("outboundTrafficPolicy.mode is \"REGISTRY_ONLY\""));

    assert!(index.apply([map("rootNamespace: Policies")]).mesh && index.view().is_held);
    assert!(said(&index).contains("nothing is published until it can be"), "{}", said(&index));
    assert!(index.apply([map("accessLogFile: b")]).mesh && !index.view().is_held);
    assert_eq!(mode(&index), "ALLOW_ANY");
    index.apply([map(wrong)]);
    assert!(mode(&index) == "ALLOW_ANY" && said(&index).contains("the last good one goes on"), "{}", said(&index));

    // Where a source has said that there is none, the defaults are what goes on.
    let mut index = Index::new(MeshConfig::default());
    index.apply([Event::Synced]);
    index.apply([map(wrong)]);
    assert!(mode(&index) == "ALLOW_ANY" && said(&index).contains("the last good one goes on"), "{}", said(&index));
}

#[test]
fn the_trust_domain_is_the_one_in_which_the_ca_signs_unless_the_same_is_written() {
    let mesh = |text: &str| super::mesh::parse(text, "mesh.example").map(|mesh| mesh.trust_domain);
    assert_eq!(mesh("accessLogFile: /dev/stdout").as_deref(), Ok("mesh.example"));
    assert_eq!(mesh("trustDomain: mesh.example").as_deref(), Ok("mesh.example"));
    assert!(mesh("accessLogFile: a\ntrustDomain: cluster.local").is_err_and(|(line, _)| line == 2));
}

#[test]
fn the_nearest_peer_authentication_wins() {
    let policy = |namespace: &str, name: &str, created: &str, spec: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}, namespace: {namespace}, creationTimestamp: \"{created}\"}}\nspec: {spec}\n"
        )
    };
    let (early, late) = ("2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z");
    let all = [
        policy("istio-system", "mesh", early, "{mtls: {mode: STRICT}}"),
        policy("n", "younger", late, "{mtls: {mode: DISABLE}}"),
        policy("n", "older", early, "{mtls: {mode: PERMISSIVE}, portLevelMtls: {80: {mode: DISABLE}}}"),
        policy(
            "n",
            "a",
            early,
            "{selector: {matchLabels: {app: a}}, mtls: {mode: UNSET}, portLevelMtls: {8080: {mode: STRICT}}}",
        ),
    ];
    let view = view(&all.concat());
    let cases = [
        ("n", "a", 8080, MtlsMode::Strict, "the port of the workload's own policy"),
        (
            "n",
            "a",
            80,
            MtlsMode::Permissive,
            "UNSET leaves it to the namespace, where the oldest wins; its ports do not count",
        ),
        ("n", "b", 8080, MtlsMode::Permissive, "another workload"),
        ("m", "a", 80, MtlsMode::Strict, "another namespace has the mesh's"),
    ];
    for (namespace, app, port, mode, why) in cases {
        assert_eq!(view.mtls_mode(namespace, &labels(&[("app", app)]), port), mode, "{why}");
    }
    assert_eq!(View::default().mtls_mode("n", &labels(&[]), 1), MtlsMode::Permissive);
}

#[test]
fn envoy_filters_come_in_istios_order() {
    let filter = |namespace: &str, name: &str, created: &str, spec: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: {name}, namespace: {namespace}, creationTimestamp: \"{created}\"}}\nspec: {spec}\n"
        )
    };
    let (early, late) = ("2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z");
    let view = view(
        &[
            filter("n", "own-late", late, "{}"),
            filter("n", "own-early-b", early, "{}"),
            filter("n", "own-early-a", early, "{}"),
            filter("n", "own-first", late, "{priority: -1}"),
            filter("n", "not-mine", early, "{workloadSelector: {labels: {app: b}}}"),
            filter("istio-system", "root", late, "{}"),
            filter("istio-system", "both", late, "{}"),
            filter("ferromesh-system", "both", late, "{workloadSelector: {labels: {app: a}}}"),
        ]
        .concat(),
    );
    let found = view.envoy_filters_for("n", &labels(&[("app", "a")]));
    let names: Vec<_> = found.iter().map(|(key, _)| key.to_string()).collect();
    assert_eq!(
        names,
        ["n/own-first", "ferromesh-system/both", "istio-system/root", "n/own-early-a", "n/own-early-b", "n/own-late"]
    );
}

#[test]
fn hostnames_of_listener_and_route_intersect() {
    let cases: [(Option<&str>, &[&str], &[&str]); 9] = [
        (None, &[], &["*"]),
        (Some("a.com"), &[], &["a.com"]),
        (None, &["a.com", "*.b.com"], &["a.com", "*.b.com"]),
        (Some("*.a.com"), &["x.a.com", "a.com", "y.x.a.com"], &["x.a.com", "y.x.a.com"]),
        (Some("x.a.com"), &["*.a.com"], &["x.a.com"]),
        (Some("*.a.com"), &["*.x.a.com", "*.com"], &["*.x.a.com", "*.a.com"]),
        (Some("a.com"), &["b.com"], &[]),
        (Some("A.com"), &["a.COM"], &["a.com"]),
        (Some("*.a.com"), &["ba.com"], &[]),
    ];
    for (listener, route, common) in cases {
        let route: Vec<String> = route.iter().map(|hostname| hostname.to_string()).collect();
        assert_eq!(intersection(listener, &route), common, "{listener:?} {route:?}");
    }
}

const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: istio}
spec: {controllerName: istio.io/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g, namespace: infra}
spec:
  gatewayClassName: istio
  listeners:
  - {name: same, port: 80, protocol: HTTP, hostname: \"*.a.com\"}
  - {name: all, port: 81, protocol: HTTP, allowedRoutes: {namespaces: {from: All}, kinds: [{kind: HTTPRoute}]}}
  - {name: some, port: 82, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: apps}}}}}
  - {name: tcp, port: 83, protocol: TCP, allowedRoutes: {namespaces: {from: All}}}
";

#[test]
fn a_route_attaches_where_it_may_and_says_why_not() {
    type Case = (&'static str, &'static str, &'static str, &'static str, Result<&'static [&'static str], &'static str>);
    let cases: [Case; 9] = [
        ("HTTPRoute", "apps", "", "[]", Ok(&["all", "some"])),
        ("HTTPRoute", "infra", "", "[b.a.com]", Ok(&["same", "all"])),
        ("HTTPRoute", "other", "", "[]", Ok(&["all"])),
        ("GRPCRoute", "other", "", "[]", Err("NotAllowedByListeners")),
        ("HTTPRoute", "apps", "sectionName: same", "[]", Err("NotAllowedByListeners")),
        ("HTTPRoute", "apps", "sectionName: none", "[]", Err("NoMatchingParent")),
        ("HTTPRoute", "infra", "port: 80", "[b.com]", Err("NoMatchingListenerHostname")),
        ("HTTPRoute", "apps", "port: 9999", "[]", Err("NoMatchingParent")),
        ("HTTPRoute", "apps", "port: 83", "[]", Err("NotAllowedByListeners")),
    ];
    for (kind, namespace, more, hostnames, expected) in cases {
        let yaml = format!(
            "{GATEWAY}---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: r, namespace: {namespace}}}\nspec:\n  parentRefs: [{{name: g, namespace: infra{}{more}}}]\n  hostnames: {hostnames}\n",
            if more.is_empty() { "" } else { ", " }
        );
        let view = view(&yaml);
        let bound = attachment::all_routes(&view).remove(0);
        let Parent::Gateway { outcome, .. } = attachment::parents(&view, &bound.route()).remove(0) else {
            panic!("{yaml}")
        };
        let names = outcome.map(|attached| attached.into_iter().map(|at| at.listener).collect::<Vec<_>>());
        let expected = expected.map(|names| names.iter().map(|name| name.to_string()).collect::<Vec<_>>());
        assert_eq!(
            names.as_ref().map_err(Refusal::reason),
            expected.as_ref().map_err(|reason| *reason),
            "{kind} {namespace} {more} {hostnames}"
        );
    }
}
