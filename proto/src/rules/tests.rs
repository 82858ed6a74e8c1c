//! Rules by message, field and value; `proxy/tests/rules.rs` holds them against the real Envoy.

use serde_json::{Value, json};

use super::*;

/// What is said of a message; empty if nothing is.
fn said(message: &str, json: &Value) -> String {
    let bytes = json::encode(message, json).unwrap_or_else(|error| panic!("{message}: {error}"));
    let message = fields::message(message).expect("a known message");
    check(message, &bytes).err().map(|violation| violation.to_string()).unwrap_or_default()
}

#[test]
fn a_broken_rule_is_said_with_its_fields_path() {
    let route = "envoy.config.route.v3.RouteConfiguration";
    let host = |rest: Value| {
        let mut host = json!({"name": "all", "domains": ["*"]});
        host.as_object_mut().expect("an object").extend(rest.as_object().expect("an object").clone());
        json!({"virtual_hosts": [{"name": "first", "domains": ["a"]}, host]})
    };
    let routes = |route: Value| host(json!({"routes": [route]}));
    for (message, json, want) in [
        (route, host(json!({})), ""),
        (route, host(json!({"name": ""})), "virtual_hosts[1].name: must not be empty"),
        (route, host(json!({"domains": []})), "virtual_hosts[1].domains: must not be empty"),
        (
            route,
            host(json!({"domains": ["a", "b\r\nc: d"]})),
            "virtual_hosts[1].domains[1]: must not have NUL, CR or LF, which would begin another header line",
        ),
        (route, routes(json!({"route": {"cluster": "c"}})), "virtual_hosts[1].routes[0].match: must be set"),
        (
            route,
            routes(json!({"match": {"prefix": "/"}})),
            "virtual_hosts[1].routes[0]: one of route, redirect, direct_response, filter_action, non_forwarding_action must be set",
        ),
        (
            route,
            routes(json!({"match": {"path_separated_prefix": "/a/"}, "route": {"cluster": "c"}})),
            "virtual_hosts[1].routes[0].match.path_separated_prefix: must match ^[^?#]+[^?#/]$",
        ),
        (
            route,
            routes(json!({"match": {"prefix": "/"}, "direct_response": {"status": 100}})),
            "virtual_hosts[1].routes[0].direct_response.status: must be at least 200, not 100",
        ),
        (
            "envoy.config.core.v3.SocketAddress",
            json!({"address": "::", "port_value": 65536}),
            "port_value: must be at most 65535, not 65536",
        ),
        ("envoy.config.core.v3.SocketAddress", json!({"address": "::", "port_value": 65535}), ""),
        (
            "envoy.config.cluster.v3.Cluster",
            json!({"name": "c", "connect_timeout": "0s"}),
            "connect_timeout: must be greater than 0s, not 0s",
        ),
        (
            "envoy.config.cluster.v3.Cluster",
            json!({"name": "c", "lb_policy": 77}),
            "lb_policy: must be a value of envoy.config.cluster.v3.Cluster.LbPolicy, not 77",
        ),
        (
            "envoy.config.cluster.v3.OutlierDetection",
            json!({"max_ejection_percent": 101}),
            "max_ejection_percent: must be at most 100, not 101",
        ),
    ] {
        assert_eq!(said(message, &json), want, "{message} {json}");
    }
}

#[test]
fn packed_messages_are_checked_and_unknown_ones_passed_over() {
    let chain = |config: Value| json!({"filter_chains": [{"filters": [{"name": "tcp", "typed_config": config}]}]});
    let proxy = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    let listener = "envoy.config.listener.v3.Listener";
    let wrong = "filter_chains[0].filters[0].typed_config.stat_prefix: must not be empty";
    assert_eq!(said(listener, &chain(json!({"@type": proxy, "cluster": "c"}))), wrong);
    assert_eq!(said(listener, &chain(json!({"@type": proxy, "cluster": "c", "stat_prefix": "s"}))), "");
    let typed = "type.googleapis.com/xds.type.v3.TypedStruct";
    let typed = |url: &str| chain(json!({"@type": typed, "type_url": url, "value": {"cluster": "c"}}));
    assert_eq!(said(listener, &typed(proxy)), wrong);
    assert_eq!(said(listener, &typed("type.googleapis.com/of.Another")), "");
}

#[test]
fn the_tables_are_small() {
    let size = include_bytes!(concat!(env!("OUT_DIR"), "/rules.bin")).len();
    assert!(size < 100_000, "{size} bytes of rules");
}

#[test]
fn every_message_of_the_table_can_be_asked_for_what_it_states() {
    let all: Vec<Stated> = fields::messages().flat_map(stated).collect();
    let oneofs = all.iter().filter(|stated| matches!(stated, Stated::Oneof(_))).count();
    assert!(all.len() > 1000 && oneofs > 100, "{} rules, {oneofs} of oneofs", all.len());
}

#[test]
fn bytes_of_any_kind_are_walked_without_a_panic() {
    let message = fields::message("envoy.config.listener.v3.Listener").expect("a known message");
    for seed in 0..2000_u32 {
        let bytes: Vec<u8> = (0..seed % 64).map(|at| (seed.wrapping_mul(2_654_435_761) >> (at % 24)) as u8).collect();
        let _ = check(message, &bytes);
    }
    let mut nested = Vec::new();
    for _ in 0..300 {
        let any = Any { type_url: "x/envoy.config.core.v3.TypedExtensionConfig".to_owned(), value: nested.into() };
        nested = Vec::new();
        crate::wire::bytes(1, b"n", &mut nested);
        crate::wire::bytes(2, &prost::Message::encode_to_vec(&any), &mut nested);
    }
    let message = fields::message("envoy.config.core.v3.TypedExtensionConfig").expect("a known message");
    assert!(check(message, &nested).is_err_and(|violation| violation.rule.contains("nested too deeply")));
}
