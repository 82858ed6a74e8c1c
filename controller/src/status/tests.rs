//! Status: conditions as Gateway API v1 defines them.

use super::{Facts, PatchOutcome, Statuses, compute};
use crate::index::{Key, View};
use crate::translate::http_route;
use ferromesh_api::gateway_api::HttpRouteRule;
use ferromesh_api::{Condition, Time};

mod clients;
mod parents;

fn view(yaml: &str) -> View {
    let parsed = crate::source::parse::documents(yaml);
    assert!(!parsed.has_errors(), "{:?}", parsed.problems);
    View::of(parsed.objects.into_iter().map(|found| found.object))
}

fn at(second: i64) -> Time {
    Time(k8s_openapi::jiff::Timestamp::from_second(second).expect("in range"))
}

fn of(yaml: &str) -> Statuses {
    compute(&view(yaml), &Facts::default(), &at(1), &Statuses::default())
}

/// `Type=Status:Reason` of each.
fn short(conditions: &[Condition]) -> Vec<String> {
    conditions.iter().map(|c| format!("{}={}:{}", c.type_, c.status, c.reason)).collect()
}

const BASE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: istio, generation: 4}
spec: {controllerName: istio.io/gateway-controller}
---
apiVersion: v1
kind: Service
metadata: {name: s, namespace: n}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: m}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: g-1, namespace: n, labels: {gateway.networking.k8s.io/gateway-name: g}}
spec: {containers: []}
status: {podIP: 127.0.0.1, conditions: [{type: Ready, status: \"True\"}]}
";

fn gateway(listeners: &str) -> String {
    format!(
        "{BASE}---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: g, namespace: n, generation: 7}}\nspec:\n  gatewayClassName: istio\n  listeners: {listeners}\n"
    )
}

fn route(rules: &str) -> String {
    let http = "[{name: http, port: 80, protocol: HTTP}]";
    format!(
        "{}---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r, namespace: n, generation: 3}}\nspec:\n  parentRefs: [{{name: g}}]\n  rules: {rules}\n",
        gateway(http)
    )
}

#[test]
fn a_class_and_a_gateway_with_a_route_are_accepted_and_programmed() {
    let statuses = of(&route("[{backendRefs: [{name: s, port: 80}]}]"));
    let class = &statuses.gateway_classes[&Key::new("", "istio")];
    assert_eq!(short(&class.conditions), ["Accepted=True:Accepted", "SupportedVersion=True:SupportedVersion"]);
    assert!(class.conditions.iter().all(|condition| condition.observed_generation == Some(4)));
    let gateway = &statuses.gateways[&Key::new("n", "g")];
    let all = ["Accepted=True:Accepted", "Programmed=True:Programmed", "ResolvedRefs=True:ResolvedRefs"];
    assert_eq!(short(&gateway.conditions), all);
    assert_eq!(gateway.addresses[0].value.as_deref(), Some("127.0.0.1"));
    let listener = &gateway.listeners[0];
    assert_eq!(short(&listener.conditions), [&all[..], &["Conflicted=False:NoConflicts"]].concat());
    assert_eq!((listener.attached_routes, listener.supported_kinds.len()), (1, 2));
    assert!(listener.conditions.iter().all(|condition| condition.observed_generation == Some(7)));
    let parent = &statuses.http_routes[&Key::new("n", "r")].parents[0];
    assert_eq!(parent.controller_name, "istio.io/gateway-controller");
    assert_eq!(short(&parent.conditions), ["Accepted=True:Accepted", "ResolvedRefs=True:ResolvedRefs"]);
}

#[test]
fn listeners_say_what_is_wrong_with_them() {
    let secret = "{name: x, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: none}]}}";
    let far = "{name: x, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c, namespace: m}]}}";
    let same = "{name: x, port: 80, protocol: HTTP}, {name: y, port: 80, protocol: HTTP}";
    let clash = "{name: x, port: 80, protocol: HTTP}, {name: y, port: 80, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}";
    let cases = [
        (
            secret,
            "Accepted=False:ListenersNotValid",
            [
                "Accepted=True:Accepted",
                "Programmed=False:Invalid",
                "ResolvedRefs=False:InvalidCertificateRef",
                "Conflicted=False:NoConflicts",
            ],
        ),
        (
            far,
            "Accepted=False:ListenersNotValid",
            [
                "Accepted=True:Accepted",
                "Programmed=False:Invalid",
                "ResolvedRefs=False:RefNotPermitted",
                "Conflicted=False:NoConflicts",
            ],
        ),
        (
            "{name: x, port: 80, protocol: UDP}",
            "Accepted=False:ListenersNotValid",
            [
                "Accepted=False:UnsupportedProtocol",
                "Programmed=False:Invalid",
                "ResolvedRefs=True:ResolvedRefs",
                "Conflicted=False:NoConflicts",
            ],
        ),
        (
            same,
            "Accepted=False:ListenersNotValid",
            [
                "Accepted=False:HostnameConflict",
                "Programmed=False:HostnameConflict",
                "ResolvedRefs=True:ResolvedRefs",
                "Conflicted=True:HostnameConflict",
            ],
        ),
        (
            clash,
            "Accepted=False:ListenersNotValid",
            [
                "Accepted=False:ProtocolConflict",
                "Programmed=False:ProtocolConflict",
                "ResolvedRefs=True:ResolvedRefs",
                "Conflicted=True:ProtocolConflict",
            ],
        ),
        (
            "{name: x, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: OddRoute}, {kind: HTTPRoute}]}}",
            "Accepted=True:Accepted",
            [
                "Accepted=True:Accepted",
                "Programmed=True:Programmed",
                "ResolvedRefs=False:InvalidRouteKinds",
                "Conflicted=False:NoConflicts",
            ],
        ),
    ];
    for (listeners, accepted, conditions) in cases {
        let statuses = of(&gateway(&format!("[{listeners}]")));
        let gateway = &statuses.gateways[&Key::new("n", "g")];
        assert_eq!(short(&gateway.conditions)[0], accepted, "{listeners}");
        assert_eq!(short(&gateway.listeners[0].conditions), conditions, "{listeners}");
    }
}

#[test]
fn one_bad_listener_of_two_leaves_the_gateway_accepted() {
    let statuses = of(&gateway("[{name: x, port: 80, protocol: HTTP}, {name: y, port: 81, protocol: UDP}]"));
    let gateway = &statuses.gateways[&Key::new("n", "g")];
    assert_eq!(short(&gateway.conditions)[..2], ["Accepted=True:ListenersNotValid", "Programmed=True:Programmed"]);
    assert!(gateway.listeners[1].supported_kinds.is_empty());
}

#[test]
fn routes_say_what_does_not_resolve_and_what_is_not_supported() {
    let grant = "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: r, namespace: m}\nspec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: n}], to: [{group: \"\", kind: Service, name: far}]}\n";
    let odd = "{filters: [{type: ExtensionRef, extensionRef: {group: a.b, kind: C, name: d}}]}";
    let ok = "Accepted=True:Accepted";
    let resolved = "ResolvedRefs=True:ResolvedRefs";
    let cases: [(&str, &str, &[&str]); 8] = [
        ("[{backendRefs: [{name: none, port: 80}]}]", "", &[ok, "ResolvedRefs=False:BackendNotFound"]),
        ("[{backendRefs: [{name: s, port: 81}]}]", "", &[ok, "ResolvedRefs=False:BackendNotFound"]),
        ("[{backendRefs: [{name: s, kind: Odd, group: a.b}]}]", "", &[ok, "ResolvedRefs=False:InvalidKind"]),
        ("[{backendRefs: [{name: far, namespace: m, port: 80}]}]", "", &[ok, "ResolvedRefs=False:RefNotPermitted"]),
        ("[{backendRefs: [{name: far, namespace: m, port: 80}]}]", grant, &[ok, resolved]),
        (
            "[{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: none, port: 1}}}]}]",
            "",
            &[ok, "ResolvedRefs=False:BackendNotFound"],
        ),
        (&format!("[{odd}]"), "", &["Accepted=False:UnsupportedValue", resolved]),
        (&format!("[{odd}, {{}}]"), "", &[ok, resolved, "PartiallyInvalid=True:UnsupportedValue"]),
    ];
    for (rules, more, conditions) in cases {
        let statuses = of(&format!("{}{more}", route(rules)));
        assert_eq!(short(&statuses.http_routes[&Key::new("n", "r")].parents[0].conditions), conditions, "{rules}");
    }
}

#[test]
fn nothing_is_said_about_a_parent_that_is_not_ours() {
    let yaml = route("[{}]").replace("istio.io/gateway-controller", "example.com/other");
    let statuses = of(&yaml);
    assert!(statuses.gateways.is_empty() && statuses.gateway_classes.is_empty());
    assert!(statuses.http_routes[&Key::new("n", "r")].parents.is_empty());
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let (good, bad) = (view(&route("[{}]")), view(&route("[{backendRefs: [{name: none, port: 80}]}]")));
    let first = compute(&good, &Facts::default(), &at(1), &Statuses::default());
    assert_eq!(compute(&good, &Facts::default(), &at(2), &first), first);
    let second = compute(&bad, &Facts::default(), &at(3), &first);
    let conditions = &second.http_routes[&Key::new("n", "r")].parents[0].conditions;
    let times: Vec<_> = conditions.iter().map(|condition| condition.last_transition_time.clone()).collect();
    assert_eq!(times, [at(1), at(3)], "Accepted stays, ResolvedRefs turned");
}

#[test]
fn an_envoy_filter_says_which_patch_matched_nothing() {
    let yaml = "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: f, namespace: n}\nspec: {configPatches: [{applyTo: CLUSTER, patch: {operation: REMOVE}}, {applyTo: ODD, patch: {operation: ADD}}]}\n";
    let key = Key::new("n", "f");
    let outcomes = vec![PatchOutcome { matched: 1, ..PatchOutcome::default() }, PatchOutcome::default()];
    let facts = Facts { patches: [(key.clone(), outcomes)].into(), ..Facts::default() };
    let statuses = compute(&view(yaml), &facts, &at(1), &Statuses::default());
    let conditions = &statuses.envoy_filters[&key].conditions;
    assert_eq!(
        short(conditions),
        ["Accepted=False:InvalidPatch", "PatchesMatched=False:NoMatch", "Programmed=True:Programmed"]
    );
    assert!(conditions[0].message.contains("configPatches[1]: applyTo \"ODD\""), "{}", conditions[0].message);
    assert!(conditions[1].message.contains("configPatches[1]"), "{}", conditions[1].message);
}

#[test]
fn what_a_rule_asks_for_in_vain_is_named() {
    let cases = [
        (r#"{"matches": [{"path": {"type": "Odd", "value": "/"}}]}"#, "path.type \"Odd\""),
        (r#"{"matches": [{"headers": [{"type": "RegularExpression", "name": "a", "value": "("}]}]}"#, "headers \"a\""),
        (r#"{"filters": [{"type": "CORS"}]}"#, "CORS needs cors"),
        (r#"{"filters": [{"type": "ExternalAuth", "externalAuth": {}}]}"#, "ExternalAuth"),
        (r#"{"backendRefs": [{"name": "a", "filters": [{"type": "URLRewrite", "urlRewrite": {}}]}]}"#, "URLRewrite"),
        (r#"{"sessionPersistence": {}}"#, "sessionPersistence"),
    ];
    for (json, what) in cases {
        let rule: HttpRouteRule = serde_json::from_str(json).expect(json);
        let found = http_route::unsupported(&rule);
        assert!(found.len() == 1 && found[0].contains(what), "{json} {found:?}");
    }
}
