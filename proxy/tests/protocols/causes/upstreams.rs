//! What endpoints do wrong.

use ferromesh_proxy::cause::Cause;
use serde_json::{Value, json};

use super::{Scene, hop};
use crate::config::{Hop, route, typed};
use crate::frames::{CANCEL, END_HEADERS, Frames, HEADERS, REFUSED_STREAM, block};
use crate::wire::{Server, Wire};

// No method that is sent again of itself.
const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
const UPGRADE: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

pub async fn scene(cause: Cause) -> Scene {
    match cause {
        Cause::UpstreamRemoteReset | Cause::UpstreamRefusedStream | Cause::UpstreamResetAfterResponse => {
            http2(cause).await
        }
        _ => http1(cause).await,
    }
}

fn proxy(cause: Cause) -> (Hop, Value) {
    let retried = |thresholds: Value| {
        let policy = json!({"retry_on": "5xx", "num_retries": 1, "retry_back_off": {"base_interval": "0.001s"}});
        let routes = json!([route("next", json!({"retry_policy": policy}))]);
        (hop(&[], json!({})).routes(routes), json!({"circuit_breakers": {"thresholds": [thresholds]}}))
    };
    match cause {
        Cause::UpstreamTlsFailure => {
            let pki = crate::pki::Pki::new();
            let context = pki.context("UpstreamTlsContext", &pki.workload("a", false), "b", &json!({"sni": "x"}));
            (hop(&[], json!({})), json!({"transport_socket": context}))
        }
        Cause::UnwritableRequest => {
            let routes = json!([route("next", json!({"host_rewrite_header": "x-host"}))]);
            (hop(&[], json!({})).routes(routes), json!({}))
        }
        Cause::RetryOverflow => retried(json!({"max_retries": 0})),
        Cause::UpstreamRetryLimitExceeded => retried(json!({})),
        Cause::WebsocketHandshake => (hop(&[], json!({"upgrade_configs": [{"upgrade_type": "websocket"}]})), json!({})),
        Cause::FaultDelay => {
            let delay = json!({"fixed_delay": "0.01s", "percentage": {"numerator": 100}});
            (hop(&[typed("http.fault.v3.HTTPFault", json!({"delay": delay}))], json!({})), json!({}))
        }
        _ => (hop(&[], json!({})), json!({})),
    }
}

async fn http1(cause: Cause) -> Scene {
    let server = Server::new().await;
    let (hop, of_cluster) = proxy(cause);
    let node = hop.cluster("next", &[server.address], of_cluster).start().await;
    let mut client = Wire::connect(node.address()).await;
    let large = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let (request, answers): (&str, &[&str]) = match cause {
        Cause::UnwritableRequest => ("GET / HTTP/1.1\r\nhost: a\r\nx-host: a b\r\n\r\n", &[]),
        Cause::UpstreamTlsFailure => (POST, &["HTTP/1.1 400 Bad Request\r\n\r\n"]),
        Cause::UpstreamConnectionTermination => (POST, &[""]),
        Cause::UpstreamProtocolError => (POST, &["SSH-2.0-OpenSSH_9\r\n\r\n"]),
        Cause::UpstreamTerminationAfterResponse => (POST, &["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"]),
        Cause::ResponseHeadersTooLarge => (POST, &[&large]),
        Cause::WebsocketHandshake => (UPGRADE, &["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"]),
        Cause::RetryOverflow => (POST, &[FAILED]),
        Cause::UpstreamRetryLimitExceeded => (POST, &[FAILED, FAILED]),
        Cause::FaultDelay => (POST, &["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"]),
        _ => unreachable!("{cause:?} is another room's"),
    };
    client.send(request).await;
    for answer in answers {
        let mut upstream = server.accept().await;
        if cause == Cause::UpstreamTlsFailure {
            upstream.fill().await;
        } else {
            upstream.head().await;
        }
        upstream.send(answer).await;
    }
    client.head().await;
    Scene { node, request: true }
}

const FAILED: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

async fn http2(cause: Cause) -> Scene {
    let server = Server::new().await;
    let node = hop(&[], json!({})).cluster("next", &[server.address], crate::config::http2(json!({}))).start().await;
    let mut client = Wire::connect(node.address()).await;
    client.send(POST).await;
    let mut upstream = Frames::server(&server, &[]).await;
    let stream = upstream.until(HEADERS).await.stream;
    if cause == Cause::UpstreamResetAfterResponse {
        upstream.send(HEADERS, END_HEADERS, stream, &block(&[(":status", "200")])).await;
        client.head().await;
    }
    upstream.reset(stream, if cause == Cause::UpstreamRefusedStream { REFUSED_STREAM } else { CANCEL }).await;
    node.logged(&["details="]).await;
    Scene { node, request: true }
}
