//! A text that a proxy would reject costs the rule that it stands in, and nothing beside it.
use super::*;
use crate::index::attachment::all_routes;

const GOOD: &str = "{matches: [{path: {type: Exact, value: /good}}], backendRefs: [{name: s, port: 80}]}";

/// A gateway with one route of these rules, read past the schema that an API server would hold them to.
fn with(hostnames: &str, rules: &[&str]) -> View {
    let yaml = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: istio}}\nspec: {{controllerName: \
         istio.io/gateway-controller}}\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: \
         istio-gwapi}}\nspec: {{gatewayClassName: istio, listeners: [{{name: http, port: 80, protocol: HTTP}}]}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: s}}\nspec: {{ports: [{{name: http, port: 80}}]}}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\nspec:\n  parentRefs: [{{name: \
         istio-gwapi}}]\n  hostnames: [{hostnames}]\n  rules: [{}]\n",
        rules.join(", ")
    );
    view(&yaml)
}

fn sent(view: &View) -> Value {
    json(&Translator::new().routes(view, &router(), &strings(&["http.80"])), "http.80")
}

/// The status codes and clusters of the routes, by name of the route.
fn answers(config: &Value) -> Vec<(String, String)> {
    let routes = config["virtual_hosts"].as_array().into_iter().flatten().flat_map(|host| host["routes"].as_array());
    let answer = |route: &Value| match route["direct_response"]["status"].as_u64() {
        Some(status) => status.to_string(),
        None => "served".to_owned(),
    };
    routes.flatten().map(|route| (route["name"].as_str().unwrap_or_default().to_owned(), answer(route))).collect()
}

fn conditions(view: &View) -> Vec<String> {
    let now = ferromesh_api::Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
    let statuses = crate::status::compute(view, &Default::default(), &now, &Default::default());
    let parents = &statuses.http_routes[&crate::index::Key::new("demo", "r")].parents;
    parents[0].conditions.iter().map(|c| format!("{}={}:{} {}", c.type_, c.status, c.reason, c.message)).collect()
}

#[test]
fn a_rule_that_no_proxy_would_take_is_dropped_alone_and_its_condition_says_why() {
    let set = |header: &str| {
        format!("filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{header}]}}}}]")
    };
    let filter = |filter: &str| format!("filters: [{filter}]");
    let dropped = [
        (set(r#"{name: a, value: "b\nc"}"#), "filters[0]"),
        (set(r#"{name: "a b", value: c}"#), "filters[0]"),
        (set(r#"{name: ":path", value: c}"#), "filters[0]"),
        (set(r#"{name: "", value: c}"#), "filters[0]"),
        (filter(r#"{type: ResponseHeaderModifier, responseHeaderModifier: {remove: ["a b"]}}"#), "filters[0]"),
        (filter(r#"{type: URLRewrite, urlRewrite: {hostname: "a\r\nb: c"}}"#), "filters[0]"),
        (filter(r#"{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: "/a b"}}}"#), "filters[0]"),
        (filter(r#"{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: "/a\nb"}}}"#), "filters[0]"),
        (filter(r#"{type: RequestRedirect, requestRedirect: {hostname: "a\r\nb"}}"#), "filters[0]"),
        (filter(r#"{type: RequestRedirect, requestRedirect: {scheme: "a b"}}"#), "filters[0]"),
        (filter(r#"{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: "/a\r\n"}}}"#), "filters[0]"),
        (filter(r#"{type: CORS, cors: {allowOrigins: ["http://a"], allowHeaders: ["a\nb"]}}"#), "filters[0]"),
        (
            r#"backendRefs: [{name: s, port: 80, weight: 4294967295}, {name: s, port: 80, weight: 1}]"#.to_owned(),
            "sum of all weights",
        ),
        (
            r#"backendRefs: [{name: s, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: a, value: "b\rc"}]}}]}]"#
                .to_owned(),
            "backendRefs[0].filters[0]",
        ),
        (r#"matches: [{headers: [{name: ":path", value: /}]}]"#.to_owned(), "matches[0]"),
        (r#"matches: [{headers: [{name: "a b", value: c}]}]"#.to_owned(), "matches[0]"),
        (r#"matches: [{method: "F O"}]"#.to_owned(), "matches[0]"),
        (r#"matches: [{path: {type: PathPrefix, value: "/a\nb"}}]"#.to_owned(), "matches[0]"),
    ];
    for (rule, says) in dropped {
        let view = with("", &[&format!("{{{rule}}}"), GOOD]);
        let answers = answers(&sent(&view));
        let bad: Vec<_> = answers.iter().filter(|(name, _)| name == "demo.r.0").collect();
        assert!(bad.iter().all(|(_, answer)| answer == "500"), "{rule}: {answers:?}");
        let good = answers.iter().filter(|(name, _)| name == "demo.r.1").map(|(_, answer)| answer.as_str());
        assert_eq!(good.collect::<Vec<_>>(), ["served"], "{rule}");
        let conditions = conditions(&view);
        assert!(conditions[0].starts_with("Accepted=True"), "{rule}: {conditions:?}");
        let partly = conditions.last().cloned().unwrap_or_default();
        assert!(partly.starts_with("PartiallyInvalid=True:UnsupportedValue Dropped Rule"), "{rule}: {conditions:?}");
        assert!(partly.contains("rules[0]") && partly.contains(says), "{rule}: {partly}");
    }
}

#[test]
fn unusual_texts_that_proxies_take_are_served() {
    let served = [
        r#"{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: "b\tc %d é"}]}}], backendRefs: [{name: s, port: 80}]}"#,
        r#"{matches: [{queryParams: [{name: "a b", value: "c\nd"}], method: PURGE}], backendRefs: [{name: s, port: 80}]}"#,
        r#"{filters: [{type: URLRewrite, urlRewrite: {hostname: A.example}}], backendRefs: [{name: s, port: 80}]}"#,
    ];
    for rule in served {
        let view = with("a.com", &[rule]);
        assert_eq!(answers(&sent(&view)), [("demo.r.0".to_owned(), "served".to_owned())], "{rule}");
        assert!(conditions(&view).iter().all(|condition| !condition.starts_with("Partially")), "{rule}");
    }
}

#[test]
fn a_hostname_that_is_none_costs_its_route_only() {
    for bad in [r#""a.com\r\n""#, r#""a b""#, r#""a.*.com""#, r#""**.com""#, r#""*foo.com""#, r#""""#] {
        let view = with(&format!("{bad}, b.com"), &[GOOD]);
        assert_eq!(all_routes(&view).len(), 1);
        assert!(answers(&sent(&view)).is_empty(), "{bad}");
        let conditions = conditions(&view);
        assert!(conditions[0].starts_with("Accepted=False:UnsupportedValue spec.hostnames"), "{bad}: {conditions:?}");
    }
}
