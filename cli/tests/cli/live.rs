//! `up` and what is seen of it from outside: addresses, objects, configuration, changes of the folder, the end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

use super::{BINARY, repository, run, runtime};

const LONG: Duration = Duration::from_secs(30);

/// A running `ferromesh up`; killed if a test fails.
struct Up {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Up {
    fn start(runtime: &tempfile::TempDir, folder: &Path) -> Self {
        let mut child = Command::new(BINARY)
            .args(["up", "--json", "--gateway-port", "0", "-f"])
            .arg(folder)
            .env("XDG_RUNTIME_DIR", runtime.path())
            .env("COLUMNS", "1000")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        Self { child, stdout: lines(stdout), stderr: lines(stderr) }
    }

    /// The next addresses that it prints.
    fn state(&self) -> Value {
        let line = self.stdout.recv_timeout(LONG).expect("addresses");
        serde_json::from_str(&line).expect("JSON")
    }

    fn says(&self, what: &str) {
        let deadline = Instant::now() + LONG;
        let left = || deadline.saturating_duration_since(Instant::now());
        while let Ok(line) = self.stderr.recv_timeout(left()) {
            if line.contains(what) {
                return;
            }
        }
        panic!("{what:?} was not said");
    }

    fn signal(&self, signal: Signal) {
        kill_process(process(self.child.id()), signal).expect("it runs");
    }
}

fn process(id: u32) -> Pid {
    i32::try_from(id).ok().and_then(Pid::from_raw).expect("a process")
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || BufReader::new(from).lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    receive
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let target = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() {
            copy(&entry, &target);
        } else {
            std::fs::copy(&entry, &target).expect("copied");
        }
    }
}

/// Status and body of a GET.
fn get(address: &str, path: &str) -> (String, String) {
    let mut socket = TcpStream::connect(address).expect("a listener");
    socket.set_read_timeout(Some(LONG)).expect("a socket");
    write!(socket, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.split(' ').nth(1).unwrap_or_default().to_owned(), body.to_owned())
}

fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !so() {
        assert!(Instant::now() < deadline, "not so: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_folder_is_served_looked_into_changed_and_ended() {
    let (runtime, folder) = (runtime(), tempfile::tempdir().expect("a folder"));
    copy(&repository().join("examples/tutorial"), folder.path());
    let mut up = Up::start(&runtime, folder.path());
    let state = up.state();
    let gateway = state["pods"]["demo/istio-gwapi-istio-0"]["ports"]["80"].as_str().expect("a port").to_owned();
    assert_eq!(get(&gateway, "/other").0, "200");

    let controller = state["controller"].as_str().expect("an address");
    let views = || {
        let metrics = get(controller, "/metrics").1;
        let line = metrics.lines().find_map(|line| line.strip_prefix("pilot_views "));
        line.and_then(|count| count.parse::<u64>().ok()).expect("it is counted")
    };
    eventually("a mesh in which nothing changes makes no views", || {
        let before = views();
        std::thread::sleep(Duration::from_millis(300));
        views() == before
    });

    looked_into(&runtime);
    let dashboard = state["dashboard"].as_str().expect("an address");
    eventually("the dashboard shows the call", || get(dashboard, "/api/edges").1.contains("otherapp"));

    std::fs::write(folder.path().join("demo/bad.yaml"), "kind: Service\nspec: [1\n").expect("a file");
    up.says("demo/bad.yaml:");
    assert_eq!(get(&gateway, "/other").0, "200");
    assert_eq!(get(&gateway, "/").0, "200");

    std::fs::remove_file(folder.path().join("demo/route-otherapp.yaml")).expect("deleted");
    let routes = ["get", "httproutes", "-n", "demo"];
    eventually("the deleted file's route is gone", || !run(&runtime, &routes, "").1.contains("other-route"));
    eventually("the gateway has no such route", || get(&gateway, "/other").1.contains("myapp"));

    let apps = std::fs::read_to_string(folder.path().join("demo/apps.yaml")).expect("a file");
    std::fs::write(folder.path().join("demo/more.yaml"), apps.replace("otherapp", "newapp").replace("myapp", "mine"))
        .expect("a file");
    eventually("a new Deployment has a pod", || up.state()["pods"]["demo/newapp-0"].is_object());

    up.signal(Signal::INT);
    assert_eq!(up.child.wait().expect("it ends").code(), Some(0));
    up.says("Draining");
    assert_eq!(run(&runtime, &routes, "").0, Some(3));
}

#[test]
fn a_mesh_starts_without_a_word_and_is_found_again_when_another_one_has_ended() {
    let runtime = runtime();
    let folder = repository().join("examples/shop");
    let up = Up::start(&runtime, &folder);
    let first = up.state()["pid"].clone();
    let mut other = Up::start(&runtime, &folder);
    other.state();
    other.signal(Signal::INT);
    assert_eq!(other.child.wait().expect("it ends").code(), Some(0));
    let file = runtime.path().join("ferromesh-mesh.json");
    eventually("the first is found", || {
        let written = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        written.is_some_and(|state| state["pid"] == first)
    });
    let said: Vec<String> = up.stderr.try_iter().collect();
    assert!(said.is_empty(), "{said:?}");
}

#[test]
fn a_mesh_that_is_terminated_ends_the_applications_that_it_started() {
    const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: own}\nspec:\n  \
        selector: {matchLabels: {app: own}}\n  template:\n    metadata: {labels: {app: own}}\n    \
        spec: {containers: [{name: own, image: own, ports: [{containerPort: 80}]}]}\n";
    let (runtime, folder) = (runtime(), tempfile::tempdir().expect("a folder"));
    let said = folder.path().join("pid");
    let workloads = format!(
        "kind: Workloads\nworkloads:\n- image: own\n  command: [sh, -c, 'echo $$ > {}; exec sleep 600']\n",
        said.display()
    );
    std::fs::write(folder.path().join("workloads.yaml"), workloads).expect("a file");
    std::fs::write(folder.path().join("own.yaml"), DEPLOYMENT).expect("a file");
    let mut up = Up::start(&runtime, folder.path());
    up.state();
    let mut application = None;
    eventually("the application runs", || {
        application = std::fs::read_to_string(&said).ok().and_then(|text| text.trim().parse().ok()).map(process);
        application.is_some()
    });
    let application = application.expect("it runs");
    test_kill_process(application).expect("it runs");
    up.signal(Signal::TERM);
    assert_eq!(up.child.wait().expect("it ends").code(), Some(0));
    up.says("Draining");
    eventually("the application has ended", || test_kill_process(application).is_err());
}

fn looked_into(runtime: &tempfile::TempDir) {
    let cases: &[(&[&str], &str)] = &[
        (&["get", "gateways", "-A"], "Accepted,Programmed,ResolvedRefs\n"),
        (&["get", "httproutes", "-n", "demo", "-o", "yaml"], "kind: HTTPRoute"),
        (&["get", "httproute", "other-route", "-n", "demo", "-o", "json"], "\"name\": \"other-route\""),
        (&["get", "envoyfilters", "-A"], "PatchesMatched=False(NoMatch)"),
        (&["get", "gateways", "-n", "nowhere"], ""),
        (&["config", "istio-gwapi-istio", "listeners", "-n", "demo"], "0.0.0.0_80"),
        (&["config", "istio-gwapi-istio", "routes", "-n", "demo"], "20 outbound|80||myapp-v2.demo.svc.cluster.local"),
        (&["config", "myapp-v1", "clusters"], "outbound|80||otherapp.demo.svc.cluster.local"),
        (&["config", "istio-gwapi-istio", "endpoints"], "HEALTHY"),
        (&["config", "myapp-v1", "secrets"], "spiffe://cluster.local/ns/demo/sa/default"),
        (&["config", "myapp-v1", "bootstrap", "-o", "yaml"], "xds-grpc"),
    ];
    for (args, says) in cases {
        let (code, stdout, stderr) = run(runtime, args, "");
        assert_eq!(code, Some(0), "{args:?}: {stderr}");
        assert!(stdout.contains(says), "{args:?}: {stdout}");
        assert!(!stdout.contains("PRIVATE KEY"), "{args:?}");
    }
    for args in [&["get", "nonsense"][..], &["get", "gateway", "none"], &["config", "none", "routes"]] {
        assert_eq!(run(runtime, args, "").0, Some(2), "{args:?}");
    }
}
