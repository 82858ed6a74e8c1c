//! What status calls refused is what translation answers with an error, for each kind of rule.
use super::*;
use crate::index::{Key, Kind as ObjectKind};
use ferromesh_api::gateway_api::HttpRouteRule;
use ferromesh_api::gateway_api::grpc_route::GrpcRouteRule;

const BACKENDS: &str = r#""backendRefs": [{"name": "myapp-v1", "port": 80}]"#;

/// Whether a request can reach a backend by these routes.
fn reaches(routes: Vec<http_route::Ranked>) -> bool {
    use ferromesh_proto::envoy::config::route::v3::route::Action;
    routes.iter().any(|ranked| matches!(ranked.route.action, Some(Action::Route(_) | Action::Redirect(_))))
}

#[test]
fn status_and_translation_refuse_the_same_http_rules() {
    let view = view(&tutorial());
    let key = Key::new("demo", "r");
    // The rule, how many things in it are not supported, and whether it is refused whole.
    let cases = [
        (r#""filters": []"#, 0, false),
        (r#""matches": [{"path": {"type": "Odd", "value": "/"}}]"#, 1, true),
        (r#""matches": [{"path": {"type": "RegularExpression", "value": "("}}, {"path": {"value": "/a"}}]"#, 1, false),
        (r#""matches": [{"headers": [{"type": "Odd", "name": "a", "value": "b"}]}]"#, 1, true),
        (r#""matches": [{"path": {"value": "no-slash"}}]"#, 1, true),
        (r#""filters": [{"type": "CORS"}]"#, 1, true),
        (r#""filters": [{"type": "RequestRedirect", "requestRedirect": {"statusCode": 302}}]"#, 0, false),
        (r#""filters": [{"type": "RequestRedirect", "requestRedirect": {"statusCode": 399}}]"#, 1, true),
        (
            r#""filters": [{"type": "RequestRedirect", "requestRedirect": {}}, {"type": "URLRewrite", "urlRewrite": {}}]"#,
            1,
            true,
        ),
        (r#""filters": [{"type": "ExternalAuth", "externalAuth": {}}]"#, 1, true),
        (r#""filters": [{"type": "ExtensionRef", "extensionRef": {"group": "a", "kind": "B", "name": "c"}}]"#, 1, true),
        (r#""sessionPersistence": {}"#, 1, false),
    ];
    for (json, count, refused) in cases {
        let rule: HttpRouteRule = serde_json::from_str(&format!("{{{json}, {BACKENDS}}}")).expect(json);
        let place = http_route::Place {
            view: &view,
            kind: ObjectKind::HttpRoute,
            key: &key,
            rule: 0,
            port: 80,
            tls: false,
            callers: crate::index::references::Callers::Gateway,
        };
        let found = http_route::unsupported(&rule);
        assert_eq!((found.len(), http_route::refused(&rule)), (count, refused), "{json}: {found:?}");
        assert_eq!(reaches(http_route::rule(&place, &rule)), !refused, "{json}");
    }
}

#[test]
fn status_and_translation_refuse_the_same_grpc_rules() {
    let view = view(&tutorial());
    let key = Key::new("demo", "r");
    let cases = [
        (r#""filters": []"#, 0, false),
        (r#""matches": [{"method": {"type": "Odd", "service": "a"}}]"#, 1, true),
        (
            r#""matches": [{"method": {"type": "RegularExpression", "service": "("}}, {"method": {"service": "a"}}]"#,
            1,
            false,
        ),
        (r#""matches": [{"method": {"service": "a/b"}}]"#, 1, true),
        (r#""filters": [{"type": "RequestMirror"}]"#, 1, true),
        (r#""filters": [{"type": "ExtensionRef", "extensionRef": {"group": "a", "kind": "B", "name": "c"}}]"#, 1, true),
        (r#""filters": [{"type": "URLRewrite"}]"#, 1, true),
    ];
    for (json, count, refused) in cases {
        let rule: GrpcRouteRule = serde_json::from_str(&format!("{{{json}, {BACKENDS}}}")).expect(json);
        let place = http_route::Place {
            view: &view,
            kind: ObjectKind::GrpcRoute,
            key: &key,
            rule: 0,
            port: 80,
            tls: false,
            callers: crate::index::references::Callers::Gateway,
        };
        let found = grpc_route::unsupported(&rule);
        assert_eq!((found.len(), grpc_route::refused(&rule)), (count, refused), "{json}: {found:?}");
        assert_eq!(reaches(grpc_route::rule(&place, &rule)), !refused, "{json}");
    }
}

#[test]
fn what_became_of_patches_is_known_for_each_filter_of_a_view() {
    let yaml = "\n---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: f}\nspec:
  workloadSelector: {labels: {app: myapp}}
  configPatches:
  - applyTo: CLUSTER
    match: {context: SIDECAR_OUTBOUND, cluster: {service: otherapp.demo.svc.cluster.local}}
    patch: {operation: MERGE, value: {connect_timeout: 3s}}
  - applyTo: CLUSTER
    match: {cluster: {name: none}}
    patch: {operation: MERGE, value: {connect_timeout: 3s}}
  - applyTo: CLUSTER
    match: {context: SIDECAR_OUTBOUND}
    patch: {operation: MERGE, value: {no_such_field: 1}}
  - applyTo: BOOTSTRAP
    patch: {operation: MERGE, value: {stats_flush_interval: 7s}}
  - applyTo: EXTENSION_CONFIG
    patch:
      operation: ADD
      value: {name: mine, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
";
    let view = view(&(tutorial() + yaml));
    let facts = Translator::new().facts(&view);
    let outcomes = &facts.patches[&Key::new("demo", "f")];
    let words: Vec<_> = outcomes.iter().map(crate::envoyfilter::PatchOutcome::word).collect();
    assert_eq!(words, ["applied", "no_match", "failed", "applied", "applied"], "{outcomes:?}");
    assert!(outcomes[1].unmatched.as_ref().is_some_and(|why| why.contains("no cluster fits")), "{outcomes:?}");
    let configs = Translator::new().extension_configs(&view, &sidecar("myapp-v1-0"), &strings(&["mine", "other"]));
    assert_eq!(configs.iter().map(|config| &*config.name).collect::<Vec<_>>(), ["mine"]);
    let mut bootstrap = ferromesh_proto::envoy::config::bootstrap::v3::Bootstrap::default();
    Translator::new().bootstrap(&view, &sidecar("myapp-v1-0"), &mut bootstrap);
    assert_eq!(bootstrap.stats_flush_interval.map(|interval| interval.seconds), Some(7));
    let findings = crate::analyze::analyze(&view, &facts);
    let codes: Vec<_> = findings.iter().map(|finding| finding.code).filter(|code| code.starts_with("FM00")).collect();
    assert!(codes.contains(&"FM0010") && codes.contains(&"FM0001"), "{findings:?}");
}
