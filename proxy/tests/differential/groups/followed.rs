//! Redirects of the upstream that the proxy follows itself, and retries that requests pay for.

use super::Group;

/// The groups of this file.
pub fn groups() -> Vec<Group> {
    vec![followed(), budgets()]
}

const PREDICATE: &str = "type.googleapis.com/envoy.extensions.internal_redirect";

fn routes() -> String {
    let route = |name: &str, policy: &str| {
        format!(
            "{{name: {name}, match: {{prefix: /{name}}}, route: {{cluster: echo, internal_redirect_policy: {{{policy}}}}}}}"
        )
    };
    let predicate = |kind: &str, message: &str, more: &str| {
        format!("predicates: [{{name: p, typed_config: {{'@type': {PREDICATE}.{kind}.v3.{message}{more}}}}}]")
    };
    let safe = predicate("safe_cross_scheme", "SafeCrossSchemeConfig", "");
    let listed = predicate("allow_listed_routes", "AllowListedRoutesConfig", ", allowed_route_names: [two, copy]");
    let previous = predicate("previous_routes", "PreviousRoutesConfig", "");
    [
        route("one", ""),
        route("codes", "redirect_response_codes: [301, 303, 307, 308, 404]"),
        route("none", "max_internal_redirects: 0"),
        route("twice", "max_internal_redirects: 2"),
        route("cross", "allow_cross_scheme_redirect: true"),
        route("safe", &format!("allow_cross_scheme_redirect: true, {safe}")),
        route("listed", &listed),
        route("previous", &format!("max_internal_redirects: 5, {previous}")),
        route("copy", "response_headers_to_copy: [x-token, x-gone, x-new]"),
        "{name: rewrite, match: {prefix: /rewrite}, request_headers_to_add: [{header: {key: x-added, value: one}}], \
         response_headers_to_add: [{header: {key: x-from, value: rewrite}}], \
         route: {cluster: echo, prefix_rewrite: /rewritten, host_rewrite_literal: new.test, internal_redirect_policy: {}}}"
            .to_owned(),
        "{name: retry, match: {prefix: /retry}, route: {cluster: echo, internal_redirect_policy: {}, \
         retry_policy: {retry_on: retriable-status-codes, retriable_status_codes: [302], retry_back_off: {base_interval: 0.001s}}}}"
            .to_owned(),
        "{name: two, match: {path: /two}, response_headers_to_add: [{header: {key: x-from, value: two}}], \
         route: {cluster: second}}"
            .to_owned(),
        "{name: direct, match: {path: /direct}, direct_response: {status: 200, body: {inline_string: here}}}".to_owned(),
        "{name: away, match: {path: /away}, redirect: {host_redirect: c.test}}".to_owned(),
        "{name: refused, match: {path: /refused}, route: {cluster: refused}}".to_owned(),
        "{name: untouched, match: {path: /untouched}, route: {cluster: echo}}".to_owned(),
    ]
    .join(", ")
}

fn followed() -> Group {
    let to_two = "x-do: status=302 times=1 header=location:http://b.test/two?c=d#e";
    let https = "x-forwarded-proto: https";
    let cases: &[(&'static str, usize, &str, &[&str])] = &[
        ("302", 1, "/one?a=b", &[to_two]),
        ("302 with port", 1, "/one", &["x-do: status=302 times=1 header=location:http://b.test:8080/two"]),
        ("without path", 0, "/one", &["x-do: status=302 times=1 header=location:http://b.test"]),
        ("query only", 0, "/one", &["x-do: status=302 times=1 header=location:http://b.test?a=b"]),
        ("301 not listed", 0, "/one", &["x-do: status=301 times=1 header=location:http://b.test/two"]),
        ("code 301", 1, "/codes", &["x-do: status=301 times=1 header=location:http://b.test/two"]),
        ("code 302 not listed", 0, "/codes", &[to_two]),
        ("code 303", 1, "/codes", &["x-do: status=303 times=1 header=location:http://b.test/two"]),
        ("code 307", 1, "/codes", &["x-do: status=307 times=1 header=location:http://b.test/two"]),
        ("code 308", 1, "/codes", &["x-do: status=308 times=1 header=location:http://b.test/two"]),
        ("code 404", 0, "/codes", &["x-do: status=404 times=1 header=location:http://b.test/two"]),
        ("none", 0, "/none", &[to_two]),
        ("no location", 0, "/one", &["x-do: status=302"]),
        ("relative", 0, "/one", &["x-do: status=302 times=1 header=location:/two"]),
        ("without host", 0, "/one", &["x-do: status=302 times=1 header=location:http:///two"]),
        ("to https", 0, "/one", &["x-do: status=302 times=1 header=location:https://b.test/two"]),
        ("https to http", 0, "/one", &[https, to_two]),
        ("https to https", 1, "/one", &[https, "x-do: status=302 times=1 header=location:https://b.test/two"]),
        ("cross to https", 1, "/cross", &["x-do: status=302 times=1 header=location:https://b.test/two"]),
        ("cross to http", 1, "/cross", &[https, to_two]),
        ("safe to https", 0, "/safe", &["x-do: status=302 times=1 header=location:https://b.test/two"]),
        ("safe to http", 1, "/safe", &[https, to_two]),
        ("nowhere", 0, "/one", &["x-do: status=302 times=1 header=location:http://b.test/nowhere"]),
        ("to a direct answer", 1, "/one", &["x-do: status=302 times=1 header=location:http://b.test/direct"]),
        ("to a redirect", 1, "/one", &["x-do: status=302 times=1 header=location:http://b.test/away"]),
        ("to a refusal", 1, "/one", &["x-do: status=302 times=1 header=location:http://b.test/refused"]),
        ("again", 1, "/one", &["x-do: status=302 header=location:http://a.test/one"]),
        ("twice", 2, "/twice", &["x-do: status=302 header=location:http://a.test/twice"]),
        ("listed", 1, "/listed", &[to_two]),
        ("not listed", 0, "/listed", &["x-do: status=302 times=1 header=location:http://b.test/one"]),
        ("previous", 1, "/previous", &["x-do: status=302 header=location:http://a.test/previous"]),
        (
            "copy",
            1,
            "/copy",
            &[
                "x-token: old",
                "x-gone: old",
                "x-do: status=302 times=1 header=x-token:new header=x-new:1 header=location:http://b.test/two",
            ],
        ),
        ("rewrite", 1, "/rewrite/a?b", &[to_two]),
        ("rewrite to itself", 1, "/rewrite/a?b", &["x-do: status=302 times=1 header=location:http://a.test/rewrite/c"]),
        ("dots", 1, "/one", &["x-do: status=302 times=1 header=location:http://b.test/a/../two"]),
        ("retried", 0, "/retry", &["x-do: status=302 times=1 header=location:http://b.test/two"]),
        ("retried and followed", 1, "/retry", &["x-do: status=302 times=2 header=location:http://b.test/two"]),
        ("untouched", 0, "/untouched", &[to_two]),
    ];
    let hcm = "normalize_path: true";
    let group = Group::new("followed").hcm(hcm).routes(&routes());
    let group = cases
        .iter()
        .fold(group, |group, (name, redirects, path, headers)| group.get(name, path, headers).followed(*redirects));
    let post = |code: u16| {
        ["content-length: 4".to_owned(), format!("x-do: status={code} times=1 header=location:http://b.test/two")]
    };
    let with = |group: Group, name: &'static str, path: &str, code: u16, redirects: usize| {
        let headers = post(code);
        let headers = headers.each_ref().map(String::as_str);
        group.request(name, &format!("POST {path} HTTP/1.1"), &headers, "body").followed(redirects)
    };
    let group = with(group, "302 of a post", "/one", 302, 1);
    let group = with(group, "303 of a post", "/codes", 303, 1);
    let group = with(group, "307 of a post", "/codes", 307, 1);
    group
        .request(
            "303 of a head",
            "HEAD /codes HTTP/1.1",
            &["x-do: status=303 times=1 header=location:http://b.test/two"],
            "",
        )
        .followed(1)
        .request(
            "chunked",
            "POST /one HTTP/1.1",
            &["transfer-encoding: chunked", "x-do: status=302 times=1 header=location:http://b.test/two"],
            "4\r\nbody\r\n0\r\n\r\n",
        )
        .followed(1)
}

/// Clusters whose requests pay for retries: (name, their budget).
pub const BUDGETS: [(&str, &str); 4] = [
    ("budget-active", "budget_percent: {value: 100}, min_retry_concurrency: 0"),
    ("budget-half", "budget_percent: {value: 50}, min_retry_concurrency: 0"),
    ("budget-least", "budget_percent: {value: 0}, min_retry_concurrency: 1"),
    ("budget-interval", "budget_percent: {value: 50}, min_retry_concurrency: 0, budget_interval: 60s"),
];

fn budgets() -> Group {
    let route = |name: &str| {
        format!(
            "{{match: {{path: /{name}}}, route: {{cluster: {name}, retry_policy: {{retry_on: 5xx, num_retries: 3, \
             retry_back_off: {{base_interval: 0.001s}}}}}}}}"
        )
    };
    let routes = BUDGETS.map(|(name, _)| route(name)).join(", ");
    let fails = &["x-do: status=500 times=1"][..];
    let cases: &[(&'static str, &str, &[&str])] = &[
        ("active", "/budget-active", fails),
        ("half of one", "/budget-half", fails),
        ("least", "/budget-least", fails),
        ("first of the interval", "/budget-interval", fails),
        ("second of the interval", "/budget-interval", fails),
        ("third of the interval", "/budget-interval", &[]),
        ("last of the interval", "/budget-interval", &["x-do: status=500 times=3"]),
    ];
    let group = Group::new("budgets").routes(&routes);
    cases.iter().fold(group, |group, (name, path, headers)| group.get(name, path, headers))
}
