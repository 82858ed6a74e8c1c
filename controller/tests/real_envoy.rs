//! The real Envoy as a client of the xDS port: it must accept what it is sent, and serve with it.

#[path = "support/client.rs"]
mod client;
#[path = "support/envoy.rs"]
mod envoy;

use client::{Fixture, World, eventually};
use envoy::{Api, Envoy};
use ferromesh_controller::serve::{Kind, Kinds};
use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::cluster::v3::Cluster;
use ferromesh_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use ferromesh_proto::envoy::config::listener::v3::Listener;
use ferromesh_proto::envoy::config::route::v3::RouteConfiguration;
use ferromesh_proto::json::from_json;
use serde_json::json;

const GATEWAY: &str = "router~127.0.0.1~gateway-0.default~default.svc.cluster.local";

fn cluster(name: &str) -> Any {
    let ads = json!({"ads": {}, "resource_api_version": "V3"});
    let cluster = json!({
        "name": name, "type": "EDS", "connect_timeout": "1s", "eds_cluster_config": {"eds_config": ads},
    });
    Any::pack(&from_json::<Cluster>(cluster).unwrap())
}

fn endpoints(name: &str, port: u16) -> Any {
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let endpoints = json!({
        "cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
    });
    Any::pack(&from_json::<ClusterLoadAssignment>(endpoints).unwrap())
}

fn listener(port: u16) -> Any {
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "rds": {"route_config_name": "r", "config_source": {"ads": {}, "resource_api_version": "V3"}},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": router}}],
    });
    let listener = json!({
        "name": "l", "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager},
        ]}],
    });
    Any::pack(&from_json::<Listener>(listener).unwrap())
}

fn route(cluster: &str) -> Any {
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]);
    let config = json!({"name": "r", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]});
    Any::pack(&from_json::<RouteConfiguration>(config).unwrap())
}

fn world(listen: u16, backend: u16) -> World {
    World::default()
        .with_any(Kind::Cluster, "c", 1, cluster("c"))
        .with_any(Kind::Endpoint, "c", 1, endpoints("c", backend))
        .with_any(Kind::Listener, "l", 1, listener(listen))
        .with_any(Kind::Route, "r", 1, route("c"))
}

/// Envoy takes a first configuration, then one with another cluster; requests never fail meanwhile.
async fn takes_a_change_without_failing_a_request(api: Api, test: &str) {
    let Some(binary) = envoy::binary(test) else { return };
    let (old, new) = (envoy::backend("old").await, envoy::backend("new").await);
    let listen = envoy::free_port();
    let server = Fixture::start(world(listen, old)).await;
    let folder = tempfile::tempdir().unwrap();
    let mut envoy = Envoy::start(&binary, folder.path(), GATEWAY, &json!({}), api, server.port(), None);
    let synced = |generation| {
        let sync = server.hub.sync();
        sync.len() == 1 && sync[0].generation == generation && sync[0].types.len() == 4 && sync[0].is_synced()
    };
    eventually("Envoy has acknowledged all", || synced(1)).await;
    let first = envoy::get(listen, "test", "/").await.unwrap_or_else(|| panic!("{}", envoy.log()));
    assert!(first.starts_with("HTTP/1.1 200") && first.contains("old"), "{first}");

    let changed = world(listen, old)
        .without(Kind::Cluster, "c")
        .without(Kind::Endpoint, "c")
        .with_any(Kind::Cluster, "d", 1, cluster("d"))
        .with_any(Kind::Endpoint, "d", 1, endpoints("d", new))
        .with_any(Kind::Route, "r", 2, route("d"));
    server.publish(changed, Kinds::ALL);
    let mut answers = String::new();
    while !answers.contains("new") {
        answers = envoy::get(listen, "test", "/").await.unwrap();
        assert!(answers.starts_with("HTTP/1.1 200"), "{answers}\n{}", envoy.log());
    }
    eventually("Envoy has acknowledged the change", || synced(2)).await;
    for kind in Kind::ALL {
        assert_eq!(server.hub.sync()[0].of(kind).and_then(|sync| sync.nack.clone()), None, "{kind}");
    }
    assert!(!envoy.has_ended());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_takes_a_change_by_delta_without_failing_a_request() {
    takes_a_change_without_failing_a_request(Api::Delta, "delta").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_takes_a_change_by_state_of_the_world_without_failing_a_request() {
    takes_a_change_without_failing_a_request(Api::StateOfTheWorld, "state of the world").await;
}
