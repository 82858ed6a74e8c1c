//! A proxy under a control plane: real streams over TCP and Unix sockets, real requests through what they configure.

#[path = "support/ads.rs"]
mod ads;
#[path = "support/peers.rs"]
mod peers;
#[path = "support/plane.rs"]
mod plane;

use std::net::SocketAddr;

use ads::Ads;
use ferromesh_proto::envoy::config::cluster::v3::Cluster;
use ferromesh_proto::envoy::config::core::v3::TypedExtensionConfig;
use ferromesh_proto::envoy::config::listener::v3::Listener;
use ferromesh_proto::envoy::config::route::v3::RouteConfiguration;
use ferromesh_proto::istio::networking::nds::v1::NameTable;
use ferromesh_proto::istio::networking::nds::v1::name_table::NameInfo;
use ferromesh_proto::prost::{Message, Name};
use ferromesh_proto::{Any, json};
use ferromesh_proxy::app::{Options, Proxy};
use peers::{ask, eventually, get, upstream};
use plane::{at, bootstrap, cluster, endpoints, listener, route_to, under};
use tokio::net::TcpListener;

/// A control plane with a first configuration that leads to an upstream `one`, and a proxy that serves it.
async fn serving(delta: bool) -> (Ads, Proxy, SocketAddr, tokio::task::JoinHandle<()>) {
    let ads = Ads::new();
    let one = upstream("one").await;
    ads.set([cluster("one", ""), endpoints("one", one), listener("in", ""), route_to("one")]);
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = under(&at(socket.local_addr().unwrap()), delta);
    let server = ads.serve_tcp(socket);
    ready(&proxy).await;
    let address = proxy.listener_addr("in").unwrap();
    assert_eq!(get(address, "/").await, (200, "one".into()));
    (ads, proxy, address, server)
}

async fn ready(proxy: &Proxy) {
    tokio::time::timeout(peers::PATIENCE, proxy.ready()).await.expect("ready in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_comes_by_delta_and_state_of_the_world_over_tcp() {
    for delta in [true, false] {
        let (ads, proxy, _, _) = serving(delta).await;
        assert_eq!(ads.refusals(), Vec::<String>::new());
        proxy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_comes_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("xds.sock");
    let ads = Ads::new();
    ads.set([cluster("one", ""), endpoints("one", upstream("one").await), listener("in", ""), route_to("one")]);
    let proxy = under(&format!("{{pipe: {{path: {:?}}}}}", path.display().to_string()), true);
    // The control plane starts last; the proxy waits for it.
    ads.serve_unix(&path);
    ready(&proxy).await;
    assert_eq!(get(proxy.listener_addr("in").unwrap(), "/").await.0, 200);
    proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_and_readiness_wait_for_the_route_table() {
    let ads = Ads::new();
    ads.set([cluster("one", ""), endpoints("one", upstream("one").await), listener("in", "")]);
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = under(&at(socket.local_addr().unwrap()), true);
    ads.serve_tcp(socket);
    let asks_for_table = || async {
        ads.said().iter().any(|said| said.type_url == RouteConfiguration::type_url() && said.names.contains("main"))
    };
    eventually("the table is asked for", asks_for_table).await;
    assert_eq!(get(proxy.admin_addr().unwrap(), "/ready").await, (503, "INITIALIZING\n".into()));
    assert_eq!(proxy.listener_addr("in"), None);
    ads.set([route_to("one")]);
    ready(&proxy).await;
    assert_eq!(get(proxy.admin_addr().unwrap(), "/ready").await.0, 200);
    assert_eq!(get(proxy.listener_addr("in").unwrap(), "/").await.0, 200);
    proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_pushes_are_refused_by_name_while_a_thousand_requests_succeed() {
    for delta in [true, false] {
        let (ads, proxy, address, _) = serving(delta).await;
        let two = upstream("two").await;
        let requests = tokio::spawn(async move {
            let mut failed = 0;
            for _ in 0..1000 {
                failed += u32::from(get(address, "/").await.0 != 200);
            }
            failed
        });
        let unknown = "{ name: x, typed_config: { \"@type\": type.googleapis.com/xds.core.v3.ContextParams } },";
        let (_, good) = cluster("two", "");
        ads.set([
            cluster("one", ", upstream_config: {name: x}"),
            ("two".into(), good),
            endpoints("two", two),
            listener("in", unknown),
            ("main".into(), Any { type_url: RouteConfiguration::type_url(), value: vec![10, 255, 1].into() }),
            ("garbage".into(), Any { type_url: Listener::type_url(), value: vec![255; 40].into() }),
        ]);
        eventually("three kinds are refused", || async { ads.refusals().len() >= 3 }).await;
        let refusals = ads.refusals().join("\n");
        for part in [
            &Cluster::type_url(),
            "upstream_config",
            "http_filters[0]",
            "xds.core.v3.ContextParams",
            &RouteConfiguration::type_url(),
        ] {
            assert!(refusals.contains(part), "{part} in {refusals}");
        }
        assert_eq!(requests.await.unwrap(), 0, "failed requests");
        // The good cluster of the refused response serves.
        ads.set([route_to("two")]);
        eventually("the route leads to two", || async { get(address, "/").await.1 == "two" }).await;
        let admin = proxy.admin_addr().unwrap();
        assert!(get(admin, "/config_dump").await.1.contains("error_state"), "the dump shows what was refused");
        proxy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_cluster_and_its_route_replace_the_old_ones_without_a_failed_request() {
    for delta in [true, false] {
        let (ads, proxy, address, _) = serving(delta).await;
        let two = upstream("two").await;
        let requests = tokio::spawn(async move {
            let mut answers = std::collections::BTreeMap::<(u16, String), u32>::new();
            // Until the change has come, however long that takes.
            while answers.get(&(200, "two".to_owned())).is_none_or(|count| *count < 100) {
                *answers.entry(get(address, "/").await).or_default() += 1;
            }
            answers
        });
        // Make before break: the old cluster goes only when the new table is acknowledged.
        ads.set([cluster("two", ""), endpoints("two", two), route_to("two")]);
        eventually("the route leads to two", || async { get(address, "/").await.1 == "two" }).await;
        ads.remove(&Cluster::type_url(), "one");
        let answers = tokio::time::timeout(peers::PATIENCE, requests).await.unwrap().unwrap();
        assert!(answers.keys().all(|(status, _)| *status == 200), "{answers:?}");
        proxy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removed_resources_serve_no_more() {
    for delta in [true, false] {
        let (ads, proxy, address, _) = serving(delta).await;
        ads.remove(&Cluster::type_url(), "one");
        eventually("503 without the cluster", || async { get(address, "/").await.0 == 503 }).await;
        ads.remove(&Listener::type_url(), "in");
        eventually("nobody listens", || async { get(address, "/").await.0 == 0 }).await;
        proxy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_outlives_the_control_plane_and_versions_come_back_with_it() {
    let (ads, proxy, address, server) = serving(true).await;
    server.abort();
    let admin = proxy.admin_addr().unwrap();
    let stat = || async { get(admin, "/stats?filter=connected_state").await.1 };
    eventually("the stream is gone", || async { stat().await.contains("connected_state: 0") }).await;
    for _ in 0..100 {
        assert_eq!(get(address, "/").await.0, 200);
    }
    let plane = ads.said().len();
    let _ = server.await;
    let port = xds_port(&proxy).await;
    ads.serve_tcp(TcpListener::bind(("127.0.0.1", port)).await.unwrap());
    let held = || {
        let said = ads.said().split_off(plane);
        said.into_iter().find(|said| said.type_url == Cluster::type_url()).map(|said| said.held)
    };
    eventually("the stream is back", || async { held().is_some() }).await;
    assert_eq!(held().unwrap().get("one").map(String::as_str), Some("1"));
    assert_eq!(get(address, "/").await.0, 200);
    proxy.shutdown().await;
}

/// The control plane's port, as the proxy sees it.
async fn xds_port(proxy: &Proxy) -> u16 {
    let clusters = get(proxy.admin_addr().unwrap(), "/clusters").await.1;
    let line = clusters.lines().find(|line| line.starts_with("xds-grpc::127.0.0.1:")).expect("the cluster's host");
    let port = line.trim_start_matches("xds-grpc::127.0.0.1:").split("::").next().unwrap();
    port.parse().unwrap()
}

const MUTATION: &str = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation";
const FAULT: &str = "envoy.extensions.filters.http.fault.v3.HTTPFault";

fn fault(status: u16) -> String {
    format!(
        "{{'@type': type.googleapis.com/{FAULT}, abort: {{http_status: {status}, percentage: {{numerator: 100}}}}}}"
    )
}

fn extension(name: &str, config: &str) -> (String, Any) {
    let yaml = format!("{{name: {name}, typed_config: {config}}}");
    (name.into(), Any::pack::<TypedExtensionConfig>(&json::from_yaml(&yaml).unwrap()))
}

fn discovered(more: &str) -> String {
    format!(
        "{{name: ext, config_discovery: {{config_source: {{ads: {{}}}}, type_urls: [type.googleapis.com/{FAULT}]{more}}}}},"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_takes_its_configuration_from_ecds() {
    for delta in [true, false] {
        let (ads, proxy, address, _) = serving(delta).await;
        // It waits for its configuration; the old listener serves meanwhile.
        ads.set([listener("in", &discovered(""))]);
        let url = TypedExtensionConfig::type_url();
        eventually("the extension is asked for", || async {
            ads.said().iter().any(|said| said.type_url == url && said.names.contains("ext"))
        })
        .await;
        assert_eq!(get(address, "/").await.0, 200);
        ads.set([extension("ext", &fault(418))]);
        eventually("the configuration serves", || async { get(address, "/").await.0 == 418 }).await;
        ads.set([extension("ext", &fault(419))]);
        eventually("its update serves", || async { get(address, "/").await.0 == 419 }).await;
        let wrong = format!("{{'@type': type.googleapis.com/{MUTATION}}}");
        ads.set([extension("ext", &wrong)]);
        eventually("a type that is not allowed is refused", || async {
            ads.refusals().iter().any(|reason| reason.contains("type_urls") && reason.contains(MUTATION))
        })
        .await;
        assert_eq!(get(address, "/").await.0, 419, "the last good one serves");
        proxy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_ecds_the_default_serves_and_without_a_default_500() {
    let (ads, proxy, address, _) = serving(true).await;
    let default = format!(", default_config: {}, apply_default_config_without_warming: true", fault(420));
    ads.set([listener("in", &discovered(&default))]);
    eventually("the default serves", || async { get(address, "/").await.0 == 420 }).await;
    ads.set([extension("ext", &fault(421))]);
    eventually("the configuration serves", || async { get(address, "/").await.0 == 421 }).await;
    ads.remove(&TypedExtensionConfig::type_url(), "ext");
    eventually("the default is back", || async { get(address, "/").await.0 == 420 }).await;
    // One that comes, so that the listener serves, and goes.
    ads.set([listener("in", &discovered("")), extension("ext", &fault(422))]);
    eventually("the configuration serves", || async { get(address, "/").await.0 == 422 }).await;
    ads.remove(&TypedExtensionConfig::type_url(), "ext");
    eventually("nothing is left to serve", || async { get(address, "/").await.0 == 500 }).await;
    proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_pages_show_the_state_and_change_it_by_post_only() {
    let (_ads, proxy, address, _) = serving(true).await;
    let admin = proxy.admin_addr().unwrap();
    assert!(get(admin, "/clusters").await.1.contains("one::"));
    assert!(get(admin, "/listeners").await.1.contains(&address.to_string()));
    let stats = get(admin, "/stats?filter=lds%5C.update_success").await.1;
    assert_eq!(stats.trim(), "listener_manager.lds.update_success: 1");
    for page in ["/drain_listeners", "/logging?level=debug", "/healthcheck/fail", "/quitquitquit"] {
        assert_eq!(get(admin, page).await.0, 405, "{page}");
    }
    assert_eq!(get(address, "/").await.0, 200);
    assert_eq!(ask(admin, "POST", "/quitquitquit").await.0, 200);
    tokio::time::timeout(peers::PATIENCE, proxy.ended()).await.expect("it ends");
}

fn names(ip: &str) -> (String, Any) {
    let info = NameInfo { ips: vec![ip.to_owned()], ..NameInfo::default() };
    (String::new(), Any::pack(&NameTable { table: [("a.b.svc.cluster.local".to_owned(), info)].into() }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_the_mesh_are_asked_for_by_who_wants_them_and_readiness_waits_for_them() {
    for delta in [true, false] {
        let ads = Ads::new();
        ads.set([cluster("one", ""), endpoints("one", upstream("one").await), listener("in", ""), route_to("one")]);
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let text = bootstrap(&at(socket.local_addr().unwrap()), delta, "");
        ads.set([names("10.0.0.1")]);
        ads.serve_tcp(socket);
        let (sender, mut newest) = tokio::sync::watch::channel(None);
        let options = Options { names: Some(std::sync::Arc::new(sender)), ..Options::default() };
        let proxy = Proxy::start(ferromesh_proxy::bootstrap::parse(&text).unwrap(), options).unwrap();
        ready(&proxy).await;
        let ip = |bytes: &Option<bytes::Bytes>| {
            let table = NameTable::decode(bytes.clone()?).unwrap();
            Some(table.table["a.b.svc.cluster.local"].ips[0].clone())
        };
        assert_eq!(ip(&newest.borrow_and_update()).as_deref(), Some("10.0.0.1"), "there when the proxy is ready");
        ads.set([names("10.0.0.2")]);
        eventually("the newer names", || async { ip(&newest.borrow()).as_deref() == Some("10.0.0.2") }).await;
        // What cannot be read is refused, and the last good names stay.
        let refused = || async { ads.refusals().iter().any(|said| said.contains("NameTable")) };
        ads.set([(String::new(), Any { type_url: NameTable::type_url(), value: vec![10, 255, 1].into() })]);
        eventually("the refusal", refused).await;
        assert_eq!(ip(&newest.borrow()).as_deref(), Some("10.0.0.2"));
        proxy.shutdown().await;
        // Who has no use for names does not ask.
        let asked = ads.said().iter().filter(|said| said.type_url == NameTable::type_url()).count();
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = under(&at(socket.local_addr().unwrap()), delta);
        ads.serve_tcp(socket);
        ready(&other).await;
        assert_eq!(ads.said().iter().filter(|said| said.type_url == NameTable::type_url()).count(), asked);
        other.shutdown().await;
    }
}
