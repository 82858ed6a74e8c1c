//! Texts that become part of a message's head.

use crate::{Case, Parts};

/// What is said of a line break.
const LINE: &str = "must not have NUL, CR or LF";

pub fn cases() -> Vec<Case> {
    let mut all = routes();
    all.extend(hosts());
    all.extend(clusters());
    all.extend(unmarked());
    all
}

fn routes() -> Vec<Case> {
    let route = |route| Parts { route, ..Parts::default() };
    vec![
        Parts::default().accepted("nothing is wrong"),
        route(r#"route: {cluster: echo, host_rewrite_literal: "a\r\nx: y"}"#)
            .refused("authority", &["routes[0].route.host_rewrite_literal", LINE]),
        route(r#"route: {cluster: echo, prefix_rewrite: "/a\nx: y"}"#).refused("prefix", &["route.prefix_rewrite", LINE]),
        route(r#"route: {cluster: echo, regex_rewrite: {pattern: {regex: a}, substitution: "a\0b"}}"#)
            .refused("substitution", &["regex_rewrite.substitution", LINE]),
        route(r#"redirect: {host_redirect: "a\nb"}"#).refused("redirected host", &["redirect.host_redirect", LINE]),
        route(r#"redirect: {path_redirect: "/a\nb"}"#).refused("redirected path", &["redirect.path_redirect", LINE]),
        route(r#"redirect: {prefix_rewrite: "/a\nb"}"#).refused("redirected prefix", &["redirect.prefix_rewrite", LINE]),
        route(r#"route: {cluster_header: "a\nb"}"#).refused("header of a cluster", &["route.cluster_header", LINE]),
        route(r#"route: {cluster: echo, upgrade_configs: [{upgrade_type: "a\nb"}]}"#)
            .refused("upgrade", &["upgrade_configs[0].upgrade_type", LINE]),
        route(r#"route: {cluster: echo, hash_policy: [{cookie: {name: a, ttl: 1s, attributes: [{name: a, value: "a\nb"}]}}]}"#)
            .refused("attribute of a cookie", &["cookie.attributes[0].value", LINE]),
        Parts { matching: r#"headers: [{name: "a\nb", present_match: true}],"#, ..Parts::default() }
            .refused("header to match", &["match.headers[0].name", LINE]),
    ]
}

fn hosts() -> Vec<Case> {
    let host = |host| Parts { host, ..Parts::default() };
    let manager = |manager| Parts { manager, ..Parts::default() };
    vec![
        host(r#"request_headers_to_add: [{header: {key: a, value: "b\nc"}}],"#)
            .refused("value", &["virtual_hosts[0].request_headers_to_add[0].header.value", LINE]),
        host(r#"request_headers_to_add: [{header: {key: "a\nb", value: b}}],"#)
            .refused("name", &["request_headers_to_add[0].header.key", LINE]),
        host(r#"response_headers_to_remove: ["a\nb"],"#)
            .refused("name to remove", &["response_headers_to_remove[0]", LINE]),
        host(r#"request_headers_to_remove: [""],"#)
            .refused("no name to remove", &["request_headers_to_remove[0]", "must not be empty"]),
        Parts { domains: r#""a\nb""#, ..Parts::default() }.refused("domain", &["virtual_hosts[0].domains[0]", LINE]),
        manager(r#"via: "a\nb","#).refused("via", &["via", LINE]),
        manager(r#"server_name: "a\nb","#).refused("server", &["server_name", LINE]),
        manager(
            r#"local_reply_config: {body_format: {text_format_source: {inline_string: a}, content_type: "a\nb"}},"#,
        )
        .refused("content type", &["body_format.content_type", LINE]),
        manager(
            "original_ip_detection_extensions: [{name: header, typed_config: {'@type': \
             type.googleapis.com/envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig, \
             header_name: 'a b'}}],",
        )
        .refused("header of an address", &["typed_config.header_name", "must be a header's name"]),
    ]
}

fn clusters() -> Vec<Case> {
    const TIMES: &str = "timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1";
    let check = |check: &str| {
        let cluster = format!("health_checks: [{{{TIMES}, {check}}}], http2_protocol_options: {{}},");
        Parts { cluster: cluster.leak(), ..Parts::default() }
    };
    const CONTROL: &str = "must not have control characters";
    vec![
        check(r#"http_health_check: {path: "/a\x01b"}"#).refused("path to check", &["http_health_check.path", CONTROL]),
        check(r#"http_health_check: {path: "/a\tb"}"#)
            .refused_here("tab in a path to check", &["http_health_check.path"]),
        check(r#"http_health_check: {host: "a\x7f", path: /}"#)
            .refused("host to check", &["http_health_check.host", CONTROL]),
        check(r#"grpc_health_check: {authority: "a\nb"}"#)
            .refused("authority to check", &["grpc_health_check.authority", LINE]),
    ]
}

/// Envoy passes these over, and would write some of them into messages.
fn unmarked() -> Vec<Case> {
    let route = |route| Parts { route, ..Parts::default() };
    vec![
        Parts { endpoint: r#"hostname: "a\r\nb: c","#, ..Parts::default() }
            .refused_here("hostname", &["lb_endpoints[0].endpoint.hostname", LINE]),
        route(r#"redirect: {scheme_redirect: "a\nb"}"#).refused_here("scheme", &["redirect.scheme_redirect", LINE]),
        route(r#"route: {cluster: echo, hash_policy: [{cookie: {name: "a\nb", ttl: 1s}}]}"#)
            .refused_here("cookie", &["cookie.name", LINE]),
        route(r#"route: {cluster: echo, hash_policy: [{cookie: {name: a, path: "a\nb", ttl: 1s}}]}"#)
            .refused_here("path of a cookie", &["cookie.path", LINE]),
        Parts {
            manager: r#"http_protocol_options: {accept_http_10: true, default_host_for_http_10: "a\nb"},"#,
            ..Parts::default()
        }
        .refused_here("authority of old requests", &["default_host_for_http_10", LINE]),
        Parts { host: r#"request_headers_to_add: [{header: {key: "a b", value: b}}],"#, ..Parts::default() }
            .refused_here("a space in a name", &["request_headers_to_add[0]"]),
    ]
}
