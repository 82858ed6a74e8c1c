//! `ferromesh-proxy --sds-only` as the agent of a real Envoy: it gets its certificate and its roots, serves mTLS with them,
//! and goes on while both rotate.

#[path = "../../core/tests/support/daemon.rs"]
mod daemon;
#[path = "../../controller/tests/support/envoy.rs"]
mod envoy;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use daemon::{Daemon, PATIENCE, http};
use envoy::Envoy;
use ferromesh_ca::{Ca, Config, Phase, RunningCa, StaticTokens};
use ferromesh_core::{SpiffeId, TrustDomain};
use serde_json::{Value, json};

const WEB: &str = "spiffe://cluster.local/ns/default/sa/web";
/// Leaves live so long that nobody misses a renewal, and so short that a test sees several.
const LIFETIME: Duration = Duration::from_secs(6);

/// A CA that knows `web`'s token; token and root stand in `folder`.
async fn ca(folder: &Path) -> RunningCa {
    let tokens = StaticTokens::default();
    tokens.add("token-web", SpiffeId::parse(WEB).unwrap());
    let mut config = Config::new(([127, 0, 0, 1], 0).into(), TrustDomain::default());
    config.authenticators.push(Arc::new(tokens));
    config.default_ttl = LIFETIME;
    let ca = Ca::start(config).await.unwrap();
    std::fs::write(folder.join("token"), "token-web").unwrap();
    std::fs::write(folder.join("root.pem"), ca.root_pem()).unwrap();
    ca
}

fn agent(folder: &Path, ca: &RunningCa, socket: &Path) -> Daemon {
    let [root, token] = ["root.pem", "token"].map(|name| folder.join(name).display().to_string());
    let (socket, address) = (socket.display().to_string(), ca.addr().to_string());
    let args = ["--sds-only", &socket, "--ca-address", &address, "--ca-root", &root, "--token-file", &token];
    Daemon::start(env!("CARGO_BIN_EXE_ferromesh-proxy"), &args)
}

fn secret(name: &str) -> Value {
    let grpc = json!([{"envoy_grpc": {"cluster_name": "sds-grpc"}}]);
    let api = json!({"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": grpc});
    json!({"name": name, "sds_config": {"api_config_source": api, "resource_api_version": "V3"}})
}

/// What Istio's contexts are made of, with these names in the peer's certificate.
fn tls(kind: &str, names: &[&str]) -> Value {
    let names: Vec<Value> = names.iter().map(|name| json!({"san_type": "URI", "matcher": {"exact": name}})).collect();
    let common = json!({
        "tls_certificate_sds_secret_configs": [secret("default")],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": names},
            "validation_context_sds_secret_config": secret("ROOTCA"),
        },
    });
    let mut context = json!({
        "@type": format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}"),
        "common_tls_context": common,
    });
    if kind == "DownstreamTlsContext" {
        context["require_client_certificate"] = json!(true);
    }
    json!({"name": "envoy.transport_sockets.tls", "typed_config": context})
}

fn listener(name: &str, port: u16, route: &Value, transport: Option<Value>) -> Value {
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": router}}],
    });
    let filter = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager});
    let mut chain = json!({"filters": [filter]});
    if let Some(transport) = transport {
        chain["transport_socket"] = transport;
    }
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    json!({"name": name, "address": address, "filter_chains": [chain]})
}

/// An Envoy that calls itself: plaintext comes in at `outbound`, goes by mTLS to `inbound`, which answers with the names
/// that it saw.
fn bootstrap(socket: &Path, [outbound, inbound, admin]: [u16; 3]) -> Value {
    let endpoint = |address: Value| json!([{"lb_endpoints": [{"endpoint": {"address": address}}]}]);
    let local = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let cluster = |name: &str, address: Value| {
        json!({
            "name": name, "type": "STATIC", "connect_timeout": "5s",
            "load_assignment": {"cluster_name": name, "endpoints": endpoint(address)},
        })
    };
    let mut sds = cluster("sds-grpc", json!({"pipe": {"path": socket.display().to_string()}}));
    sds["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }});
    let mut mesh = cluster("mesh", local(inbound));
    // A handshake for each request, so that each shows what is in force.
    mesh["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"max_requests_per_connection": 1},
        "explicit_http_config": {"http_protocol_options": {}},
    }});
    mesh["transport_socket"] = tls("UpstreamTlsContext", &[WEB]);
    let answer = json!({
        "match": {"prefix": "/"}, "direct_response": {"status": 200},
        "response_headers_to_add": [
            {"header": {"key": "x-peer", "value": "%DOWNSTREAM_PEER_URI_SAN%"}},
            {"header": {"key": "x-serial", "value": "%DOWNSTREAM_PEER_SERIAL%"}},
        ],
    });
    let forward = json!({"match": {"prefix": "/"}, "route": {"cluster": "mesh"}});
    json!({
        "node": {"id": "envoy", "cluster": "test"},
        "admin": {"address": local(admin)},
        "static_resources": {
            "clusters": [sds, mesh],
            "listeners": [
                listener("outbound", outbound, &forward, None),
                listener("inbound", inbound, &answer, Some(tls("DownstreamTlsContext", &[WEB]))),
            ],
        },
    })
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The first answer over mTLS; until Envoy has its secrets there is none.
async fn answered(port: u16, what: impl Fn(&str) -> bool, envoy: &Envoy, agent: &Daemon) -> String {
    let wait = async {
        loop {
            match envoy::get(port, "web", "/").await {
                Some(answer) if what(&answer) => return answer,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let answer = tokio::time::timeout(PATIENCE, wait).await;
    answer.unwrap_or_else(|_| panic!("never answered so:\n{}\n{}", agent.log(), envoy.log()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_envoy_serves_mtls_with_what_the_agent_gives_it_through_every_rotation() {
    let Some(binary) = envoy::binary("sds-only") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (ca, socket) = (ca(folder.path()).await, folder.path().join("sds.sock"));
    let mut agent = agent(folder.path(), &ca, &socket);
    let ports = [envoy::free_port(), envoy::free_port(), envoy::free_port()];
    let envoy = Envoy::run(&binary, folder.path(), &bootstrap(&socket, ports));
    let is_ok = |answer: &str| answer.starts_with("HTTP/1.1 200");
    let first = answered(ports[0], is_ok, &envoy, &agent).await;
    assert_eq!(header(&first, "x-peer"), Some(WEB), "{first}");

    // From here on no request may fail, whatever rotates.
    let (stop, failed, made) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let calls = async {
        while !stop.load(Ordering::Relaxed) {
            let answer = envoy::get(ports[0], "web", "/").await;
            made.fetch_add(1, Ordering::Relaxed);
            if !answer.as_deref().is_some_and(is_ok) {
                failed.fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let rotations = async {
        let mut serial = header(&first, "x-serial").unwrap().to_owned();
        for phase in [Phase::Announced, Phase::Switched, Phase::Stable] {
            assert_eq!(ca.rotate_step().unwrap(), phase);
            // Each step has reached Envoy when it shows a certificate that was made after it: roots go first.
            for _ in 0..2 {
                let is_new = |answer: &str| header(answer, "x-serial").is_some_and(|shown| shown != serial);
                let answer = answered(ports[0], is_new, &envoy, &agent).await;
                serial = header(&answer, "x-serial").unwrap().to_owned();
            }
        }
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(calls, rotations);
    let (failed, made) = (failed.into_inner(), made.into_inner());
    assert_eq!(failed, 0, "of {made} requests\n{}\n{}", agent.log(), envoy.log());
    assert!(made > 10, "{made}");
    let (_, certs) = http(([127, 0, 0, 1], ports[2]).into(), "GET", "/certs").await.unwrap();
    assert!(certs.contains(WEB), "{certs}");

    // The agent goes away in order; Envoy serves on with what it has.
    agent.terminate();
    assert!(agent.ended().await.success(), "{}", agent.log());
    assert!(envoy::get(ports[0], "web", "/").await.as_deref().is_some_and(is_ok));
    assert!(!agent.log().contains("token-web") && !agent.log().contains("PRIVATE KEY"));
}

#[tokio::test]
async fn the_socket_is_its_owners_alone_and_a_second_start_takes_it_over() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (ca, socket) = (ca(folder.path()).await, folder.path().join("sds.sock"));
    for _ in 0..2 {
        let mut agent = agent(folder.path(), &ca, &socket);
        let listens = async {
            while tokio::net::UnixStream::connect(&socket).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, listens).await.unwrap();
        assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        agent.kill().await;
    }
}

#[tokio::test]
async fn arguments_that_do_not_go_together_are_refused_with_2() {
    let table: [&[&str]; 4] =
        [&["--sds-only", "a.sock"], &["--sds-only", "a.sock", "-c", "b.yaml"], &["--ca-address", "127.0.0.1:1"], &[]];
    for args in table {
        let mut agent = Daemon::start(env!("CARGO_BIN_EXE_ferromesh-proxy"), args);
        assert_eq!(agent.ended().await.code(), Some(2), "{args:?}: {}", agent.log());
    }
}
