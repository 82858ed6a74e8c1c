//! JSON and YAML to messages and back, as EnvoyFilters and bootstrap files write them.

use ferromesh_proto::envoy::config::cluster::v3::{Cluster, cluster};
use ferromesh_proto::envoy::config::listener::v3::{Listener, filter};
use ferromesh_proto::envoy::config::route::v3::{RouteConfiguration, route, route_action};
use ferromesh_proto::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use ferromesh_proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, http_filter,
};
use ferromesh_proto::json::{any_from_json, any_to_json, from_json, from_yaml, resolve_typed_struct, to_json};
use ferromesh_proto::prost::{Message, Name};
use ferromesh_proto::xds::r#type::v3::TypedStruct;
use ferromesh_proto::{Any, udpa};
use serde_json::json;

/// The filter of the rate-limit tutorial, in snake case and with its stat prefix first.
const RATE_LIMIT: &str = r#"
name: envoy.filters.http.local_ratelimit
typed_config:
  "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
  stat_prefix: http_local_rate_limiter
  token_bucket: { max_tokens: 10, tokens_per_fill: 10, fill_interval: 60s }
  filter_enabled:
    runtime_key: local_rate_limit_enabled
    default_value: { numerator: 100, denominator: HUNDRED }
  response_headers_to_add:
    - append: false
      header: { key: x-rate-limited, value: "true" }
"#;

fn rate_limit_of(filter: &HttpFilter) -> LocalRateLimit {
    let Some(http_filter::ConfigType::TypedConfig(any)) = &filter.config_type else { panic!("no typed config") };
    any.unpack().unwrap()
}

#[test]
fn an_envoy_filters_value_reads_in_snake_case() {
    let filter: HttpFilter = from_yaml(RATE_LIMIT).unwrap();
    let limit = rate_limit_of(&filter);
    let bucket = limit.token_bucket.unwrap();
    assert_eq!((bucket.max_tokens, bucket.tokens_per_fill.unwrap()), (10, 10));
    assert_eq!(bucket.fill_interval.unwrap().seconds, 60);
    assert_eq!(limit.response_headers_to_add[0].header.as_ref().unwrap().key, "x-rate-limited");
}

#[test]
fn camel_case_gives_the_same_message() {
    let snake: HttpFilter = from_yaml(RATE_LIMIT).unwrap();
    let camel = RATE_LIMIT
        .replace("typed_config", "typedConfig")
        .replace("stat_prefix", "statPrefix")
        .replace("token_bucket", "tokenBucket")
        .replace("max_tokens", "maxTokens")
        .replace("tokens_per_fill", "tokensPerFill")
        .replace("fill_interval", "fillInterval")
        .replace("response_headers_to_add", "responseHeadersToAdd");
    assert_eq!(from_yaml::<HttpFilter>(&camel).unwrap(), snake);
}

#[test]
fn enums_read_as_words_and_as_numbers_and_durations_keep_their_fraction() {
    for lb_policy in [json!("LEAST_REQUEST"), json!(1)] {
        let read: Cluster =
            from_json(json!({ "name": "a", "type": "EDS", "connect_timeout": "0.250s", "lb_policy": lb_policy }))
                .unwrap();
        assert_eq!(read.lb_policy, cluster::LbPolicy::LeastRequest as i32);
        assert_eq!(read.connect_timeout.unwrap().nanos, 250_000_000);
        assert_eq!(read.cluster_discovery_type, Some(cluster::ClusterDiscoveryType::Type(3)));
    }
    let error = from_json::<Cluster>(json!({ "lb_policy": "FASTEST" })).unwrap_err().to_string();
    assert!(error.contains("FASTEST"), "{error}");
}

#[test]
fn an_unknown_field_is_an_error_that_names_message_and_field() {
    let error = from_yaml::<RouteConfiguration>("virtual_hostz: []").unwrap_err().to_string();
    assert!(error.contains("RouteConfiguration") && error.contains("virtual_hostz"), "{error}");
    // At any depth, within a payload too.
    let error = from_yaml::<HttpFilter>(&RATE_LIMIT.replace("max_tokens", "max_token")).unwrap_err().to_string();
    assert!(error.contains("max_token"), "{error}");
    assert!(from_yaml::<Cluster>("name: [").unwrap_err().to_string().contains("YAML"));
}

#[test]
fn nested_payloads_read_and_print_with_their_types() {
    let listener = json!({
        "name": "virtualInbound",
        "address": { "socket_address": { "address": "0.0.0.0", "port_value": 15006 } },
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": HttpConnectionManager::type_url(),
                "stat_prefix": "inbound",
                "http_filters": [{ "name": "limit", "typed_config": {
                    "@type": LocalRateLimit::type_url(), "stat_prefix": "deep",
                }}],
            },
        }]}],
    });
    let read: Listener = from_json(listener.clone()).unwrap();
    let Some(filter::ConfigType::TypedConfig(any)) = &read.filter_chains[0].filters[0].config_type else {
        panic!("no typed config")
    };
    let manager: HttpConnectionManager = any.unpack().unwrap();
    assert_eq!(rate_limit_of(&manager.http_filters[0]).stat_prefix, "deep");
    assert_eq!(to_json(&read), listener, "lossless, and in snake case");
    assert_eq!(from_json::<Listener>(to_json(&read)).unwrap(), read);
}

#[test]
fn a_route_configuration_goes_round_without_loss() {
    let routes: RouteConfiguration = from_yaml(
        "
        name: '80'
        virtual_hosts:
        - name: web
          domains: ['*']
          routes:
          - match: { prefix: /, headers: [{ name: x-canary, string_match: { exact: 'yes' } }] }
            route:
              weighted_clusters: { clusters: [{ name: a, weight: 80 }, { name: b, weight: 20 }] }
              timeout: 1.5s
          - match: { safe_regex: { regex: '/a.*' } }
            direct_response: { status: 404, body: { inline_bytes: AAEC } }
        ",
    )
    .unwrap();
    let Some(route::Action::Route(action)) = &routes.virtual_hosts[0].routes[0].action else { panic!("no route") };
    let Some(route_action::ClusterSpecifier::WeightedClusters(split)) = &action.cluster_specifier else {
        panic!("no weighted clusters")
    };
    assert_eq!(split.clusters[1].weight.unwrap(), 20);
    assert_eq!(from_json::<RouteConfiguration>(to_json(&routes)).unwrap(), routes);
    assert_eq!(RouteConfiguration::decode(routes.encode_to_vec().as_slice()).unwrap(), routes);
}

#[test]
fn a_typed_struct_of_either_kind_becomes_the_message_that_it_names() {
    for kind in [TypedStruct::type_url(), udpa::r#type::v1::TypedStruct::type_url()] {
        let any = any_from_json(json!({
            "@type": kind,
            "type_url": LocalRateLimit::type_url(),
            "value": { "stat_prefix": "from a struct", "token_bucket": { "max_tokens": 3, "fillInterval": "1s" } },
        }))
        .unwrap();
        let limit: LocalRateLimit = resolve_typed_struct(&any).unwrap().unpack().unwrap();
        assert_eq!(limit.stat_prefix, "from a struct", "{kind}");
        assert_eq!(limit.token_bucket.unwrap().max_tokens, 3);
    }
    let plain = Any::pack(&LocalRateLimit::default());
    assert_eq!(resolve_typed_struct(&plain).unwrap(), plain);
}

#[test]
fn a_typed_struct_that_cannot_be_resolved_names_what_is_wrong() {
    let resolve = |type_url: &str, value| {
        let any =
            any_from_json(json!({ "@type": TypedStruct::type_url(), "type_url": type_url, "value": value })).unwrap();
        resolve_typed_struct(&any).unwrap_err().to_string()
    };
    assert!(resolve("type.googleapis.com/a.b.Unknown", json!({})).contains("a.b.Unknown"));
    assert!(resolve(&LocalRateLimit::type_url(), json!({ "stat_prefux": "a" })).contains("stat_prefux"));
    assert!(resolve("", json!({})).contains("type_url"));
}

#[test]
fn an_unknown_type_is_kept_and_named() {
    const WASM: &str = "type.googleapis.com/acme.filters.v9.Wasm";
    let filter: HttpFilter = from_json(
        json!({ "name": "acme", "typed_config": { "@type": WASM, "code": "abc", "depth": [1, { "a": true }] } }),
    )
    .unwrap();
    let Some(http_filter::ConfigType::TypedConfig(any)) = &filter.config_type else { panic!("no typed config") };
    let kept: TypedStruct = any.unpack().unwrap();
    assert_eq!(kept.type_url, WASM);
    assert!(resolve_typed_struct(any).unwrap_err().to_string().contains("acme.filters.v9.Wasm"));
    let shown = any_to_json(any, true);
    assert_eq!(shown["type_url"], WASM);
    assert_eq!(shown["value"]["depth"], json!([1.0, { "a": true }]));
    // The messages are compared, not their bytes: a map's entries are encoded in no fixed order.
    let again: HttpFilter = from_json(to_json(&filter)).unwrap();
    let Some(http_filter::ConfigType::TypedConfig(again)) = &again.config_type else { panic!("no typed config") };
    assert_eq!(again.unpack::<TypedStruct>().unwrap(), kept);
}

#[test]
fn bytes_of_an_unknown_type_are_shown_and_named() {
    let any = Any { type_url: "type.googleapis.com/acme.Thing".into(), value: vec![0xff, 0, 1].into() };
    let filter = HttpFilter {
        name: "acme".into(),
        config_type: Some(http_filter::ConfigType::TypedConfig(any)),
        ..Default::default()
    };
    let shown = to_json(&filter).to_string();
    assert!(shown.contains("acme.Thing") && shown.contains("/wAB"), "{shown}");
}

#[test]
fn a_payload_is_shared_by_its_clones_and_by_the_messages_that_carry_it() {
    let any = Any::pack(&RouteConfiguration { name: "80".into(), ..Default::default() });
    let copy = any.clone();
    assert_eq!(copy.value.as_ptr(), any.value.as_ptr());
    let filter =
        HttpFilter { config_type: Some(http_filter::ConfigType::TypedConfig(any.clone())), ..Default::default() };
    let Some(http_filter::ConfigType::TypedConfig(inner)) = filter.clone().config_type else {
        panic!("no typed config")
    };
    assert_eq!(inner.value.as_ptr(), any.value.as_ptr());
}

#[test]
fn a_payload_read_as_another_type_is_refused_by_name() {
    let error = Any::pack(&Cluster::default()).unpack::<Listener>().unwrap_err().to_string();
    assert!(error.contains("Listener") && error.contains("Cluster"), "{error}");
    assert!(any_from_json(json!({ "name": "a" })).unwrap_err().to_string().contains("@type"));
}

fn fault(message: &str, value: serde_json::Value) -> String {
    ferromesh_proto::json::encode(message, &value).expect_err("is refused").to_string()
}

#[test]
fn a_mistake_is_named_with_its_path() {
    let routes = "envoy.config.route.v3.RouteConfiguration";
    let hosts = |route: serde_json::Value| json!({ "virtual_hosts": [{ "name": "a" }, { "routes": [route] }] });
    let at = "envoy.config.route.v3.RouteConfiguration: virtual_hosts[1].routes[0]";
    assert_eq!(
        fault(routes, hosts(json!({ "match": { "prefux": "/" } }))),
        format!("{at}.match.prefux: no such field in envoy.config.route.v3.RouteMatch")
    );
    assert_eq!(
        fault(routes, hosts(json!({ "route": { "cluster": "a", "weighted_clusters": {} } }))),
        format!("{at}.route: only one of cluster and weighted_clusters may be set")
    );
    assert_eq!(
        fault(routes, hosts(json!({ "route": { "timeout": "soon" } }))),
        format!("{at}.route.timeout: expected a duration like 1.5s, found the string \"soon\"")
    );
    assert_eq!(
        fault(routes, hosts(json!({ "typed_per_filter_config": { "envoy.cors": { "a": 1 } } }))),
        format!("{at}.typed_per_filter_config[\"envoy.cors\"]: @type is missing")
    );
    let cluster = "envoy.config.cluster.v3.Cluster";
    assert_eq!(
        fault(cluster, json!({ "name": "a", "lb_policy": "ROUND_ROBBIN" })),
        "envoy.config.cluster.v3.Cluster: lb_policy: \"ROUND_ROBBIN\" is not one of \
         envoy.config.cluster.v3.Cluster.LbPolicy: ROUND_ROBIN, LEAST_REQUEST, RING_HASH, RANDOM, MAGLEV, \
         CLUSTER_PROVIDED, LOAD_BALANCING_POLICY_CONFIG"
    );
    assert!(
        fault(cluster, json!({ "alt_stat_name": "a", "altStatName": "b" })).ends_with("alt_stat_name: is set twice")
    );
    assert!(fault(cluster, json!({ "name": 7 })).ends_with("name: expected a string, found 7"));
    assert!(fault(cluster, json!([])).contains("expected an object"));
    let deep = (0..200).fold(json!({}), |inner, _| json!({ "or_match": { "rules": [inner] } }));
    assert!(fault("envoy.config.tap.v3.MatchPredicate", deep).contains("too deeply"));
}

#[test]
fn numbers_and_bytes_are_read_in_every_form_that_json_gives_them() {
    let wrapped = |kind: &str, value: serde_json::Value| {
        let any = any_from_json(json!({ "@type": format!("t/google.protobuf.{kind}"), "value": value })).unwrap();
        any_to_json(&any, false)
    };
    for value in [json!("12"), json!(12), json!(12.0), json!("1.2e1")] {
        assert_eq!(wrapped("Int64Value", value.clone()), json!("12"), "{value}");
        assert_eq!(wrapped("UInt32Value", value.clone()), json!(12), "{value}");
    }
    assert_eq!(wrapped("UInt64Value", json!("18446744073709551615")), json!("18446744073709551615"));
    for value in ["NaN", "Infinity", "-Infinity"] {
        assert_eq!(wrapped("DoubleValue", json!(value)), json!(value));
        assert_eq!(wrapped("FloatValue", json!(value)), json!(value));
    }
    for value in ["+/8=", "+/8", "-_8=", "-_8"] {
        assert_eq!(wrapped("BytesValue", json!(value)), json!("+/8="), "{value}");
    }
    assert_eq!(wrapped("FloatValue", json!(0.1)), json!(0.1));
    assert_eq!(wrapped("Duration", json!("-0.5s")), json!("-0.500s"));
    assert_eq!(wrapped("Timestamp", json!("2026-01-31T13:00:00.5+01:00")), json!("2026-01-31T12:00:00.500Z"));
    assert_eq!(wrapped("FieldMask", json!("a.fooBar,b")), json!("a.fooBar,b"));
    for (kind, value) in [
        ("Int64Value", json!(1.5)),
        ("Int64Value", json!("9223372036854775808")),
        ("UInt32Value", json!(-1)),
        ("DoubleValue", json!("nan")),
        ("FloatValue", json!(1e39)),
        ("BytesValue", json!("+_8=")),
        ("BoolValue", json!("true")),
        ("Duration", json!("1")),
        ("Duration", json!("315576000001s")),
        ("Duration", json!("1.0000000001s")),
        ("Timestamp", json!("yesterday")),
        ("FieldMask", json!("foo_bar")),
    ] {
        let read = any_from_json(json!({ "@type": format!("t/google.protobuf.{kind}"), "value": value }));
        assert!(read.is_err(), "{kind} {value}");
    }
}

#[test]
fn a_type_that_is_named_inside_of_a_struct_is_data() {
    let node =
        json!({ "id": "a", "metadata": { "rule": { "@type": "type.googleapis.com/acme.Thing", "depth": 2.0 } } });
    let read: ferromesh_proto::envoy::config::core::v3::Node = from_json(node.clone()).unwrap();
    assert_eq!(to_json(&read), node);
}

#[test]
fn null_is_nothing_except_where_it_is_a_value() {
    let cluster: Cluster = from_json(json!({ "name": "a", "alt_stat_name": null, "load_assignment": null })).unwrap();
    assert_eq!(cluster, Cluster { name: "a".into(), ..Default::default() });
    let any = any_from_json(json!({ "@type": "google.protobuf.ListValue", "value": [null, 1.0] })).unwrap();
    assert_eq!(any_to_json(&any, false), json!([null, 1.0]));
    assert!(fault("envoy.config.route.v3.VirtualHost", json!({ "domains": [null] })).contains("domains[0]"));
}
