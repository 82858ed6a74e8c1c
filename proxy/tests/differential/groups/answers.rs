//! What the router does with a request: redirects, rewrites, headers, retries, timeouts.

use super::Group;

/// The groups of this file.
pub fn groups() -> Vec<Group> {
    vec![redirects(), rewrites(), header_rules(), retries(), timeouts()]
}

fn redirects() -> Group {
    let route = |path: &str, redirect: &str| format!("{{match: {{{path}}}, redirect: {{{redirect}}}}}");
    let routes = [
        route("path: /https", "https_redirect: true"),
        route("path: /scheme", "scheme_redirect: https, port_redirect: 8443"),
        route("path: /host", "host_redirect: new.test"),
        route("path: /port", "port_redirect: 81"),
        route("path: /path", "path_redirect: /other"),
        route("path: /path-query", "path_redirect: '/other?c=d'"),
        route("prefix: /prefix", "prefix_rewrite: /new"),
        route("prefix: /strip", "path_redirect: /new, strip_query: true"),
        route("prefix: /regex", "regex_rewrite: {pattern: {regex: '^/regex/(.*)$'}, substitution: '/\\1/end'}"),
        route("path: /301", "host_redirect: new.test, response_code: MOVED_PERMANENTLY"),
        route("path: /302", "host_redirect: new.test, response_code: FOUND"),
        route("path: /303", "host_redirect: new.test, response_code: SEE_OTHER"),
        route("path: /307", "host_redirect: new.test, response_code: TEMPORARY_REDIRECT"),
        route("path: /308", "host_redirect: new.test, response_code: PERMANENT_REDIRECT"),
        "{match: {path: /direct}, direct_response: {status: 418, body: {inline_string: 'a pot'}}, response_headers_to_add: [{header: {key: x-direct, value: '%REQ(:PATH)%'}}]}".to_owned(),
        "{match: {path: /direct-empty}, direct_response: {status: 204}}".to_owned(),
        "{match: {path: /direct-typed}, direct_response: {status: 200, body: {inline_string: '{}'}}, response_headers_to_add: [{header: {key: content-type, value: application/json}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]}".to_owned(),
    ];
    let group = Group::new("redirects").routes(&routes.join(", "));
    let cases: &[(&'static str, &str, &[&str])] = &[
        ("https", "/https?a=b", &[]),
        ("https with port", "/https", &["host: a.test:80"]),
        ("https with other port", "/https", &["host: a.test:8080"]),
        ("https ipv6", "/https", &["host: [::1]:80"]),
        ("scheme", "/scheme", &[]),
        ("host", "/host?x", &["host: a.test:8080"]),
        ("port", "/port", &["host: a.test:8080"]),
        ("port added", "/port", &[]),
        ("path", "/path?a=b", &[]),
        ("path with query", "/path-query?a=b", &[]),
        ("prefix", "/prefix/a?b", &[]),
        ("strip", "/strip?b=c", &[]),
        ("regex", "/regex/a/b?c", &[]),
        ("301", "/301", &[]),
        ("302", "/302", &[]),
        ("303", "/303", &[]),
        ("307", "/307", &[]),
        ("308", "/308", &[]),
        ("direct", "/direct", &[]),
        ("direct without body", "/direct-empty", &[]),
        ("direct with a type", "/direct-typed", &[]),
        ("nowhere", "/nowhere", &[]),
    ];
    let group = cases.iter().fold(group, |group, (name, path, headers)| group.get(name, path, headers));
    group.request("direct head", "HEAD /direct HTTP/1.1", &[], "").request(
        "direct with request body",
        "POST /direct HTTP/1.1",
        &["content-length: 3"],
        "abc",
    )
}

fn rewrites() -> Group {
    let route = |path: &str, action: &str| format!("{{match: {{{path}}}, route: {{cluster: echo, {action}}}}}");
    let routes = [
        route("prefix: /prefix", "prefix_rewrite: /new"),
        route("prefix: /slash/", "prefix_rewrite: /"),
        route("prefix: /regex", "regex_rewrite: {pattern: {regex: '/regex/([^/]+)'}, substitution: '/r\\1'}"),
        route("path: /exact", "prefix_rewrite: /changed"),
        route("path_separated_prefix: /sep", "prefix_rewrite: /s"),
        route("path: /host", "host_rewrite_literal: new.test"),
        route("path: /host-forward", "host_rewrite_literal: new.test, append_x_forwarded_host: true"),
        route("path: /host-header", "host_rewrite_header: x-host"),
        route(
            "prefix: /host-path",
            "host_rewrite_path_regex: {pattern: {regex: '^/host-path/(.+)$'}, substitution: '\\1.test'}",
        ),
        route("prefix: /any", "prefix_rewrite: /any-new, host_rewrite_literal: x"),
    ];
    let group = Group::new("rewrites").routes(&routes.join(", "));
    let cases: &[(&'static str, &str, &[&str])] = &[
        ("prefix", "/prefix/a?b=c", &[]),
        ("prefix alone", "/prefix", &[]),
        ("slash", "/slash/a", &[]),
        ("regex", "/regex/a/b?x=/regex/q", &[]),
        ("exact", "/exact?q", &[]),
        ("separated", "/sep/a", &[]),
        ("host", "/host", &[]),
        ("host and forwarded", "/host-forward", &[]),
        ("host of header", "/host-header", &["x-host: other.test"]),
        ("host of no header", "/host-header", &[]),
        ("host of path", "/host-path/abc?x", &[]),
        ("both", "/any/1", &["x-forwarded-host: was.test"]),
    ];
    cases.iter().fold(group, |group, (name, path, headers)| group.get(name, path, headers))
}

fn header_rules() -> Group {
    let add = |key: &str, value: &str, action: &str| {
        format!("{{header: {{key: {key}, value: '{value}'}}, append_action: {action}}}")
    };
    let request = [
        add("x-append", "new", "APPEND_IF_EXISTS_OR_ADD"),
        add("x-overwrite", "new", "OVERWRITE_IF_EXISTS_OR_ADD"),
        add("x-absent", "new", "ADD_IF_ABSENT"),
        add("x-exists", "new", "OVERWRITE_IF_EXISTS"),
        add("x-path", "%REQ(:PATH)% %REQ(X-NONE)% %REQ(X-NONE?:METHOD)%", "APPEND_IF_EXISTS_OR_ADD"),
        add("x-none", "%REQ(X-NOT-THERE)%", "APPEND_IF_EXISTS_OR_ADD"),
        add("x-percent", "100%%", "APPEND_IF_EXISTS_OR_ADD"),
        add("x-protocol", "%PROTOCOL% %ROUTE_NAME% %UPSTREAM_CLUSTER%", "APPEND_IF_EXISTS_OR_ADD"),
        add("x-remote", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "APPEND_IF_EXISTS_OR_ADD"),
    ];
    let response = [
        add("x-served-by", "proxy", "APPEND_IF_EXISTS_OR_ADD"),
        add("x-over", "proxy", "OVERWRITE_IF_EXISTS_OR_ADD"),
        add("x-code", "%RESPONSE_CODE% %RESP(SERVER)%", "ADD_IF_ABSENT"),
        add("x-flags", "%RESPONSE_FLAGS% %UPSTREAM_HOST%", "ADD_IF_ABSENT"),
    ];
    let hosts = format!(
        "virtual_hosts: [{{name: all, domains: ['*'], request_headers_to_add: [{}], \
         request_headers_to_remove: [x-gone, x-case-gone], response_headers_to_add: [{}], routes: [\
         {{name: main, match: {{path: /main}}, route: {{cluster: echo}}, request_headers_to_add: [{}], \
         request_headers_to_remove: [x-route-gone], response_headers_to_remove: [x-leave]}}, \
         {{name: missing, match: {{path: /refused}}, route: {{cluster: refused}}}}, \
         {{name: direct, match: {{path: /direct}}, direct_response: {{status: 200}}}}]}}]",
        add("x-order", "host", "APPEND_IF_EXISTS_OR_ADD"),
        add("x-order", "host", "APPEND_IF_EXISTS_OR_ADD"),
        request.join(", "),
    );
    let table = format!(
        "request_headers_to_add: [{}], response_headers_to_add: [{}, {}], {hosts}",
        add("x-order", "table", "APPEND_IF_EXISTS_OR_ADD"),
        add("x-order", "table", "APPEND_IF_EXISTS_OR_ADD"),
        response.join(", "),
    );
    let many = &[
        "x-append: old",
        "x-overwrite: old",
        "x-overwrite: older",
        "x-absent: old",
        "x-exists: old",
        "x-gone: 1",
        "x-route-gone: 1",
        "x-do: header=x-over:up header=x-leave:1 header=x-code:own",
    ];
    Group::new("header rules")
        .table(&table)
        .get("nothing there", "/main", &[])
        .get("all there", "/main?q=1", many)
        .get("local reply", "/refused", &[])
        .get("direct", "/direct", &[])
}

fn retries() -> Group {
    let route = |path: &str, policy: &str| {
        format!(
            "{{match: {{path: {path}}}, route: {{cluster: echo, retry_policy: {{retry_back_off: {{base_interval: 0.005s}}, {policy}}}}}}}"
        )
    };
    let routes = [
        route("/5xx", "retry_on: 5xx, num_retries: 2"),
        route("/gateway", "retry_on: gateway-error"),
        route("/reset", "retry_on: reset"),
        route("/codes", "retry_on: retriable-status-codes, retriable_status_codes: [404, 418]"),
        route("/4xx", "retry_on: retriable-4xx"),
        route("/try", "retry_on: 5xx, per_try_timeout: 0.2s"),
        "{match: {path: /refused}, route: {cluster: refused, retry_policy: {retry_on: connect-failure, num_retries: 2, retry_back_off: {base_interval: 0.005s}}}}".to_owned(),
        "{match: {path: /none}, route: {cluster: echo}}".to_owned(),
    ];
    let group = Group::new("retries").routes(&routes.join(", "));
    let cases: &[(&'static str, &str, &[&str])] = &[
        ("5xx once", "/5xx", &["x-do: status=500 times=1"]),
        ("5xx always", "/5xx", &["x-do: status=503"]),
        ("5xx and reset", "/5xx", &["x-do: reset times=1"]),
        ("gateway 500", "/gateway", &["x-do: status=500 times=1"]),
        ("gateway 502", "/gateway", &["x-do: status=502 times=1"]),
        ("reset", "/reset", &["x-do: reset times=1"]),
        ("reset always", "/reset", &["x-do: reset"]),
        ("codes", "/codes", &["x-do: status=418 times=1"]),
        ("codes other", "/codes", &["x-do: status=500 times=1"]),
        ("409", "/4xx", &["x-do: status=409 times=1"]),
        ("per try", "/try", &["x-do: delay=500 times=1"]),
        ("per try always", "/try", &["x-do: delay=500"]),
        ("refused", "/refused", &[]),
        ("none", "/none", &["x-do: status=503"]),
        ("none reset", "/none", &["x-do: reset"]),
        ("by header", "/none", &["x-envoy-retry-on: 5xx", "x-envoy-max-retries: 3", "x-do: status=500 times=3"]),
    ];
    let group = cases.iter().fold(group, |group, (name, path, headers)| group.get(name, path, headers));
    group.request("with body", "POST /5xx HTTP/1.1", &["content-length: 4", "x-do: status=500 times=1"], "body")
}

fn timeouts() -> Group {
    let routes = [
        "{match: {path: /short}, route: {cluster: echo, timeout: 0.2s}}",
        "{match: {path: /none}, route: {cluster: echo, timeout: 0s}}",
        "{match: {path: /idle}, route: {cluster: echo, timeout: 0s, idle_timeout: 0.2s}}",
        "{match: {path: /stream}, route: {cluster: echo, max_stream_duration: {max_stream_duration: 0.2s}}}",
    ];
    let late = "x-do: delay=700";
    Group::new("timeouts")
        .routes(&routes.join(", "))
        .get("in time", "/short", &[])
        .get("late", "/short", &[late])
        .get("late as 204", "/short", &[late, "x-envoy-upstream-rq-timeout-alt-response: 1"])
        .get("by header", "/none", &[late, "x-envoy-upstream-rq-timeout-ms: 150"])
        .get("expected by header", "/none", &["x-envoy-expected-rq-timeout-ms: 150"])
        .get("idle", "/idle", &[late])
        .get("stream", "/stream", &[late])
}
