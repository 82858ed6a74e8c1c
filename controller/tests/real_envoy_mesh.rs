//! A folder of YAML through the whole controller to real Envoys: a gateway and a sidecar, nothing rejected.

#[path = "support/client.rs"]
mod client;
#[path = "support/envoy.rs"]
mod envoy;

use std::path::Path;
use std::time::Duration;

use client::{PATIENCE, eventually};
use envoy::{Api, Envoy};
use ferromesh_controller::app::{Config, Controller};
use ferromesh_controller::serve::{Address, Kind};
use ferromesh_controller::source::{Folder, FolderOptions};
use serde_json::json;

const GATEWAY: &str = "router~127.0.0.1~edge-0.default~default.svc.cluster.local";
const SIDECAR: &str = "sidecar~127.0.0.1~other-0.default~default.svc.cluster.local";

struct Mesh {
    controller: Controller,
    yaml: String,
    file: std::path::PathBuf,
    gateway: u16,
    proxy: u16,
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
        Self { controller, yaml, file, gateway, proxy }
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
    let metadata = json!({"NAMESPACE": "default", "SERVICE_ACCOUNT": "default", "CLUSTER_ID": "Kubernetes"});
    let gateway = Envoy::start(&binary, one.path(), GATEWAY, &metadata, api, mesh.xds_port());
    let sidecar = Envoy::start(&binary, two.path(), SIDECAR, &metadata, api, mesh.xds_port());
    let logs = || gateway.log() + &sidecar.log();
    mesh.synced(2, &[&gateway, &sidecar]).await;

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
