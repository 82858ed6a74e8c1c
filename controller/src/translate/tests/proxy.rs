//! Whatever texts a route has, the proxy takes what is made of it: what it would reject has cost its own rule before.
use super::*;
use ferromesh_proto::envoy::config::bootstrap::v3::{Bootstrap, bootstrap::StaticResources};
use ferromesh_proto::envoy::config::listener::v3::Listener;
use proptest::prelude::*;
use serde_json::json;

/// What people write, what they should not, and anything.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}(\\.[a-z]{1,8}){0,2}",
        "/[a-zA-Z0-9/%._~-]{0,12}",
        "[ -~]{0,12}",
        "[\\\\\\[\\](){}?*+|^$.,:a-c0-2<>-]{0,12}",
        "\\PC{0,8}",
        "[\\r\\n\\x00\\t a-b:]{0,6}",
    ]
}

/// A route with each text where it may do harm, one place a rule.
fn route(t: &[String], weights: &[u32]) -> Value {
    let t = |n: usize| t[n % t.len()].clone();
    let backend = json!([{"name": "myapp-v1", "port": 80}]);
    let header = |n: usize| json!({"name": t(n), "value": t(n + 1)});
    let modifier = |n: usize| json!({"set": [header(n)], "add": [header(n + 2)], "remove": [t(n + 4)]});
    let filter = |filter: Value| json!({"filters": [filter], "backendRefs": backend});
    let matching = |matching: Value| json!({"matches": [matching], "backendRefs": backend});
    let path = |kind: &str, value: String| matching(json!({"path": {"type": kind, "value": value}}));
    let full = |n: usize| json!({"type": "ReplaceFullPath", "replaceFullPath": t(n)});
    let prefix = |n: usize| json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": t(n)});
    let cors = json!({"allowOrigins": [t(0), t(1)], "allowMethods": [t(2)], "allowHeaders": [t(3)], "exposeHeaders": [t(4)], "maxAge": 1});
    let rules = json!([
        filter(json!({"type": "RequestHeaderModifier", "requestHeaderModifier": modifier(0)})),
        filter(json!({"type": "ResponseHeaderModifier", "responseHeaderModifier": modifier(3)})),
        {"backendRefs": [{"name": "myapp-v1", "port": 80, "weight": weights[0], "filters": [
            {"type": "RequestHeaderModifier", "requestHeaderModifier": modifier(1)}]},
            {"name": t(5), "port": 80, "weight": weights[1]}]},
        filter(json!({"type": "URLRewrite", "urlRewrite": {"hostname": t(0), "path": full(1)}})),
        filter(json!({"type": "URLRewrite", "urlRewrite": {"path": prefix(2)}})),
        {"matches": [{"path": {"type": "PathPrefix", "value": "/a"}}], "backendRefs": backend,
            "filters": [{"type": "URLRewrite", "urlRewrite": {"path": prefix(3)}}]},
        {"filters": [{"type": "RequestRedirect", "requestRedirect": {"hostname": t(4), "scheme": t(5), "path": full(0)}}]},
        {"filters": [{"type": "RequestRedirect", "requestRedirect": {"path": prefix(1)}}]},
        filter(json!({"type": "CORS", "cors": cors})),
        path("Exact", t(0)), path("PathPrefix", t(1)), path("RegularExpression", t(2)),
        path("Exact", format!("/{}", t(3))), path("PathPrefix", format!("/{}", t(4))),
        matching(json!({"headers": [header(0)], "queryParams": [header(2)], "method": t(4)})),
        matching(json!({"headers": [{"type": "RegularExpression", "name": "a", "value": t(0)}],
            "queryParams": [{"type": "RegularExpression", "name": t(5), "value": t(1)}]})),
    ]);
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "any"},
        "spec": {"parentRefs": [{"name": "istio-gwapi"}], "hostnames": [], "rules": rules}})
}

/// The gateway's listener with its routes in it.
fn listener(view: &View) -> Listener {
    let translator = Translator::new();
    let mut listener: Listener = translator.listeners(view, &router())[0].any.unpack().expect("a listener");
    let mut bootstrap = Bootstrap {
        static_resources: Some(StaticResources { listeners: vec![listener], ..StaticResources::default() }),
        ..Bootstrap::default()
    };
    envoy::inline_routes(view, &router(), &mut bootstrap);
    listener = bootstrap.static_resources.unwrap_or_default().listeners.remove(0);
    listener
}

fn taken(objects: Vec<Value>) -> Result<(), String> {
    let objects = tutorial_documents().into_iter().chain(objects).map(object);
    let view = View::of(objects);
    let bootstrap = Bootstrap {
        static_resources: Some(StaticResources { listeners: vec![listener(&view)], ..StaticResources::default() }),
        ..Bootstrap::default()
    };
    ferromesh_proxy::app::validate(&bootstrap).map_err(|error| error.to_string())
}

fn tutorial_documents() -> Vec<Value> {
    let yaml = tutorial();
    let documents = yaml.split("\n---\n").filter(|text| !text.trim().is_empty());
    documents.map(|text| ferromesh_proto::json::yaml_value(text).expect("the fixture is YAML")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_text_of_a_route_makes_the_proxy_reject_the_routes_beside_it(
        texts in proptest::collection::vec(text(), 6), weights in proptest::collection::vec(any::<u32>(), 2),
    ) {
        let made = taken(vec![route(&texts, &weights)]);
        prop_assert!(made.is_ok(), "{made:?} of {texts:?} {weights:?}");
    }

    #[test]
    fn no_hostname_of_a_route_does(hostname in text()) {
        let mut any = route(&["a".to_owned()], &[1, 1]);
        any["spec"]["hostnames"] = json!([hostname, "b.example"]);
        let made = taken(vec![any]);
        prop_assert!(made.is_ok(), "{made:?} of {hostname:?}");
    }
}
