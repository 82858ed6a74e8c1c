//! Where and when patches apply as Istio has it: ports of virtual listeners, what is added and what is merged.
use super::*;

fn routes() -> RouteConfiguration {
    let route = |name: &str| json!({ "name": name, "match": { "prefix": "/" }, "route": { "cluster": name } });
    from_json(json!({ "name": "http.80", "virtual_hosts": [
        { "name": "one:80", "domains": ["one.example"], "routes": [route("a"), route("b")] }] }))
    .expect("it is a route configuration")
}

fn patched(patches: &Value) -> (Value, Vec<Outcome>) {
    let (set, proxy) = (set(patches), Proxy { gateway: true, ..Proxy::default() });
    let mut run = Run::new(&set, &proxy);
    let mut config = routes();
    route::patch_routes(&mut run, Context::Gateway, &mut config);
    (to_json(&config), run.report().into_iter().map(|report| report.outcome).collect())
}

fn names(config: &Value) -> Vec<&str> {
    let routes = config["virtual_hosts"][0]["routes"].as_array().into_iter().flatten();
    routes.filter_map(|route| route["name"].as_str()).collect()
}

fn by_route(name: &str) -> Value {
    json!({ "routeConfiguration": { "vhost": { "route": { "name": name } } } })
}

#[test]
fn a_port_leaves_out_the_chains_of_a_virtual_listener_for_ports_that_nobody_names() {
    let mut with_more = listener();
    let mut rest = with_more.filter_chains[0].clone();
    rest.filter_chain_match = None;
    with_more.filter_chains.push(rest);
    let patches = patch("HTTP_FILTER", json!({ "listener": { "portNumber": 80 } }), "INSERT_FIRST", lua());
    for (name, filters) in [("virtualInbound", [3, 1, 2]), ("0.0.0.0_80", [3, 1, 3])] {
        let (set, proxy) = (set(&patches), Proxy::default());
        let mut run = Run::new(&set, &proxy);
        let mut listener = with_more.clone();
        listener.name = name.to_owned();
        if name != "virtualInbound" {
            listener.address = from_json::<Listener>(
                json!({ "address": { "socket_address": { "address": "0.0.0.0", "port_value": 80 } } }),
            )
            .expect("it is a listener")
            .address;
        }
        let subject = PatchListener { listener, context: Some(Context::SidecarInbound), ..PatchListener::default() };
        let patched = listener::patch_listeners(&mut run, vec![subject], &[]);
        let shown = to_json(&patched[0]);
        let count = |chain: usize| http_filters(&shown, chain).len();
        assert_eq!([count(0), count(1), count(2)], filters, "{name}");
    }
}

#[test]
fn a_route_is_put_first_only_where_the_route_that_is_named_is_there() {
    let new = json!({ "name": "new", "match": { "prefix": "/n" }, "route": { "cluster": "c" } });
    for (matching, order) in
        [(by_route("b"), &["new", "a", "b"][..]), (by_route("c"), &["a", "b"]), (json!({}), &["new", "a", "b"])]
    {
        let (config, outcomes) = patched(&patch("HTTP_ROUTE", matching.clone(), "INSERT_FIRST", new.clone()));
        assert_eq!(names(&config), order, "{matching}");
        assert_eq!(matches!(outcomes[0], Outcome::Applied(1)), order.len() == 3, "{matching}: {outcomes:?}");
    }
    let (config, _) = patched(&patch("HTTP_ROUTE", by_route("c"), "ADD", new));
    assert_eq!(names(&config), ["a", "b", "new"], "what is added has no place of its own");
}

#[test]
fn routes_are_removed_and_merged_into_before_others_are_added() {
    let new = json!({ "name": "a", "match": { "prefix": "/n" }, "route": { "cluster": "new" } });
    let mut patches = patch("HTTP_ROUTE", json!({}), "INSERT_FIRST", new);
    let removal = patch("HTTP_ROUTE", by_route("a"), "REMOVE", Value::Null);
    patches.as_array_mut().expect("a list").push(removal[0].clone());
    let (config, _) = patched(&patches);
    assert_eq!(names(&config), ["a", "b"]);
    assert_eq!(config["virtual_hosts"][0]["routes"][0]["route"]["cluster"], "new");
}

#[test]
fn a_virtual_host_is_replaced_as_a_whole() {
    let value = json!({ "name": "other", "domains": ["other.example"] });
    let matching = json!({ "routeConfiguration": { "vhost": { "name": "one:80" } } });
    let (config, outcomes) = patched(&patch("VIRTUAL_HOST", matching, "REPLACE", value.clone()));
    assert_eq!(config["virtual_hosts"], json!([value]));
    assert_eq!(outcomes, [Outcome::Applied(1)]);
}

#[test]
fn filters_are_merged_into_after_all_are_there_and_take_the_name_of_the_patch() {
    let merge = patch("HTTP_FILTER", sub("envoy.filters.http.lua"), "MERGE", json!({ "name": "own.lua" }));
    let insert = patch("HTTP_FILTER", json!({}), "INSERT_FIRST", lua());
    let all = json!([merge[0], insert[0]]);
    let (listeners, outcomes) = apply(&all);
    assert_eq!(manager(&listeners[0], 0)["http_filters"][0]["name"], "own.lua");
    assert_eq!(outcomes, [Outcome::Applied(2), Outcome::Applied(2)]);
}
