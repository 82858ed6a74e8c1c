//! `ferromesh-controller` as a process: a folder on disk, a stream over its port, its log and its end.

#[path = "support/client.rs"]
mod client;
#[path = "../../core/tests/support/collector.rs"]
mod collector;
#[path = "../../core/tests/support/daemon.rs"]
mod daemon;
#[path = "support/pki.rs"]
mod pki;

use std::net::SocketAddr;
use std::path::Path;

use client::{NODE, Stream};
use daemon::{Daemon, address, http};
use ferromesh_controller::serve::Kind;
use serde_json::Value;

const SHOP: &str = "\
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: default}
spec: {selector: {app: shop}, clusterIP: 10.0.0.7, ports: [{name: http, port: 80}]}
";
const SHOP_CLUSTER: &str = "outbound|80||shop.default.svc.cluster.local";

struct Process {
    daemon: Daemon,
    xds: SocketAddr,
    admin: SocketAddr,
}

fn start(folder: &Path, more: &[&str]) -> Daemon {
    let folder = folder.to_str().unwrap();
    let fixed = ["--folder", folder, "--xds-address", "127.0.0.1:0", "--admin-address", "127.0.0.1:0"];
    let args = [&fixed[..], &["--log-format", "json"], more].concat();
    Daemon::start(env!("CARGO_BIN_EXE_ferromesh-controller"), &args)
}

impl Process {
    async fn start(folder: &Path, more: &[&str]) -> Self {
        let mut daemon = start(folder, more);
        let line = daemon.tells("started").await;
        let (xds, admin) = (address(&line, "xds"), address(&line, "admin"));
        daemon.tells("proxies are served").await;
        Self { daemon, xds, admin }
    }

    /// All clusters, as a proxy that connects now gets them.
    async fn clusters(&self) -> String {
        let tcp = tokio::net::TcpStream::connect(self.xds).await.unwrap();
        let mut stream = Stream::delta(tcp, NODE).await.unwrap();
        stream.subscribe(Kind::Cluster, &["*"]).await;
        stream.accept().await
    }

    async fn page(&self, path: &str) -> Value {
        let (status, body) = http(self.admin, "GET", path).await.unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }
}

#[tokio::test]
async fn a_folder_is_served_and_a_bad_file_is_named_while_the_last_good_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.yaml");
    std::fs::write(&file, SHOP).unwrap();
    let mut controller = Process::start(folder.path(), &["--allow-plaintext"]).await;
    assert_eq!(http(controller.admin, "GET", "/ready").await.unwrap(), (200, "ready\n".to_owned()));
    assert!(controller.clusters().await.contains(SHOP_CLUSTER));

    // A proxy that is connected all the while must not lose its cluster.
    let tcp = tokio::net::TcpStream::connect(controller.xds).await.unwrap();
    let mut connected = Stream::delta(tcp, NODE).await.unwrap();
    connected.subscribe(Kind::Cluster, &["*"]).await;
    connected.accept().await;

    std::fs::write(&file, SHOP.replace("spec: {", "spec: [")).unwrap();
    let line = controller.daemon.says(&["\"level\":\"ERROR\"", "shop.yaml"]).await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["line"], 4, "{line}");
    let problems = controller.page("/api/problems").await;
    assert!(problems[0]["file"].as_str().unwrap().ends_with("shop.yaml") && problems[0]["line"] == 4, "{problems}");
    assert!(controller.clusters().await.contains(SHOP_CLUSTER), "a proxy that connects now gets the last good one");

    // A second file that is good is taken up beside the bad one; mending the bad one ends the report.
    let second = SHOP.replace("name: shop", "name: bar");
    std::fs::write(folder.path().join("bar.yaml"), second).unwrap();
    let pushed = connected.accept().await;
    assert!(pushed.contains("outbound|80||bar.default.svc.cluster.local") && !pushed.contains(" -"), "{pushed}");
    std::fs::write(&file, SHOP.replace("port: 80", "port: 81")).unwrap();
    controller.daemon.tells("files were mended").await;
    assert_eq!(controller.page("/api/problems").await, serde_json::json!([]));
}

#[tokio::test]
async fn sigterm_sends_proxies_elsewhere_and_ends_in_order() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shop.yaml"), SHOP).unwrap();
    let mut controller = Process::start(folder.path(), &["--allow-plaintext"]).await;
    let tcp = tokio::net::TcpStream::connect(controller.xds).await.unwrap();
    let mut stream = Stream::delta(tcp, NODE).await.unwrap();
    stream.subscribe(Kind::Cluster, &["*"]).await;
    stream.accept().await;
    controller.daemon.terminate();
    let status = loop {
        match stream.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(status.message().contains("connect again"), "{status}");
    assert!(controller.daemon.ended().await.success(), "{}", controller.daemon.log());
    assert!(tokio::net::TcpStream::connect(controller.xds).await.is_err());
}

#[tokio::test]
async fn a_start_that_cannot_work_says_why_and_ends_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let table: [(&Path, &[&str], &str); 4] = [
        (&folder.path().join("nowhere"), &["--allow-plaintext"], "nowhere"),
        (folder.path(), &[], "--allow-plaintext"),
        (folder.path(), &["--allow-plaintext", "--xds-address", "192.0.2.1:0"], "192.0.2.1:0"),
        (folder.path(), &["--tls-cert", "a.pem", "--tls-key", "a.key", "--client-roots", "r.pem"], "a.pem"),
    ];
    for (path, more, why) in table {
        let args = ["--folder", path.to_str().unwrap(), "--admin-address", "127.0.0.1:0"];
        let address: &[&str] = if more.contains(&"--xds-address") { &[] } else { &["--xds-address", "127.0.0.1:0"] };
        let args = [&args[..], address, more].concat();
        let mut daemon = Daemon::start(env!("CARGO_BIN_EXE_ferromesh-controller"), &args);
        assert_eq!(daemon.ended().await.code(), Some(1), "{more:?}: {}", daemon.log());
        daemon.says(&[why]).await;
    }
}

#[tokio::test]
async fn each_view_and_each_push_is_a_span_at_the_collector() {
    let (folder, (collector, addr)) = (tempfile::tempdir().unwrap(), collector::Collector::start().await);
    std::fs::write(folder.path().join("shop.yaml"), SHOP).unwrap();
    let endpoint = format!("http://{addr}");
    let more = ["--allow-plaintext", "--otlp-endpoint", &endpoint];
    let mut controller = Process::start(folder.path(), &more).await;
    controller.clusters().await;
    controller.daemon.terminate();
    assert!(controller.daemon.ended().await.success());
    let spans = collector.spans();
    let named = |name: &str| spans.iter().find(|span| span.name == name && span.service == "ferromesh-controller");
    assert!(named("view").is_some(), "{spans:?}");
    let push = named("push").unwrap_or_else(|| panic!("{spans:?}"));
    assert!(push.attributes.contains(&("proxy".to_owned(), "web-0.default".to_owned())), "{push:?}");
}

fn pod(name: &str, account: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: default, labels: {{app: {name}}}}}\n\
         spec: {{serviceAccountName: {account}, containers: [{{name: app}}]}}\n\
         status: {{phase: Running, podIP: 10.0.0.1}}\n"
    )
}

/// The stream of a proxy with the certificate of service account `web` that says to be this pod.
async fn as_web(
    xds: SocketAddr,
    root: &pki::Root,
    pod: &str,
) -> Stream<
    ferromesh_proto::envoy::service::discovery::v3::DeltaDiscoveryRequest,
    ferromesh_proto::envoy::service::discovery::v3::DeltaDiscoveryResponse,
> {
    let tcp = tokio::net::TcpStream::connect(xds).await.unwrap();
    let own = (root, "spiffe://cluster.local/ns/default/sa/web");
    let io = pki::connect(tcp, root, Some(own)).await.unwrap();
    let node = format!("sidecar~10.0.0.1~{pod}.default~default.svc.cluster.local");
    let mut stream = Stream::delta(io, &node).await.unwrap();
    stream.subscribe(Kind::Cluster, &["*"]).await;
    stream
}

#[tokio::test]
async fn a_proxy_gets_the_configuration_of_pods_of_its_own_account_only() {
    let folder = tempfile::tempdir().unwrap();
    let (yaml, certs) = (folder.path().join("yaml"), folder.path().join("certs"));
    std::fs::create_dir(&yaml).unwrap();
    std::fs::create_dir(&certs).unwrap();
    let file = yaml.join("all.yaml");
    std::fs::write(&file, SHOP.to_owned() + &pod("web-0", "web") + &pod("admin-0", "admin")).unwrap();
    let root = pki::root();
    let (cert, key, roots) = pki::server_files(&root, &certs);
    let [cert, key, roots] = [&cert, &key, &roots].map(|path| path.to_str().unwrap());
    let more = ["--tls-cert", cert, "--tls-key", key, "--client-roots", roots];
    let mut controller = Process::start(&yaml, &more).await;

    let mut own = as_web(controller.xds, &root, "web-0").await;
    assert!(own.accept().await.contains(SHOP_CLUSTER));
    let refused = as_web(controller.xds, &root, "admin-0").await.next().await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    assert!(refused.message().contains("pod default/admin-0") && refused.message().contains("\"admin\""), "{refused}");
    controller.daemon.says(&["a proxy was refused", "default/admin-0"]).await;

    // A pod that has not been heard of is served when it has.
    let early = as_web(controller.xds, &root, "web-1").await.next().await.unwrap_err();
    assert_eq!(early.code(), tonic::Code::Unavailable);
    let three = SHOP.to_owned() + &pod("web-0", "web") + &pod("admin-0", "admin") + &pod("web-1", "web");
    std::fs::write(&file, &three).unwrap();
    loop {
        let mut stream = as_web(controller.xds, &root, "web-1").await;
        if let Ok(Some(response)) = stream.next().await {
            assert!(client::text(&response).contains(SHOP_CLUSTER));
            break;
        }
    }

    // Who loses the pod to another account loses the stream; nothing of the new owner's is sent.
    std::fs::write(&file, three.replace(&pod("web-0", "web"), &pod("web-0", "admin"))).unwrap();
    let ended = loop {
        match own.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), tonic::Code::PermissionDenied);
}
