//! `local_ratelimit`: what takes from which bucket, and what is said of it.

use super::Group;

/// The groups of this file.
pub fn groups() -> Vec<Group> {
    vec![options(), descriptors(), hosts()]
}

const MESSAGE: &str = "'@type': type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
const ON: &str =
    "filter_enabled: {default_value: {numerator: 100}}, filter_enforced: {default_value: {numerator: 100}}";
const SHOWN: &str = "enable_x_ratelimit_headers: DRAFT_VERSION_03";

fn bucket(tokens: u32) -> String {
    format!("token_bucket: {{max_tokens: {tokens}, tokens_per_fill: {}, fill_interval: 3600s}}", tokens.max(1))
}

/// A route with a configuration of its own.
fn route(path: &str, action: &str, config: &str) -> String {
    format!(
        "{{match: {{path: {path}}}, route: {{cluster: echo{action}}}, \
         typed_per_filter_config: {{limit: {{{MESSAGE}, stat_prefix: r, {config}}}}}}}"
    )
}

fn limited(name: &'static str) -> Group {
    Group::new(name).filters(&format!("{{name: limit, typed_config: {{{MESSAGE}, stat_prefix: l}}}}"))
}

/// Each request three times.
fn thrice(group: Group, cases: &[(&'static str, &'static str, &'static str, &str, &[&str])]) -> Group {
    cases.iter().fold(group, |group, (first, second, third, path, headers)| {
        group.get(first, path, headers).get(second, path, headers).get(third, path, headers)
    })
}

fn options() -> Group {
    let one = bucket(1);
    let add = |key: &str, value: &str, action: &str| {
        format!("{{header: {{key: {key}, value: '{value}'}}, append_action: {action}}}")
    };
    let marked = format!(
        "request_headers_to_add_when_not_enforced: [{}, {}]",
        add("x-limited", "%REQ(:PATH)%", "APPEND_IF_EXISTS_OR_ADD"),
        add("x-over", "limit", "OVERWRITE_IF_EXISTS_OR_ADD")
    );
    let told = format!(
        "response_headers_to_add: [{}, {}, {}]",
        add("x-limited", "%REQ(:METHOD)%", "APPEND_IF_EXISTS_OR_ADD"),
        add("x-limited", "twice", "APPEND_IF_EXISTS_OR_ADD"),
        add("x-limited", "never", "ADD_IF_ABSENT")
    );
    let enabled = |numerator: u32| format!("filter_enabled: {{default_value: {{numerator: {numerator}}}}}");
    let enforced = |numerator: u32| format!("filter_enforced: {{default_value: {{numerator: {numerator}}}}}");
    let routes = [
        route("/plain", "", &format!("{one}, {ON}")),
        route("/status", "", &format!("{one}, {ON}, status: {{code: ServiceUnavailable}}")),
        route("/status-good", "", &format!("{one}, {ON}, status: {{code: Accepted}}")),
        route("/told", "", &format!("{one}, {ON}, {told}")),
        route("/not-enforced", "", &format!("{one}, {}, {}, {marked}, {SHOWN}", enabled(100), enforced(0))),
        route("/not-enabled", "", &format!("{one}, {}, {}, {marked}, {SHOWN}", enabled(0), enforced(100))),
        route("/unset", "", &format!("{one}, {marked}")),
        route("/enabled-only", "", &format!("{one}, {}, {marked}", enabled(100))),
        route("/shown", "", &format!("{}, {ON}, {SHOWN}", bucket(2))),
        route(
            "/each-connection",
            "",
            &format!("{one}, {ON}, {SHOWN}, local_rate_limit_per_downstream_connection: true"),
        ),
        route("/exhausted", "", &format!("{one}, {ON}, rate_limited_as_resource_exhausted: true")),
        route("/later", "", &format!("{one}, {ON}, enable_retry_after_header: true")),
        route("/none", "", &format!("{}, {ON}, {SHOWN}", bucket(0))),
        "{match: {prefix: /}, route: {cluster: echo}}".to_owned(),
    ];
    let grpc: &[&str] = &["content-type: application/grpc"];
    let cases: &[(&'static str, &'static str, &'static str, &str, &[&str])] = &[
        ("plain", "plain 2", "plain 3", "/plain", &[]),
        ("status", "status 2", "status 3", "/status", &[]),
        ("status below 400", "status below 400 2", "status below 400 3", "/status-good", &[]),
        ("told", "told 2", "told 3", "/told", &[]),
        ("not enforced", "not enforced 2", "not enforced 3", "/not-enforced", &["x-over: client"]),
        ("not enabled", "not enabled 2", "not enabled 3", "/not-enabled", &[]),
        ("unset", "unset 2", "unset 3", "/unset", &[]),
        ("enabled only", "enabled only 2", "enabled only 3", "/enabled-only", &[]),
        ("shown", "shown 2", "shown 3", "/shown", &[]),
        ("each connection", "each connection 2", "each connection 3", "/each-connection", &[]),
        ("grpc", "grpc 2", "grpc 3", "/exhausted", grpc),
        ("grpc unavailable", "grpc unavailable 2", "grpc unavailable 3", "/status", grpc),
        ("later", "later 2", "later 3", "/later", &[]),
        ("none", "none 2", "none 3", "/none", &[]),
        ("other", "other 2", "other 3", "/other", &[]),
    ];
    thrice(limited("limit options").routes(&routes.join(", ")), cases)
}

/// A descriptor with a bucket.
fn of(entries: &str, tokens: u32) -> String {
    format!("{{entries: [{entries}], {}}}", bucket(tokens))
}

/// Rate limits of a route, one for each text of actions.
fn limits(actions: &[&str]) -> String {
    let each: Vec<String> = actions.iter().map(|actions| format!("{{actions: [{actions}]}}")).collect();
    format!(", rate_limits: [{}]", each.join(", "))
}

const USER: &str = "{request_headers: {header_name: x-user, descriptor_key: user}}";

/// A large bucket, and what is left of each.
fn base() -> String {
    format!("{}, {ON}, {SHOWN}", bucket(100))
}

/// Routes that count requests by one thing or another.
fn counting() -> Vec<String> {
    let (user, base) = (USER, base());
    let path = "{request_headers: {header_name: ':path', descriptor_key: path}}";
    vec![
        route("/exact", &limits(&[user]), &format!("{base}, descriptors: [{}]", of("{key: user, value: anna}", 1))),
        route(
            "/wild",
            &limits(&[user]),
            &format!("{base}, descriptors: [{}, {}]", of("{key: user}", 1), of("{key: user, value: anna}", 2)),
        ),
        route(
            "/wild-few",
            &limits(&[user]),
            &format!("{base}, max_dynamic_descriptors: 1, descriptors: [{}]", of("{key: user}", 1)),
        ),
        route(
            "/both",
            &limits(&[&format!("{user}, {path}")]),
            &format!("{base}, descriptors: [{}]", of("{key: user, value: anna}, {key: path, value: /both}", 1)),
        ),
        route(
            "/order",
            &limits(&[&format!("{path}, {user}")]),
            &format!("{base}, descriptors: [{}]", of("{key: user, value: anna}, {key: path, value: /order}", 1)),
        ),
        route(
            "/two",
            &limits(&[user, "{generic_key: {descriptor_value: all}}"]),
            &format!(
                "{base}, descriptors: [{}, {}]",
                of("{key: user, value: anna}", 2),
                of("{key: generic_key, value: all}", 1)
            ),
        ),
        route(
            "/generic",
            &limits(&["{generic_key: {descriptor_key: own, descriptor_value: all}}"]),
            &format!("{base}, descriptors: [{}]", of("{key: own, value: all}", 1)),
        ),
        route(
            "/address",
            &limits(&["{remote_address: {}}"]),
            &format!("{base}, descriptors: [{}]", of("{key: remote_address, value: 127.0.0.1}", 1)),
        ),
        route(
            "/cluster",
            &limits(&["{destination_cluster: {}}"]),
            &format!("{base}, descriptors: [{}]", of("{key: destination_cluster, value: echo}", 1)),
        ),
    ]
}

/// Routes where more than one thing decides.
fn deciding() -> Vec<String> {
    let (user, base) = (USER, base());
    vec![
        route(
            "/match",
            &limits(&[
                "{header_value_match: {descriptor_value: yes!, headers: [{name: x-user, string_match: {exact: anna}}]}}",
            ]),
            &format!("{base}, descriptors: [{}]", of("{key: header_match, value: yes!}", 1)),
        ),
        route(
            "/default-too",
            &limits(&[user]),
            &format!("{}, {ON}, {SHOWN}, descriptors: [{}]", bucket(2), of("{key: user, value: anna}", 50)),
        ),
        route(
            "/default-spared",
            &limits(&[user]),
            &format!(
                "{}, {ON}, {SHOWN}, always_consume_default_token_bucket: false, descriptors: [{}]",
                bucket(1),
                of("{key: user, value: anna}", 50)
            ),
        ),
        route(
            "/shadow",
            &limits(&[user]),
            &format!(
                "{base}, descriptors: [{{entries: [{{key: user, value: anna}}], shadow_mode: true, {}}}]",
                bucket(1)
            ),
        ),
        route(
            "/stage",
            ", rate_limits: [{stage: 0, actions: [{generic_key: {descriptor_value: zero}}]}, {stage: 1, actions: [{generic_key: {descriptor_value: one}}]}]",
            &format!(
                "{base}, stage: 1, descriptors: [{}, {}]",
                of("{key: generic_key, value: zero}", 1),
                of("{key: generic_key, value: one}", 2)
            ),
        ),
        route(
            "/own",
            &limits(&[user]),
            &format!(
                "{base}, rate_limits: [{{actions: [{{generic_key: {{descriptor_value: own}}}}]}}], descriptors: [{}, {}]",
                of("{key: generic_key, value: own}", 1),
                of("{key: user, value: anna}", 50)
            ),
        ),
    ]
}

/// What a request is counted as.
fn descriptors() -> Group {
    let routes = [counting(), deciding()].concat();
    let (anna, boris): (&[&str], &[&str]) = (&["x-user: anna"], &["x-user: boris"]);
    let cases: &[(&'static str, &'static str, &'static str, &str, &[&str])] = &[
        ("exact", "exact 2", "exact 3", "/exact", anna),
        ("exact other", "exact other 2", "exact other 3", "/exact", boris),
        ("exact nobody", "exact nobody 2", "exact nobody 3", "/exact", &[]),
        ("wild", "wild 2", "wild 3", "/wild", boris),
        ("wild exact", "wild exact 2", "wild exact 3", "/wild", anna),
        ("wild few", "wild few 2", "wild few 3", "/wild-few", boris),
        ("wild few next", "wild few next 2", "wild few next 3", "/wild-few", anna),
        ("wild few again", "wild few again 2", "wild few again 3", "/wild-few", boris),
        ("both", "both 2", "both 3", "/both", anna),
        ("order", "order 2", "order 3", "/order", anna),
        ("two", "two 2", "two 3", "/two", anna),
        ("generic", "generic 2", "generic 3", "/generic", &[]),
        ("address", "address 2", "address 3", "/address", &[]),
        ("cluster", "cluster 2", "cluster 3", "/cluster", &[]),
        ("match", "match 2", "match 3", "/match", anna),
        ("match not", "match not 2", "match not 3", "/match", boris),
        ("default too", "default too 2", "default too 3", "/default-too", anna),
        ("default spared", "default spared 2", "default spared 3", "/default-spared", anna),
        ("default used", "default used 2", "default used 3", "/default-spared", boris),
        ("shadow", "shadow 2", "shadow 3", "/shadow", anna),
        ("stage", "stage 2", "stage 3", "/stage", &[]),
        ("own", "own 2", "own 3", "/own", anna),
    ];
    thrice(limited("limit descriptors").routes(&routes.join(", ")), cases)
}

/// Limits of the virtual host, beside those of the route.
fn hosts() -> Group {
    let of =
        |value: &str, tokens: u32| format!("{{entries: [{{key: generic_key, value: {value}}}], {}}}", bucket(tokens));
    let config = |more: &str| {
        format!("{}, {ON}, {SHOWN}, descriptors: [{}, {}]{more}", bucket(100), of("host", 1), of("route", 2))
    };
    let own = ", rate_limits: [{actions: [{generic_key: {descriptor_value: route}}]}]";
    let routes = [
        route("/route", own, &config("")),
        route("/host", "", &config("")),
        route("/include", own, &config(", vh_rate_limits: INCLUDE")),
        route("/ignore", own, &config(", vh_rate_limits: IGNORE")),
        route("/ignore-host", "", &config(", vh_rate_limits: IGNORE")),
        route("/override", own, &config(", vh_rate_limits: OVERRIDE")),
        route("/by-route", &format!("{own}, include_vh_rate_limits: true"), &config("")),
    ];
    let table = format!(
        "virtual_hosts: [{{name: all, domains: ['*'], rate_limits: [{{actions: [{{generic_key: {{descriptor_value: host}}}}]}}], routes: [{}]}}]",
        routes.join(", ")
    );
    let cases: &[(&'static str, &'static str, &'static str, &str, &[&str])] = &[
        ("route", "route 2", "route 3", "/route", &[]),
        ("host", "host 2", "host 3", "/host", &[]),
        ("include", "include 2", "include 3", "/include", &[]),
        ("ignore", "ignore 2", "ignore 3", "/ignore", &[]),
        ("ignore host", "ignore host 2", "ignore host 3", "/ignore-host", &[]),
        ("override", "override 2", "override 3", "/override", &[]),
        ("by route", "by route 2", "by route 3", "/by-route", &[]),
    ];
    thrice(limited("limit hosts").table(&table), cases)
}
