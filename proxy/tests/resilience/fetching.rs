//! How long what waits for another resource does so (`initial_fetch_timeout`).

use std::net::SocketAddr;

use ferromesh_proto::envoy::config::cluster::v3::Cluster;
use ferromesh_proto::envoy::config::listener::v3::Listener;
use ferromesh_proto::{Any, json};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::ads::Ads;
use crate::as_envoy::kinds;
use crate::peers::{eventually, get, upstream};
use crate::plane::{at, bootstrap, cluster, endpoints, route_to};
use crate::process::Process;

const ROUTER: &str =
    "{name: router, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}";

/// A listener with a table of its own and these filters; `rds` is the source of a table in its place.
fn listener(name: &str, rds: &str, filters: &str, chain: &str) -> (String, Any) {
    let table = match rds {
        "" => "route_config: {virtual_hosts: [{name: all, domains: ['*'], routes: [{match: {prefix: /}, direct_response: {status: 202}}]}]}".to_owned(),
        // Envoy has one subscription for a table, whatever the limit of who asks next.
        SHORT => format!("rds: {{route_config_name: brief, config_source: {{ads: {{}}, resource_api_version: V3, {SHORT}}}}}"),
        source => format!("rds: {{route_config_name: main, config_source: {{ads: {{}}, resource_api_version: V3, {source}}}}}"),
    };
    let yaml = format!(
        "{{name: {name}, address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}, filter_chains: [{{filters: [{{name: http, \
         typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, \
         stat_prefix: {name}, {table}, http_filters: [{filters} {ROUTER}]}}}}]{chain}}}]}}"
    );
    (name.into(), Any::pack::<Listener>(&json::from_yaml(&yaml).unwrap_or_else(|error| panic!("{error}: {yaml}"))))
}

fn discovered(source: &str) -> String {
    format!(
        "{{name: ext, config_discovery: {{config_source: {{ads: {{}}, resource_api_version: V3, {source}}}, \
         type_urls: [type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation]}}}},"
    )
}

fn secret(source: &str) -> String {
    format!(
        ", transport_socket: {{name: tls, typed_config: {{'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, \
         common_tls_context: {{tls_certificate_sds_secret_configs: [{{name: server, sds_config: {{ads: {{}}, resource_api_version: V3, {source}}}}}]}}}}}}"
    )
}

async fn address(process: &Process, name: &str) -> Option<SocketAddr> {
    let text = get(process.admin, "/listeners").await.1;
    let prefix = format!("{name}::");
    text.lines().find_map(|line| line.strip_prefix(&prefix)?.parse().ok())
}

/// Names of `/config_dump` that wait, and that serve.
async fn places(process: &Process, pointer: [&str; 2]) -> [Vec<String>; 2] {
    let dump: Value = serde_json::from_str(&get(process.admin, "/config_dump").await.1).unwrap();
    let lists = dump["configs"].as_array().unwrap();
    pointer.map(|list| {
        let found = lists.iter().filter_map(|part| part.get(list)).flat_map(|items| items.as_array().unwrap());
        let mut names: Vec<String> = found.map(|item| item["cluster"]["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    })
}

const SHORT: &str = "initial_fetch_timeout: 0.3s";
const ENDLESS: &str = "initial_fetch_timeout: 0s";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_and_clusters_wait_as_long_as_each_source_says_and_without_end_for_zero() {
    for (kind, delta) in kinds().into_iter().flat_map(|kind| [true, false].map(|delta| (kind.clone(), delta))) {
        let ads = Ads::new();
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let text = bootstrap(&at(socket.local_addr().unwrap()), delta, "");
        ads.set([listener("first", "", "", "")]);
        ads.serve_tcp(socket);
        let process = kind.start(&text).await;
        // What never comes: a table, a filter's configuration, a secret, endpoints.
        let eds = |name: &str, source: &str| {
            let yaml = format!(
                "{{name: {name}, type: EDS, connect_timeout: 5s, eds_cluster_config: {{eds_config: {{ads: {{}}, resource_api_version: V3, {source}}}}}}}"
            );
            (name.to_owned(), Any::pack::<Cluster>(&json::from_yaml(&yaml).unwrap()))
        };
        // A cluster whose endpoints are there, but not its secret.
        let secured = |name: &str, source: &str| {
            let yaml = format!(
                "{{name: {name}, type: STATIC, connect_timeout: 5s, load_assignment: {{cluster_name: {name}}}, \
                 transport_socket: {{name: tls, typed_config: {{'@type': \
                 type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, common_tls_context: {{ \
                 validation_context_sds_secret_config: {{name: {name}, sds_config: {{ads: {{}}, resource_api_version: V3, {source}}}}}}}}}}}}}"
            );
            (name.to_owned(), Any::pack::<Cluster>(&json::from_yaml(&yaml).unwrap()))
        };
        ads.set([
            secured("secured", ENDLESS),
            secured("briefly-secured", SHORT),
            eds("brief", SHORT),
            eds("one", ENDLESS),
            listener("endless-table", ENDLESS, "", ""),
            listener("endless-filter", "", &discovered(ENDLESS), ""),
            listener("endless-secret", "", "", &secret(ENDLESS)),
            listener("filter", "", &discovered(SHORT), ""),
            listener("secret", "", "", &secret(SHORT)),
            listener("table", SHORT, "", ""),
            listener("both", SHORT, &discovered(ENDLESS), ""),
        ]);
        for name in ["table", "filter", "secret"] {
            let what = format!("{name} of {kind:?}, delta {delta}");
            eventually(&what, || async { address(&process, name).await.is_some() }).await;
        }
        let running = &process;
        let serves = |name| async move { get(address(running, name).await.unwrap(), "/").await.0 };
        assert_eq!(serves("table").await, 404, "{kind:?}: there is no table");
        assert_eq!(serves("filter").await, 500, "{kind:?}: there is no filter");
        assert_eq!(serves("secret").await, 0, "{kind:?}: there is no certificate");
        let lists = ["dynamic_warming_clusters", "dynamic_active_clusters"];
        let wanted = [vec!["one", "secured"], vec!["brief", "briefly-secured"]];
        eventually("clusters", || async { places(&process, lists).await == wanted }).await;
        let unready = get(process.admin, "/init_dump").await.1;
        for name in ["endless-table", "endless-filter", "endless-secret", "both"] {
            assert_eq!(address(&process, name).await, None, "{kind:?} {name}");
            assert!(unready.contains(name), "{kind:?}: {name} in {unready}");
        }
        ads.set([route_to("one"), endpoints("one", upstream("one").await)]);
        eventually("the table is there", || async {
            match address(&process, "endless-table").await {
                Some(address) => get(address, "/").await == (200, "one".into()),
                None => false,
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_is_ready_without_clusters_and_listeners_when_they_have_been_waited_for() {
    for kind in kinds() {
        // A control plane that takes connections and says nothing.
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let text = bootstrap(&at(socket.local_addr().unwrap()), true, "");
        let source = format!("{{ads: {{}}, {SHORT}, ");
        let process = kind.start(&text.replace("{ads: {}, ", &source)).await;
        assert_eq!(get(process.admin, "/ready").await, (200, "LIVE\n".into()), "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_table_does_not_wait_for_ever_for_a_cluster_that_does() {
    for kind in kinds() {
        let ads = Ads::new();
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let text = bootstrap(&at(socket.local_addr().unwrap()), true, "");
        ads.set([cluster("one", ""), endpoints("one", upstream("one").await), listener("in", ENDLESS, "", "")]);
        ads.set([route_to("one")]);
        ads.serve_tcp(socket);
        let process = kind.start(&text).await;
        let address = process.listener("in").await;
        assert_eq!(get(address, "/").await.0, 200, "{kind:?}");
        let yaml = "{name: never, type: EDS, connect_timeout: 5s, eds_cluster_config: {eds_config: {ads: {}, \
                    resource_api_version: V3, initial_fetch_timeout: 0s}}}";
        ads.set([("never".to_owned(), Any::pack::<Cluster>(&json::from_yaml(yaml).unwrap())), route_to("never")]);
        eventually("the new table serves", || async { get(address, "/").await.0 == 503 }).await;
    }
}
