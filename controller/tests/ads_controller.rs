//! A whole controller: objects go in, a stream and the admin pages come out.

#[path = "support/client.rs"]
mod client;
#[path = "support/envoy.rs"]
mod http;

use std::sync::Arc;

use client::{NODE, PATIENCE, Stream, eventually};
use ferromesh_controller::app::{Compile, Config, Controller};
use ferromesh_controller::index::{Changes, Kind as ObjectKind, Object, ObjectRef, View};
use ferromesh_controller::serve::hub::{Affected, ProxySync};
use ferromesh_controller::serve::session::Wanted;
use ferromesh_controller::serve::{Address, Client, Kind, Kinds, Resource, ResourceSet, Snapshot};
use ferromesh_controller::source::{Memory, MemoryHandle};
use ferromesh_proto::Any;
use ferromesh_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use tokio::time::Instant;

/// One cluster, endpoint and route for each Service, with the version of its generation.
struct OneForEachService;

struct Services(Arc<View>);

impl Compile for OneForEachService {
    fn snapshot(&self, view: Arc<View>) -> Arc<dyn Snapshot> {
        Arc::new(Services(view))
    }

    fn affected(&self, _changes: &Changes, _old: &View, _new: &View) -> Affected {
        Arc::new(|_| Kinds::ALL)
    }
}

impl Snapshot for Services {
    fn resources(&self, _client: &Client, kind: Kind, _wanted: &Wanted) -> ResourceSet {
        let resource = |service: &Arc<Service>| Resource {
            name: service.metadata.name.as_deref().unwrap_or_default().into(),
            version: service.metadata.generation.unwrap_or_default().unsigned_abs(),
            any: Any { type_url: kind.type_url().into(), value: vec![0; 1000].into() },
        };
        ResourceSet::new(self.0.services.values().map(resource).collect())
    }
}

fn service(name: &str, port: u16) -> Service {
    let service = json!({
        "metadata": {"name": name, "namespace": "default"}, "spec": {"ports": [{"name": "http", "port": port}]},
    });
    serde_json::from_value(service).unwrap()
}

async fn start(services: Vec<Service>) -> (Controller, MemoryHandle) {
    let (memory, handle) = Memory::new(services.into_iter().map(Into::into).collect());
    let mut config = Config::new(vec![Box::new(memory)]);
    config.allow_plaintext_loopback = true;
    let controller = Controller::start_with(config, Arc::new(OneForEachService)).await.unwrap();
    tokio::time::timeout(PATIENCE, controller.ready()).await.unwrap();
    (controller, handle)
}

async fn tcp(controller: &Controller) -> tokio::net::TcpStream {
    let Address::Tcp(address) = controller.xds_addr() else { panic!("TCP") };
    tokio::net::TcpStream::connect(address).await.unwrap()
}

async fn page(controller: &Controller, path: &str) -> String {
    let response = http::get(controller.admin_addr().port(), "127.0.0.1", path).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    response.split_once("\r\n\r\n").unwrap().1.to_owned()
}

async fn json_page(controller: &Controller, path: &str) -> Value {
    serde_json::from_str(&page(controller, path).await).unwrap()
}

#[tokio::test]
async fn an_object_that_comes_changes_or_goes_reaches_the_stream() {
    let (controller, handle) = start(vec![service("a", 80)]).await;
    let mut stream = Stream::delta(tcp(&controller).await, NODE).await.unwrap();
    stream.subscribe(Kind::Cluster, &["*"]).await;
    assert_eq!(stream.accept().await, "cds +a");
    handle.apply(service("b", 80)).await;
    assert_eq!(stream.accept().await, "cds +b");
    handle.apply(service("a", 8080)).await;
    assert_eq!(stream.accept().await, "cds +a");
    handle.delete(ObjectRef::new(ObjectKind::Service, "default", "b")).await;
    assert_eq!(stream.accept().await, "cds -b");
    let generation = controller.views().borrow().generation;
    eventually("all acknowledged", || controller.sync()[0].generation == generation).await;
    assert_eq!((generation, controller.view().services.len()), (4, 1));
}

#[tokio::test]
async fn operators_see_where_proxies_stand() {
    let (controller, _handle) = start(vec![service("a", 80)]).await;
    let mut stream = Stream::delta(tcp(&controller).await, NODE).await.unwrap();
    stream.subscribe(Kind::Cluster, &["*"]).await;
    stream.accept().await;
    eventually("acknowledged", || controller.sync().iter().all(|proxy| proxy.generation == 1)).await;
    let syncz = json_page(&controller, "/debug/syncz").await;
    assert_eq!(syncz[0]["proxy"], "web-0.default");
    assert_eq!((&syncz[0]["cluster_sent"], &syncz[0]["cluster_acked"]), (&json!("1"), &json!("1")));
    let adsz = json_page(&controller, "/debug/adsz").await;
    assert_eq!(adsz["totalClients"], 1);
    assert_eq!(adsz["clients"][0]["watches"][Kind::Cluster.type_url()], json!(["*"]));
    let dump = json_page(&controller, "/debug/config_dump?proxyID=web-0.default").await;
    assert_eq!(dump["configs"][0]["@type"], "type.googleapis.com/envoy.admin.v3.ClustersConfigDump");
    assert_eq!(dump["configs"][0]["dynamic_active_clusters"].as_array().map(Vec::len), Some(1));
    let services = json_page(&controller, "/api/objects/services").await;
    assert_eq!(services["items"][0]["metadata"]["name"], "a");
    assert_eq!(json_page(&controller, "/debug/mesh").await["rootNamespace"], "istio-system");
    assert_eq!(json_page(&controller, "/api/problems").await, json!([]));
    assert!(json_page(&controller, "/api/findings").await.is_array());
    assert!(json_page(&controller, "/api/statuses").await["http_routes"].is_object());
    assert_eq!(page(&controller, "/ready").await, "ready\n");
    assert!(json_page(&controller, "/version").await["version"].is_string());
    let metrics = page(&controller, "/metrics").await;
    for line in ["pilot_xds_pushes{type=\"cds\"} 1", "pilot_xds 1", "pilot_services 1"] {
        assert!(metrics.lines().any(|found| found == line), "{line} in\n{metrics}");
    }
}

#[tokio::test]
async fn an_object_is_shown_with_the_status_that_was_computed() {
    let (controller, handle) = start(Vec::new()).await;
    let class = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "istio"},
        "spec": {"controllerName": "istio.io/gateway-controller"},
    });
    handle.apply(serde_json::from_value::<ferromesh_api::gateway_api::GatewayClass>(class).unwrap()).await;
    eventually("the class is there", || !controller.statuses().gateway_classes.is_empty()).await;
    let classes = json_page(&controller, "/api/objects/gatewayclass").await;
    assert_eq!(classes["items"][0]["status"]["conditions"][0]["type"], "Accepted");
}

#[tokio::test]
async fn a_shutdown_ends_streams_and_both_ports() {
    let (controller, _handle) = start(vec![service("a", 80)]).await;
    let mut stream = Stream::delta(tcp(&controller).await, NODE).await.unwrap();
    stream.subscribe(Kind::Cluster, &["*"]).await;
    stream.accept().await;
    let admin = controller.admin_addr();
    tokio::time::timeout(PATIENCE, controller.shutdown()).await.unwrap();
    assert_eq!(stream.next().await.unwrap_err().code(), tonic::Code::Unavailable);
    assert!(tokio::net::TcpStream::connect(admin).await.is_err());
}

/// Not a limit but a number to look at:
/// `cargo test --release -p ferromesh-controller --test ads_controller -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn the_time_from_an_event_to_the_last_answer_with_1000_services_and_50_proxies() {
    let (memory, handle) = Memory::new((0..1000).map(|n| service(&format!("s{n}"), 80).into()).collect());
    let mut config = Config::new(vec![Box::new(memory)]);
    config.allow_plaintext_loopback = true;
    let controller = Controller::start(config).await.unwrap();
    controller.ready().await;
    let begin = Instant::now();
    let mut proxies = Vec::new();
    for n in 0..50 {
        let node = format!("sidecar~10.0.0.{n}~web-{n}.default~default.svc.cluster.local");
        proxies.push(tokio::spawn(obey(Stream::delta(tcp(&controller).await, &node).await.unwrap())));
    }
    // A number counts for a proxy only once it has endpoints for its clusters.
    let synced = |generation| {
        let sync = controller.sync();
        let has_all = |proxy: &ProxySync| {
            proxy.generation == generation
                && proxy.of(Kind::Endpoint).is_some_and(|sync| sync.names >= 1000)
                && proxy.is_synced()
        };
        sync.len() == 50 && sync.iter().all(has_all)
    };
    eventually("the first", || synced(1)).await;
    println!("50 proxies, 1000 services, first configuration: {:?}", begin.elapsed());
    let mut generation = 1;
    for (what, endpoint) in [("Service", false), ("EndpointSlice", true)] {
        let mut times = Vec::new();
        for round in 0..10_u16 {
            let begin = Instant::now();
            generation += 1;
            let object: Object =
                if endpoint { slice("s600", round).into() } else { service("s500", 81 + round).into() };
            handle.apply(object).await;
            eventually("the next", || synced(generation)).await;
            times.push(begin.elapsed());
        }
        times.sort_unstable();
        println!("{what} to last answer (10 ms of it to gather): median {:?}, longest {:?}", times[5], times[9]);
    }
    proxies.iter().for_each(tokio::task::JoinHandle::abort);
}

fn slice(service: &str, round: u16) -> EndpointSlice {
    let slice = json!({
        "metadata": {
            "name": format!("{service}-a"), "namespace": "default", "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4", "ports": [{"name": "http", "port": 80}],
        "endpoints": [{"addresses": [format!("10.1.0.{round}")], "conditions": {"ready": true}}],
    });
    serde_json::from_value(slice).unwrap()
}

/// Accepts everything, and asks for the endpoints of each cluster.
async fn obey(mut stream: Stream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>) {
    stream.subscribe(Kind::Cluster, &["*"]).await;
    stream.subscribe(Kind::Listener, &["*"]).await;
    while let Ok(Some(response)) = stream.responses.message().await {
        stream.answer(&response, None).await;
        if response.type_url == Kind::Cluster.type_url() {
            let names: Vec<&str> = response.resources.iter().map(|resource| resource.name.as_str()).collect();
            stream.subscribe(Kind::Endpoint, &names).await;
        }
    }
}
