//! The webhook over real HTTPS, as the API server calls it.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine;
use ferromesh_core::runtime::drain;
use ferromesh_injector::Mesh;
use ferromesh_injector::webhook::{Certificate, InjectorMetrics, Server};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const NAME: &str = "ferromesh-injector.ferromesh-system.svc";

struct Webhook {
    server: Server,
    ca: String,
    metrics: InjectorMetrics,
    _drain: drain::Signal,
}

async fn webhook() -> Webhook {
    let certificate = Certificate::make(&[NAME.to_owned()], Duration::from_secs(3600)).unwrap();
    let (signal, watch) = drain::channel();
    let metrics = InjectorMetrics::default();
    let mesh = Arc::new(ArcSwap::from_pointee(Mesh::default()));
    let address = "127.0.0.1:0".parse().unwrap();
    let server = Server::start(address, certificate.resolver(), mesh, metrics.clone(), watch).await.unwrap();
    Webhook { server, ca: certificate.ca_pem().to_owned(), metrics, _drain: signal }
}

/// One POST over TLS that trusts only the webhook's own CA: status and body.
async fn post(webhook: &Webhook, path: &str, body: &[u8]) -> (u16, String) {
    let mut roots = rustls::RootCertStore::empty();
    for root in ferromesh_core::tls::certs_from_pem(webhook.ca.as_bytes(), "CA").unwrap() {
        roots.add(root).unwrap();
    }
    let config = rustls::ClientConfig::builder_with_provider(ferromesh_core::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect(webhook.server.address()).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from(NAME).unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {NAME}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server may answer, and close, before it has read all.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

fn review(pod: &Value) -> Vec<u8> {
    let request = json!({ "uid": "u-1", "namespace": "shop", "object": pod });
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request })
        .to_string()
        .into_bytes()
}

fn pod(annotations: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "generateName": "p-", "annotations": annotations },
        "spec": { "containers": [{ "name": "app", "image": "a" }] } })
}

#[tokio::test]
async fn a_pod_comes_back_with_a_patch_that_adds_its_proxy() {
    let webhook = webhook().await;
    let mut pod = pod(json!({}));
    let (status, body) = post(&webhook, "/inject", &review(&pod)).await;
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["response"]["uid"], "u-1");
    assert_eq!(answer["response"]["allowed"], true);
    assert_eq!(answer["response"]["patchType"], "JSONPatch");
    let patch = answer["response"]["patch"].as_str().unwrap();
    let patch = base64::engine::general_purpose::STANDARD.decode(patch).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    json_patch::patch(&mut pod, &patch).unwrap();
    assert_eq!(pod["spec"]["initContainers"][1]["name"], "istio-proxy");
    assert_eq!(webhook.metrics.success.get(), 1);
}

#[tokio::test]
async fn a_wrong_annotation_refuses_the_pod_and_says_which() {
    let webhook = webhook().await;
    let pod = pod(json!({ "sidecar.istio.io/interceptionMode": "MAYBE" }));
    let (_, body) = post(&webhook, "/inject", &review(&pod)).await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["response"]["allowed"], false);
    let message = answer["response"]["status"]["message"].as_str().unwrap();
    assert!(message.contains("sidecar.istio.io/interceptionMode") && message.contains("MAYBE"), "{message}");
}

#[tokio::test]
async fn a_pod_that_says_no_is_left_as_it_is_and_counted_by_reason() {
    let webhook = webhook().await;
    let mut pod = pod(json!({}));
    pod["metadata"]["labels"] = json!({ "sidecar.istio.io/inject": "false" });
    let (_, body) = post(&webhook, "/inject/cluster/east", &review(&pod)).await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["response"]["allowed"], true);
    assert_eq!(answer["response"].get("patch"), None);
    assert_eq!(webhook.metrics.success.get(), 0);
}

#[tokio::test]
async fn what_is_no_review_is_refused_and_a_body_without_end_is_not_read() {
    let webhook = webhook().await;
    assert_eq!(post(&webhook, "/inject", b"{}").await.0, 400);
    assert_eq!(post(&webhook, "/inject", b"\xff\xfe").await.0, 400);
    assert_eq!(post(&webhook, "/elsewhere", b"{}").await.0, 404);
    let huge = vec![b' '; 8 * 1024 * 1024];
    assert_eq!(post(&webhook, "/inject", &huge).await.0, 413);
}
