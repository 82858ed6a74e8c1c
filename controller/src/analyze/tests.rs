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
fn faults_of_an_envoy_filter_are_found_before_any_pod_runs() {
    let with = |spec: &str| {
        format!(
            "{MESH}---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: f}}\nspec: {spec}\n"
        )
    };
    let patches = |patch: &str| with(&format!("{{configPatches: [{patch}]}}"));
    let cases = [
        (patches("{applyTo: CLUSTER, patch: {operation: MERGE, value: {connect_timeout: 1s}}}"), "", ""),
        (
            patches("{applyTo: CLUSTER, patch: {operation: MERGE, value: {conect_timeout: 1s}}}"),
            "FM0010",
            "conect_timeout",
        ),
        (
            patches("{applyTo: CLUSTER, match: {proxy: {proxyVersion: '('}}, patch: {operation: REMOVE}}"),
            "IST0106",
            "match.proxy.proxyVersion",
        ),
        (
            patches("{applyTo: CLUSTER, match: {cluster: {service: none}}, patch: {operation: REMOVE}}"),
            "FM0001",
            "match.cluster",
        ),
        (
            patches(
                "{applyTo: HTTP_ROUTE, match: {routeConfiguration: {vhost: {route: {action: ODD}}}}, patch: {operation: REMOVE}}",
            ),
            "IST0106",
            "ODD",
        ),
        (patches("{applyTo: ROUTE_CONFIGURATION, patch: {operation: REMOVE}}"), "IST0106", "REMOVE is not possible"),
        (
            with(
                "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g}], configPatches: [{applyTo: CLUSTER, match: {context: GATEWAY}, patch: {operation: MERGE, value: {connect_timeout: 1s}}}]}",
            ),
            "",
            "",
        ),
        (
            with("{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: none}], configPatches: []}"),
            "IST0101",
            "there is no Gateway demo/none",
        ),
        (
            with(
                "{targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: none}], configPatches: []}",
            ),
            "IST0101",
            "there is no GatewayClass \"none\"",
        ),
        (
            with(
                "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g, namespace: other}], configPatches: []}",
            ),
            "FM0008",
            "another namespace",
        ),
        (with("{targetRefs: [{group: '', kind: Service, name: myapp}], configPatches: []}"), "FM0008", "a Service"),
    ];
    for (yaml, code, says) in cases {
        let found = findings(&yaml);
        let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
        if code.is_empty() {
            assert!(found.is_empty(), "{yaml}: {shown:?}");
        } else {
            assert!(found.len() == 1 && found[0].code == code && found[0].message.contains(says), "{says}: {shown:?}");
        }
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
fn an_expression_that_no_request_comes_to_is_named() {
    let backend = "backendRefs: [{name: myapp, port: 80}]";
    let expression = format!("{{matches: [{{path: {{type: RegularExpression, value: '/v[0-9]+/.*'}}}}], {backend}}}");
    for (other, expected) in [
        (format!("{{{backend}}}"), &["FM0012"][..]),
        (format!("{{matches: [{{path: {{type: PathPrefix, value: /}}}}], {backend}}}"), &["FM0012"]),
        (format!("{{matches: [{{path: {{type: PathPrefix, value: /}}, method: PUT}}], {backend}}}"), &[]),
        (format!("{{matches: [{{path: {{type: RegularExpression, value: '/.*'}}}}], {backend}}}"), &[]),
        (format!("{{matches: [{{path: {{type: PathPrefix, value: /v}}}}], {backend}}}"), &[]),
    ] {
        let spec = format!("{{parentRefs: [{{name: g}}], rules: [{expression}, {other}]}}");
        assert_eq!(codes(&route(&spec)), expected, "{other}");
    }
}

#[test]
fn a_gateway_is_judged_by_its_class_its_fields_and_its_listeners() {
    let gateway = |class: &str, listener: &str, more: &str| {
        format!(
            "{MESH}---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: h}}\nspec: {{gatewayClassName: {class}, listeners: [{{name: x, {listener}}}]{more}}}\n"
        )
    };
    let http = "port: 80, protocol: HTTP";
    let cases = [
        (gateway("istio", http, ""), "", ""),
        (gateway("none", http, ""), "IST0101", "there is no GatewayClass \"none\""),
        (gateway("istio", "port: 53, protocol: UDP", ""), "FM0009", "UnsupportedProtocol"),
        (
            gateway("istio", "port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: none}]}", ""),
            "FM0009",
            "InvalidCertificateRef",
        ),
        (gateway("istio", http, ", addresses: [{type: a.b/odd, value: x}]"), "FM0008", "UnsupportedAddress"),
        (
            gateway("istio", http, ", tls: {backend: {clientCertificateRef: {name: c}}}"),
            "FM0008",
            "spec.tls.backend.clientCertificateRef",
        ),
        (gateway("istio", http, ", allowedListeners: {namespaces: {from: All}}"), "FM0008", "spec.allowedListeners"),
        (gateway("istio", http, ", defaultScope: All"), "FM0008", "spec.defaultScope"),
        (route("{useDefaultGateways: All, parentRefs: [{name: g}]}"), "FM0008", "spec.useDefaultGateways"),
    ];
    for (yaml, code, says) in cases {
        let found = findings(&yaml);
        let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
        if code.is_empty() {
            assert!(found.is_empty(), "{yaml}: {shown:?}");
        } else {
            assert!(found.len() == 1 && found[0].code == code && found[0].message.contains(says), "{says}: {shown:?}");
        }
    }
}

#[test]
fn ports_of_services_are_judged_by_their_protocol() {
    let cases: [(&str, &[&str]); 11] = [
        ("{name: http-web, port: 1}", &[]),
        ("{name: db, port: 3306}", &[]),
        ("{port: 27017}", &[]),
        ("{name: db, port: 3307}", &["IST0118"]),
        ("{name: db, port: 3307, protocol: UDP}", &[]),
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
fn what_mesh_config_asks_for_in_vain_is_named_field_by_field() {
    let map = |mesh: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata: {{mesh: '{mesh}'}}\n"
        )
    };
    for (mesh, fields) in [
        ("{enableTracing: true}", &["enableTracing"][..]),
        ("{enableTracing: false, accessLogFile: /dev/stdout, defaultServiceExportTo: [\".\"]}", &[]),
        ("{defaultConfig: {proxyHeaders: {server: {disabled: true}}}}", &["defaultConfig.proxyHeaders"]),
        ("{defaultConfig: {gatewayTopology: {proxyProtocol: {}}}}", &["defaultConfig.gatewayTopology.proxyProtocol"]),
        ("{defaultConfig: {gatewayTopology: {forwardClientCertDetails: SANITIZE, numTrustedProxies: 1}}}", &[]),
        ("{defaultHttpRetryPolicy: {attempts: 1, backoff: 1s}}", &["defaultHttpRetryPolicy.backoff"]),
        ("{outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}}", &["outboundTrafficPolicy.mode"]),
        ("{tcpKeepalive: {time: 10s}}", &["tcpKeepalive"]),
    ] {
        let found: Vec<_> = findings(&map(mesh)).into_iter().map(|finding| finding.message).collect();
        assert_eq!(found.len(), fields.len(), "{mesh} {found:?}");
        assert!(found.iter().zip(fields).all(|(found, field)| found.contains(field)), "{mesh} {found:?}");
    }
}

#[test]
fn a_suppressed_code_is_not_reported() {
    let yaml = "apiVersion: v1\nkind: Service\nmetadata: {name: s, annotations: {galley.istio.io/analyze-suppress: IST0118}}\nspec: {ports: [{name: web, port: 8080}]}\n";
    assert!(codes(yaml).is_empty());
}
