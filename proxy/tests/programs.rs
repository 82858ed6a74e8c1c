//! Real programs as clients: curl, h2load, wrk, grpcurl, and h2spec, which checks every rule of HTTP/2.
//!
//! A test whose program is not there says so and passes, but fails where `CI` is set.

#[path = "support/config.rs"]
mod config;
#[path = "support/echo.rs"]
mod echo;
#[path = "support/peers.rs"]
mod peers;
#[path = "support/pki.rs"]
mod pki;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use config::{Hop, Node, SHAPES, http2};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::SanType;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

/// Longest that one program runs.
const LONGEST: Duration = Duration::from_secs(120);

/// Where a program is; `None` if it is not there and that may be.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{name} must be installed where CI is set");
        eprintln!("SKIPPED: {name} is not installed");
    }
    found
}

/// What a program prints; fails with it if the program does.
async fn run(program: &PathBuf, arguments: &[&str], input: &[u8]) -> String {
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program that does not read its input must not stop the test.
    tokio::spawn(async move { stdin.write_all(&input).await });
    let ended =
        tokio::time::timeout(LONGEST, child.wait_with_output()).await.expect("the program ends in time").unwrap();
    let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{arguments:?}: {}\n{out}\n{err}", ended.status);
    out.into_owned()
}

/// Answers with the request's version and method, and how many bytes its body had.
async fn counting() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let answer = |request: http::Request<hyper::body::Incoming>| async move {
                let what = format!("{:?} {}", request.version(), request.method());
                let body = request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
                Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from(format!("{what} {body}")))))
            };
            let io = TokioIo::new(socket);
            tokio::spawn(async move {
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(io, hyper::service::service_fn(answer)).await;
            });
        }
    });
    address
}

/// A proxy that ends TLS for `localhost`; and the file with its root.
async fn secure(hop: Hop, folder: &tempfile::TempDir) -> (Node, String) {
    let pki = pki::Pki::new();
    let leaf = pki.leaf(vec![SanType::DnsName("localhost".try_into().unwrap())], false);
    let root = folder.path().join("root.pem");
    std::fs::write(&root, &pki.root).unwrap();
    let context = json!({"name": "tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"alpn_protocols": ["h2", "http/1.1"],
            "tls_certificates": [{"certificate_chain": {"inline_string": leaf.0}, "private_key": {"inline_string": leaf.1}}]}}});
    let node = hop.chain(json!({"transport_socket": context})).start().await;
    (node, root.to_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_is_served_in_every_version_it_speaks() {
    let Some(curl) = program("curl") else { return };
    let server = counting().await;
    let old = json!({"http_protocol_options": {"accept_http_10": true}});
    for shape in SHAPES {
        let way = shape.start(&Hop::http().terminal(old.clone()), server, &json!({})).await;
        let url = format!("http://{}/", way.address());
        let show = ["-sS", "-w", " %{http_version} %{response_code}"];
        let upload = vec![b'x'; 5_000_000];
        for (arguments, input, wanted) in [
            (&["--http1.0"][..], &b""[..], "HTTP/1.1 GET 0 1.1 200"),
            (&["--http1.1"], b"", "HTTP/1.1 GET 0 1.1 200"),
            (&["--http2"], b"", "HTTP/1.1 GET 0 1.1 200"),
            (&["--http2-prior-knowledge"], b"", "HTTP/1.1 GET 0 2 200"),
            (&["--data-binary", "@-"], &upload, "HTTP/1.1 POST 5000000 1.1 200"),
            (&["-T", "-"], &upload, "HTTP/1.1 PUT 5000000 1.1 200"),
            (
                &["-T", "-", "-H", "expect: 100-continue", "--expect100-timeout", "60"],
                &upload,
                "HTTP/1.1 PUT 5000000 1.1 200",
            ),
            (&["--http2-prior-knowledge", "-T", "-"], &upload, "HTTP/1.1 PUT 5000000 2 200"),
        ] {
            let said = run(&curl, &[&show[..], arguments, &[&url]].concat(), input).await;
            // The answer to HTTP/1.0 may show either version of HTTP/1.
            assert_eq!(said.replace(" 1 200", " 1.1 200"), wanted, "{arguments:?}");
        }
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_chooses_by_alpn_and_verifies_the_certificate() {
    let Some(curl) = program("curl") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (node, root) = secure(Hop::http().cluster("next", &[counting().await], http2(json!({}))), &folder).await;
    let url = format!("https://localhost:{}/", node.address().port());
    let show = ["-sS", "-4", "--cacert", &root, "-w", " %{http_version} %{response_code}"];
    for (version, seen) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let said = run(&curl, &[&show[..], &[version, &url]].concat(), b"").await;
        assert_eq!(said, format!("HTTP/2.0 GET 0 {seen} 200"));
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_tunnels_through_connect() {
    let Some(curl) = program("curl") else { return };
    let ends = json!([{"match": {"connect_matcher": {}}, "route": {"cluster": "next",
        "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}}]);
    let connect = json!({"upgrade_configs": [{"upgrade_type": "CONNECT"}]});
    let node = Hop::http().terminal(connect).routes(ends).to(counting().await).start().await;
    let proxy = format!("http://{}", node.address());
    let said = run(&curl, &["-sS", "--proxytunnel", "--proxy", &proxy, "http://anything.test/"], b"").await;
    assert_eq!(said, "HTTP/1.1 GET 0");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2load_loses_no_request() {
    let Some(h2load) = program("h2load") else { return };
    let server = counting().await;
    for shape in SHAPES {
        for (cluster, arguments) in
            [(http2(json!({})), &["-m", "32"][..]), (json!({}), &["-m", "32"]), (json!({}), &["--h1"])]
        {
            let way = shape.start(&Hop::http(), server, &cluster).await;
            let url = format!("http://{}/", way.address());
            let said = run(&h2load, &[&["-n", "2000", "-c", "8"][..], arguments, &[&url]].concat(), b"").await;
            assert!(said.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{said}");
            assert!(said.contains("2000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{said}");
            way.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrk_sees_no_error() {
    let Some(wrk) = program("wrk") else { return };
    let server = counting().await;
    for shape in SHAPES {
        let way = shape.start(&Hop::http(), server, &json!({})).await;
        let said = run(&wrk, &["-t", "1", "-c", "16", "-d", "1s", &format!("http://{}/", way.address())], b"").await;
        assert!(!said.contains("Socket errors") && !said.contains("Non-2xx") && said.contains("requests in"), "{said}");
        way.stop().await;
    }
}

const PROTO: &str = r#"
syntax = "proto3";
package test;
import "google/protobuf/wrappers.proto";
service Echo {
  rpc Unary(google.protobuf.BytesValue) returns (google.protobuf.BytesValue);
  rpc Down(google.protobuf.BytesValue) returns (stream google.protobuf.BytesValue);
  rpc Up(stream google.protobuf.BytesValue) returns (google.protobuf.BytesValue);
  rpc Both(stream google.protobuf.BytesValue) returns (stream google.protobuf.BytesValue);
}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpcurl_calls_all_four_kinds() {
    let Some(grpcurl) = program("grpcurl") else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("echo.proto"), PROTO).unwrap();
    let path = folder.path().to_str().unwrap();
    let (server, _) = echo::Echo::default().start().await;
    for shape in SHAPES {
        let way = shape.start(&Hop::http(), server, &http2(json!({}))).await;
        let address = way.address().to_string();
        let common = ["-plaintext", "-import-path", path, "-proto", "echo.proto", "-d", "@", &address];
        // A BytesValue is its base64 in JSON: `aGVsbG8=` is hello, `YWI=` ab.
        for (method, input, wanted) in [
            ("test.Echo/Unary", "\"aGVsbG8=\"", "\"aGVsbG8=\""),
            ("test.Echo/Up", "\"aGVsbG8=\" \"aGVsbG8=\"", "\"MiAxMA==\""),
            ("test.Echo/Both", "\"aGVsbG8=\" \"YWI=\"", "\"aGVsbG8=\"\n\"YWI=\""),
        ] {
            let said = run(&grpcurl, &[&common[..], &[method]].concat(), input.as_bytes()).await;
            assert_eq!(said.trim(), wanted, "{method}");
        }
        let said = run(&grpcurl, &[&common[..], &["test.Echo/Down"]].concat(), b"\"YWI=\"").await;
        assert_eq!(said.trim().lines().count(), 2, "{said}");
        way.stop().await;
    }
}

/// Every test of h2spec passes, none is skipped.
async fn conforms(h2spec: &PathBuf, address: SocketAddr, more: &[&str]) {
    let (host, port) = (if more.is_empty() { "127.0.0.1" } else { "localhost" }, address.port().to_string());
    let said = run(h2spec, &[&["-S", "-o", "3", "-h", host, "-p", &port][..], more].concat(), b"").await;
    let last = said.lines().rev().find(|line| line.contains(" tests, ")).unwrap_or_else(|| panic!("{said}")).to_owned();
    eprintln!("h2spec {more:?}: {last}");
    let count: u32 = last.split(' ').next().unwrap().parse().unwrap();
    assert!(count >= 146 && last.contains(&format!("{count} passed, 0 skipped, 0 failed")), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2spec_passes_completely() {
    let Some(h2spec) = program("h2spec") else { return };
    // The server answers when it has the whole request: an answer that comes earlier resets what is left of the
    // request, and the checker takes that for the answer to its offence.
    let server = counting().await;
    // In plain text an unknown preface may be HTTP/1 unless the listener speaks HTTP/2 only.
    let http2_only = json!({"codec_type": "HTTP2"});
    for cluster in [json!({}), http2(json!({}))] {
        let hop = Hop::http().terminal(http2_only.clone());
        let node = hop.cluster("next", &[server], cluster.clone()).start().await;
        conforms(&h2spec, node.address(), &[]).await;
        node.stop().await;
        // By ALPN, and through a second proxy.
        let inner = Hop::http().cluster("next", &[server], cluster.clone()).start().await;
        let folder = tempfile::tempdir().unwrap();
        let (node, _) = secure(Hop::http().cluster("next", &[inner.address()], cluster), &folder).await;
        conforms(&h2spec, node.address(), &["-t", "-k"]).await;
        node.stop().await;
        inner.stop().await;
    }
}
