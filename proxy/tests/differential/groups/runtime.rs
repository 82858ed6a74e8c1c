//! Values of `layered_runtime` in place of what routes and filters say.

use super::Group;

/// The static layers of the bootstrap; the later one wins.
pub const LAYERS: &str = "layered_runtime: {layers: [\
    {name: base, static_layer: {test: {on: 100, off: 100, text: '100', whole: {numerator: 1000000, denominator: MILLION}, \
    none: {numerator: 0}, above: 4000, half: 0.5, half_text: '0.5', flag: true, status: 418, shares: {echo: 0, second: 100}}}}, \
    {name: over, static_layer: {test.off: 0}}, {name: admin, admin_layer: {}}]}";

/// The groups of this file.
pub fn groups() -> Vec<Group> {
    vec![fractions(), faults()]
}

fn fractions() -> Group {
    let route = |path: &str, default: u32, key: &str| {
        format!(
            "{{match: {{path: {path}, runtime_fraction: {{default_value: {{numerator: {default}}}, runtime_key: {key}}}}}, \
             direct_response: {{status: 202, body: {{inline_string: hit}}}}}}"
        )
    };
    let routes = [
        route("/on", 0, "test.on"),
        route("/off", 100, "test.off"),
        route("/text", 0, "test.text"),
        route("/whole", 0, "test.whole"),
        route("/none", 100, "test.none"),
        route("/above", 0, "test.above"),
        route("/half", 0, "test.half"),
        route("/half-whole", 100, "test.half"),
        route("/half-text", 100, "test.half_text"),
        route("/flag", 0, "test.flag"),
        route("/unset", 0, "test.unset"),
        route("/unset-whole", 100, "test.unset"),
        "{match: {path: /shares}, route: {weighted_clusters: {runtime_key_prefix: test.shares, clusters: [\
         {name: echo, weight: 100}, {name: second, weight: 0}]}}}"
            .to_owned(),
        "{match: {prefix: /}, route: {cluster: echo}}".to_owned(),
    ];
    let paths = [
        "/on",
        "/off",
        "/text",
        "/whole",
        "/none",
        "/above",
        "/half",
        "/half-whole",
        "/half-text",
        "/flag",
        "/unset",
        "/unset-whole",
        "/shares",
    ];
    let group = Group::new("runtime").routes(&routes.join(", "));
    paths.into_iter().fold(group, |group, path| group.get(path, path, &[]))
}

fn faults() -> Group {
    const MESSAGE: &str = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";
    let route = |path: &str, fault: &str| {
        format!(
            "{{match: {{path: {path}}}, route: {{cluster: echo}}, \
             typed_per_filter_config: {{fault: {{'@type': {MESSAGE}, {fault}}}}}}}"
        )
    };
    let abort = |percent: u32| format!("abort: {{http_status: 503, percentage: {{numerator: {percent}}}}}");
    let routes = [
        route("/on", &format!("abort_percent_runtime: test.on, {}", abort(0))),
        route("/off", &format!("abort_percent_runtime: test.off, {}", abort(100))),
        route("/status", &format!("abort_http_status_runtime: test.status, {}", abort(100))),
        route("/none", &format!("max_active_faults_runtime: test.off, {}", abort(100))),
        route("/unset", &format!("abort_percent_runtime: test.unset, {}", abort(100))),
    ];
    let filter = format!("{{name: fault, typed_config: {{'@type': {MESSAGE}}}}}");
    let group = Group::new("runtime-faults").filters(&filter).routes(&routes.join(", "));
    ["/on", "/off", "/status", "/none", "/unset"].into_iter().fold(group, |group, path| group.get(path, path, &[]))
}
