//! Overload: what is done when connections, descriptors or memory run out, by Envoy's names.

use std::process::Command;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::hosts::{Client, Host};
use crate::peers::{eventually, get};
use crate::process::Process;
use crate::proxies::{Serving, Setup, endpoints, stat};

const MONITORS: &str = "type.googleapis.com/envoy.extensions.resource_monitors";

/// A proxy with an overload manager.
async fn start(host: &Host, manager: &str) -> Serving {
    let text = Setup { cluster: &endpoints(&[(host.address, "")]), ..Setup::default() }.bootstrap();
    Serving::new(crate::peers::proxy(&format!("{text}overload_manager: {{refresh_interval: 0.01s, {manager}}}\n")))
        .await
}

/// By the runtime's key, the limit holds for one listener or for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_keys_limit_connections() {
    let host = Host::start("a").await;
    for (key, overflow) in [
        ("overload.global_downstream_max_connections: '2'", "downstream_global_cx_overflow"),
        ("envoy.resource_limits.listener.in.connection_limit: 2", "downstream_cx_overflow"),
    ] {
        let prefix = format!("layered_runtime: {{layers: [{{name: base, static_layer: {{{key}}}}}]}}");
        let bootstrap = Setup { cluster: &endpoints(&[(host.address, "")]), ..Setup::default() }.bootstrap();
        let serving = Serving::new(crate::peers::proxy(&format!("{prefix}\n{bootstrap}"))).await;
        let mut kept = Vec::new();
        for _ in 0..2 {
            let mut client = Client::new(serving.address);
            assert_eq!(client.get("/").await.unwrap().0, 200, "{key}");
            kept.push(client);
        }
        assert_eq!(get(serving.address, "/").await.0, 0, "{key}");
        let name = format!("listener.{}.{overflow}", listener(&serving).await);
        assert_eq!(serving.stat(&name).await, 1);
        let shown = get(serving.admin, "/runtime").await.1;
        assert!(shown.contains(key.split(':').next().unwrap()), "{shown}");
        serving.proxy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_global_limit_are_closed_at_once() {
    let host = Host::start("a").await;
    let manager = format!(
        "resource_monitors: [{{name: envoy.resource_monitors.global_downstream_max_connections, typed_config: \
         {{'@type': {MONITORS}.downstream_connections.v3.DownstreamConnectionsConfig, max_active_downstream_connections: 3}}}}]"
    );
    let serving = start(&host, &manager).await;
    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut client = Client::new(serving.address);
        assert_eq!(client.get("/").await.unwrap().0, 200);
        kept.push(client);
    }
    assert_eq!(get(serving.address, "/").await.0, 0);
    let name = format!("listener.{}.downstream_global_cx_overflow", listener(&serving).await);
    assert_eq!(serving.stat(&name).await, 1);
    for client in &mut kept {
        assert_eq!(client.get("/").await.unwrap().0, 200, "those that are in go on");
    }
    kept.pop();
    eventually("there is room again", || async { get(serving.address, "/").await.0 == 200 }).await;
    serving.proxy.shutdown().await;
}

/// The listener's name in metrics.
async fn listener(serving: &Serving) -> String {
    let text = get(serving.admin, "/stats").await.1;
    let line = text.lines().find_map(|line| line.split_once(".downstream_global_cx_overflow")).unwrap();
    line.0.trim_start_matches("listener.").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_action_begins_at_its_pressure_and_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let pressure = folder.path().join("pressure");
    let host = Host::start("a").await;
    for action in [
        "stop_accepting_requests",
        "disable_http_keepalive",
        "reject_incoming_connections",
        "stop_accepting_connections",
        "shrink_heap",
    ] {
        std::fs::write(&pressure, "0.5").unwrap();
        let manager = format!(
            "resource_monitors: [{{name: injected, typed_config: {{'@type': {MONITORS}.injected_resource.v3.InjectedResourceConfig, \
             filename: {}}}}}], actions: [{{name: envoy.overload_actions.{action}, triggers: [{{name: injected, threshold: {{value: 0.9}}}}]}}]",
            pressure.display()
        );
        let serving = start(&host, &manager).await;
        let mut kept = Client::new(serving.address);
        assert_eq!(kept.get("/").await.unwrap().0, 200);
        let active = format!("overload.envoy.overload_actions.{action}.active");
        eventually("it is measured", || async { serving.stat("overload.injected.pressure").await == 50 }).await;
        assert_eq!(serving.stat(&active).await, 0);
        std::fs::write(&pressure, "0.95").unwrap();
        eventually("it is active", || async { serving.stat(&active).await == 1 }).await;
        let idle = "cluster.c.upstream_cx_active";
        match action {
            "stop_accepting_requests" => {
                let (status, _, body) = kept.get("/").await.unwrap();
                assert_eq!((status, body.as_str()), (503, "envoy overloaded"));
            }
            "disable_http_keepalive" => {
                let (status, headers, _) = kept.get("/").await.unwrap();
                assert_eq!((status, headers["connection"].to_str().unwrap()), (200, "close"));
            }
            "reject_incoming_connections" => {
                assert_eq!(get(serving.address, "/").await.0, 0);
                assert_eq!(kept.get("/").await.unwrap().0, 200, "open connections go on");
            }
            "stop_accepting_connections" => {
                // The kernel takes it; it is served when the pressure is gone.
                let mut waiting = TcpStream::connect(serving.address).await.unwrap();
                waiting.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
                assert_eq!(kept.get("/").await.unwrap().0, 200, "open connections go on");
                let requests = host.state.requests.load(Ordering::SeqCst);
                std::fs::write(&pressure, "0.1").unwrap();
                let mut answer = String::new();
                waiting.read_to_string(&mut answer).await.unwrap();
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                assert_eq!(host.state.requests.load(Ordering::SeqCst), requests + 1);
            }
            _ => eventually("idle connections are closed", || async { serving.stat(idle).await == 0 }).await,
        }
        std::fs::write(&pressure, "0.1").unwrap();
        eventually("it is over", || async { serving.stat(&active).await == 0 }).await;
        assert_eq!(get(serving.address, "/").await.0, 200, "{action}");
        serving.proxy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fixed_heap_is_measured_by_the_memory_of_the_process() {
    let host = Host::start("a").await;
    let manager = |most: u64| {
        format!(
            "resource_monitors: [{{name: heap, typed_config: {{'@type': {MONITORS}.fixed_heap.v3.FixedHeapConfig, max_heap_size_bytes: {most}}}}}], \
             actions: [{{name: envoy.overload_actions.stop_accepting_requests, triggers: [{{name: heap, threshold: {{value: 0.98}}}}]}}]"
        )
    };
    for (most, status) in [(1 << 20, 503), (1 << 40, 200)] {
        let serving = start(&host, &manager(most)).await;
        eventually("the answer", || async { get(serving.address, "/").await.0 == status }).await;
        serving.proxy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_descriptors_the_admin_address_and_open_connections_are_served_on() {
    let host = Host::start("a").await;
    let text = Setup { cluster: &endpoints(&[(host.address, "")]), ..Setup::default() }.bootstrap();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 256; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_ferromesh-proxy")]);
    let process = Process::of(command, &text).await;
    let address = process.listener("in").await;
    let mut victim = Client::new(address);
    assert_eq!(victim.get("/").await.unwrap().0, 200);
    let mut held = Vec::new();
    for _ in 0..400 {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    let name = || async {
        let text = get(process.admin, "/stats?filter=descriptor_overflow").await.1;
        text.split_once(": ").map(|(name, _)| name.to_owned()).unwrap_or_default()
    };
    let name = name().await;
    eventually("some are refused", || async { stat(process.admin, &name).await >= 150 }).await;
    for _ in 0..20 {
        assert_eq!(get(process.admin, "/ready").await.0, 200);
        assert_eq!(victim.get("/").await.unwrap().0, 200);
    }
    drop(held);
    eventually("there is room again", || async { get(address, "/").await.0 == 200 }).await;
}
