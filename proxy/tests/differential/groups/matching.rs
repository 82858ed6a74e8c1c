//! Which virtual host and route a request gets, and where it goes then.

use super::Group;

/// The groups of this file.
pub fn groups() -> Vec<Group> {
    vec![paths(), headers(), query(), domains(), clusters(), hashing()]
}

fn direct(name: &str, matcher: &str) -> String {
    format!("{{name: {name}, match: {{{matcher}}}, direct_response: {{status: 200, body: {{inline_string: {name}}}}}}}")
}

fn list(routes: &[(&str, &str)]) -> String {
    routes.iter().map(|(name, matcher)| direct(name, matcher)).collect::<Vec<_>>().join(", ")
}

fn paths() -> Group {
    let group = Group::new("paths").hcm("normalize_path: false").routes(&list(&[
        ("exact", "path: /exact"),
        ("insensitive", "path: /Any, case_sensitive: false"),
        ("insensitive-prefix", "prefix: /Pre-Any, case_sensitive: false"),
        ("separated", "path_separated_prefix: /sep"),
        ("regex", "safe_regex: {regex: '/re/[0-9]+'}"),
        ("prefix", "prefix: /prefix"),
        ("root", "path: /"),
    ]));
    let paths = [
        ("exact", "/exact"),
        ("exact with query", "/exact?a=b"),
        ("exact with slash", "/exact/"),
        ("exact in capitals", "/EXACT"),
        ("insensitive", "/aNY"),
        ("insensitive prefix", "/pre-anything"),
        ("separated alone", "/sep"),
        ("separated with slash", "/sep/a"),
        ("separated with query", "/sep?a"),
        ("separated longer", "/sepa"),
        ("regex", "/re/12"),
        ("regex with query", "/re/12?x"),
        ("regex must match all", "/re/12/3"),
        ("prefix", "/prefixes"),
        ("root", "/"),
        ("nothing", "/nothing"),
        ("fragment", "/exact#part"),
        ("encoded", "/%65xact"),
        ("only query", "/?a"),
    ];
    paths.into_iter().fold(group, |group, (name, path)| group.get(name, path, &[]))
}

fn headers() -> Group {
    let group = Group::new("headers").routes(&list(&[
        ("exact", "path: /exact, headers: [{name: x, string_match: {exact: One}}]"),
        ("ignoring case", "path: /exact, headers: [{name: x, string_match: {exact: tWo, ignore_case: true}}]"),
        ("prefix", "path: /p, headers: [{name: x, string_match: {prefix: ab}}]"),
        ("suffix", "path: /p, headers: [{name: x, string_match: {suffix: yz}}]"),
        ("contains", "path: /p, headers: [{name: x, string_match: {contains: mid}}]"),
        ("regex", "path: /p, headers: [{name: x, string_match: {safe_regex: {regex: '[0-9]+'}}}]"),
        ("present", "path: /present, headers: [{name: x, present_match: true}]"),
        ("absent", "path: /present, headers: [{name: other, present_match: false}]"),
        ("range", "path: /range, headers: [{name: x, range_match: {start: -10, end: 20}}]"),
        ("not", "path: /not, headers: [{name: x, string_match: {exact: a}, invert_match: true}]"),
        (
            "absent as empty",
            "path: /empty, headers: [{name: x, string_match: {exact: ''}, treat_missing_header_as_empty: true}]",
        ),
        ("method", "path: /method, headers: [{name: ':method', string_match: {exact: POST}}]"),
        ("authority", "path: /authority, headers: [{name: ':authority', string_match: {prefix: b}}]"),
        ("scheme", "path: /scheme, headers: [{name: ':scheme', string_match: {exact: http}}]"),
        ("grpc", "path: /grpc, grpc: {}"),
        (
            "both",
            "path: /both, headers: [{name: x, string_match: {exact: a}}, {name: other, string_match: {exact: b}}]",
        ),
        ("several", "path: /several, headers: [{name: x, string_match: {exact: 'a,b'}}]"),
    ]));
    let cases: &[(&'static str, &str, &[&str])] = &[
        ("exact", "/exact", &["X: One"]),
        ("exact other case", "/exact", &["x: one"]),
        ("ignoring case", "/exact", &["x: TwO"]),
        ("prefix", "/p", &["x: abc"]),
        ("suffix", "/p", &["x: xyz"]),
        ("contains", "/p", &["x: amidb"]),
        ("regex", "/p", &["x: 123"]),
        ("regex must match all", "/p", &["x: 123a"]),
        ("present", "/present", &["x;: no", "x: "]),
        ("present and empty", "/present", &["x:"]),
        ("absent", "/present", &[]),
        ("neither", "/present", &["other: 1"]),
        ("range low", "/range", &["x: -10"]),
        ("range high", "/range", &["x: 20"]),
        ("range text", "/range", &["x: 1a"]),
        ("not", "/not", &["x: b"]),
        ("not and equal", "/not", &["x: a"]),
        ("not and absent", "/not", &[]),
        ("absent as empty", "/empty", &[]),
        ("authority", "/authority", &["host: b.test"]),
        ("scheme", "/scheme", &[]),
        ("method other", "/method", &[]),
        ("grpc", "/grpc", &["content-type: application/grpc+proto"]),
        ("grpc web", "/grpc", &["content-type: application/grpc-web"]),
        ("both", "/both", &["x: a", "other: b"]),
        ("one of both", "/both", &["x: a"]),
        ("several", "/several", &["x: a", "x: b"]),
    ];
    let group = cases.iter().fold(group, |group, (name, path, headers)| group.get(name, path, headers));
    group.request("method", "POST /method HTTP/1.1", &["content-length: 0"], "")
}

fn query() -> Group {
    let group = Group::new("query").routes(&list(&[
        ("present", "path: /present, query_parameters: [{name: a, present_match: true}]"),
        ("exact", "path: /exact, query_parameters: [{name: a, string_match: {exact: b}}]"),
        ("regex", "path: /regex, query_parameters: [{name: a, string_match: {safe_regex: {regex: 'b+'}}}]"),
        ("encoded", "path: /encoded, query_parameters: [{name: a, string_match: {exact: 'b c'}}]"),
    ]));
    let paths = [
        ("present", "/present?a=1"),
        ("present and empty", "/present?x&a"),
        ("absent", "/present?b=a"),
        ("exact", "/exact?x=y&a=b"),
        ("exact first of two", "/exact?a=b&a=c"),
        ("exact second of two", "/exact?a=c&a=b"),
        ("regex", "/regex?a=bbb"),
        ("encoded", "/encoded?a=b%20c"),
        ("plus", "/encoded?a=b+c"),
    ];
    paths.into_iter().fold(group, |group, (name, path)| group.get(name, path, &[]))
}

fn domains() -> Group {
    let host = |name: &str, domains: &str| {
        format!("{{name: {name}, domains: [{domains}], routes: [{}]}}", direct(name, "prefix: /"))
    };
    let hosts = [
        host("exact", "one.test"),
        host("port", "'one.test:8080'"),
        host("suffix", "'*.test'"),
        host("longer-suffix", "'*.sub.test'"),
        host("prefix", "'pre.*'"),
    ];
    let table = format!("virtual_hosts: [{}]", hosts.join(", "));
    let group = Group::new("domains").table(&table);
    let names: &[(&'static str, &str)] = &[
        ("exact", "one.test"),
        ("capitals", "ONE.Test"),
        ("port", "one.test:8080"),
        ("other port", "one.test:9090"),
        ("suffix", "two.test"),
        ("suffix alone", ".test"),
        ("longer suffix", "a.sub.test"),
        ("prefix", "pre.anything"),
        ("prefix alone", "pre."),
        ("unknown", "other.example"),
        ("trailing dot", "one.test."),
        ("ipv6", "[::1]:80"),
    ];
    names.iter().fold(group, |group, (name, host)| group.get(name, "/", &[&format!("host: {host}")]))
}

fn clusters() -> Group {
    let weights = |a: u32, b: u32| {
        format!(
            "weighted_clusters: {{clusters: [{{name: echo, weight: {a}, request_headers_to_add: [{{header: {{key: \
             x-weight, value: first}}}}]}}, {{name: second, weight: {b}, host_rewrite_literal: second.example}}]}}"
        )
    };
    let routes = [
        format!("{{match: {{path: /first}}, route: {{{}}}}}", weights(1, 0)),
        format!("{{match: {{path: /second}}, route: {{{}}}}}", weights(0, 1)),
        "{match: {path: /header}, route: {cluster_header: x-cluster}}".to_owned(),
        "{match: {path: /missing}, route: {cluster: missing}}".to_owned(),
        "{match: {path: /missing-404}, route: {cluster: missing, cluster_not_found_response_code: NOT_FOUND}}".to_owned(),
        "{match: {path: /refused}, route: {cluster: refused}}".to_owned(),
        "{match: {path: /empty}, route: {cluster: empty}}".to_owned(),
        "{match: {path: /full}, route: {cluster: full}}".to_owned(),
        "{match: {path: /mirror}, route: {cluster: echo, request_mirror_policies: [{cluster: second}, {cluster: third, runtime_fraction: {default_value: {numerator: 0}}}]}}".to_owned(),
    ];
    Group::new("clusters")
        .routes(&routes.join(", "))
        .get("first", "/first", &[])
        .get("second", "/second", &[])
        .get("by header", "/header", &["x-cluster: second"])
        .get("by header unknown", "/header", &["x-cluster: missing"])
        .get("by header absent", "/header", &[])
        .get("missing", "/missing", &[])
        .get("missing as 404", "/missing-404", &[])
        .get("refused", "/refused", &[])
        .get("empty", "/empty", &[])
        .get("full", "/full", &[])
        .request("mirror", "POST /mirror HTTP/1.1", &["content-length: 4"], "body")
        .mirrored()
}

fn hashing() -> Group {
    let route = |path: &str, cluster: &str, policy: &str| {
        format!("{{match: {{path: {path}}}, route: {{cluster: {cluster}, hash_policy: [{policy}]}}}}")
    };
    let routes = [
        route("/header", "ring", "{header: {header_name: x-user}}"),
        route("/maglev", "maglev", "{header: {header_name: x-user}}"),
        route("/query", "ring", "{query_parameter: {name: user}}"),
        route("/cookie", "ring", "{cookie: {name: user}}"),
        route(
            "/made",
            "ring-one",
            "{cookie: {name: user, ttl: 60s, path: /shop, attributes: [{name: SameSite, value: Lax}, {name: Secure}]}}",
        ),
        route("/session", "ring-one", "{cookie: {name: user, ttl: 0s}}"),
        route("/unhashed", "echo", "{cookie: {name: user, ttl: 60s}}"),
        route(
            "/made-first",
            "ring",
            "{cookie: {name: user, ttl: 60s}, terminal: true}, {header: {header_name: x-user}}",
        ),
        route(
            "/terminal",
            "ring",
            "{header: {header_name: x-none}}, {header: {header_name: x-user}, terminal: true}, {header: {header_name: x-other}}",
        ),
        route("/address", "ring", "{connection_properties: {source_ip: true}}"),
    ];
    let group = Group::new("hashing").routes(&routes.join(", "));
    let users = ["anna", "boris", "carla", "dmitri", "elena", "frank"];
    let names: [[&'static str; 6]; 3] = [
        ["ring anna", "ring boris", "ring carla", "ring dmitri", "ring elena", "ring frank"],
        ["maglev anna", "maglev boris", "maglev carla", "maglev dmitri", "maglev elena", "maglev frank"],
        ["query anna", "query boris", "query carla", "query dmitri", "query elena", "query frank"],
    ];
    let mut group = group;
    for (index, user) in users.iter().enumerate() {
        group = group.get(names[0][index], "/header", &[&format!("x-user: {user}")]);
        group = group.get(names[1][index], "/maglev", &[&format!("x-user: {user}")]);
        group = group.get(names[2][index], &format!("/query?user={user}"), &[]);
    }
    group
        .get("cookie", "/cookie", &["cookie: a=b; user=anna"])
        .get("cookie again", "/cookie", &["cookie: user=boris"])
        .get("cookie with ttl", "/made", &["cookie: user=anna"])
        .get("cookie made", "/made", &[])
        .get("cookie of the session", "/session", &[])
        .get("cookie for nothing", "/unhashed", &[])
        .get("cookie there and a header", "/made-first", &["cookie: user=boris", "x-user: anna"])
        .get("terminal", "/terminal", &["x-user: anna", "x-other: b"])
        .get("two values", "/header", &["x-user: b", "x-user: a"])
        .get("address", "/address", &[])
}
