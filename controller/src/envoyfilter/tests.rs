mod order;
mod rules;
mod words;

use super::matching::PatchListener;
use super::*;
use ferromesh_proto::envoy::config::cluster::v3::Cluster;
use ferromesh_proto::envoy::config::listener::v3::Listener;
use ferromesh_proto::envoy::config::route::v3::RouteConfiguration;
use ferromesh_proto::json::{from_json, to_json};
use serde_json::{Value, json};
use std::sync::Arc;

fn set(patches: &Value) -> PatchSet {
    let filter = CompiledFilter::new("demo", "f", &json!({ "configPatches": patches })).expect("it has the shape");
    PatchSet { filters: vec![Arc::new(filter)] }
}

fn patch(apply_to: &str, matching: Value, operation: &str, value: Value) -> Value {
    json!([{ "applyTo": apply_to, "match": matching, "patch": { "operation": operation, "value": value } }])
}

const HCM: &str = "envoy.filters.network.http_connection_manager";

fn listener() -> Listener {
    let manager = |filters: Value| {
        json!({ "name": HCM, "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "x", "use_remote_address": true, "http_filters": filters } })
    };
    let filter = |name: &str| {
        let kind = if name == "router" { "router.v3.Router" } else { "cors.v3.Cors" };
        json!({ "name": format!("envoy.filters.http.{name}"),
            "typed_config": { "@type": format!("type.googleapis.com/envoy.extensions.filters.http.{kind}") } })
    };
    from_json(json!({
        "name": "virtualInbound",
        "address": { "socket_address": { "address": "0.0.0.0", "port_value": 15006 } },
        "listener_filters": [{ "name": "envoy.filters.listener.tls_inspector" }],
        "filter_chains": [
            { "name": "a", "filter_chain_match": { "destination_port": 80 }, "filters": [manager(json!([filter("cors"), filter("router")]))] },
            { "name": "b", "filter_chain_match": { "destination_port": 81 }, "filters": [manager(json!([filter("router")]))] },
        ]
    }))
    .expect("it is a listener")
}

fn apply(patches: &Value) -> (Vec<Value>, Vec<Outcome>) {
    let (set, proxy) = (set(patches), Proxy::default());
    let mut run = Run::new(&set, &proxy);
    let subject =
        PatchListener { listener: listener(), context: Some(Context::SidecarInbound), ..PatchListener::default() };
    let patched =
        listener::patch_listeners(&mut run, vec![subject], &[Context::SidecarInbound, Context::SidecarOutbound]);
    let outcomes = run.report().into_iter().map(|report| report.outcome).collect();
    (patched.iter().map(to_json).collect(), outcomes)
}

fn manager(listener: &Value, chain: usize) -> &Value {
    &listener["filter_chains"][chain]["filters"][0]["typed_config"]
}

fn http_filters(listener: &Value, chain: usize) -> Vec<&str> {
    let filters = manager(listener, chain)["http_filters"].as_array().into_iter().flatten();
    filters.filter_map(|filter| filter["name"].as_str()?.rsplit('.').next()).collect()
}

fn lua() -> Value {
    json!({ "name": "envoy.filters.http.lua" })
}

fn sub(name: &str) -> Value {
    json!({ "listener": { "filterChain": { "filter": { "name": HCM, "subFilter": { "name": name } } } } })
}

#[test]
fn http_filters_are_put_where_the_operation_says() {
    for (operation, matching, a) in [
        ("INSERT_BEFORE", sub("envoy.filters.http.router"), vec!["cors", "lua", "router"]),
        ("INSERT_AFTER", sub("envoy.filters.http.cors"), vec!["cors", "lua", "router"]),
        ("INSERT_BEFORE", json!({}), vec!["lua", "cors", "router"]),
        ("INSERT_FIRST", json!({}), vec!["lua", "cors", "router"]),
        ("INSERT_AFTER", json!({}), vec!["cors", "router", "lua"]),
        ("ADD", json!({}), vec!["cors", "router", "lua"]),
        ("REPLACE", sub("envoy.filters.http.cors"), vec!["lua", "router"]),
        ("REMOVE", sub("envoy.filters.http.cors"), vec!["router"]),
    ] {
        let (listeners, outcomes) = apply(&patch("HTTP_FILTER", matching, operation, lua()));
        assert_eq!(http_filters(&listeners[0], 0), a, "{operation}");
        assert!(matches!(outcomes[0], Outcome::Applied(_)), "{operation}: {outcomes:?}");
    }
}

#[test]
fn an_added_filter_stands_where_its_class_does_and_an_inserted_one_where_it_is_inserted() {
    let rbac = patch("HTTP_FILTER", json!({}), "INSERT_BEFORE", json!({ "name": "envoy.filters.http.rbac" }));
    let stats =
        patch("HTTP_FILTER", sub("envoy.filters.http.router"), "INSERT_BEFORE", json!({ "name": "istio.stats" }));
    for (class, operation, order) in [
        ("AUTHN", "ADD", ["lua", "rbac", "cors", "stats", "router"]),
        ("AUTHZ", "ADD", ["lua", "rbac", "cors", "stats", "router"]),
        ("STATS", "ADD", ["rbac", "cors", "lua", "stats", "router"]),
        ("UNSPECIFIED", "ADD", ["rbac", "cors", "stats", "router", "lua"]),
        ("STATS", "INSERT_FIRST", ["lua", "rbac", "cors", "stats", "router"]),
    ] {
        let mut added = patch("HTTP_FILTER", json!({}), operation, lua());
        added[0]["patch"]["filterClass"] = class.into();
        let all: Vec<Value> = [&rbac, &stats, &added].iter().map(|patch| patch[0].clone()).collect();
        let (listeners, outcomes) = apply(&json!(all));
        assert_eq!(http_filters(&listeners[0], 0), order, "{class} {operation}: {outcomes:?}");
    }
}

#[test]
fn a_port_chooses_the_filter_chain_of_a_virtual_listener() {
    let (listeners, outcomes) =
        apply(&patch("HTTP_FILTER", json!({ "listener": { "portNumber": 81 } }), "INSERT_FIRST", lua()));
    assert_eq!((http_filters(&listeners[0], 0).len(), http_filters(&listeners[0], 1).len()), (2, 2));
    assert_eq!(outcomes, [Outcome::Applied(1)]);
}

#[test]
fn a_merge_goes_into_packed_configuration_and_false_means_false() {
    let value = json!({ "name": HCM, "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "use_remote_address": false, "xff_num_trusted_hops": 2, "stream_idle_timeout": "5s" } });
    let (listeners, outcomes) = apply(&patch("NETWORK_FILTER", json!({}), "MERGE", value));
    let manager = manager(&listeners[0], 0);
    assert_eq!((&manager["use_remote_address"], &manager["xff_num_trusted_hops"]), (&false.into(), &2.into()));
    assert_eq!((&manager["stat_prefix"], &manager["stream_idle_timeout"]), (&"x".into(), &"5s".into()));
    assert_eq!(outcomes, [Outcome::Applied(2)]);
}

#[test]
fn listeners_chains_and_listener_filters_are_merged_added_and_removed() {
    let (listeners, _) = apply(&patch("LISTENER", json!({}), "MERGE", json!({ "tcp_backlog_size": 7 })));
    assert_eq!(listeners[0]["tcp_backlog_size"], 7);
    let (listeners, _) =
        apply(&patch("LISTENER", json!({ "listener": { "name": "virtualInbound" } }), "REMOVE", Value::Null));
    assert!(listeners.is_empty());
    let (listeners, outcomes) = apply(&patch("LISTENER", json!({ "context": "ANY" }), "ADD", json!({ "name": "new" })));
    assert_eq!((listeners.len(), &outcomes[0]), (2, &Outcome::Applied(1)), "a patch for any context adds once");
    let (listeners, _) = apply(&patch(
        "FILTER_CHAIN",
        json!({ "listener": { "filterChain": { "destinationPort": 80 } } }),
        "REMOVE",
        Value::Null,
    ));
    assert_eq!(listeners[0]["filter_chains"].as_array().map(Vec::len), Some(1));
    let (listeners, _) = apply(&patch(
        "FILTER_CHAIN",
        json!({ "listener": { "filterChain": { "name": "a" } } }),
        "MERGE",
        json!({ "transport_socket_connect_timeout": "3s" }),
    ));
    assert_eq!(listeners[0]["filter_chains"][0]["transport_socket_connect_timeout"], "3s");
    let proxy = json!({ "name": "envoy.filters.listener.proxy_protocol" });
    let (listeners, _) = apply(&patch("LISTENER_FILTER", json!({}), "INSERT_FIRST", proxy.clone()));
    assert_eq!(listeners[0]["listener_filters"][0], proxy);
}

#[test]
fn routes_are_patched_by_configuration_host_and_route() {
    let config: RouteConfiguration = from_json(json!({ "name": "http.80", "virtual_hosts": [{
        "name": "a.example:80", "domains": ["a.example"],
        "routes": [{ "name": "one", "match": { "prefix": "/" }, "route": { "cluster": "c" } }] }] }))
    .expect("it is a route configuration");
    let host = |route: Value| json!({ "routeConfiguration": { "portNumber": 80, "vhost": { "name": "a.example:80", "route": route } } });
    let patches = json!([
        { "applyTo": "ROUTE_CONFIGURATION", "match": { "context": "GATEWAY" }, "patch": { "operation": "MERGE", "value": { "internal_only_headers": ["x"] } } },
        { "applyTo": "VIRTUAL_HOST", "match": host(json!({})), "patch": { "operation": "MERGE", "value": { "include_request_attempt_count": true } } },
        { "applyTo": "HTTP_ROUTE", "match": host(json!({ "name": "one", "action": "ROUTE" })), "patch": { "operation": "MERGE", "value": { "route": { "timeout": "7s" } } } },
        { "applyTo": "HTTP_ROUTE", "match": host(json!({ "name": "one" })), "patch": { "operation": "INSERT_BEFORE", "value": { "name": "zero", "match": { "path": "/z" }, "direct_response": { "status": 200 } } } },
        { "applyTo": "VIRTUAL_HOST", "patch": { "operation": "ADD", "value": { "name": "new", "domains": ["new"] } } },
        { "applyTo": "HTTP_ROUTE", "match": { "routeConfiguration": { "portNumber": 81 } }, "patch": { "operation": "REMOVE" } },
    ]);
    let (set, proxy) = (set(&patches), Proxy { gateway: true, ..Proxy::default() });
    let mut run = Run::new(&set, &proxy);
    let mut config = config;
    route::patch_routes(&mut run, Context::Gateway, &mut config);
    let shown = to_json(&config);
    assert_eq!(shown["internal_only_headers"][0], "x");
    let routes = &shown["virtual_hosts"][0]["routes"];
    assert_eq!((&routes[0]["name"], &routes[1]["route"]["timeout"]), (&"zero".into(), &"7s".into()));
    assert_eq!(shown["virtual_hosts"][1]["name"], "new");
    let outcomes: Vec<_> = run.report().into_iter().map(|report| report.outcome).collect();
    assert!(outcomes[..5].iter().all(|outcome| *outcome == Outcome::Applied(1)), "{outcomes:?}");
    assert!(matches!(&outcomes[5], Outcome::NoMatch(why) if why.contains("portNumber")), "{outcomes:?}");
}

#[test]
fn clusters_are_matched_by_service_port_and_name() {
    let (set, proxy) = (
        set(&json!([
            { "applyTo": "CLUSTER", "match": { "cluster": { "service": "a.b.svc.cluster.local", "portNumber": 80 } }, "patch": { "operation": "MERGE", "value": { "connect_timeout": "1s" } } },
            { "applyTo": "CLUSTER", "match": { "cluster": { "name": "gone" } }, "patch": { "operation": "REMOVE" } },
            { "applyTo": "CLUSTER", "patch": { "operation": "ADD", "value": { "name": "new" } } },
        ])),
        Proxy::default(),
    );
    let mut run = Run::new(&set, &proxy);
    let cluster = |name: &str| Cluster { name: name.to_owned(), ..Cluster::default() };
    let mut one = cluster("outbound|80||a.b.svc.cluster.local");
    one.connect_timeout = Some(ferromesh_proto::prost_types::Duration { seconds: 10, nanos: 5 });
    assert!(cluster::patch_cluster(&mut run, Context::SidecarOutbound, &[], &mut one));
    assert_eq!(to_json(&one)["connect_timeout"], "1s", "a duration is one value");
    assert!(!cluster::patch_cluster(&mut run, Context::SidecarOutbound, &[], &mut cluster("gone")));
    assert_eq!(cluster::added_clusters(&mut run, &[Context::SidecarInbound, Context::SidecarOutbound]).len(), 1);
}

#[test]
fn a_patch_that_cannot_be_used_says_why_and_changes_nothing() {
    for (patches, why) in [
        (patch("HTTP_FILTER", json!({}), "INSERT_FIRST", json!({ "nme": "x" })), "nme"),
        (patch("HTTP_FILTERS", json!({}), "ADD", lua()), "applyTo \"HTTP_FILTERS\" is not known"),
        (patch("HTTP_FILTER", json!({}), "ADD", Value::Null), "ADD needs patch.value"),
        (patch("ROUTE_CONFIGURATION", json!({}), "ADD", json!({})), "ADD is not possible for ROUTE_CONFIGURATION"),
        (patch("HTTP_FILTER", json!({ "proxy": { "proxyVersion": "(" } }), "ADD", lua()), "match.proxy.proxyVersion"),
        (
            patch(
                "NETWORK_FILTER",
                json!({}),
                "MERGE",
                json!({ "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }),
            ),
            "cannot be merged",
        ),
    ] {
        let (listeners, outcomes) = apply(&patches);
        assert_eq!(listeners, [to_json(&listener())]);
        assert!(matches!(&outcomes[0], Outcome::Failed(said) if said.contains(why)), "{why}: {outcomes:?}");
    }
    let (_, outcomes) = apply(&patch("HTTP_FILTER", sub("nobody"), "INSERT_BEFORE", lua()));
    assert!(matches!(&outcomes[0], Outcome::NoMatch(why) if why.contains("subFilter")), "{outcomes:?}");
}
