//! Each rule with what it lets through and what it names.

use super::*;
use serde_json::{Value, json};

fn object(spec: &Value) -> Value {
    json!({"metadata": {"name": "x"}, "spec": spec})
}

fn http(rule: &Value) -> Vec<String> {
    http_route(&serde_json::from_value(object(&json!({"rules": [rule]}))).expect("it reads"))
}

fn gateway_of(spec: &Value) -> Vec<String> {
    gateway(&serde_json::from_value(object(spec)).expect("it reads"))
}

/// Asserts that exactly one rule is broken, at this path.
fn one(found: &[String], path: &str, written: &Value) {
    let named = found.len() == 1 && found[0].starts_with(path) && found[0][path.len()..].starts_with(": ");
    assert!(named, "{written}: want one at {path}, found {found:?}");
}

#[test]
fn a_rule_of_an_http_route_that_keeps_every_rule_is_let_through() {
    let good = [
        json!({}),
        json!({"timeouts": {"request": "1s", "backendRequest": "1s"}}),
        json!({"timeouts": {"request": "0s", "backendRequest": "1s"}}),
        json!({"matches": [{"path": {"type": "Exact", "value": "/a%20b/~c"}, "method": "GET",
            "headers": [{"name": "X-A", "value": "b c"}], "queryParams": [{"name": "q", "value": "v w"}]}]}),
        json!({"matches": [{"path": {"type": "RegularExpression", "value": "/a//[b]+"}}]}),
        json!({"filters": [{"type": "URLRewrite", "urlRewrite": {"hostname": "a.b", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": ""}}}]}),
        json!({"filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "a", "port": 1}, "fraction": {"numerator": 1, "denominator": 3}}}]}),
        json!({"filters": [{"type": "CORS", "cors": {"allowOrigins": ["https://*.a.com:8080", "http://a"], "allowMethods": ["*"], "exposeHeaders": ["*", "x"]}}]}),
        json!({"filters": [{"type": "A later version's"}]}),
        json!({"backendRefs": [{"name": "a", "port": 1, "weight": 1_000_000}, {"group": "a.b", "kind": "C", "name": "d"}]}),
        json!({"filters": [{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [{"name": "a", "value": "b"}], "remove": ["c"]}}]}),
    ];
    for rule in good {
        assert_eq!(http(&rule), Vec::<String>::new(), "{rule}");
    }
}

#[test]
fn what_breaks_a_rule_in_an_http_route_is_named_with_its_path() {
    let filter = |filter: Value| json!({"filters": [filter]});
    let matching = |matching: Value| json!({"matches": [matching]});
    let modify =
        |header: Value| filter(json!({"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [header]}}));
    let path = |value: &str| matching(json!({"path": {"type": "PathPrefix", "value": value}}));
    let prefix = json!({"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/b"}}});
    let redirect = |redirect: Value| filter(json!({"type": "RequestRedirect", "requestRedirect": redirect}));
    let mirror = |more: Value| {
        let mut mirror = json!({"backendRef": {"name": "a", "port": 1}});
        mirror.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
        filter(json!({"type": "RequestMirror", "requestMirror": mirror}))
    };
    let cors = |cors: Value| filter(json!({"type": "CORS", "cors": cors}));
    let set = "filters[0].requestHeaderModifier.set[0]";
    let bad = [
        (json!({"timeouts": {"request": "1s", "backendRequest": "2s"}}), "timeouts.backendRequest"),
        (json!({"filters": [prefix, prefix]}), "filters"),
        (json!({"matches": [{"path": {"type": "Exact", "value": "/a"}}], "filters": [prefix]}), "filters"),
        (json!({"matches": [{}, {}], "filters": [prefix]}), "filters"),
        (mirror(json!({"percent": 1, "fraction": {"numerator": 1}})), "filters[0].requestMirror"),
        (mirror(json!({"percent": 101})), "filters[0].requestMirror.percent"),
        (mirror(json!({"fraction": {"numerator": 101}})), "filters[0].requestMirror.fraction.numerator"),
        (mirror(json!({"backendRef": {"name": "a"}})), "filters[0].requestMirror.backendRef.port"),
        (matching(json!({"method": "F O"})), "matches[0].method"),
        (matching(json!({"headers": [{"name": ":path", "value": "/"}]})), "matches[0].headers[0].name"),
        (matching(json!({"headers": [{"name": "a", "value": ""}]})), "matches[0].headers[0].value"),
        (
            matching(json!({"headers": [{"name": "a", "value": "b"}, {"name": "a", "value": "c"}]})),
            "matches[0].headers",
        ),
        (matching(json!({"queryParams": [{"name": "a b", "value": "c"}]})), "matches[0].queryParams[0].name"),
        (path("a"), "matches[0].path.value"),
        (path("/a//b"), "matches[0].path.value"),
        (path("/a/.."), "matches[0].path.value"),
        (path("/a%2fb"), "matches[0].path.value"),
        (path("/a\n"), "matches[0].path.value"),
        (path("/a?b"), "matches[0].path.value"),
        (modify(json!({"name": "a b", "value": "c"})), &format!("{set}.name")),
        (modify(json!({"name": ":path", "value": "c"})), &format!("{set}.name")),
        (modify(json!({"name": "a", "value": "b\nc"})), &format!("{set}.value")),
        (modify(json!({"name": "a", "value": "b "})), &format!("{set}.value")),
        (redirect(json!({"port": 0})), "filters[0].requestRedirect.port"),
        (redirect(json!({"hostname": "a\r\nb"})), "filters[0].requestRedirect.hostname"),
        (redirect(json!({"hostname": "*.a"})), "filters[0].requestRedirect.hostname"),
        (redirect(json!({"scheme": "ftp"})), "filters[0].requestRedirect.scheme"),
        (redirect(json!({"path": {"type": "ReplaceFullPath"}})), "filters[0].requestRedirect.path.replaceFullPath"),
        (cors(json!({"allowOrigins": ["*", "http://a"]})), "filters[0].cors.allowOrigins"),
        (cors(json!({"allowOrigins": ["a"]})), "filters[0].cors.allowOrigins"),
        (cors(json!({"allowMethods": ["get"]})), "filters[0].cors.allowMethods"),
        (cors(json!({"maxAge": 0})), "filters[0].cors.maxAge"),
        (filter(json!({"type": "CORS"})), "filters[0].cors"),
        (filter(json!({"type": "Odd", "cors": {}})), "filters[0].cors"),
        (json!({"backendRefs": [{"name": "a"}]}), "backendRefs[0].port"),
        (json!({"backendRefs": [{"name": "a", "port": 1, "weight": 1_000_001}]}), "backendRefs[0].weight"),
        (json!({"retry": {"codes": [200]}}), "retry.codes"),
        (json!({"retry": {"attempts": 0}}), "retry.attempts"),
    ];
    for (rule, path) in bad {
        one(&http(&rule), &format!("spec.rules[0].{path}"), &rule);
    }
    let both = json!({"filters": [{"type": "RequestRedirect", "requestRedirect": {}}], "backendRefs": [{"name": "a", "port": 1}]});
    one(&http(&both), "spec.rules[0]", &both);
}

#[test]
fn what_routes_of_every_kind_must_keep_is_named_in_each() {
    let good = json!({"hostnames": ["*.a.com", "a.com"], "rules": [{"name": "a"}, {"name": "b"}, {}],
        "parentRefs": [{"name": "g", "sectionName": "a"}, {"name": "g", "sectionName": "b"}, {"name": "h"}]});
    let bad = [
        (json!({"hostnames": ["A.com"], "rules": [{}]}), "spec.hostnames[0]"),
        (json!({"hostnames": ["a.*.com"], "rules": [{}]}), "spec.hostnames[0]"),
        (json!({"hostnames": ["a.com:80"], "rules": [{}]}), "spec.hostnames[0]"),
        (json!({"rules": [{"name": "a"}, {"name": "a"}]}), "spec.rules: name"),
        (json!({"parentRefs": [{"name": "g"}, {"name": "g"}], "rules": [{}]}), "spec.parentRefs[1]"),
        (json!({"parentRefs": [{"name": "g", "port": 0}], "rules": [{}]}), "spec.parentRefs[0].port"),
        (json!({"rules": vec![json!({}); 17]}), "spec.rules"),
        (json!({"rules": [{"matches": vec![json!({}); 65]}]}), "spec.rules[0].matches"),
        (json!({"rules": vec![json!({"matches": vec![json!({}); 64]}); 3]}), "spec.rules: matches of all rules"),
    ];
    let http = |spec: &Value| http_route(&serde_json::from_value(object(spec)).expect("it reads"));
    let grpc = |spec: &Value| grpc_route(&serde_json::from_value(object(spec)).expect("it reads"));
    assert_eq!((http(&good), grpc(&good)), (Vec::new(), Vec::new()));
    for (spec, path) in bad {
        one(&http(&spec), path, &spec);
        one(&grpc(&spec), path, &spec);
    }
    one(&http(&json!({"rules": []})), "spec.rules", &json!("no rule"));
}

#[test]
fn a_method_of_a_grpc_route_is_named_as_protobuf_names_it() {
    let method = |method: Value| {
        grpc_route(
            &serde_json::from_value(object(&json!({"rules": [{"matches": [{"method": method}]}]}))).expect("it reads"),
        )
    };
    for good in [
        json!({"service": "a.B_1"}),
        json!({"method": "C"}),
        json!({"type": "RegularExpression", "service": "[a-z.]+"}),
    ] {
        assert_eq!(method(good.clone()), Vec::<String>::new(), "{good}");
    }
    let at = "spec.rules[0].matches[0].method";
    for (bad, path) in [
        (json!({}), at.to_owned()),
        (json!({"service": "a/B"}), format!("{at}.service")),
        (json!({"service": "a..B"}), format!("{at}.service")),
        (json!({"method": "C D"}), format!("{at}.method")),
    ] {
        one(&method(bad.clone()), &path, &bad);
    }
}

#[test]
fn what_breaks_a_rule_in_a_gateway_is_named_with_its_path() {
    let listener = json!({"name": "x", "port": 80, "protocol": "HTTP"});
    let with = |more: Value| {
        let mut listener = listener.clone();
        listener.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
        json!({"gatewayClassName": "istio", "listeners": [listener]})
    };
    let beside = |more: Value| {
        let mut spec = json!({"gatewayClassName": "istio", "listeners": [listener]});
        spec.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
        spec
    };
    let validation = |references: Value| json!({"validation": {"caCertificateRefs": references}});
    let map = json!([{"group": "", "kind": "ConfigMap", "name": "a"}]);
    for good in [
        with(json!({"hostname": "*.a.com"})),
        with(json!({"protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "c"}]}})),
        with(json!({"protocol": "TLS", "tls": {"mode": "Passthrough"}})),
        with(json!({"protocol": "example.com/odd"})),
        beside(
            json!({"addresses": [{"value": "1.2.3.4"}, {"type": "Hostname", "value": "a.com"}, {"type": "a.b/c", "value": "?"}]}),
        ),
        beside(json!({"infrastructure": {"labels": {"a.com/b": ""}, "annotations": {"c": "any text"}}})),
        beside(json!({"tls": {"frontend": {"default": validation(map.clone()), "perPort": [{"port": 1, "tls": {}}]}}})),
    ] {
        assert_eq!(gateway_of(&good), Vec::<String>::new(), "{good}");
    }
    for (bad, path) in [
        (json!({"gatewayClassName": "", "listeners": [listener]}), "spec.gatewayClassName"),
        (json!({"gatewayClassName": "a", "listeners": []}), "spec.listeners"),
        (json!({"gatewayClassName": "a", "listeners": [listener, listener]}), "spec.listeners: name"),
        (with(json!({"name": "X"})), "spec.listeners[0].name"),
        (with(json!({"port": 0})), "spec.listeners[0].port"),
        (with(json!({"hostname": "a_b"})), "spec.listeners[0].hostname"),
        (with(json!({"protocol": "TCP", "hostname": "a.com"})), "spec.listeners[0].hostname"),
        (with(json!({"tls": {"options": {"a": "b"}}})), "spec.listeners[0].tls"),
        (with(json!({"protocol": "HTTPS", "tls": {}})), "spec.listeners[0].tls"),
        (with(json!({"protocol": "TLS", "tls": {"certificateRefs": [{"name": "c"}]}})), "spec.listeners[0].tls.mode"),
        (beside(json!({"addresses": [{"type": "Hostname", "value": "a b"}]})), "spec.addresses[0].value"),
        (beside(json!({"addresses": [{"value": "1.1.1.1"}, {"value": "1.1.1.1"}]})), "spec.addresses[1].value"),
        (beside(json!({"infrastructure": {"labels": {"a b": "c"}}})), "spec.infrastructure.labels"),
        (beside(json!({"infrastructure": {"labels": {"a": "b c"}}})), "spec.infrastructure.labels"),
        (
            beside(json!({"tls": {"frontend": {"default": validation(json!([]))}}})),
            "spec.tls.frontend.default.validation.caCertificateRefs",
        ),
        (
            beside(
                json!({"tls": {"frontend": {"default": {}, "perPort": [{"port": 1, "tls": {}}, {"port": 1, "tls": {}}]}}}),
            ),
            "spec.tls.frontend.perPort: port",
        ),
    ] {
        one(&gateway_of(&bad), path, &bad);
    }
}

#[test]
fn grants_and_classes_are_judged_too() {
    let grant = |spec: Value| reference_grant(&serde_json::from_value(object(&spec)).expect("it reads"));
    let (from, to) =
        (json!([{"group": "a.b", "kind": "C", "namespace": "n"}]), json!([{"group": "", "kind": "Secret"}]));
    assert_eq!(grant(json!({"from": from, "to": to})), Vec::<String>::new());
    one(&grant(json!({"from": [], "to": to})), "spec.from", &json!("no from"));
    let capital = json!([{"group": "a.b", "kind": "C", "namespace": "N"}]);
    one(&grant(json!({"from": capital, "to": to})), "spec.from[0].namespace", &json!("N"));
    let class = |name: &str| {
        gateway_class(&serde_json::from_value(object(&json!({"controllerName": name}))).expect("it reads"))
    };
    assert_eq!(class("istio.io/gateway-controller"), Vec::<String>::new());
    one(&class("istio"), "spec.controllerName", &json!("istio"));
}
