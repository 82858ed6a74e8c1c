//! What the router does with a request: redirects, rewrites, headers, retries, timeouts.

use super::Group;

/// The groups of this file.
pub fn groups() -> Vec<Group> {
    vec![
        redirects(),
        rewrites(),
        header_rules(),
        retries(),
        timeouts(),
        grpc_timeouts(),
        tunnels(),
        bodiless(),
        steering(),
    ]
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

const RETRY: &str = "type.googleapis.com/envoy.extensions.retry";

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
        "{match: {path: /hashed}, route: {cluster: ring, hash_policy: [{header: {header_name: x-user}}], retry_policy: {retry_on: 5xx, num_retries: 2, retry_back_off: {base_interval: 0.001s}}}}".to_owned(),
        route("/headers", "retry_on: retriable-headers, retriable_headers: [{name: x-again, present_match: true}]"),
        route("/requests", "retry_on: 5xx, retriable_request_headers: [{name: x-may, present_match: true}]"),
        route("/limited", "retry_on: envoy-ratelimited, rate_limited_retry_back_off: {reset_headers: [{name: retry-after}, {name: x-reset, format: UNIX_TIMESTAMP}], max_interval: 0.5s}"),
        route("/grpc", "retry_on: 'cancelled,unavailable'"),
        format!("{{match: {{path: /levels}}, route: {{cluster: levels, retry_policy: {{retry_on: 5xx, num_retries: 3, retry_back_off: {{base_interval: 0.001s}}, retry_priority: {{name: p, typed_config: {{'@type': {RETRY}.priority.previous_priorities.v3.PreviousPrioritiesConfig, update_frequency: 1}}}}}}}}}}"),
        format!("{{match: {{path: /previous}}, route: {{cluster: ring, hash_policy: [{{header: {{header_name: x-user}}}}], retry_policy: {{retry_on: 5xx, num_retries: 2, retry_back_off: {{base_interval: 0.001s}}, host_selection_retry_max_attempts: 30, retry_host_predicate: [{{name: o, typed_config: {{'@type': {RETRY}.host.previous_hosts.v3.PreviousHostsPredicate}}}}]}}}}}}"),
        format!("{{match: {{path: /previous-maglev}}, route: {{cluster: maglev, hash_policy: [{{header: {{header_name: x-user}}}}], retry_policy: {{retry_on: 5xx, num_retries: 2, retry_back_off: {{base_interval: 0.001s}}, host_selection_retry_max_attempts: 30, retry_host_predicate: [{{name: o, typed_config: {{'@type': {RETRY}.host.previous_hosts.v3.PreviousHostsPredicate}}}}]}}}}}}"),
        format!("{{match: {{path: /omit}}, route: {{cluster: ring, hash_policy: [{{header: {{header_name: x-user}}}}], retry_policy: {{retry_on: 5xx, num_retries: 2, retry_back_off: {{base_interval: 0.001s}}, host_selection_retry_max_attempts: 30, retry_host_predicate: [{{name: o, typed_config: {{'@type': {RETRY}.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate}}}}]}}}}}}"),
    ];
    let group = Group::new("retries").routes(&routes.join(", "));
    let cases: &[(&'static str, &str, &[&str])] = &[
        ("5xx once", "/5xx", &["x-do: status=500 times=1"]),
        ("5xx always", "/5xx", &["x-do: status=503"]),
        ("5xx and reset", "/5xx", &["x-do: reset times=1"]),
        ("gateway 500", "/gateway", &["x-do: status=500 times=1"]),
        ("gateway 502", "/gateway", &["x-do: status=502 times=1"]),
        ("reset", "/reset", &["x-do: reset times=1"]),
        ("codes", "/codes", &["x-do: status=418 times=1"]),
        ("codes other", "/codes", &["x-do: status=500 times=1"]),
        ("409", "/4xx", &["x-do: status=409 times=1"]),
        ("per try", "/try", &["x-do: delay=500 times=1"]),
        ("per try always", "/try", &["x-do: delay=500"]),
        ("refused", "/refused", &[]),
        ("none", "/none", &["x-do: status=503"]),
        ("headers", "/headers", &["x-do: header=x-again:1"]),
        ("headers other", "/headers", &["x-do: header=x-other:1"]),
        ("request may", "/requests", &["x-may: 1", "x-do: status=500 times=1"]),
        ("request may not", "/requests", &["x-do: status=500 times=1"]),
        ("limited", "/limited", &["x-do: status=429 header=x-envoy-ratelimited:true header=retry-after:0"]),
        ("limited otherwise", "/5xx", &["x-do: status=503 header=x-envoy-ratelimited:true"]),
        ("overloaded", "/5xx", &["x-do: status=503 times=1 header=x-envoy-overloaded:true"]),
        ("grpc", "/grpc", &["content-type: application/grpc", "x-do: header=grpc-status:14"]),
        ("grpc other", "/grpc", &["content-type: application/grpc", "x-do: header=grpc-status:13"]),
        ("levels", "/levels", &["x-do: status=500"]),
        ("omit", "/omit", &["x-user: anna", "x-do: status=500 times=1"]),
        ("previous", "/previous", &["x-user: anna", "x-do: status=500"]),
        ("previous by maglev", "/previous-maglev", &["x-user: anna", "x-do: status=500"]),
        ("same host again", "/hashed", &["x-user: anna", "x-do: status=500"]),
        ("previous of another", "/previous", &["x-user: bert", "x-do: status=500"]),
        ("by header", "/none", &["x-envoy-retry-on: 5xx", "x-envoy-max-retries: 3", "x-do: status=500 times=3"]),
    ];
    let group = cases.iter().fold(group, |group, (name, path, headers)| group.get(name, path, headers));
    // A POST, since a GET on a connection that was in use before goes out again without any policy.
    let empty = &["content-length: 0", "x-do: reset"];
    group
        .request("reset always", "POST /reset HTTP/1.1", empty, "")
        .request("none reset", "POST /none HTTP/1.1", empty, "")
        .request("with body", "POST /5xx HTTP/1.1", &["content-length: 4", "x-do: status=500 times=1"], "body")
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

/// How long gRPC clients wait, by both generations of settings.
fn grpc_timeouts() -> Group {
    let route = |path: &str, action: &str| format!("{{match: {{path: {path}}}, route: {{cluster: echo, {action}}}}}");
    let routes = [
        route("/old", "max_grpc_timeout: 0.4s"),
        route("/old-any", "max_grpc_timeout: 0s"),
        route("/old-offset", "max_grpc_timeout: 10s, grpc_timeout_offset: 0.05s"),
        route("/new", "max_stream_duration: {grpc_timeout_header_max: 0.4s}"),
        route("/new-any", "max_stream_duration: {max_stream_duration: 10s, grpc_timeout_header_max: 0s}"),
        route("/new-offset", "max_stream_duration: {grpc_timeout_header_max: 10s, grpc_timeout_header_offset: 0.05s}"),
        route("/both", "timeout: 0.1s, max_stream_duration: {max_stream_duration: 0.5s}"),
        route("/plain", "timeout: 0.2s"),
    ];
    let (grpc, late) = ("content-type: application/grpc", "x-do: delay=700");
    let cases: &[(&'static str, &str, &[&str])] = &[
        ("old", "/old", &[grpc, "grpc-timeout: 100m", late]),
        ("old beyond", "/old", &[grpc, "grpc-timeout: 9S", late]),
        ("old without", "/old", &[grpc, late]),
        ("old any", "/old-any", &[grpc, "grpc-timeout: 200m", late]),
        ("old any without", "/old-any", &[grpc]),
        ("old offset", "/old-offset", &[grpc, "grpc-timeout: 5S"]),
        ("old not grpc", "/old", &["grpc-timeout: 100m"]),
        ("new", "/new", &[grpc, "grpc-timeout: 100m", late]),
        ("new beyond", "/new", &[grpc, "grpc-timeout: 9S", late]),
        ("new without", "/new", &[grpc]),
        ("new any", "/new-any", &[grpc, "grpc-timeout: 200m", late]),
        ("new offset beyond", "/new-offset", &[grpc, "grpc-timeout: 20S"]),
        ("old offset beyond", "/old-offset", &[grpc, "grpc-timeout: 20S"]),
        ("new offset", "/new-offset", &[grpc, "grpc-timeout: 5S"]),
        ("new not grpc", "/new", &["grpc-timeout: 100m", "x-do: delay=200"]),
        ("both", "/both", &["x-do: delay=250"]),
        ("plain", "/plain", &[grpc, late]),
    ];
    let group = Group::new("grpc timeouts").routes(&routes.join(", "));
    cases.iter().fold(group, |group, (name, path, headers)| group.get(name, path, headers))
}

/// What becomes of a WebSocket handshake.
fn tunnels() -> Group {
    let ask =
        |answer: &str| ["connection: Upgrade".to_owned(), "upgrade: websocket".to_owned(), format!("x-do: {answer}")];
    let routes = [
        "{match: {path: /refused}, route: {cluster: refused}}",
        "{match: {path: /empty}, route: {cluster: empty}}",
        "{match: {prefix: /}, route: {cluster: echo, retry_policy: {retry_on: 5xx, retry_back_off: {base_interval: 0.001s}}}}",
    ];
    let answers: &[(&'static str, &str)] = &[
        ("200", "status=200 header=x-own:1"),
        ("204", "status=204"),
        ("302", "status=302 header=location:/other"),
        ("404", "status=404"),
        ("426", "status=426"),
        ("hung up", "status=101 hang-up"),
        ("500 once", "status=500 times=1"),
        ("503", "status=503"),
        ("reset", "reset"),
    ];
    let mut group =
        Group::new("tunnels").hcm("upgrade_configs: [{upgrade_type: websocket}]").routes(&routes.join(", "));
    for (name, answer) in answers {
        let headers = ask(answer);
        group = group.get(name, "/", &headers.each_ref().map(String::as_str));
    }
    let headers = ask("status=101");
    let headers = headers.each_ref().map(String::as_str);
    group.get("refused", "/refused", &headers).get("empty", "/empty", &headers)
}

/// Which requests without a body say so.
fn bodiless() -> Group {
    let group = Group::new("bodiless").routes("{match: {prefix: /}, route: {cluster: echo}}");
    let methods: &[(&'static str, &str)] = &[
        ("get", "GET"),
        ("head", "HEAD"),
        ("post", "POST"),
        ("put", "PUT"),
        ("patch", "PATCH"),
        ("delete", "DELETE"),
        ("options", "OPTIONS"),
        ("trace", "TRACE"),
        ("report", "REPORT"),
    ];
    methods.iter().fold(group, |group, (name, method)| group.request(name, &format!("{method} / HTTP/1.1"), &[], ""))
}

/// What internal clients ask for by headers.
fn steering() -> Group {
    let routes = [
        "{match: {path: /short}, route: {cluster: echo, timeout: 0.2s}}",
        "{match: {path: /try}, route: {cluster: echo, retry_policy: {retry_on: 5xx, num_retries: 1, retry_back_off: {base_interval: 0.001s}}}}",
        "{match: {prefix: /}, route: {cluster: echo}}",
    ];
    let late = "x-do: delay=500";
    let cases: &[(&'static str, &str, &[&str])] = &[
        ("late as 204", "/short", &[late, "x-envoy-upstream-rq-timeout-alt-response: 1"]),
        ("timeout", "/", &[late, "x-envoy-upstream-rq-timeout-ms: 150"]),
        ("try timeout", "/try", &["x-do: delay=500 times=1", "x-envoy-upstream-rq-per-try-timeout-ms: 150"]),
        ("stream duration", "/", &[late, "x-envoy-upstream-stream-duration-ms: 150"]),
        ("retry", "/", &["x-do: status=500 times=1", "x-envoy-retry-on: 5xx"]),
        ("retry thrice", "/", &["x-do: status=500 times=3", "x-envoy-retry-on: 5xx", "x-envoy-max-retries: 3"]),
        ("more tries", "/try", &["x-do: status=500 times=2", "x-envoy-max-retries: 2"]),
        (
            "codes",
            "/",
            &[
                "x-do: status=418 times=1",
                "x-envoy-retry-on: retriable-status-codes",
                "x-envoy-retriable-status-codes: 404,418",
            ],
        ),
        ("bare code", "/", &["x-do: status=418 times=1", "x-envoy-retry-on: 418"]),
        (
            "header names",
            "/",
            &[
                "x-do: header=x-again:1",
                "x-envoy-retry-on: retriable-headers",
                "x-envoy-retriable-header-names: x-other, x-again",
            ],
        ),
        (
            "grpc",
            "/",
            &["content-type: application/grpc", "x-do: header=grpc-status:14", "x-envoy-retry-grpc-on: unavailable"],
        ),
        (
            "grpc other",
            "/",
            &["content-type: application/grpc", "x-do: header=grpc-status:13", "x-envoy-retry-grpc-on: unavailable"],
        ),
        ("expected", "/", &["x-envoy-expected-rq-timeout-ms: 100"]),
        ("alternative name", "/", &["x-envoy-upstream-alt-stat-name: other"]),
        ("not grpc", "/", &["x-do: header=grpc-status:14"]),
    ];
    let group = Group::new("steering")
        .hcm("use_remote_address: true, internal_address_config: {cidr_ranges: [{address_prefix: 127.0.0.0, prefix_len: 8}]}")
        .routes(&routes.join(", "));
    cases.iter().fold(group, |group, (name, path, headers)| group.get(name, path, headers))
}
