//! Gateways that ask their clients for certificates, as Gateway API and Istio say it, through the whole controller to
//! a proxy and to the real Envoy: who shows none, or one of another root, does not get in.

#[path = "support/client.rs"]
mod client;
#[path = "support/envoy.rs"]
mod envoy;
#[path = "support/pki.rs"]
mod pki;

use std::path::Path;
use std::time::{Duration, Instant};

use client::PATIENCE;
use envoy::{Api, Envoy};
use ferromesh_controller::app::{Config, Controller};
use ferromesh_controller::serve::Address;
use ferromesh_controller::source::{Folder, FolderOptions};
use ferromesh_proxy::app::{Options, Proxy};
use pki::Root;
use rcgen::SanType;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const NODE: &str = "router~127.0.0.1~edge-0.default~default.svc.cluster.local";
const ID: &str = "spiffe://cluster.local/ns/default/sa/client";

/// Where the listeners are: checked by the default, by the port's own, by Istio's option, and not at all.
struct Ports {
    default: u16,
    own: u16,
    option: u16,
    open: u16,
}

struct Roots {
    server: Root,
    default: Root,
    own: Root,
}

fn folder(ports: &Ports, roots: &Roots) -> String {
    let name = SanType::DnsName("controller".try_into().unwrap());
    let (certificate, key) = pki::leaf(&roots.server, vec![name]);
    let listener = |name: &str, port: u16, options: Value| {
        let tls = json!({"mode": "Terminate", "certificateRefs": [{"name": "cert"}], "options": options});
        json!({"name": name, "port": port, "protocol": "HTTPS", "tls": tls})
    };
    let roots_of = |name: &str| json!({"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": name}]});
    let mutual = json!({"gateway.istio.io/tls-terminate-mode": "MUTUAL"});
    let listen = |port: u16| json!({"listen": format!("127.0.0.1:{port}")});
    let bound = json!({
        "443": listen(ports.default), "444": listen(ports.own), "445": listen(ports.option), "446": listen(ports.open),
    });
    let meta = |name: &str| json!({"name": name, "namespace": "default"});
    let objects = [
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "istio"},
            "spec": {"controllerName": "istio.io/gateway-controller"}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": meta("edge"), "spec": {
            "gatewayClassName": "istio",
            "listeners": [
                listener("default", 443, json!({})), listener("own", 444, json!({})), listener("option", 445, mutual),
                listener("open", 446, json!({})),
            ],
            "tls": {"frontend": {
                "default": {"validation": roots_of("default")},
                "perPort": [
                    {"port": 444, "tls": {"validation": roots_of("own")}}, {"port": 445, "tls": {}}, {"port": 446, "tls": {}},
                ],
            }},
        }}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta("cert"),
            "stringData": {"tls.crt": certificate, "tls.key": key, "ca.crt": roots.default.pem()}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("default"), "data": {"ca.crt": roots.default.pem()}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("own"), "data": {"ca.crt": roots.own.pem()}}),
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "edge-0", "namespace": "default",
                "labels": {"gateway.networking.k8s.io/gateway-name": "edge"},
                "annotations": {"ferromesh.io/listen": bound.to_string()}},
            "spec": {"serviceAccountName": "edge", "containers": []}}),
    ];
    objects.map(|object| object.to_string()).join("\n---\n")
}

async fn controller(folder: &Path) -> Controller {
    let source = Folder::new(folder, FolderOptions::default()).unwrap();
    let mut config = Config::new(vec![Box::new(source)]);
    config.allow_plaintext_loopback = true;
    let controller = Controller::start(config).await.unwrap();
    tokio::time::timeout(PATIENCE, controller.ready()).await.unwrap();
    assert_eq!(**controller.problems(), [], "the fixture is read whole");
    controller
}

/// Whether a client with this certificate gets a word of HTTP/2 out of the listener.
async fn gets_in(port: u16, server: &Root, certificate: Option<&Root>) -> bool {
    let Ok(tcp) = TcpStream::connect(("127.0.0.1", port)).await else { return false };
    let Ok(mut tls) = pki::connect(tcp, server, certificate.map(|root| (root, ID))).await else { return false };
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &settings].concat();
    if tls.write_all(&hello).await.is_err() || tls.flush().await.is_err() {
        return false;
    }
    let mut answer = [0; 9];
    // By TLS 1.3 a client learns only now what the server thinks of its certificate.
    tls.read_exact(&mut answer).await.is_ok()
}

async fn lets_in_whom_it_should(ports: &Ports, roots: &Roots, log: impl Fn() -> String) {
    let server = &roots.server;
    let end = Instant::now() + PATIENCE;
    let good = [
        (ports.default, Some(&roots.default)),
        (ports.own, Some(&roots.own)),
        (ports.option, Some(&roots.default)),
        (ports.open, None),
    ];
    for (port, certificate) in good {
        while !gets_in(port, server, certificate).await {
            assert!(Instant::now() < end, "{port}: {}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let bad = [
        ("default: no certificate", ports.default, None),
        ("default: another root", ports.default, Some(&roots.own)),
        ("of the port: no certificate", ports.own, None),
        ("of the port: the default's root", ports.own, Some(&roots.default)),
        ("option: no certificate", ports.option, None),
        ("option: another root", ports.option, Some(&roots.own)),
    ];
    for (what, port, certificate) in bad {
        assert!(!gets_in(port, server, certificate).await, "{what} got in: {}", log());
    }
}

fn world() -> (Ports, Roots, tempfile::TempDir) {
    let port = envoy::free_port;
    let ports = Ports { default: port(), own: port(), option: port(), open: port() };
    let roots = Roots { server: pki::root(), default: pki::root(), own: pki::root() };
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("gateway.yaml"), folder(&ports, &roots)).unwrap();
    (ports, roots, place)
}

fn xds_port(controller: &Controller) -> u16 {
    let Address::Tcp(address) = controller.xds_addr() else { panic!("TCP") };
    address.port()
}

fn metadata() -> Value {
    json!({"NAMESPACE": "default", "SERVICE_ACCOUNT": "edge", "CLUSTER_ID": "Kubernetes"})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_lets_in_only_clients_with_a_certificate_that_the_listener_asks_for() {
    let (ports, roots, place) = world();
    let controller = controller(place.path()).await;
    let bootstrap = envoy::ads_bootstrap(NODE, &metadata(), Api::Delta, xds_port(&controller), None);
    let bootstrap = ferromesh_proxy::bootstrap::parse(&bootstrap.to_string()).unwrap();
    let proxy = Proxy::start(bootstrap, Options::default()).unwrap();
    lets_in_whom_it_should(&ports, &roots, || format!("{:#?}", controller.sync())).await;
    proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_envoy_lets_in_only_clients_with_a_certificate_that_the_listener_asks_for() {
    let Some(binary) = envoy::binary("client certificates") else { return };
    let (ports, roots, place) = world();
    let controller = controller(place.path()).await;
    let own = tempfile::tempdir().unwrap();
    let envoy = Envoy::start(&binary, own.path(), NODE, &metadata(), Api::Delta, xds_port(&controller), None);
    lets_in_whom_it_should(&ports, &roots, || envoy.log()).await;
}
