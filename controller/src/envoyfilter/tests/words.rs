//! Words of the API that name more than a place: lists that are replaced, routes by what they do, hosts by a domain,
//! extension configurations and the bootstrap.
use super::*;
use ferromesh_proto::envoy::config::bootstrap::v3::Bootstrap;

fn routes() -> RouteConfiguration {
    from_json(json!({ "name": "http.80", "internal_only_headers": ["a", "b"], "virtual_hosts": [
        { "name": "one:80", "domains": ["one.example", "*.one.example"], "routes": [
            { "name": "r", "match": { "prefix": "/a" }, "route": { "cluster": "c" } },
            { "name": "r", "match": { "prefix": "/b" }, "redirect": { "host_redirect": "x" } },
            { "name": "r", "match": { "prefix": "/c" }, "direct_response": { "status": 200 } },
        ] },
        { "name": "two:80", "domains": ["two.example"], "routes": [] },
    ] }))
    .expect("it is a route configuration")
}

fn patch_routes(patches: &Value) -> (Value, Vec<Outcome>) {
    let (set, proxy) = (set(patches), Proxy { gateway: true, ..Proxy::default() });
    let mut run = Run::new(&set, &proxy);
    let mut config = routes();
    route::patch_routes(&mut run, Context::Gateway, &mut config);
    let outcomes = run.report().into_iter().map(|report| report.outcome).collect();
    (to_json(&config), outcomes)
}

#[test]
fn a_merge_adds_to_lists_and_the_other_merge_replaces_them() {
    for (operation, headers) in [("MERGE", json!(["a", "b", "c"])), ("MERGE_AND_REPLACE_LIST", json!(["c"]))] {
        let value = json!({ "internal_only_headers": ["c"] });
        let (config, outcomes) = patch_routes(&patch("ROUTE_CONFIGURATION", json!({}), operation, value));
        assert_eq!(config["internal_only_headers"], headers, "{operation}");
        assert_eq!(outcomes, [Outcome::Applied(1)], "{operation}");
        assert_eq!(config["virtual_hosts"].as_array().map(Vec::len), Some(2), "{operation}: what is not written stays");
    }
    // Inside of what is packed, too.
    let value = json!({ "name": HCM, "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "http_filters": [{ "name": "only" }] } });
    let (listeners, _) = apply(&patch("NETWORK_FILTER", json!({}), "MERGE_AND_REPLACE_LIST", value));
    assert_eq!(http_filters(&listeners[0], 0), ["only"]);
}

#[test]
fn a_route_is_found_by_what_it_does_and_a_word_that_is_none_is_refused() {
    let by = |action: &str| json!({ "routeConfiguration": { "vhost": { "route": { "action": action } } } });
    for (action, left) in [
        ("ROUTE", &["/b", "/c"][..]),
        ("REDIRECT", &["/a", "/c"]),
        ("DIRECT_RESPONSE", &["/a", "/b"]),
        ("ANY", &[]),
        ("REDIRECTT", &["/a", "/b", "/c"]),
    ] {
        let (config, outcomes) = patch_routes(&patch("HTTP_ROUTE", by(action), "REMOVE", Value::Null));
        let routes = config["virtual_hosts"][0]["routes"].as_array().into_iter().flatten();
        let prefixes: Vec<_> = routes.filter_map(|route| route["match"]["prefix"].as_str()).collect();
        assert_eq!(prefixes, left, "{action}");
        match &outcomes[0] {
            Outcome::Failed(why) => assert!(action == "REDIRECTT" && why.contains("REDIRECTT"), "{why}"),
            found => assert!(matches!(found, Outcome::Applied(_)) && action != "REDIRECTT", "{action}: {found:?}"),
        }
    }
}

#[test]
fn a_virtual_host_is_found_by_one_of_its_domains() {
    let by = |domain: &str| json!({ "routeConfiguration": { "vhost": { "domainName": domain } } });
    for (domain, left) in
        [("*.one.example", &["two:80"][..]), ("two.example", &["one:80"]), ("a.one.example", &["one:80", "two:80"])]
    {
        let (config, _) = patch_routes(&patch("VIRTUAL_HOST", by(domain), "REMOVE", Value::Null));
        let hosts = config["virtual_hosts"].as_array().into_iter().flatten();
        assert_eq!(hosts.filter_map(|host| host["name"].as_str()).collect::<Vec<_>>(), left, "{domain}");
    }
}

#[test]
fn an_extension_configuration_is_added_once_and_the_last_of_a_name_counts() {
    let config = |name: &str, kind: &str| {
        json!({ "applyTo": "EXTENSION_CONFIG", "patch": { "operation": "ADD", "value": {
            "name": name, "typed_config": { "@type": format!("type.googleapis.com/envoy.extensions.filters.http.{kind}") } } } })
    };
    let (set, proxy) = (
        set(&json!([config("a", "router.v3.Router"), config("b", "cors.v3.Cors"), config("a", "cors.v3.Cors")])),
        Proxy::default(),
    );
    let contexts = [Context::SidecarInbound, Context::SidecarOutbound];
    let found = cluster::extension_configs(&mut Run::new(&set, &proxy), &contexts, None);
    let shown: Vec<_> =
        found.iter().map(|config| (config.name.as_str(), to_json(config)["typed_config"]["@type"].clone())).collect();
    let cors = json!("type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors");
    assert_eq!(shown, [("b", cors.clone()), ("a", cors)]);
    let asked = cluster::extension_configs(&mut Run::new(&set, &proxy), &contexts, Some(&["b".to_owned()]));
    assert_eq!(asked.iter().map(|config| config.name.as_str()).collect::<Vec<_>>(), ["b"]);
    let merged = patch("EXTENSION_CONFIG", json!({}), "MERGE", json!({ "name": "a" }));
    let (_, outcomes) = apply(&merged);
    assert!(
        matches!(&outcomes[0], Outcome::Failed(why) if why.contains("not possible for EXTENSION_CONFIG")),
        "{outcomes:?}"
    );
}

#[test]
fn a_bootstrap_is_merged_into_once_whatever_the_context() {
    let patches = json!([{ "applyTo": "BOOTSTRAP", "match": { "context": "ANY" }, "patch": { "operation": "MERGE",
        "value": { "stats_flush_interval": "7s", "static_resources": { "clusters": [{ "name": "more" }] } } } }]);
    let (set, proxy) = (set(&patches), Proxy::default());
    let mut run = Run::new(&set, &proxy);
    let mut bootstrap: Bootstrap =
        from_json(json!({ "static_resources": { "clusters": [{ "name": "own" }] } })).expect("it is a bootstrap");
    cluster::patch_bootstrap(&mut run, &[Context::SidecarInbound, Context::SidecarOutbound], &mut bootstrap);
    let shown = to_json(&bootstrap);
    assert_eq!(shown["stats_flush_interval"], "7s");
    let clusters = shown["static_resources"]["clusters"].as_array().into_iter().flatten();
    assert_eq!(clusters.filter_map(|cluster| cluster["name"].as_str()).collect::<Vec<_>>(), ["own", "more"]);
    assert_eq!(run.report()[0].outcome, Outcome::Applied(1));
}
