//! The HTTP filters and their configurations by route.

use super::Group;

/// The groups of this file.
pub fn groups() -> Vec<Group> {
    let mut groups = vec![rate_limit(), rbac(), cors(), fault(), mutation(), health_check(), places()];
    groups.extend(health_checks());
    groups
}

const F: &str = "type.googleapis.com/envoy.extensions.filters.http";

fn filter(name: &str, message: &str, more: &str) -> String {
    format!(
        "{{name: {name}, typed_config: {{'@type': {F}.{message}{}{more}}}}}",
        if more.is_empty() { "" } else { ", " }
    )
}

fn by_route(path: &str, filter: &str, message: &str, more: &str) -> String {
    format!(
        "{{match: {{prefix: {path}}}, route: {{cluster: echo}}, \
         typed_per_filter_config: {{{filter}: {{'@type': {F}.{message}, {more}}}}}}}"
    )
}

const ECHO: &str = "{match: {prefix: /}, route: {cluster: echo}}";

fn rate_limit() -> Group {
    let limit = |more: &str| {
        format!(
            "stat_prefix: limit, token_bucket: {{max_tokens: 1, tokens_per_fill: 1, fill_interval: 3600s}}, \
             filter_enabled: {{default_value: {{numerator: 100}}}}, \
             filter_enforced: {{default_value: {{numerator: 100}}}}{more}"
        )
    };
    let message = "local_ratelimit.v3.LocalRateLimit";
    let route = |path: &str, more: &str| by_route(path, "limit", message, &limit(more));
    let descriptors = "{match: {prefix: /user}, route: {cluster: echo, rate_limits: [{actions: [{request_headers: \
         {header_name: x-user, descriptor_key: user}}]}]}, typed_per_filter_config: {limit: {'@type': "
        .to_owned()
        + &format!(
            "{F}.{message}, stat_prefix: d, token_bucket: {{max_tokens: 100, tokens_per_fill: 100, fill_interval: 3600s}}, "
        )
        + "filter_enabled: {default_value: {numerator: 100}}, filter_enforced: {default_value: {numerator: 100}}, \
           enable_x_ratelimit_headers: DRAFT_VERSION_03, descriptors: [{entries: [{key: user, value: anna}], \
           token_bucket: {max_tokens: 1, tokens_per_fill: 1, fill_interval: 3600s}}]}}}";
    let routes = [
        route("/plain", ""),
        route("/headers", ", enable_x_ratelimit_headers: DRAFT_VERSION_03"),
        route("/status", ", status: {code: 403}, response_headers_to_add: [{header: {key: x-limited, value: yes!}}]"),
        route("/grpc", ", rate_limited_as_resource_exhausted: true"),
        descriptors,
        ECHO.to_owned(),
    ];
    let mut group = Group::new("limit").filters(&filter("limit", message, "stat_prefix: l")).routes(&routes.join(", "));
    let cases: &[(&'static str, &'static str, &str, &[&str])] = &[
        ("plain", "plain again", "/plain", &[]),
        ("headers", "headers again", "/headers", &[]),
        ("status", "status again", "/status", &[]),
        ("grpc", "grpc again", "/grpc", &["content-type: application/grpc"]),
        ("anna", "anna again", "/user", &["x-user: anna"]),
        ("boris", "boris again", "/user", &["x-user: boris"]),
        ("off", "off again", "/off", &[]),
    ];
    for (first, second, path, headers) in cases {
        group = group.get(first, path, headers).get(second, path, headers);
    }
    group
}

fn rbac() -> Group {
    let rules = |action: &str, permissions: &str, principals: &str| {
        format!(
            "{{action: {action}, policies: {{main: {{permissions: [{permissions}], principals: [{principals}]}}}}}}"
        )
    };
    let message = "rbac.v3.RBACPerRoute";
    let any = "{any: true}";
    let route = |path: &str, rules: &str| by_route(path, "rbac", message, &format!("rbac: {{rules: {rules}}}"));
    let shadow = by_route("/shadow", "rbac", message, &format!("rbac: {{shadow_rules: {}}}", rules("DENY", any, any)));
    let routes = [
        route("/path", &rules("ALLOW", "{url_path: {path: {prefix: /path/yes}}}", any)),
        route("/deny", &rules("DENY", "{header: {name: x-bad, present_match: true}}", any)),
        route(
            "/method",
            &rules(
                "ALLOW",
                "{and_rules: {rules: [{header: {name: ':method', string_match: {exact: GET}}}, {not_rule: {header: {name: x-no, present_match: true}}}]}}",
                any,
            ),
        ),
        route(
            "/address",
            &rules(
                "ALLOW",
                any,
                "{remote_ip: {address_prefix: 10.0.0.0, prefix_len: 8}}, {header: {name: x-let, string_match: {exact: me}}}",
            ),
        ),
        route("/port", &rules("ALLOW", "{destination_port: 1}", any)),
        route("/tls", &rules("ALLOW", any, "{authenticated: {principal_name: {exact: a}}}")),
        shadow,
        by_route("/off", "rbac", "rbac.v3.RBACPerRoute", ""),
    ];
    let deny_all = filter("rbac", "rbac.v3.RBAC", "rules: {action: ALLOW, policies: {}}");
    let group = Group::new("rbac").filters(&deny_all).routes(&format!("{}, {ECHO}", routes.join(", ")));
    let cases: &[(&'static str, &str, &[&str])] = &[
        ("path allowed", "/path/yes", &[]),
        ("path denied", "/path/no?x=/path/yes", &[]),
        ("path allowed with query", "/path/yes?x", &[]),
        ("denied", "/deny", &["x-bad: 1"]),
        ("not denied", "/deny", &[]),
        ("method allowed", "/method", &[]),
        ("method denied", "/method", &["x-no: 1"]),
        ("address", "/address", &[]),
        ("address or header", "/address", &["x-let: me"]),
        ("port", "/port", &[]),
        ("tls", "/tls", &[]),
        ("shadow", "/shadow", &[]),
        ("off", "/off", &[]),
        ("all denied", "/other", &[]),
    ];
    cases.iter().fold(group, |group, (name, path, headers)| group.get(name, path, headers))
}

fn cors() -> Group {
    let policy = "allow_origin_string_match: [{exact: 'http://a.test'}, {safe_regex: {regex: 'http://.*\\.b\\.test'}}], \
        allow_methods: 'GET, PUT', allow_headers: x-one, expose_headers: x-two, max_age: '600', allow_credentials: true";
    let routes = [by_route("/cors", "cors", "cors.v3.CorsPolicy", policy), ECHO.to_owned()];
    let group = Group::new("cors").filters(&filter("cors", "cors.v3.Cors", "")).routes(&routes.join(", "));
    let ask = "access-control-request-method: PUT";
    group
        .request("preflight", "OPTIONS /cors HTTP/1.1", &["origin: http://a.test", ask], "")
        .request("preflight by regex", "OPTIONS /cors HTTP/1.1", &["origin: http://x.b.test", ask], "")
        .request("preflight other origin", "OPTIONS /cors HTTP/1.1", &["origin: http://c.test", ask], "")
        .request("preflight without method", "OPTIONS /cors HTTP/1.1", &["origin: http://a.test"], "")
        .request("preflight without policy", "OPTIONS /none HTTP/1.1", &["origin: http://a.test", ask], "")
        .get("actual", "/cors", &["origin: http://a.test"])
        .get("actual other origin", "/cors", &["origin: http://c.test"])
        .get(
            "actual with upstream's own",
            "/cors",
            &["origin: http://a.test", "x-do: header=access-control-allow-origin:x"],
        )
        .get("no origin", "/cors", &[])
}

fn fault() -> Group {
    let message = "fault.v3.HTTPFault";
    let route = |path: &str, more: &str| by_route(path, "fault", message, more);
    let routes = [
        route("/abort", "abort: {http_status: 418, percentage: {numerator: 100}}"),
        route("/never", "abort: {http_status: 418, percentage: {numerator: 0}}"),
        route("/grpc", "abort: {grpc_status: 14, percentage: {numerator: 100}}"),
        route("/delay", "delay: {fixed_delay: 0.1s, percentage: {numerator: 100}}"),
        route(
            "/both",
            "delay: {fixed_delay: 0.1s, percentage: {numerator: 100}}, abort: {http_status: 503, percentage: {numerator: 100}}",
        ),
        route(
            "/some",
            "abort: {http_status: 418, percentage: {numerator: 100}}, headers: [{name: x-fault, present_match: true}]",
        ),
        route("/header", "abort: {header_abort: {}, percentage: {numerator: 100}}"),
        route("/text", "abort: {http_status: 418, response_body: own, percentage: {numerator: 100}}"),
        route("/slow", "response_rate_limit: {fixed_limit: {limit_kbps: 2}, percentage: {numerator: 100}}"),
        route("/slow-header", "response_rate_limit: {header_limit: {}, percentage: {numerator: 100}}"),
        ECHO.to_owned(),
    ];
    let group = Group::new("fault").filters(&filter("fault", message, "")).routes(&routes.join(", "));
    let cases: &[(&'static str, &str, &[&str])] = &[
        ("abort", "/abort", &[]),
        ("never", "/never", &[]),
        ("grpc", "/grpc", &["content-type: application/grpc"]),
        ("delay", "/delay", &[]),
        ("both", "/both", &[]),
        ("some not", "/some", &[]),
        ("some", "/some", &["x-fault: 1"]),
        ("by header", "/header", &["x-envoy-fault-abort-request: 429"]),
        ("by header absent", "/header", &[]),
        ("text", "/text", &[]),
        ("slow", "/slow", &["x-do: size=300"]),
        ("slow with trailers", "/slow", &["x-do: trailers size=300"]),
        ("slow by header", "/slow-header", &["x-envoy-fault-throughput-response: 4", "x-do: size=300"]),
        ("off", "/off", &[]),
    ];
    cases.iter().fold(group, |group, (name, path, headers)| group.get(name, path, headers))
}

/// Health checks that look at clusters, and ones that are answered for a while by what the application said.
fn health_checks() -> [Group; 2] {
    let at = |path: &str, more: &str| {
        let headers = format!("headers: [{{name: ':path', string_match: {{exact: {path}}}}}]");
        let name = format!("at{}", path.replace('/', "-"));
        filter(&name, "health_check.v3.HealthCheck", &format!("{headers}, {more}"))
    };
    let by = |path: &str, clusters: &str| {
        at(path, &format!("pass_through_mode: false, cluster_min_healthy_percentages: {{{clusters}}}"))
    };
    let filters = [
        by("/good", "echo: {value: 100}, ring: {value: 50}"),
        by("/missing", "missing: {value: 0}"),
        by("/empty", "empty: {value: 1}"),
        by("/empty-zero", "empty: {value: 0}"),
    ];
    let cached = at("/cached", "pass_through_mode: true, cache_time: 3600s");
    [
        Group::new("health clusters")
            .filters(&filters.join(", "))
            .routes(ECHO)
            .get("good", "/good", &[])
            .get("missing", "/missing", &[])
            .get("empty", "/empty", &[])
            .get("empty and zero", "/empty-zero", &[]),
        Group::new("health cached")
            .filters(&cached)
            .routes(ECHO)
            .get("other", "/other", &[])
            .get("asked", "/cached", &["x-do: status=503 header=x-envoy-degraded:1"])
            .get("told again", "/cached", &[]),
    ]
}

/// What the most specific place configures counts: weighted cluster, route, virtual host, table.
fn places() -> Group {
    let abort = |status: u32| {
        format!(
            "{{fault: {{'@type': {F}.fault.v3.HTTPFault, abort: {{http_status: {status}, percentage: {{numerator: 100}}}}}}}}"
        )
    };
    let off = "{fault: {'@type': type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}}";
    let share = |config: &str| {
        format!("weighted_clusters: {{clusters: [{{name: echo, weight: 1, typed_per_filter_config: {config}}}]}}")
    };
    let routes = [
        "{match: {path: /host}, route: {cluster: echo}}".to_owned(),
        format!("{{match: {{path: /route}}, route: {{cluster: echo}}, typed_per_filter_config: {}}}", abort(420)),
        format!(
            "{{match: {{path: /share}}, route: {{{}}}, typed_per_filter_config: {}}}",
            share(&abort(430)),
            abort(420)
        ),
        format!("{{match: {{path: /off}}, route: {{cluster: echo}}, typed_per_filter_config: {off}}}"),
        format!("{{match: {{path: /share-off}}, route: {{{}}}}}", share(off)),
        format!(
            "{{match: {{path: /direct}}, direct_response: {{status: 200}}, typed_per_filter_config: {}}}",
            abort(421)
        ),
    ];
    let table = format!(
        "typed_per_filter_config: {}, virtual_hosts: [{{name: own, domains: [own.test], typed_per_filter_config: {}, routes: [{}]}}, \
         {{name: none, domains: ['*'], routes: [{ECHO}]}}]",
        abort(400),
        abort(410),
        routes.join(", ")
    );
    let group = Group::new("places").filters(&filter("fault", "fault.v3.HTTPFault", "")).table(&table);
    let paths = [
        ("host", "/host"),
        ("route", "/route"),
        ("share", "/share"),
        ("off", "/off"),
        ("share off", "/share-off"),
        ("direct", "/direct"),
    ];
    let group = paths.into_iter().fold(group, |group, (name, path)| group.get(name, path, &["host: own.test"]));
    group.get("table", "/", &[])
}

fn mutation() -> Group {
    let change = |what: &str| {
        format!(
            "mutations: {{request_mutations: [{{append: {{header: {{key: x-by, value: '{what}'}}, append_action: APPEND_IF_EXISTS_OR_ADD}}}}, \
             {{remove: x-gone}}], response_mutations: [{{append: {{header: {{key: x-by, value: '%RESPONSE_CODE% {what}'}}, \
             append_action: APPEND_IF_EXISTS_OR_ADD}}}}, {{remove: x-leave}}]}}"
        )
    };
    let routes = [
        by_route("/route", "mutation", "header_mutation.v3.HeaderMutationPerRoute", &change("route")),
        ECHO.to_owned(),
    ];
    let all = filter("mutation", "header_mutation.v3.HeaderMutation", &change("filter"));
    Group::new("mutation")
        .filters(&all)
        .routes(&routes.join(", "))
        .get("filter", "/", &["x-gone: 1", "x-by: client", "x-do: header=x-leave:1"])
        .get("route", "/route", &["x-gone: 1", "x-do: header=x-by:up"])
}

fn health_check() -> Group {
    let check = filter(
        "health",
        "health_check.v3.HealthCheck",
        "pass_through_mode: false, headers: [{name: ':path', string_match: {exact: /healthz}}]",
    );
    Group::new("health").filters(&check).routes(ECHO).get("check", "/healthz", &[]).get("other", "/healthy", &[])
}
