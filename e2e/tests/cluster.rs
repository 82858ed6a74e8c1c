//! The test cluster itself: it comes up, works like a real one, and leaves nothing.
//!
//! Needs the tools (`ferromesh-e2e tools build`) and, for nodes, root and what `e2e/setup-debian.sh` installs. Where something is
//! missing the tests say so and skip; with CI=true they fail.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ferromesh_e2e::cluster::{Cluster, Options, layout, prerequisites};
use ferromesh_e2e::image::{Config, Content, Image};
use ferromesh_e2e::tools::{self, Tool};

/// Says why a test cannot run here; in CI it must.
fn can_run(nodes: bool) -> bool {
    let tools: &[Tool] = if nodes { &[Tool::Node, Tool::Coredns, Tool::Pause] } else { &[Tool::Node] };
    let missing = tools.iter().find(|tool| !tools::folder_of(**tool).expect("a cache").is_dir());
    let why = match (prerequisites::check(nodes), missing) {
        (Err(why), _) => why.to_string(),
        (Ok(()), Some(tool)) => format!("{} is not built; run: ferromesh-e2e tools build", tool.name()),
        (Ok(()), None) if nodes && busybox().is_none() => "busybox is missing; install busybox-static".to_owned(),
        (Ok(()), None) => return true,
    };
    assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "{why}");
    eprintln!("skipped: {why}");
    false
}

fn busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).into_iter().find(|file| file.is_file())
}

fn up(nodes: u8) -> Cluster {
    Cluster::up(Options::new(nodes)).expect("the cluster comes up")
}

fn eventually<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(value) = holds() {
            return value;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What a GET of `/` answers, if anything.
fn get(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.trim().to_owned())
}

/// All that a cluster could leave: folder, processes, control groups.
fn traces(name: &str) -> Vec<String> {
    let mut traces = Vec::new();
    let folder = layout::state().expect("a state folder").join(name);
    traces.extend(folder.exists().then(|| folder.display().to_string()));
    let groups = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let groups = groups.map(|hierarchy| hierarchy.path().join("ferromesh-e2e").join(name));
    traces.extend(groups.filter(|group| group.exists()).map(|group| group.display().to_string()));
    let needle = format!("{}/{name}/", layout::state().expect("a state folder").display());
    for process in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        traces.extend(format!("{command}/").replace(' ', "/").contains(&needle).then_some(command));
    }
    traces
}

fn nothing_is_left(name: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !traces(name).is_empty() {
        assert!(Instant::now() < deadline, "left behind: {:?}", traces(name));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_control_plane_serves_the_host_survives_its_api_server_and_leaves_nothing() {
    if !can_run(false) {
        return;
    }
    let (cluster, other) = (up(0), up(0));
    assert!(
        cluster.kubectl_output(&["version"]).expect("version").contains(&format!("v{}", tools::KUBERNETES_VERSION))
    );
    cluster.kubectl_output(&["create", "namespace", "only-here"]).expect("a namespace");
    cluster.kubectl_output(&["create", "deployment", "-n", "only-here", "app", "--image=app"]).expect("a deployment");
    eventually("the controllers make a pod", || {
        let pods = cluster.kubectl_output(&["get", "pods", "-n", "only-here", "-o", "name"]).ok()?;
        pods.contains("pod/app-").then_some(())
    });
    let there = other.kubectl_output(&["get", "namespaces", "-o", "name"]).expect("namespaces of the other");
    assert!(!there.contains("only-here"), "clusters share nothing");
    cluster.stop(None, "kube-apiserver").expect("stopped");
    let refused = cluster.kubectl_output(&["get", "namespaces", "--request-timeout=5s"]);
    assert!(refused.is_err(), "no API server: {refused:?}");
    cluster.start(None, "kube-apiserver").expect("started");
    eventually("the API server comes back with what it had", || {
        cluster.kubectl_output(&["get", "namespace", "only-here"]).ok()
    });
    let names = [cluster.name().to_owned(), other.name().to_owned()];
    assert!(!traces(&names[0]).is_empty(), "the search finds a cluster that lives");
    drop(cluster);
    drop(other);
    names.iter().for_each(|name| nothing_is_left(name));
}

#[test]
fn simulated_nodes_run_a_rollout_of_hundreds_of_pods() {
    if !can_run(false) {
        return;
    }
    let cluster = Cluster::up(Options { simulated: 2, ..Options::new(0) }).expect("the cluster comes up");
    cluster.kubectl_output(&["create", "deployment", "app", "--image=app", "--replicas=200"]).expect("a deployment");
    cluster.kubectl_output(&["rollout", "status", "deployment/app", "--timeout=120s"]).expect("all run");
    cluster.kubectl_output(&["expose", "deployment", "app", "--port=80"]).expect("a service");
    eventually("all are endpoints", || {
        let path = "jsonpath={.items[*].endpoints[*].addresses[0]}";
        let slices =
            cluster.kubectl_output(&["get", "endpointslices", "-l", "kubernetes.io/service-name=app", "-o", path]);
        let mut addresses: Vec<String> = slices.ok()?.split_whitespace().map(str::to_owned).collect();
        addresses.sort();
        addresses.dedup();
        (addresses.len() == 200).then_some(())
    });
    cluster.kubectl_output(&["delete", "deployment", "app"]).expect("deleted");
    eventually("pods end", || cluster.kubectl_output(&["get", "pods", "-o", "name"]).ok()?.is_empty().then_some(()));
}

#[test]
fn a_cluster_ends_when_the_process_that_owns_it_is_killed() {
    if !can_run(false) {
        return;
    }
    let mut owner = Command::new(std::env::current_exe().expect("this test"))
        .args(["--ignored", "--exact", "owner", "--nocapture"])
        .env("FERROMESH_E2E", env!("CARGO_BIN_EXE_ferromesh-e2e"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the owner");
    let lines = BufReader::new(owner.stdout.take().expect("its output")).lines();
    let name = lines.map_while(Result::ok).find_map(|line| Some(line.split_once("cluster: ")?.1.to_owned()));
    let name = name.expect("the owner says its cluster's name");
    assert!(!traces(&name).is_empty());
    owner.kill().expect("killed");
    owner.wait().expect("ended");
    nothing_is_left(&name);
}

/// Not a test: the process that is killed.
#[test]
#[ignore = "it waits to be killed by another test"]
fn owner() {
    let cluster = up(0);
    println!("cluster: {}", cluster.name());
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn what_a_killed_keeper_leaves_is_removed_by_down() {
    if !can_run(false) {
        return;
    }
    let name = format!("killed-{}", std::process::id());
    let tool = env!("CARGO_BIN_EXE_ferromesh-e2e");
    let run = |arguments: &[&str]| Command::new(tool).args(arguments).output().expect("ferromesh-e2e");
    assert!(run(&["cluster", "up", "--nodes", "0", "--name", &name]).status.success());
    let keeper = traces_of_keeper(&name).expect("a keeper");
    Command::new("kill").args(["-KILL", &keeper]).status().expect("kill");
    eventually("all processes end", || traces(&name).iter().all(|trace| Path::new(trace).is_dir()).then_some(()));
    let status = String::from_utf8_lossy(&run(&["cluster", "status", "--name", &name]).stdout).into_owned();
    // Another test's `up` may have removed it since.
    assert!(status.is_empty() || status.contains("dead"), "{status}");
    assert!(run(&["cluster", "down", "--name", &name]).status.success());
    nothing_is_left(&name);
}

fn traces_of_keeper(name: &str) -> Option<String> {
    let end = format!("{}/{name}", layout::state().expect("a state folder").display());
    std::fs::read_dir("/proc").expect("/proc").flatten().find_map(|process| {
        let command = std::fs::read(process.path().join("cmdline")).ok()?;
        let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
        let keeps = words.contains(&b"keep".as_slice()) && words.contains(&end.as_bytes());
        keeps.then(|| process.file_name().to_string_lossy().into_owned())
    })
}

const APPLICATION: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}
      initContainers:
      - {name: native-sidecar, image: test.local/box, restartPolicy: Always, args: [sleep, "100000"]}
      containers:
      - name: web
        image: test.local/box
        args: [sh, -c, "busybox hostname > /www/index.html; echo serving; exec busybox httpd -f -p 8080 -h /www"]
        volumeMounts: [{name: www, mountPath: /www}]
        readinessProbe: {httpGet: {port: 8080, path: /}, periodSeconds: 1}
      volumes: [{name: www, emptyDir: {}}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  nodeName: node1
  terminationGracePeriodSeconds: 0
  containers: [{name: client, image: test.local/box, args: [sleep, "100000"]}]
"#;

fn load_busybox(cluster: &Cluster) {
    let folder = tempfile::tempdir().expect("a folder");
    let program = std::fs::read(busybox().expect("busybox")).expect("its bytes");
    let image = Image {
        name: "test.local/box".into(),
        content: vec![Content::folder("bin", 0o755), Content::program("bin/busybox", program)],
        config: Config { entrypoint: vec!["/bin/busybox".into()], user: "1000:1000".into(), ..Config::default() },
    };
    let archive = folder.path().join("box.tar");
    std::fs::write(&archive, image.archive().expect("an archive")).expect("written");
    cluster.load_image(&archive).expect("loaded");
}

#[test]
fn pods_services_dns_and_balancers_work_across_nodes_that_can_be_cut_off_and_die() {
    if !can_run(true) {
        return;
    }
    let cluster = up(2);
    load_busybox(&cluster);
    cluster.apply(APPLICATION).expect("applied");
    cluster.kubectl_output(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=120s"]).expect("pods run");

    // From a pod, by name, until both pods, each on its node, have answered.
    let from_a_pod = || {
        let command = ["exec", "client", "--", "busybox", "wget", "-qO-", "http://web.default.svc.cluster.local"];
        cluster.kubectl_output(&command).ok()
    };
    let first = eventually("an answer by DNS name", from_a_pod);
    eventually("one from the other node", || from_a_pod().filter(|answer| *answer != first));
    let log = cluster.kubectl_output(&["logs", "deployment/web", "-c", "web"]).expect("its log");
    assert_eq!(log.trim(), "serving");

    // From outside: every node's port, and the balancer's address.
    let outside = |address: SocketAddr| cluster.in_network(None, move || get(address)).expect("the hub's network");
    for node in 1..=2 {
        eventually("a node's port answers", || outside((cluster.node_address(node), 30080).into()));
    }
    let path = "jsonpath={.status.loadBalancer.ingress[0].ip}";
    let address = eventually("the balancer has an address", || {
        cluster.kubectl_output(&["get", "service", "web", "-o", path]).ok()?.parse().ok()
    });
    eventually("the balancer's address answers", || outside(SocketAddr::new(address, 80)));

    // A partition is real, and ends.
    let second = SocketAddr::from((cluster.node_address(2), 30080));
    cluster.partition("node2").expect("cut off");
    assert_eq!(outside(second), None, "no packet reaches a node that is cut off");
    cluster.heal("node2").expect("healed");
    eventually("the node answers again", || outside(second));

    // So is a power failure: pods come back with the node.
    cluster.stop(None, "node2").expect("off");
    eventually("the node is gone", || outside(second).is_none().then_some(()));
    cluster.start(None, "node2").expect("on");
    eventually("pods of the node serve again", || {
        let pods = cluster.kubectl_output(&["get", "pods", "-l", "app=web", "-o", "wide"]).ok()?;
        let pod = pods.lines().find(|line| line.contains("node2"))?;
        let address = pod.split_whitespace().find_map(|word| word.parse::<std::net::Ipv4Addr>().ok())?;
        outside((address, 8080).into())
    });

    let name = cluster.name().to_owned();
    drop(cluster);
    nothing_is_left(&name);
}
