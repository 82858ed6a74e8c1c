use std::sync::Arc;

use ferromesh_proto::json;
use http::{HeaderMap, Method, Version};

use crate::context::{Context, Local};
use crate::http::filters::decode_route;
use crate::message::RequestHead;
use crate::route::{MatchInput, RouteConfiguration};

/// What decoding needs, with nothing in it.
pub fn context() -> Context {
    Context::new(Local::default())
}

/// A decoded table.
pub fn table(yaml: &str) -> Arc<RouteConfiguration> {
    let message: ferromesh_proto::envoy::config::route::v3::RouteConfiguration =
        json::from_yaml(yaml).expect("valid yaml");
    crate::supported::check(&ferromesh_proto::Any::pack(&message)).expect("supported");
    Arc::new(RouteConfiguration::decode(message, &|any| decode_route(any, &context())).expect("valid table"))
}

/// A GET request.
pub fn head(authority: &str, path: &str) -> RequestHead {
    RequestHead {
        method: Method::GET,
        scheme: "http".into(),
        authority: authority.into(),
        path: path.into(),
        version: Version::HTTP_11,
        headers: HeaderMap::new(),
        upgrade: None,
        names: None,
    }
}

fn name_of(table: &Arc<RouteConfiguration>, head: &RequestHead) -> String {
    table.route(&MatchInput::plain(head, 0)).map(|found| found.route().name.to_string()).unwrap_or_default()
}

#[test]
fn the_most_specific_domain_wins() {
    let hosts = ["a.example.com", "*.example.com", "*.a.example.com", "a.*", "a.example.*", "*"];
    let virtual_hosts: String = hosts
        .iter()
        .map(|host| {
            format!("- {{name: \"{host}\", domains: [\"{host}\"], routes: [{{name: \"{host}\", match: {{prefix: /}}, route: {{cluster: x}}}}]}}\n")
        })
        .collect();
    let table = table(&format!("ignore_port_in_host_matching: true\nvirtual_hosts:\n{virtual_hosts}"));
    let cases = [
        ("a.example.com", "a.example.com"),
        ("A.Example.COM", "a.example.com"),
        ("a.example.com:8080", "a.example.com"),
        ("b.example.com", "*.example.com"),
        (".example.com", "*"),
        ("x.a.example.com", "*.a.example.com"),
        ("a.org", "a.*"),
        ("a.example.org", "a.example.*"),
        ("other", "*"),
        ("[::1]:80", "*"),
    ];
    for (host, want) in cases {
        assert_eq!(name_of(&table, &head(host, "/")), want, "{host}");
    }
}

#[test]
fn a_port_counts_unless_the_table_ignores_it() {
    let table =
        table("virtual_hosts: [{name: a, domains: [a], routes: [{name: r, match: {prefix: /}, route: {cluster: x}}]}]");
    assert_eq!(name_of(&table, &head("a", "/")), "r");
    assert_eq!(name_of(&table, &head("a:80", "/")), "");
}

#[test]
fn a_domain_given_twice_is_refused_by_its_path() {
    let yaml = "virtual_hosts: [{name: a, domains: [x]}, {name: b, domains: [z, X]}]";
    let message = json::from_yaml(yaml).expect("valid yaml");
    let error = RouteConfiguration::decode(message, &|any| decode_route(any, &context())).err().expect("refused");
    assert_eq!(error.path, "virtual_hosts[1].domains[1]");
}

#[test]
fn many_exact_paths_keep_the_order_of_the_routes() {
    let mut routes = String::from("[{name: regex, match: {safe_regex: {regex: '/p3|/q'}}, route: {cluster: x}}");
    for index in 0..20 {
        routes.push_str(&format!(", {{name: p{index}, match: {{path: /p{index}}}, route: {{cluster: x}}}}"));
    }
    routes.push_str(", {name: again, match: {path: /p1}, route: {cluster: x}}, {name: rest, match: {prefix: /}, route: {cluster: x}}]");
    let table = table(&format!("virtual_hosts: [{{name: a, domains: ['*'], routes: {routes}}}]"));
    for (path, want) in [("/p1", "p1"), ("/p19?x=1", "p19"), ("/p3", "regex"), ("/p20", "rest"), ("/q", "regex")] {
        assert_eq!(name_of(&table, &head("h", path)), want, "{path}");
    }
}

#[test]
fn two_weights_split_by_them() {
    let table = table(
        "virtual_hosts: [{name: a, domains: ['*'], routes: [{match: {prefix: /}, route: {weighted_clusters: \
         {clusters: [{name: one, weight: 1}, {name: none, weight: 0}, {name: three, weight: 3}]}}}]}]",
    );
    let head = head("h", "/");
    let mut counts = [0, 0];
    for random in 0..400 {
        let route = table.route(&MatchInput::plain(&head, random)).expect("a route");
        match route.cluster_name(&head).expect("a cluster").as_str() {
            "one" => counts[0] += 1,
            "three" => counts[1] += 1,
            other => panic!("{other} has no weight"),
        }
    }
    assert_eq!(counts, [100, 300]);
}

#[test]
fn plain_text_is_redirected_where_tls_is_required() {
    let table = table(
        "virtual_hosts: [{name: a, domains: ['*'], require_tls: ALL, routes: [{name: r, match: {prefix: /}, route: {cluster: x}}]}]",
    );
    let mut head = head("h", "/x");
    let route = table.route(&MatchInput::plain(&head, 0)).expect("a route");
    let crate::route::Action::Redirect(redirect) = &route.route().action else { panic!("a redirect") };
    assert_eq!(crate::route::rewrite::redirect_location(redirect, route.route(), &head), "https://h/x");
    head.scheme = "https".into();
    assert_eq!(name_of(&table, &head), "r");
}
