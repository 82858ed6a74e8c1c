use http::HeaderValue;

use super::{redirect_location, rewrite_host, rewrite_path};
use crate::route::table::tests::{head, table};
use crate::route::{Action, MatchInput, hash};

/// The only route of a table.
fn with_route(route: &str, check: impl FnOnce(&crate::route::Route)) {
    let table = table(&format!("virtual_hosts: [{{name: a, domains: ['*'], routes: [{route}]}}]"));
    let request = head("h", "/old/x");
    check(table.route(&MatchInput::plain(&request, 0)).expect("a route").route());
}

#[test]
fn a_redirect_says_where_by_envoys_rules() {
    let table = [
        ("{https_redirect: true}", "http", "h:80", "https://h/old/x?q=1"),
        ("{https_redirect: true}", "http", "h:8080", "https://h:8080/old/x?q=1"),
        ("{scheme_redirect: http}", "https", "h:443", "http://h/old/x?q=1"),
        ("{host_redirect: new}", "http", "h:80", "http://new/old/x?q=1"),
        ("{port_redirect: 8443}", "http", "h:80", "http://h:8443/old/x?q=1"),
        ("{port_redirect: 8443}", "http", "[::1]:80", "http://[::1]:8443/old/x?q=1"),
        ("{path_redirect: '/x?y=1'}", "http", "h", "http://h/x?y=1"),
        ("{path_redirect: /x}", "http", "h", "http://h/x?q=1"),
        ("{prefix_rewrite: /new/}", "http", "h", "http://h/new/x?q=1"),
        ("{prefix_rewrite: /new/, strip_query: true}", "http", "h", "http://h/new/x"),
        ("{regex_rewrite: {pattern: {regex: '^/old/(.*)$'}, substitution: '/\\1/y'}}", "http", "h", "http://h/x/y?q=1"),
    ];
    for (redirect, scheme, host, want) in table {
        with_route(&format!("{{match: {{prefix: /old/}}, redirect: {redirect}}}"), |route| {
            let Action::Redirect(redirect) = &route.action else { panic!("a redirect") };
            let mut request = head(host, "/old/x?q=1");
            request.scheme = scheme.into();
            assert_eq!(redirect_location(redirect, route, &request), want);
        });
    }
}

#[test]
fn a_path_is_rewritten_and_its_query_kept() {
    let table = [
        ("prefix: /old", "prefix_rewrite: /new", "/old/x?q=1", "/new/x?q=1"),
        ("prefix: /old/", "prefix_rewrite: /", "/old/x", "/x"),
        ("path: /old/x", "prefix_rewrite: /y", "/old/x?q", "/y?q"),
        ("path_separated_prefix: /old", "prefix_rewrite: /n", "/old/x", "/n/x"),
        ("prefix: /OLD, case_sensitive: false", "prefix_rewrite: /n", "/old/x", "/n/x"),
        ("prefix: /", "regex_rewrite: {pattern: {regex: 'x$'}, substitution: 'z'}", "/old/x?x", "/old/z?x"),
    ];
    for (matched, rewrite, path, want) in table {
        with_route(&format!("{{match: {{{matched}}}, route: {{cluster: c, {rewrite}}}}}"), |route| {
            let Action::Forward(forward) = &route.action else { panic!("a forward") };
            let rewrite = forward.path_rewrite.as_ref().expect("a rewrite");
            assert_eq!(rewrite_path(rewrite, route, path), want);
        });
    }
}

#[test]
fn the_authority_is_rewritten() {
    let table = [
        ("host_rewrite_literal: new", Some("new")),
        ("auto_host_rewrite: true", Some("up")),
        ("host_rewrite_header: x-host", Some("by-header")),
        ("host_rewrite_path_regex: {pattern: {regex: '^/(.+)/.*$'}, substitution: '\\1.com'}", Some("old.com")),
        ("timeout: 1s", None),
    ];
    for (rewrite, want) in table {
        with_route(&format!("{{match: {{prefix: /}}, route: {{cluster: c, {rewrite}}}}}"), |route| {
            let Action::Forward(forward) = &route.action else { panic!("a forward") };
            let mut request = head("h", "/old/x");
            request.headers.insert("x-host", HeaderValue::from_static("by-header"));
            assert_eq!(rewrite_host(&forward.host_rewrite, &request, "up").as_deref(), want, "{rewrite}");
        });
    }
}

#[test]
fn hash_policies_are_stable_and_stop_at_a_terminal_one() {
    let policies =
        "hash_policy: [{header: {header_name: x-user}, terminal: true}, {cookie: {name: c, ttl: 60s, path: /}}]";
    with_route(&format!("{{match: {{prefix: /}}, route: {{cluster: c, {policies}}}}}"), |route| {
        let Action::Forward(forward) = &route.action else { panic!("a forward") };
        let remote = "10.0.0.1:1".parse().expect("an address");
        let mut request = head("h", "/");
        let (made, cookie) = hash::hash(&forward.hash, &request, remote, 5);
        assert!(made.is_some());
        let cookie = cookie.expect("a cookie is set");
        assert_eq!(cookie, "c=\"0000000000000005\"; Max-Age=60; Path=/; HttpOnly");
        request.headers.insert("cookie", HeaderValue::from_static("a=b; c=\"0000000000000005\""));
        assert_eq!(hash::hash(&forward.hash, &request, remote, 9), (made, None));
        request.headers.insert("x-user", HeaderValue::from_static("u"));
        let (by_header, cookie) = hash::hash(&forward.hash, &request, remote, 9);
        assert_eq!((by_header, cookie), (Some(xxhash_rust::xxh64::xxh64(b"u", 0)), None));
    });
}
