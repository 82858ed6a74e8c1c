//! Limits on time.

use ferromesh_proxy::cause::Cause;
use serde_json::json;

use super::{Scene, hop};
use crate::config::route;
use crate::wire::{Server, Wire};

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const HALF: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf";

pub async fn scene(cause: Cause) -> Scene {
    let (mut manager, mut action, mut cluster) = (json!({}), json!({"timeout": "0s"}), json!({}));
    let mut request = GET;
    match cause {
        Cause::UpstreamConnectTimeout => {
            let pki = crate::pki::Pki::new();
            let context = pki.context("UpstreamTlsContext", &pki.workload("a", false), "b", &json!({"sni": "x"}));
            cluster = json!({"connect_timeout": "0.1s", "transport_socket": context});
        }
        Cause::ResponseTimeout => action = json!({"timeout": "0.1s"}),
        Cause::PerTryTimeout => action = json!({"retry_policy": {"num_retries": 0, "per_try_timeout": "0.1s"}}),
        Cause::StreamIdleTimeout => (manager, request) = (json!({"stream_idle_timeout": "0.1s"}), HALF),
        Cause::RequestTimeout => (manager, request) = (json!({"request_timeout": "0.1s"}), HALF),
        Cause::RequestHeaderTimeout => {
            (manager, request) = (json!({"request_headers_timeout": "0.1s"}), "GET / HTTP/1.1\r\nho");
        }
        Cause::MaxDurationTimeout => {
            manager = json!({"common_http_protocol_options": {"max_stream_duration": "0.1s"}});
        }
        Cause::UpstreamMaxStreamDuration => {
            cluster = crate::config::protocol(json!({"explicit_http_config": {"http_protocol_options": {}},
                "common_http_protocol_options": {"max_stream_duration": "0.1s"}}));
        }
        _ => unreachable!("{cause:?} is another room's"),
    }
    let server = Server::new().await;
    let routes = json!([route("next", action)]);
    let node = hop(&[], manager).routes(routes).cluster("next", &[server.address], cluster).start().await;
    let mut client = Wire::connect(node.address()).await;
    client.send(request).await;
    client.head().await;
    Scene { node, request: true }
}
