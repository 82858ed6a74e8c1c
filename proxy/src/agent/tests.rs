//! What a pod says, and what its status port answers, with a real application beside it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::dns::Listen;
use super::environment::{Dns, Environment, duration, podinfo};
use super::{DnsProxy, Order, ProxyArgs, bootstrap, status};
use crate::app::{self, Options, Proxy};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: ProxyArgs,
}

const POD: [(&str, &str); 5] = [
    ("POD_NAME", "web-0"),
    ("POD_NAMESPACE", "demo"),
    ("INSTANCE_IP", "127.0.0.1"),
    ("SERVICE_ACCOUNT", "web"),
    ("ISTIO_META_WORKLOAD_NAME", "web"),
];

fn environment(line: &[&str], more: &[(&str, &str)]) -> Result<Environment, String> {
    let args = Line::try_parse_from([&["proxy"], line].concat()).map_err(|error| error.to_string())?.args;
    let variables: BTreeMap<String, String> =
        POD.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Environment::of(&args, &variables, Path::new("/nowhere")).map_err(|error| error.to_string())
}

#[test]
fn the_pods_annotation_goes_before_the_meshs_status_port_and_zero_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let args = Line::try_parse_from(["proxy", "sidecar"]).map_err(|error| error.to_string()).unwrap().args;
    let variables: BTreeMap<String, String> = POD
        .iter()
        .chain(&[("PROXY_CONFIG", r#"{"statusPort": 15019}"#)])
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let port = |annotations: &str| {
        std::fs::write(folder.path().join("annotations"), annotations).unwrap();
        Environment::of(&args, &variables, folder.path()).map(|found| found.status_port).map_err(|e| e.to_string())
    };
    assert_eq!(port(""), Ok(15019));
    assert_eq!(port("status.sidecar.istio.io/port=\"15030\"\n"), Ok(15030));
    assert_eq!(port("status.sidecar.istio.io/port=\"0\"\n"), Ok(15020));
    assert!(port("status.sidecar.istio.io/port=\"many\"\n").unwrap_err().contains("status.sidecar.istio.io/port"));
}

#[test]
fn applications_that_get_their_traffic_on_the_loopback_are_asked_there() {
    let asked = |more: &[(&str, &str)]| environment(&["sidecar"], more).unwrap().probed_ip().to_string();
    assert_eq!(asked(&[("INSTANCE_IP", "10.1.2.3")]), "10.1.2.3");
    let loopback = ("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION", "true");
    assert_eq!(asked(&[("INSTANCE_IP", "10.1.2.3"), loopback]), "127.0.0.1");
    assert_eq!(asked(&[("INSTANCE_IP", "fd00::3"), ("INSTANCE_IPS", ""), loopback]), "::1");
}

#[test]
fn a_pod_is_described_as_istio_describes_it() {
    let config = r#"{"discoveryAddress": "ferromesh-controller.mesh.svc:15012", "terminationDrainDuration": "7s",
        "concurrency": 3, "proxyMetadata": {"ISTIO_META_CLUSTER_ID": "east", "SECRET_TTL": "1h30m"}, "odd": 1, "image": {}}"#;
    let more = [
        ("PROXY_CONFIG", config),
        ("ISTIO_META_POD_PORTS", r#"[{"containerPort": 80}]"#),
        ("INSTANCE_IPS", "127.0.0.1,::1"),
    ];
    let found = environment(&["sidecar", "--domain", "demo.svc.cluster.local"], &more).unwrap();
    assert_eq!(found.node_id(), "sidecar~127.0.0.1~web-0.demo~demo.svc.cluster.local");
    assert_eq!(found.spiffe_id(), "spiffe://cluster.local/ns/demo/sa/web");
    assert_eq!(found.ca_address, "ferromesh-ca.mesh.svc:15012");
    assert_eq!(found.controller_id(), "spiffe://cluster.local/ns/mesh/sa/ferromesh-controller");
    assert_eq!((found.concurrency(), found.drain_before_end()), (3, Duration::from_secs(7)));
    assert_eq!(found.certificate_lifetime, Some(Duration::from_secs(5400)));
    assert_eq!(found.warnings, ["PROXY_CONFIG: odd is not honoured"]);
    let node = &bootstrap::bootstrap(&found)["node"];
    assert_eq!(node["metadata"]["CLUSTER_ID"], "east");
    assert_eq!(node["metadata"]["POD_PORTS"][0]["containerPort"], 80);
    assert_eq!(node["metadata"]["INSTANCE_IPS"], "127.0.0.1,::1");
    assert_eq!(node["metadata"]["LABELS"]["service.istio.io/canonical-name"], "web");
}

#[test]
fn the_bootstrap_of_a_sidecar_and_of_a_gateway_is_one_that_the_proxy_runs() {
    for (role, ip) in [("sidecar", "10.0.0.1"), ("router", "fd00::1")] {
        let found = environment(&[role], &[("INSTANCE_IP", ip)]).unwrap();
        let bootstrap = crate::bootstrap::parse(&bootstrap::bootstrap(&found).to_string()).unwrap();
        app::validate(&bootstrap).unwrap();
    }
}

#[test]
fn a_wrong_variable_is_refused_by_its_name() {
    for (name, value) in [
        ("POD_NAME", ""),
        ("INSTANCE_IP", "nowhere"),
        ("PROXY_CONFIG", "{concurrency: many}"),
        ("ISTIO_KUBE_APP_PROBERS", "{"),
        ("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "perhaps"),
        ("MINIMUM_DRAIN_DURATION", "5"),
        ("SECRET_TTL", "a day"),
        ("ISTIO_PROMETHEUS_ANNOTATIONS", r#"{"port":"15020"}"#),
    ] {
        let error = environment(&["sidecar"], &[(name, value)]).unwrap_err();
        assert!(error.contains(name), "{name}: {error}");
    }
    assert!(environment(&["ztunnel"], &[]).is_err());
}

#[test]
fn a_sidecar_with_dns_capture_and_a_gateway_that_is_asked_to_have_a_dns_proxy() {
    let dns = |role: &str, more: &[(&str, &str)]| environment(&[role], more).unwrap().dns;
    let capture = ("ISTIO_META_DNS_CAPTURE", "true");
    let usual = Dns { listen: Listen::Loopback(15053), parallel: false, timeout: Duration::from_secs(5) };
    assert_eq!(dns("sidecar", &[]), None);
    assert_eq!(dns("sidecar", &[("ISTIO_META_DNS_CAPTURE", "false")]), None);
    assert_eq!(dns("sidecar", &[capture]).as_ref(), Some(&usual));
    assert_eq!(dns("router", &[capture]), None);
    assert_eq!(dns("router", &[("ISTIO_META_ENABLE_DNS_SERVER", "true")]), Some(usual));
    let config = r#"{"proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true", "DNS_FORWARD_PARALLEL": "true"}}"#;
    let more = [("PROXY_CONFIG", config), ("DNS_PROXY_ADDR", "127.0.0.1:5353"), ("DNS_FORWARD_TIMEOUT", "300ms")];
    let listen = Listen::At("127.0.0.1:5353".parse().unwrap());
    assert_eq!(dns("sidecar", &more), Some(Dns { listen, parallel: true, timeout: Duration::from_millis(300) }));
    // The controller sees it in the node's metadata.
    let found = environment(&["sidecar"], &more).unwrap();
    assert_eq!(bootstrap::bootstrap(&found)["node"]["metadata"]["DNS_CAPTURE"], "true");
    for (name, value) in [("DNS_PROXY_ADDR", "somewhere"), ("DNS_FORWARD_TIMEOUT", "5"), ("DNS_FORWARD_PARALLEL", "x")]
    {
        let error = environment(&["sidecar"], &[capture, (name, value)]).unwrap_err();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn durations_and_podinfo_are_read_as_go_and_kubernetes_write_them() {
    assert_eq!(duration("1m30.5s"), Some(Duration::from_millis(90_500)));
    assert_eq!(
        (duration("0s"), duration("0"), duration("5"), duration("s"), duration("")),
        (Some(Duration::ZERO), Some(Duration::ZERO), None, None, None)
    );
    let labels = podinfo("app=\"web\"\nnote=\"a\\\"b=c\\n\"\n");
    assert_eq!(labels.get("app").map(String::as_str), Some("web"));
    assert_eq!(labels.get("note").map(String::as_str), Some("a\"b=c\n"));
}

#[test]
fn levels_are_said_as_pilot_agent_says_them() {
    let line = [
        "proxy",
        "sidecar",
        "--proxyLogLevel=warning",
        "--proxyComponentLogLevel=misc:error,http:debug",
        "--log_output_level=default:info",
    ];
    let args = Line::try_parse_from(line).unwrap().args;
    assert_eq!(args.log_level(), "warn,ferromesh_proxy::agent=info,ferromesh_proxy::http=debug");
}

/// An application that answers `/ready` with what stands behind `?`, and `/metrics`.
async fn application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let count = stream.read(&mut head).await.unwrap_or_default();
            let head = String::from_utf8_lossy(&head[..count]).to_ascii_lowercase();
            let path = head.split(' ').nth(1).unwrap_or_default();
            let (status, more, body) = match path {
                "/metrics" => ("200 OK", "", "# TYPE jobs counter\njobs 4\n"),
                "/moved" => ("302 Found", "location: /ready\r\n", ""),
                _ if head.contains("x-key: open") => ("200 OK", "", ""),
                _ => ("418 Teapot", "", ""),
            };
            let answer = format!("HTTP/1.1 {status}\r\n{more}content-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{method} {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn the_status_port_answers_for_proxy_and_application() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let application = application().await;
        let port = application.port();
        let probers = format!(
            r#"{{"/app-health/app/readyz":{{"httpGet":{{"path":"/ready","port":{port},"httpHeaders":[{{"name":"X-Key","value":"open"}}]}}}},
                "/app-health/app/livez":{{"httpGet":{{"path":"/ready","port":{port}}}}},
                "/app-health/app/startupz":{{"httpGet":{{"path":"/moved","port":{port},"httpHeaders":[{{"name":"X-Key","value":"open"}}]}}}},
                "/app-health/db/livez":{{"tcpSocket":{{"port":{port}}}}},
                "/app-health/gone/livez":{{"tcpSocket":{{"port":1}}}}}}"#
        );
        let scrape = format!(r#"{{"scrape":"true","port":"{port}"}}"#);
        let found = environment(&["sidecar"], &[("ISTIO_KUBE_APP_PROBERS", &probers), ("ISTIO_PROMETHEUS_ANNOTATIONS", &scrape)]);
        let text = "node: { id: a, cluster: b }\nstatic_resources: {}\n";
        let proxy = Proxy::start(crate::bootstrap::parse(text).unwrap(), Options::default()).unwrap();
        proxy.ready().await;
        proxy.context().stats.root().scope("test").counter("seen").inc();
        let (orders, mut ordered) = mpsc::channel(4);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let names = Arc::new(tokio::sync::watch::Sender::new(None));
        let dns = DnsProxy { names: names.clone(), metrics: Arc::default() };
        let status = status::Status::new(Arc::new(found.unwrap()), &proxy, orders).with_dns(Some(dns));
        tokio::task::spawn_local(status.serve(listener));
        for (path, expected) in [
            ("/healthz/ready", 200),
            ("/app-health/app/readyz", 200),
            ("/app-health/app/livez", 418),
            ("/app-health/app/startupz", 200),
            ("/app-health/db/livez", 200),
            ("/app-health/gone/livez", 500),
            ("/app-health/nobody/livez", 404),
            ("/drain", 405),
            ("/debug/ndsz", 404),
        ] {
            assert_eq!(ask(address, "GET", path).await.0, expected, "{path}");
        }
        let (_, metrics) = ask(address, "GET", "/stats/prometheus").await;
        for line in ["envoy_test_seen{} 1", "jobs 4", "istio_agent_dns_requests_total 0"] {
            assert!(metrics.contains(line), "{line} in {metrics}");
        }
        let table = r#"{"table":{"a.b.svc.cluster.local":{"ips":["10.0.0.1"],"registry":"Kubernetes"}}}"#;
        let table: ferromesh_proto::istio::networking::nds::v1::NameTable = ferromesh_proto::json::from_yaml(table).unwrap();
        names.send_replace(Some(ferromesh_proto::prost::Message::encode_to_vec(&table).into()));
        let shown = ask(address, "GET", "/debug/ndsz").await.1;
        assert!(shown.contains(r#""a.b.svc.cluster.local":{"ips":["10.0.0.1"],"registry":"Kubernetes"}"#), "{shown}");
        assert_eq!(ask(address, "POST", "/drain").await.0, 200);
        assert_eq!(ordered.recv().await, Some(Order::Drain));
        proxy.drain();
        proxy.context().draining.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(ask(address, "GET", "/healthz/ready").await.0, 503);
    });
}
