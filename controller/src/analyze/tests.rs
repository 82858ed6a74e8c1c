//! Analysis: each trap, and that what is right is passed in silence.

use super::{Finding, analyze};
use crate::index::View;

fn findings(yaml: &str) -> Vec<Finding> {
    let parsed = crate::source::parse::documents(yaml);
    assert!(!parsed.has_errors(), "{:?}", parsed.problems);
    let mut objects: Vec<_> = parsed.objects.into_iter().map(|found| found.object).collect();
    for object in &mut objects {
        if object.kind().namespaced() && object.metadata().namespace.is_none() {
            object.metadata_mut().namespace = Some("demo".to_owned());
        }
    }
    let view = View::of(objects);
    analyze(&view, &crate::translate::Translator::new().facts(&view))
}

fn codes(yaml: &str) -> Vec<&'static str> {
    findings(yaml).into_iter().map(|finding| finding.code).collect()
}

const MESH: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: istio}
spec: {controllerName: istio.io/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec: {gatewayClassName: istio, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: myapp}
spec: {selector: {matchLabels: {app: myapp}}, template: {metadata: {labels: {app: myapp, version: v1}}, spec: {containers: []}}}
---
apiVersion: v1
kind: Service
metadata: {name: myapp}
spec: {selector: {app: myapp}, ports: [{name: http, port: 80}]}
";

fn filter(namespace: &str, selector: &str, context: &str) -> String {
    format!(
        "{MESH}---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: limit, namespace: {namespace}}}\nspec:\n  workloadSelector: {selector}\n  configPatches: [{{applyTo: HTTP_FILTER, match: {{context: {context}}}, patch: {{operation: INSERT_BEFORE, value: {{name: a}}}}}}]\n"
    )
}

fn route(spec: &str) -> String {
    format!(
        "{MESH}---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\nspec: {spec}\n"
    )
}

#[test]
fn the_tutorials_filter_for_a_gateway_that_patches_sidecars_is_named_with_what_to_write() {
    for namespace in ["demo", "istio-system"] {
        let found = findings(&filter(namespace, "{labels: {istio: ingressgateway}}", "SIDECAR_INBOUND"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].code, "FM0001");
        assert!(found[0].message.contains("istio: ingressgateway"), "{}", found[0]);
        assert!(found[0].remedy.contains("app: myapp"), "{}", found[0]);
        assert!(found[0].remedy.contains("gateway.networking.k8s.io/gateway-name: g"), "{}", found[0]);
    }
}

#[test]
fn an_envoy_filter_is_judged_by_selector_and_context() {
    let gateway = "{labels: {gateway.networking.k8s.io/gateway-name: g}}";
    let app = "{labels: {app: myapp}}";
    let cases: [(&str, &str, &str, &[&str]); 9] = [
        ("demo", app, "SIDECAR_INBOUND", &[]),
        ("demo", gateway, "GATEWAY", &[]),
        ("demo", "{}", "SIDECAR_OUTBOUND", &[]),
        ("istio-system", app, "ANY", &[]),
        ("demo", app, "GATEWAY", &["FM0001"]),
        ("demo", gateway, "SIDECAR_OUTBOUND", &["FM0001"]),
        ("demo", "{labels: {app: none}}", "SIDECAR_INBOUND", &["IST0127"]),
        ("other", app, "SIDECAR_INBOUND", &["IST0127"]),
        ("demo", app, "ODD", &["IST0106"]),
    ];
    for (namespace, selector, context, expected) in cases {
        assert_eq!(codes(&filter(namespace, selector, context)), expected, "{namespace} {selector} {context}");
    }
}

#[test]
fn routes_are_judged_by_parents_backends_and_filters() {
    let far = "---\napiVersion: v1\nkind: Service\nmetadata: {name: far, namespace: m}\nspec: {ports: [{port: 80}]}\n";
    let parent = "parentRefs: [{name: g}]";
    let cases: [(String, &[&str]); 8] = [
        (format!("{{{parent}, rules: [{{backendRefs: [{{name: myapp, port: 80}}]}}]}}"), &[]),
        (format!("{{{parent}, rules: [{{backendRefs: [{{name: none, port: 80}}]}}]}}"), &["IST0101"]),
        (format!("{{{parent}, rules: [{{backendRefs: [{{name: myapp, port: 81}}]}}]}}"), &["IST0101"]),
        (format!("{{{parent}, rules: [{{backendRefs: [{{name: far, namespace: m, port: 80}}]}}]}}"), &["FM0002"]),
        (format!("{{{parent}, rules: [{{filters: [{{type: Odd}}]}}]}}"), &["FM0008"]),
        ("{parentRefs: [{name: none}]}".to_owned(), &["FM0003"]),
        ("{parentRefs: [{name: g, sectionName: none}]}".to_owned(), &["FM0003"]),
        ("{}".to_owned(), &["FM0003"]),
    ];
    for (spec, expected) in cases {
        assert_eq!(codes(&format!("{}{far}", route(&spec))), expected, "{spec}");
    }
}

#[test]
fn ports_of_services_are_judged_by_their_protocol() {
    let cases: [(&str, &[&str]); 7] = [
        ("{name: http-web, port: 1}", &[]),
        ("{name: GRPC, port: 1}", &[]),
        ("{port: 8080}", &[]),
        ("{name: web, port: 8080}", &["IST0118"]),
        ("{name: httpx, port: 8080, appProtocol: http}", &[]),
        ("{name: mail, port: 587}", &["FM0004"]),
        ("{name: tcp-mail, port: 587}", &[]),
    ];
    for (port, expected) in cases {
        let yaml = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: s}}\nspec: {{ports: [{port}]}}\n");
        assert_eq!(codes(&yaml), expected, "{port}");
    }
}

#[test]
fn strict_with_a_caller_without_a_proxy_and_other_mistakes_of_peer_authentication_are_named() {
    let policy = |namespace: &str, spec: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: p, namespace: {namespace}}}\nspec: {spec}\n"
        )
    };
    let bare = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: bare, labels: {sidecar.istio.io/inject: \"false\"}}\nspec: {containers: []}\n";
    let strict = "{mtls: {mode: STRICT}}";
    let cases: [(String, &[&str]); 6] = [
        (policy("demo", strict), &[]),
        (format!("{}{bare}", policy("demo", strict)), &["FM0006"]),
        (policy("demo", "{mtls: {mode: ODD}}"), &["IST0106"]),
        (policy("demo", "{portLevelMtls: {80: {mode: DISABLE}}}"), &["IST0106"]),
        (policy("demo", "{selector: {matchLabels: {app: none}}}"), &["IST0127"]),
        (format!("{}{}", policy("istio-system", strict), policy("ferromesh-system", strict)), &["FM0005"]),
    ];
    for (yaml, expected) in cases {
        assert_eq!(codes(&format!("{MESH}{yaml}")), expected, "{yaml}");
    }
}

#[test]
fn a_mesh_config_field_that_nothing_obeys_is_named() {
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: \"{accessLogFile: /dev/stdout, fooBar: 1, meshMTLS: {minProtocolVersion: TLSV1_3}}\"}\n";
    let found: Vec<_> = findings(yaml).into_iter().map(|finding| finding.message).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("fooBar") && found[1].contains("meshMTLS"), "{found:?}");
}

#[test]
fn a_suppressed_code_is_not_reported() {
    let yaml = "apiVersion: v1\nkind: Service\nmetadata: {name: s, annotations: {galley.istio.io/analyze-suppress: IST0118}}\nspec: {ports: [{name: web, port: 8080}]}\n";
    assert!(codes(yaml).is_empty());
}
