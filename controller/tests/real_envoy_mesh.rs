//! A folder of YAML through the whole controller to real Envoys: a gateway and a sidecar, with mTLS between them by
//! certificates of the CA that the proxy's agent hands to Envoy; nothing rejected.

#[path = "support/client.rs"]
mod client;
#[path = "support/envoy.rs"]
mod envoy;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::{PATIENCE, eventually};
use envoy::{Api, Envoy};
use ferromesh_ca::{Ca, RunningCa, StaticTokens};
use ferromesh_controller::app::{Config, Controller};
use ferromesh_controller::serve::{Address, Kind};
use ferromesh_controller::source::{Folder, FolderOptions};
use ferromesh_core::{SpiffeId, TrustDomain};
use ferromesh_proxy::identity;
use serde_json::json;
use tokio::sync::oneshot;

const GATEWAY: &str = "router~127.0.0.1~edge-0.default~default.svc.cluster.local";
const SIDECAR: &str = "sidecar~127.0.0.1~other-0.default~default.svc.cluster.local";

/// What `ferromesh-proxy --sds-only` runs, in a thread of its own: a certificate from the CA, served on a Unix socket.
struct Agent {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Agent {
    fn start(ca: &RunningCa, tokens: &StaticTokens, account: &str, socket: PathBuf) -> Self {
        let id = SpiffeId::workload(&TrustDomain::default(), "default", account).unwrap();
        tokens.add(account, id.clone());
        let config = identity::Config::new(ca.addr(), ca.root_pem(), account, id);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tokio::task::LocalSet::new().block_on(&runtime, async {
                let secrets = Arc::default();
                let renewal = identity::start(config, Arc::clone(&secrets));
                tokio::select! {
                    served = identity::serve_sds(&socket, secrets) => served.unwrap(),
                    _ = stopped => {}
                }
                renewal.abort();
            });
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

struct Mesh {
    controller: Controller,
    yaml: String,
    file: std::path::PathBuf,
    gateway: u16,
    proxy: u16,
    /// Where the sidecar takes in what is for its application.
    listen: u16,
}

impl Mesh {
    async fn start(folder: &Path) -> Self {
        let (gateway, proxy, listen) = (envoy::free_port(), envoy::free_port(), envoy::free_port());
        let ports = [
            ("SHOP_V1", envoy::backend("shop v1").await),
            ("SHOP_V2", envoy::backend("shop v2").await),
            ("OTHER_APP", envoy::backend("other").await),
            ("OTHER_LISTEN", listen),
            ("OTHER_PROXY", proxy),
            ("GATEWAY", gateway),
        ];
        let mut yaml = include_str!("data/mesh.yaml").to_owned();
        for (word, port) in ports {
            yaml = yaml.replace(word, &port.to_string());
        }
        let file = folder.join("mesh.yaml");
        std::fs::write(&file, &yaml).unwrap();
        let source = Folder::new(folder, FolderOptions::default()).unwrap();
        let mut config = Config::new(vec![Box::new(source)]);
        config.allow_plaintext_loopback = true;
        let controller = Controller::start(config).await.unwrap();
        tokio::time::timeout(PATIENCE, controller.ready()).await.unwrap();
        assert_eq!(**controller.problems(), [], "the fixture is read whole");
        Self { controller, yaml, file, gateway, proxy, listen }
    }

    fn xds_port(&self) -> u16 {
        let Address::Tcp(address) = self.controller.xds_addr() else { panic!("TCP") };
        address.port()
    }

    /// Waits until `proxies` have everything of the newest view, and nothing was rejected.
    async fn synced(&self, proxies: usize, envoys: &[&Envoy]) {
        let done = || {
            let (sync, generation) = (self.controller.sync(), self.controller.views().borrow().generation);
            if let Some(rejected) = sync.iter().flat_map(|proxy| &proxy.types).find_map(|sync| sync.nack.as_ref()) {
                panic!("rejected: {rejected:?}\n{}", envoys.iter().map(|envoy| envoy.log()).collect::<String>());
            }
            let listening = |proxy: &ferromesh_controller::serve::hub::ProxySync| {
                proxy.of(Kind::Listener).is_some() && proxy.of(Kind::Route).is_some()
            };
            sync.len() == proxies && sync.iter().all(|p| listening(p) && p.is_synced() && p.generation == generation)
        };
        let wait = async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            let logs: String = envoys.iter().map(|envoy| envoy.log()).collect();
            panic!("not every proxy has all: {:#?}\n{logs}", self.controller.sync());
        }
    }
}

async fn serves_the_folder(api: Api, test: &str) {
    let Some(binary) = envoy::binary(test) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mesh = Mesh::start(folder.path()).await;
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tokens = Arc::new(StaticTokens::default());
    let mut config = ferromesh_ca::Config::new(([127, 0, 0, 1], 0).into(), TrustDomain::default());
    config.authenticators.push(Arc::clone(&tokens) as _);
    let ca = Ca::start(config).await.unwrap();
    let start = |folder: &Path, node: &str, account: &str| {
        let socket = folder.join("sds.sock");
        let agent = Agent::start(&ca, &tokens, account, socket.clone());
        let metadata = json!({"NAMESPACE": "default", "SERVICE_ACCOUNT": account, "CLUSTER_ID": "Kubernetes"});
        (Envoy::start(&binary, folder, node, &metadata, api, mesh.xds_port(), Some(&socket)), agent)
    };
    let (gateway, _edge_agent) = start(one.path(), GATEWAY, "edge");
    let (sidecar, _other_agent) = start(two.path(), SIDECAR, "other");
    let logs = || gateway.log() + &sidecar.log();
    mesh.synced(2, &[&gateway, &sidecar]).await;
    // Acknowledged is not yet served: a listener waits for its certificates.
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !envoy::get(mesh.gateway, "shop.example", "/").await.is_some_and(|answer| answer.contains(" 200 ")) {
        assert!(std::time::Instant::now() < end, "{}", logs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let mut versions = [0, 0];
    for _ in 0..100 {
        let answer = envoy::get(mesh.gateway, "shop.example", "/").await.unwrap_or_else(|| panic!("{}", logs()));
        let text = answer.to_ascii_lowercase();
        assert!(text.starts_with("http/1.1 200") && text.contains("x-mesh: ferro"), "{answer}\n{}", logs());
        assert!(text.contains("x-canary: v2-20pct"), "the backend saw: {answer}");
        versions[usize::from(text.contains("shop v2"))] += 1;
    }
    // 80 to 20: outside of these bounds once in a million runs.
    assert!((1..=45).contains(&versions[1]), "{versions:?}");

    // The application's sidecar lets three pass, from the gateway and from a sibling alike.
    let other = envoy::get(mesh.gateway, "shop.example", "/other").await.unwrap();
    assert!(other.starts_with("HTTP/1.1 200") && other.contains("other\n"), "{other}\n{}", logs());
    // It came by mTLS: the application sees whose certificate the sidecar saw, and nothing else gets in.
    assert!(other.contains("URI=spiffe://cluster.local/ns/default/sa/edge"), "{other}\n{}", logs());
    let plain = envoy::get(mesh.listen, "other.default", "/other").await.unwrap_or_default();
    assert!(!plain.contains("200 OK"), "STRICT let plaintext in: {plain}");
    let outbound = envoy::get(mesh.proxy, "shop-v1.default", "/").await.unwrap();
    assert!(outbound.starts_with("HTTP/1.1 200") && outbound.contains("shop v1"), "{outbound}\n{}", logs());
    let mut limited = 0;
    for _ in 0..5 {
        let answer = envoy::get(mesh.gateway, "shop.example", "/other").await.unwrap();
        limited += usize::from(answer.starts_with("HTTP/1.1 429"));
    }
    assert_eq!(limited, 3, "{}", logs());

    // A change of the file reaches the gateway; nothing fails meanwhile.
    let changed = mesh.yaml.replace("weight: 80", "weight: 0").replace("weight: 20", "weight: 100");
    std::fs::write(&mesh.file, changed).unwrap();
    let generation = mesh.controller.views().borrow().generation;
    eventually("a new view", || mesh.controller.views().borrow().generation > generation).await;
    mesh.synced(2, &[&gateway, &sidecar]).await;
    for _ in 0..20 {
        let answer = envoy::get(mesh.gateway, "shop.example", "/").await.unwrap();
        assert!(answer.contains("shop v2"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoys_serve_the_folder_by_delta() {
    serves_the_folder(Api::Delta, "delta").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoys_serve_the_folder_by_state_of_the_world() {
    serves_the_folder(Api::StateOfTheWorld, "state of the world").await;
}
