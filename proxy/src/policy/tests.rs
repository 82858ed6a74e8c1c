use ferromesh_proto::json;
use http::HeaderValue;

use super::{Action, Input, Rules};
use crate::connection::Connection;
use crate::format::tests::connection;
use crate::route::table::tests::head;

fn rules(yaml: &str) -> Rules {
    let message: ferromesh_proto::envoy::config::rbac::v3::Rbac = json::from_yaml(yaml).expect("valid yaml");
    Rules::decode(&message).expect("valid rules")
}

fn permission(rule: &str) -> Rules {
    rules(&format!("{{action: ALLOW, policies: {{p: {{permissions: [{rule}], principals: [{{any: true}}]}}}}}}"))
}

fn principal(id: &str) -> Rules {
    rules(&format!("{{action: ALLOW, policies: {{p: {{permissions: [{{any: true}}], principals: [{id}]}}}}}}"))
}

fn allowed(rules: &Rules, connection: &Connection) -> bool {
    let mut request = head("h", "/admin/x?y=1");
    request.headers.insert("role", HeaderValue::from_static("dev"));
    rules
        .decide(&Input { request: Some(&request), path: Some(request.path_only()), ..Input::of_connection(connection) })
        .allowed
}

#[test]
fn every_permission_decides() {
    let table = [
        ("{any: true}", true),
        ("{any: false}", false),
        ("{header: {name: role, string_match: {exact: dev}}}", true),
        ("{header: {name: ':method', string_match: {exact: POST}}}", false),
        ("{url_path: {path: {prefix: /admin}}}", true),
        ("{url_path: {path: {exact: '/admin/x'}}}", true),
        ("{destination_ip: {address_prefix: 10.0.0.0, prefix_len: 24}}", true),
        ("{destination_port: 8080}", true),
        ("{destination_port: 80}", false),
        ("{destination_port_range: {start: 8000, end: 8080}}", false),
        ("{destination_port_range: {start: 8000, end: 8081}}", true),
        ("{requested_server_name: {suffix: .example}}", true),
        ("{not_rule: {any: true}}", false),
        ("{and_rules: {rules: [{any: true}, {destination_port: 80}]}}", false),
        ("{or_rules: {rules: [{any: false}, {destination_port: 8080}]}}", true),
        ("{metadata: {filter: f, path: [{key: k}], value: {present_match: true}}}", false),
        ("{metadata: {filter: f, path: [{key: k}], value: {present_match: true}, invert: true}}", true),
    ];
    for (rule, want) in table {
        assert_eq!(allowed(&permission(rule), &connection()), want, "{rule}");
    }
}

#[test]
fn every_principal_decides() {
    let table = [
        ("{any: true}", true),
        ("{authenticated: {principal_name: {exact: 'spiffe://a/ns/x/sa/y'}}}", true),
        ("{authenticated: {principal_name: {prefix: 'spiffe://b/'}}}", false),
        ("{authenticated: {}}", true),
        ("{filter_state: {key: io.istio.peer_principal, string_match: {suffix: /sa/y}}}", true),
        ("{direct_remote_ip: {address_prefix: 10.0.0.9, prefix_len: 32}}", true),
        ("{remote_ip: {address_prefix: 10.0.0.1, prefix_len: 32}}", true),
        ("{remote_ip: {address_prefix: 10.0.0.9, prefix_len: 32}}", false),
        ("{source_ip: {address_prefix: 10.0.0.9, prefix_len: 32}}", true),
        ("{header: {name: role, string_match: {exact: ops}}}", false),
        ("{not_id: {any: true}}", false),
        ("{and_ids: {ids: [{any: true}, {any: true}]}}", true),
        ("{or_ids: {ids: [{any: false}]}}", false),
    ];
    for (id, want) in table {
        assert_eq!(allowed(&principal(id), &connection()), want, "{id}");
    }
}

#[test]
fn without_tls_nobody_is_authenticated() {
    let plain = Connection { tls: None, ..connection() };
    for id in ["{authenticated: {}}", "{authenticated: {principal_name: {prefix: ''}}}"] {
        assert!(!allowed(&principal(id), &plain), "{id}");
    }
}

#[test]
fn deny_turns_a_match_around_and_log_lets_pass() {
    let policy = "policies: {p: {permissions: [{url_path: {path: {prefix: /admin}}}], principals: [{any: true}]}}";
    let deny = rules(&format!("{{action: DENY, {policy}}}"));
    assert!(!allowed(&deny, &connection()));
    let log = rules(&format!("{{action: LOG, {policy}}}"));
    assert!(allowed(&log, &connection()));
    assert_eq!(log.action(), Action::Log);
    let tcp = Input::of_connection(&connection()).remote;
    assert_eq!(tcp.port(), 1234);
    assert!(deny.decide(&Input::of_connection(&connection())).allowed, "a TCP connection has no path");
    assert!(!rules("{action: ALLOW}").decide(&Input::of_connection(&connection())).allowed, "no policy allows nothing");
}

#[test]
fn what_is_not_implemented_is_refused_by_its_path() {
    let yaml =
        "{policies: {p: {permissions: [{any: true}, {not_rule: {matcher: {name: m}}}], principals: [{any: true}]}}}";
    let message: ferromesh_proto::envoy::config::rbac::v3::Rbac = json::from_yaml(yaml).expect("valid yaml");
    let error = Rules::decode(&message).expect_err("refused");
    assert_eq!(error.path, "policies[\"p\"].permissions[1].not_rule.matcher");
}
