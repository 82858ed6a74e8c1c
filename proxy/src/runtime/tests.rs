use ferromesh_proto::envoy::config::bootstrap::v3::LayeredRuntime;
use ferromesh_proto::envoy::config::cluster::v3::Cluster;
use ferromesh_proto::envoy::config::listener::v3::Listener;
use ferromesh_proto::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use ferromesh_proto::json;

use super::Runtime;

fn runtime(layers: &str) -> Runtime {
    let message: LayeredRuntime = json::from_yaml(&format!("{{layers: [{layers}]}}")).unwrap();
    Runtime::decode(Some(&message)).unwrap()
}

fn layer(values: &str) -> Runtime {
    runtime(&format!("{{name: base, static_layer: {values}}}"))
}

#[test]
fn later_layers_win_and_structs_become_keys_with_dots() {
    let runtime = runtime(
        "{name: base, static_layer: {a: {b: 1, c: {d: '7'}}, x: yes!}}, {name: over, static_layer: {a.b: 2}}, \
         {name: admin, admin_layer: {}}",
    );
    let integers: Vec<_> = ["a.b", "a.c.d", "a", "x", "y"].iter().map(|key| runtime.integer(key)).collect();
    assert_eq!(integers, [Some(2), Some(7), None, None, None]);
    let shown = runtime.to_json();
    assert_eq!(shown["layers"], serde_json::json!(["base", "over", "admin"]));
    assert_eq!(shown["entries"]["a.b"], serde_json::json!({"layer_values": ["1", "2", ""], "final_value": "2"}));
}

#[test]
fn a_value_counts_in_every_form_that_it_has() {
    let runtime = layer(
        "{whole: 40, text: '40', above: 400, half: 0.5, minus: -1, true: true, word: 'False', zero: 0, \
         fraction: {numerator: 5, denominator: MILLION}, written: '{numerator: 6}', empty: {}}",
    );
    let percent = |numerator, denominator: DenominatorType| {
        Some(FractionalPercent { numerator, denominator: denominator as i32 })
    };
    use DenominatorType::{Hundred, Million};
    let table = [
        ("whole", percent(40, Hundred), Some(40.0), Some(true)),
        ("text", percent(40, Hundred), Some(40.0), Some(true)),
        ("above", percent(100, Hundred), Some(400.0), Some(true)),
        ("half", percent(0, Hundred), Some(0.5), Some(false)),
        ("minus", None, Some(-1.0), None),
        ("true", None, None, Some(true)),
        ("word", None, None, Some(false)),
        ("zero", percent(0, Hundred), Some(0.0), Some(false)),
        ("fraction", percent(5, Million), None, None),
        ("written", percent(6, Hundred), None, None),
        ("empty", percent(0, Hundred), None, None),
    ];
    for (key, fraction, number, flag) in table {
        assert_eq!((runtime.fraction(key), runtime.number(key), runtime.flag(key)), (fraction, number, flag), "{key}");
    }
}

#[test]
fn what_cannot_be_used_is_named() {
    let table = [
        ("{name: a, static_layer: {b: {c: null}}}", "layered_runtime.layers[0].static_layer.b.c"),
        ("{name: a, static_layer: {b: [1]}}", "layered_runtime.layers[0].static_layer.b"),
        ("{name: a, disk_layer: {symlink_root: /x}}", "layered_runtime.layers[0].disk_layer"),
        ("{name: a, rtds_layer: {name: x}}", "layered_runtime.layers[0].rtds_layer"),
        ("{name: a}", "layered_runtime.layers[0].static_layer"),
        ("{name: a, admin_layer: {}}, {name: a, static_layer: {}}", "layered_runtime.layers[1].name"),
        ("{name: a, admin_layer: {}}, {name: b, admin_layer: {}}", "layered_runtime.layers[1].admin_layer"),
    ];
    for (layers, path) in table {
        let message: LayeredRuntime = json::from_yaml(&format!("{{layers: [{layers}]}}")).unwrap();
        assert_eq!(Runtime::decode(Some(&message)).unwrap_err().path, path, "{layers}");
    }
}

#[test]
fn clusters_take_their_numbers_from_the_runtime() {
    let runtime = layer(
        "{upstream.healthy_panic_threshold: 0, outlier_detection: {consecutive_5xx: 2, interval_ms: 1500, \
         max_ejection_percent: 500}, circuit_breakers: {c: {default: {max_requests: 9}, \
         high: {retry_budget: {budget_percent: 12.5}}}}}",
    );
    let before: Cluster = json::from_yaml(
        "{name: c, outlier_detection: {consecutive_5xx: 7, interval: 4s, consecutive_gateway_failure: 3}, \
         circuit_breakers: {thresholds: [{max_requests: 5, max_connections: 6}]}}",
    )
    .unwrap();
    let wanted: Cluster = json::from_yaml(
        "{name: c, common_lb_config: {healthy_panic_threshold: {value: 0}}, \
         outlier_detection: {consecutive_5xx: 2, interval: 1.5s, consecutive_gateway_failure: 3, max_ejection_percent: 100}, \
         circuit_breakers: {thresholds: [{max_requests: 9, max_connections: 6}, \
         {priority: HIGH, retry_budget: {budget_percent: {value: 12.5}}}]}}",
    )
    .unwrap();
    assert_eq!(runtime.resolve(&before), wanted);
    assert_eq!(Runtime::default().resolve(&before), before);
}

/// A listener with a connection manager, its parts as given.
fn listener(route: &str, fault: &str, log: &str) -> Listener {
    json::from_yaml(&format!(
        "{{name: l, filter_chains: [{{filters: [{{name: hcm, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, \
         access_log: [{{name: f, filter: {{{log}}}}}], http_filters: [{{name: fault, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault, {fault}}}}}], route_config: {{virtual_hosts: \
         [{{name: v, domains: ['*'], routes: [{{{route}}}]}}]}}}}}}]}}]}}",
    ))
    .unwrap()
}

#[test]
fn values_reach_every_depth_of_a_listener() {
    let runtime = layer(
        "{r: 25, w: {one: 10}, f: {numerator: 3, denominator: TEN_THOUSAND}, fault.http.abort.http_status: 418, \
         log: 1, least: 500}",
    );
    let weighted = |one: u32| {
        format!(
            "route: {{weighted_clusters: {{runtime_key_prefix: w, clusters: [{{name: one, weight: {one}}}, {{name: two, weight: 4}}]}}}}"
        )
    };
    let route = |percent: &str, one: u32| {
        format!(
            "match: {{prefix: /, runtime_fraction: {{default_value: {{{percent}}}, runtime_key: r}}}}, {}",
            weighted(one)
        )
    };
    let abort = |percent: &str, status: u32| {
        format!("abort_percent_runtime: f, abort: {{http_status: {status}, percentage: {{{percent}}}}}")
    };
    let log = |percent: &str, least: u32| {
        format!(
            "and_filter: {{filters: [{{runtime_filter: {{runtime_key: log, percent_sampled: {{{percent}}}}}}}, \
             {{status_code_filter: {{comparison: {{op: GE, value: {{default_value: {least}, runtime_key: least}}}}}}}}]}}"
        )
    };
    let before = listener(&route("numerator: 100", 1), &abort("numerator: 100", 503), &log("numerator: 50", 400));
    let wanted = listener(
        &route("numerator: 25", 10),
        &abort("numerator: 3, denominator: TEN_THOUSAND", 418),
        &log("numerator: 1", 500),
    );
    assert_eq!(json::to_json(&runtime.resolve(&before)), json::to_json(&wanted));
    let unrelated = layer("{other: 1}");
    assert_eq!(json::to_json(&unrelated.resolve(&before)), json::to_json(&before));
}

#[test]
fn keys_that_nothing_heeds_are_known() {
    let runtime = layer(
        "{mine: 1, r: 25, outlier_detection.consecutive_5xx: 3, outlier_detection.nothing: 3, \
         envoy.reloadable_features.x: true, circuit_breakers: {a.b: {default: {max_requests: 1, max_x: 1}}}, \
         envoy.resource_limits.listener.l.connection_limit: 3, overload.global_downstream_max_connections: '2147483647'}",
    );
    runtime.resolve(&listener(
        "match: {prefix: /, runtime_fraction: {runtime_key: r}}, route: {cluster: c}",
        "",
        "not_health_check_filter: {}",
    ));
    let idle =
        ["circuit_breakers.a.b.default.max_x", "envoy.reloadable_features.x", "mine", "outlier_detection.nothing"];
    assert_eq!(runtime.without_effect(), idle);
    assert_eq!((runtime.connections("l"), runtime.global_connections()), (Some(3), Some(2_147_483_647)));
}
