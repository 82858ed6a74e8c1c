//! Heads that are refused. What their client reads is the cause's own sentence.

use ferromesh_proxy::cause::Cause;
use serde_json::json;

use super::{Scene, hop};
use crate::wire::{Server, Wire};

pub async fn scene(cause: Cause) -> Scene {
    let nothing = json!({});
    let (manager, request) = match cause {
        Cause::DownstreamProtocolError => (nothing, "GET / HTTP/2.0\r\nhost: a\r\n\r\n".to_owned()),
        Cause::UnsupportedTransferEncoding => (nothing, post("transfer-encoding: gzip\r\n")),
        Cause::ContentLengthWithTransferEncoding => {
            (nothing, post("content-length: 1\r\ntransfer-encoding: chunked\r\n"))
        }
        Cause::InvalidContentLength => (nothing, post("content-length: 1, 1\r\n")),
        Cause::InvalidChunk => (nothing, format!("{}what\r\n", post("transfer-encoding: chunked\r\n"))),
        Cause::InvalidHost => (nothing, "GET / HTTP/1.1\r\nhost: a b\r\n\r\n".into()),
        Cause::MissingHost => (nothing, "GET / HTTP/1.1\r\n\r\n".into()),
        Cause::InvalidTarget => (nothing, get("ftp://a/")),
        Cause::UnknownMethod => (nothing, "FOO / HTTP/1.1\r\nhost: a\r\n\r\n".into()),
        Cause::RelativePath => (nothing, "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n".into()),
        Cause::InvalidPath => (json!({"path_with_escaped_slashes_action": "REJECT_REQUEST"}), get("/a%2fb")),
        Cause::InvalidHeader => (nothing, "GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n".into()),
        Cause::OriginalIpUnknown => {
            let message = "envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig";
            let config = json!({"@type": format!("type.googleapis.com/{message}"), "header_name": "x-ip",
                "reject_with_status": {"code": "Forbidden"}});
            let detection = json!([{"name": "header", "typed_config": config}]);
            (json!({"original_ip_detection_extensions": detection}), get("/"))
        }
        Cause::LowVersion => (nothing, "GET / HTTP/1.0\r\nhost: a\r\n\r\n".into()),
        Cause::HeadersTooLarge => (json!({"max_request_headers_kb": 1}), get(&format!("/{}", "a".repeat(2000)))),
        Cause::TooManyHeaders => (json!({"common_http_protocol_options": {"max_headers_count": 1}}), post("x: y\r\n")),
        _ => unreachable!("{cause:?} is another room's"),
    };
    let server = Server::new().await;
    let node = hop(&[], manager).to(server.address).start().await;
    let mut client = Wire::connect(node.address()).await;
    client.send(request).await;
    if cause.flag() == "DPE" {
        let answer = client.rest().await;
        assert!(answer.contains(cause.explain()), "{cause:?}: {answer}");
    } else {
        client.head().await;
    }
    Scene { node, request: true }
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n")
}

fn post(headers: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: a\r\n{headers}\r\n")
}
