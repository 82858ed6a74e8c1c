//! The agent and the plugin as processes, on a node that the test makes: folders of a node, an API server that knows two pods,
//! and pods' network namespaces.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ferromesh_injector::inject::inject;
use ferromesh_injector::settings::RedirectBy;
use ferromesh_injector::{Mesh, Settings};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

const CNI: &str = env!("CARGO_BIN_EXE_ferromesh-cni");
const LIST: &str = r#"{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"ptp","mtu":1400}]}"#;
const RESULT: &str = r#"{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.5/16"}]}"#;

/// Whether this machine lets the test work; where it must, that it does not is a failure.
fn possible() -> bool {
    let tool = |name: &str| {
        std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).exists()))
    };
    let possible = rustix::process::geteuid().is_root()
        && tool("ip")
        && tool("nft")
        && Command::new("ip").args(["netns", "list"]).output().is_ok_and(|out| out.status.success());
    assert!(possible || std::env::var_os("CI").is_none(), "network namespaces need root, iproute2 and nftables");
    if !possible {
        eprintln!("SKIPPED: network namespaces need root, iproute2 and nftables");
    }
    possible
}

/// A pod's network namespace; gone when dropped.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("fmcni-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        assert!(Command::new("ip").args(["netns", "add", &name]).status().unwrap().success());
        Self(name)
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.0)
    }

    /// Our table in it, as nft prints it.
    fn rules(&self) -> Option<String> {
        let list = ["netns", "exec", &self.0, "nft", "list", "table", "inet", "ferromesh"];
        let out = Command::new("ip").args(list).output().unwrap();
        out.status.success().then(|| String::from_utf8(out.stdout).unwrap())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// What is asked of the API server.
struct Api {
    address: String,
    removed: Arc<AtomicBool>,
}

impl Api {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let removed = Arc::new(AtomicBool::new(false));
        let gone = Arc::clone(&removed);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let gone = Arc::clone(&gone);
                std::thread::spawn(move || serve(stream, &gone));
            }
        });
        Self { address, removed }
    }
}

fn serve(stream: TcpStream, gone: &AtomicBool) {
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let mut out = stream;
    let mut line = String::new();
    while lines.read_line(&mut line).is_ok_and(|read| read > 0) {
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        while lines.read_line(&mut line).is_ok_and(|read| read > 2) {}
        let object = match path.as_str() {
            "/api/v1/namespaces/shop/pods/meshed" => Some(meshed()),
            "/api/v1/namespaces/shop/pods/plain" => Some(json!({"metadata": {"name": "plain", "uid": "u-plain"}})),
            "/apis/apps/v1/namespaces/kube-system/daemonsets/ferromesh-cni" if !gone.load(Ordering::Relaxed) => {
                Some(json!({"metadata": {"name": "ferromesh-cni"}}))
            }
            _ => None,
        };
        let (status, body) = match object {
            Some(object) => ("200 OK", object.to_string()),
            None => ("404 Not Found", json!({"kind": "Status", "reason": "NotFound", "code": 404}).to_string()),
        };
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        if out.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
        line.clear();
    }
}

fn meshed() -> Value {
    let pod = json!({
        "metadata": {"name": "meshed", "annotations": {"traffic.sidecar.istio.io/excludeOutboundPorts": "5432"}},
        "spec": {"containers": [{"name": "app", "image": "i"}]},
    });
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let settings = Settings { redirect_by: RedirectBy::NodeAgent, ..Settings::default() };
    let mut pod = inject(&pod, "shop", &Mesh { settings, ..Mesh::default() }).unwrap().pod;
    pod.metadata.uid = Some("u-meshed".into());
    serde_json::to_value(pod).unwrap()
}

/// A node with an agent on it, which is killed when dropped.
struct Node {
    folder: tempfile::TempDir,
    agent: Option<Child>,
    api: Api,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["conf", "bin"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let api = Api::start();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": api.address}}],
            "users": [{"name": "c", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        });
        std::fs::write(folder.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
        Self { folder, agent: None, api }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&mut self) {
        let mut agent = Command::new(CNI);
        agent.arg("agent").arg("--conf-dir").arg(self.path("conf")).arg("--bin-dir").arg(self.path("bin"));
        agent.arg("--socket").arg(self.path("run/agent.sock")).arg("--kubeconfig").arg(self.path("kubeconfig"));
        agent.args(["--daemon-set", "kube-system/ferromesh-cni", "--exclude-namespace", "kube-system"]);
        agent.args(["--admin-address", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::null());
        let log = std::fs::File::create(self.path("log")).unwrap();
        self.agent = Some(agent.stderr(log).spawn().unwrap());
    }

    fn end(&mut self) {
        let mut agent = self.agent.take().unwrap();
        assert!(Command::new("kill").args(["-TERM", &agent.id().to_string()]).status().unwrap().success());
        assert!(agent.wait().unwrap().success(), "{}", self.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn write_list(&self, name: &str) {
        std::fs::write(self.path("conf").join(name), LIST).unwrap();
    }

    fn plugins(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("conf").join(name)).unwrap();
        let list: Value = serde_json::from_str(&text).unwrap_or_default();
        list["plugins"].as_array().cloned().unwrap_or_default()
    }

    fn is_chained(&self, name: &str) -> bool {
        self.plugins(name).last().is_some_and(|plugin| plugin["type"] == "ferromesh-cni")
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < end, "{what} did not come\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Calls the plugin that is in the folder of plugins, as the runtime does by the list.
    fn call(&self, command: &str, pod: &str, namespace: &Namespace, told: Option<&Value>) -> Output {
        let mut config = self.plugins("10-pods.conflist").pop().unwrap();
        config["cniVersion"] = "1.0.0".into();
        config["name"] = "pods".into();
        config["prevResult"] = serde_json::from_str(RESULT).unwrap();
        if let Some(annotations) = told {
            config["runtimeConfig"] = json!({"io.kubernetes.cri.pod-annotations": annotations});
        }
        let mut plugin = Command::new(self.path("bin/ferromesh-cni"));
        plugin.env("CNI_COMMAND", command).env("CNI_CONTAINERID", "c").env("CNI_IFNAME", "eth0");
        plugin.env("CNI_PATH", self.path("bin")).env("CNI_NETNS", namespace.path());
        plugin.env("CNI_ARGS", format!("K8S_POD_NAMESPACE=shop;K8S_POD_NAME={pod};K8S_POD_UID=u-{pod}"));
        let mut child = plugin.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

fn goes_on(out: &Output) {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    let result: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(result, serde_json::from_str::<Value>(RESULT).unwrap());
}

fn refused(out: &Output) -> (Value, String) {
    assert!(!out.status.success());
    let error: Value = serde_json::from_slice(&out.stdout).unwrap();
    (error["code"].clone(), error["msg"].as_str().unwrap().to_owned())
}

fn annotations() -> Value {
    meshed()["metadata"]["annotations"].clone()
}

#[test]
fn a_pod_with_a_sidecar_is_redirected_in_its_namespace_and_another_is_not_touched() {
    if !possible() {
        return;
    }
    let (mut node, pod) = (Node::new(), Namespace::new());
    node.write_list("10-pods.conflist");
    node.start();
    node.until("the plugin in the chain", || node.is_chained("10-pods.conflist"));
    let told = annotations();
    let missing = node.call("CHECK", "meshed", &pod, Some(&told));
    assert!(refused(&missing).1.contains("no rules of ours"), "{}", refused(&missing).1);
    for told in [Some(&told), None] {
        goes_on(&node.call("ADD", "meshed", &pod, told));
        let rules = pod.rules().unwrap();
        for rule in ["tcp dport 5432 return", "redirect to :15006", "skuid 1337"] {
            assert!(rules.contains(rule), "{rule} is not in\n{rules}");
        }
    }
    let check = node.call("CHECK", "meshed", &pod, Some(&told));
    assert!(check.status.success() && check.stdout.is_empty());
    let plain = Namespace::new();
    // The runtime does not tell annotations: the agent is asked, and knows.
    goes_on(&node.call("ADD", "plain", &plain, None));
    assert_eq!(plain.rules(), None);
    let gone = node.call("ADD", "gone", &plain, Some(&told));
    assert!(refused(&gone).1.contains("no such pod"), "{}", refused(&gone).1);
    assert!(node.call("DEL", "meshed", &pod, Some(&told)).status.success());
}

#[test]
fn the_nodes_own_network_is_never_redirected() {
    if !possible() {
        return;
    }
    let mut node = Node::new();
    node.write_list("10-pods.conflist");
    // The agent's own network namespace stands for the node's.
    node.start();
    node.until("the plugin in the chain", || node.is_chained("10-pods.conflist"));
    let own = Namespace::new();
    let link = format!("/run/netns/{}", own.0);
    let own_path = format!("/proc/{}/ns/net", node.agent.as_ref().unwrap().id());
    assert!(Command::new("mount").args(["--bind", &own_path, &link]).status().unwrap().success());
    let out = node.call("ADD", "meshed", &own, Some(&annotations()));
    assert!(Command::new("umount").arg(&link).status().unwrap().success());
    assert_eq!(refused(&out).0, 101);
    assert!(refused(&out).1.contains("the node's own"), "{}", refused(&out).1);
}

#[test]
fn the_chain_is_kept_whoever_writes_it_and_left_when_the_daemon_set_goes() {
    let mut node = Node::new();
    node.start();
    node.until("the reason", || node.log().contains("no network configuration"));
    node.write_list("10-pods.conflist");
    node.until("the plugin in the chain", || node.is_chained("10-pods.conflist"));
    assert_eq!(node.plugins("10-pods.conflist")[0], json!({"type": "ptp", "mtu": 1400}));
    for _ in 0..3 {
        node.write_list("10-pods.conflist");
        node.until("the plugin in the chain again", || node.is_chained("10-pods.conflist"));
    }
    node.write_list("05-first.conflist");
    node.until("the plugin in the file that is first now", || node.is_chained("05-first.conflist"));
    std::fs::write(node.path("bin/ferromesh-cni"), "another").unwrap();
    let program = std::fs::read(CNI).unwrap();
    node.until("the program", || std::fs::read(node.path("bin/ferromesh-cni")).is_ok_and(|bytes| bytes == program));
    // An agent that makes way for the next one.
    node.end();
    assert!(node.is_chained("05-first.conflist") && node.is_chained("10-pods.conflist"));
    node.start();
    node.until("the agent", || node.path("run/agent.sock").exists() && node.log().contains("starting"));
    node.api.removed.store(true, Ordering::Relaxed);
    node.end();
    for name in ["05-first.conflist", "10-pods.conflist"] {
        assert_eq!(node.plugins(name), [json!({"type": "ptp", "mtu": 1400})], "{}", node.log());
    }
}

#[test]
fn while_the_agent_is_away_pods_without_a_sidecar_start_and_others_wait() {
    let (mut node, pod) = (Node::new(), "/proc/self/ns/net");
    let pod = if possible() { Namespace::new() } else { return assert!(Path::new(pod).exists()) };
    node.write_list("10-pods.conflist");
    node.start();
    node.until("the plugin in the chain", || node.is_chained("10-pods.conflist"));
    node.end();
    goes_on(&node.call("ADD", "plain", &pod, Some(&json!({}))));
    goes_on(&node.call("ADD", "plain", &pod, None));
    let (code, message) = refused(&node.call("ADD", "meshed", &pod, Some(&annotations())));
    assert_eq!(code, 11);
    assert!(message.contains("does not answer") && message.contains("tries again"), "{message}");
    assert_eq!(pod.rules(), None);
    // The next one takes the socket over.
    node.start();
    node.until("the agent", || node.call("ADD", "meshed", &pod, Some(&annotations())).status.success());
    assert!(pod.rules().is_some());
    let mut removed = Command::new(CNI);
    removed
        .arg("remove")
        .arg("--conf-dir")
        .arg(node.path("conf"))
        .arg("--bin-dir")
        .arg(node.path("bin"))
        .arg("--program");
    let agent = node.agent.as_mut().unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();
    let mut said = String::new();
    let mut child = removed.stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(said.contains("10-pods.conflist") && !node.is_chained("10-pods.conflist"));
    assert!(!node.path("bin/ferromesh-cni").exists());
}
