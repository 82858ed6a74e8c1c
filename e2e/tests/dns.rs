//! DNS of a pod, whole: an application's resolver asks its name server, the kernel redirects the question to the DNS
//! proxy, and that answers or asks the name server. In network namespaces that the test makes.
#![cfg(target_os = "linux")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use clap::Parser;
use ferromesh_proto::istio::networking::nds::v1::NameTable;
use ferromesh_proto::istio::networking::nds::v1::name_table::NameInfo;
use ferromesh_proxy::agent::dns::metrics::Metrics;
use ferromesh_proxy::agent::dns::table::Place;
use ferromesh_proxy::agent::dns::upstream::Upstream;
use ferromesh_proxy::agent::dns::{Config, Listen, Server, resolv_conf};
use prost::Message;

/// Which part a process of this test plays in a namespace.
const ROLE: &str = "FERROMESH_TEST_DNS_ROLE";
const NAME_SERVER: [&str; 2] = ["10.99.8.1", "fd99:8::1"];
/// Names of this domain are known to the name server alone.
const FOREIGN: &str = "foreign.example";

/// Whether this machine lets the test work; where it must, that it does not is a failure.
fn possible() -> bool {
    let on_path = |tool: &str| {
        std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(tool).exists()))
    };
    let tools = ["ip", "setpriv", "getent"].into_iter().all(on_path);
    let listed = || Command::new("ip").args(["netns", "list"]).output().is_ok_and(|out| out.status.success());
    let possible = rustix::process::geteuid().is_root() && tools && listed();
    let needs = "network namespaces need root, iproute2, util-linux and getent";
    assert!(possible || std::env::var_os("CI").is_none_or(|value| value != "true"), "{needs}");
    if !possible {
        eprintln!("skipped: {needs}");
    }
    possible
}

/// A pod's namespace with the DNS proxy, one with the name server, a wire between; gone when dropped.
struct Pod {
    pod: String,
    outside: String,
    parts: Vec<Child>,
}

impl Pod {
    fn new(name_server: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut names = Self { pod: format!("fmd-{id}-p"), outside: format!("fmd-{id}-o"), parts: Vec::new() };
        let (pod, outside) = (names.pod.as_str(), names.outside.as_str());
        ip(&["netns", "add", pod]);
        ip(&["netns", "add", outside]);
        ip(&["-n", pod, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", outside]);
        for (name, last) in [(pod, "2"), (outside, "1")] {
            ip(&["-n", name, "link", "set", "lo", "up"]);
            ip(&["-n", name, "addr", "add", &format!("10.99.8.{last}/24"), "dev", "eth0"]);
            ip(&["-n", name, "addr", "add", &format!("fd99:8::{last}/64"), "dev", "eth0", "nodad"]);
            ip(&["-n", name, "link", "set", "eth0", "up"]);
        }
        // What `ip netns exec` shows as /etc/resolv.conf.
        std::fs::create_dir_all(names.etc()).unwrap();
        let text =
            format!("search shop.svc.cluster.local svc.cluster.local\nnameserver {name_server}\noptions ndots:5\n");
        std::fs::write(names.etc().join("resolv.conf"), text).unwrap();
        let outside = names.outside.clone();
        names.part(&outside, None, "name-server");
        names
    }

    /// Rules first, as the init container does, then the proxy as its own user.
    fn with_proxy(name_server: &str) -> Self {
        let mut names = Self::new(name_server);
        let pod = names.pod.clone();
        names.part(&pod, None, "rules");
        names.part(&pod, Some(1337), "proxy");
        names
    }

    fn etc(&self) -> std::path::PathBuf {
        std::path::Path::new("/etc/netns").join(&self.pod)
    }

    /// Starts a part and waits until it is ready.
    fn part(&mut self, namespace: &str, user: Option<u32>, role: &str) {
        let test = std::env::current_exe().unwrap().display().to_string();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]);
        if let Some(user) = user {
            command.args(["setpriv", &format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups"]);
        }
        command.args([&test, "--exact", "a_part_of_the_other_tests", "--nocapture"]);
        let mut child = command.env(ROLE, role).stdout(Stdio::piped()).spawn().unwrap();
        let (mut said, mut byte) = (String::new(), [0; 1]);
        let out = child.stdout.as_mut().unwrap();
        while !said.ends_with("READY\n") {
            assert_eq!(out.read(&mut byte).unwrap(), 1, "{role} ended: {said}");
            said.push(byte[0].into());
        }
        self.parts.push(child);
    }

    /// The addresses that the application's C library finds; it runs as its own user.
    fn looked_up(&self, family: &str, name: &str, options: &str) -> Vec<String> {
        let out = Command::new("ip")
            .args(["netns", "exec", &self.pod, "setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"])
            .args(["getent", family, name])
            .env("RES_OPTIONS", format!("timeout:3 attempts:1 {options}"))
            .output()
            .unwrap();
        let lines = String::from_utf8_lossy(&out.stdout).into_owned();
        let mut found: Vec<String> =
            lines.lines().filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect();
        found.sort();
        found.dedup();
        found
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        for part in &mut self.parts {
            let _ = part.kill();
            let _ = part.wait();
        }
        for name in [&self.pod, &self.outside] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
        let _ = std::fs::remove_dir_all(self.etc());
    }
}

fn ip(args: &[&str]) {
    let out = Command::new("ip").args(args).output().unwrap();
    assert!(out.status.success(), "ip {args:?}: {}", text(&out));
}

fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// Not a test of its own: a process of the other tests, inside a namespace.
#[test]
fn a_part_of_the_other_tests() {
    match std::env::var(ROLE).as_deref() {
        Ok("rules") => {
            let args = ferromesh_redirect::args::Args::parse_from(["ferromesh-init", "--redirect-dns"]);
            ferromesh_redirect::apply(&args.plan()).unwrap();
            ready();
        }
        Ok("name-server") => name_server(),
        Ok("proxy") => proxy(),
        _ => {}
    }
}

fn ready() {
    println!("READY");
    std::io::stdout().flush().unwrap();
}

/// The DNS proxy as the agent starts it, with names that it would get from a controller.
fn proxy() {
    let info = |ips: &[&str], namespace: &str| NameInfo {
        ips: ips.iter().map(|ip| (*ip).to_owned()).collect(),
        registry: "Kubernetes".into(),
        shortname: "reviews".into(),
        namespace: namespace.into(),
        ..NameInfo::default()
    };
    let table = [
        ("reviews.shop.svc.cluster.local".to_owned(), info(&["10.96.0.42", "fd00:96::42"], "shop")),
        ("reviews.other.svc.cluster.local".to_owned(), info(&["10.96.0.43"], "other")),
    ];
    let bytes = NameTable { table: table.into() }.encode_to_vec();
    let found = resolv_conf::parse(&std::fs::read_to_string(resolv_conf::PATH).unwrap());
    let place = Place::new("shop", "shop.svc.cluster.local", found.search.first().map(String::as_str));
    let upstream = Upstream { servers: found.servers, parallel: false, timeout: Duration::from_secs(2) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listen = Listen::Loopback(15053);
        let server = Server::bind(listen, Config { place, upstream }, Arc::new(Metrics::default())).await.unwrap();
        assert_eq!(server.addresses().len(), 2, "both families");
        let (_names, tables) = tokio::sync::watch::channel(Some(bytes.into()));
        ready();
        server.serve(tables).await;
    });
}

/// Answers A questions for `foreign.example`, and says of everything else that it does not exist. By TCP too.
fn name_server() {
    let mut threads = Vec::new();
    for address in NAME_SERVER {
        let at = SocketAddr::new(address.parse::<IpAddr>().unwrap(), 53);
        let udp = UdpSocket::bind(at).unwrap();
        threads.push(std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let (length, client) = udp.recv_from(&mut buffer).unwrap();
                udp.send_to(&answer(&buffer[..length]), client).unwrap();
            }
        }));
        let tcp = TcpListener::bind(at).unwrap();
        threads.push(std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let (mut stream, mut length) = (stream.unwrap(), [0; 2]);
                while stream.read_exact(&mut length).is_ok() {
                    let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                    stream.read_exact(&mut question).unwrap();
                    let answer = answer(&question);
                    let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                    stream.write_all(&[&length[..], &answer[..]].concat()).unwrap();
                }
            }
        }));
    }
    ready();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// The answer, of the question's own head and name: 192.0.2.53 by UDP and by TCP.
fn answer(question: &[u8]) -> Vec<u8> {
    let name: Vec<u8> =
        FOREIGN.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let known = question[12..].starts_with(&name) && question[12 + name.len()] == 0;
    let is_a = question[end - 4..end - 2] == [0, 1];
    let mut bytes = question[..end].to_vec();
    // An answer, with recursion; one question, so many answers, nothing else.
    (bytes[2], bytes[3]) = (0x81, if known { 0x80 } else { 0x83 });
    bytes[4..12].copy_from_slice(&[0, 1, 0, u8::from(known && is_a), 0, 0, 0, 0]);
    if known && is_a {
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 192, 0, 2, 53]);
    }
    bytes
}

#[test]
fn an_applications_questions_are_captured_answered_from_the_mesh_or_asked_of_its_name_server() {
    if !possible() {
        return;
    }
    for (index, name_server) in NAME_SERVER.into_iter().enumerate() {
        let plain = (index == 0).then(|| Pod::new(name_server));
        if let Some(pod) = plain {
            assert_eq!(
                pod.looked_up("ahostsv4", "reviews", ""),
                Vec::<String>::new(),
                "without a proxy nobody knows it"
            );
            assert_eq!(pod.looked_up("ahostsv4", FOREIGN, ""), ["192.0.2.53"]);
        }
        let pod = Pod::with_proxy(name_server);
        // By UDP, then by TCP.
        for options in ["", "use-vc"] {
            let looked_up = |family: &str, name: &str| pod.looked_up(family, name, options);
            for name in ["reviews", "reviews.shop", "reviews.shop.svc", "reviews.shop.svc.cluster.local"] {
                assert_eq!(looked_up("ahostsv4", name), ["10.96.0.42"], "{name} {options} by {name_server}");
            }
            assert_eq!(looked_up("ahosts", "reviews"), ["10.96.0.42", "fd00:96::42"], "{options} by {name_server}");
            assert_eq!(looked_up("ahosts", "reviews.other"), ["10.96.0.43"], "{options} by {name_server}");
            assert_eq!(looked_up("ahosts", FOREIGN), ["192.0.2.53"], "{options} by {name_server}");
            assert_eq!(looked_up("ahosts", "nobody.example"), Vec::<String>::new(), "{options} by {name_server}");
        }
    }
}

#[test]
fn a_port_that_was_an_applications_a_moment_ago_serves_the_proxy_as_well() {
    if !possible() {
        return;
    }
    let pod = Pod::with_proxy(NAME_SERVER[0]);
    // Two ports for all: the proxy's questions leave by ports from which the application asked just before, and the
    // other way round.
    let range = "echo 20000 20001 > /proc/sys/net/ipv4/ip_local_port_range";
    let out = Command::new("ip").args(["netns", "exec", &pod.pod, "sh", "-c", range]).output().unwrap();
    assert!(out.status.success(), "{}", text(&out));
    for time in 0..20 {
        assert_eq!(pod.looked_up("ahostsv4", &format!("{FOREIGN}."), ""), ["192.0.2.53"], "time {time}");
        let own = "reviews.shop.svc.cluster.local.";
        assert_eq!(pod.looked_up("ahostsv4", own, ""), ["10.96.0.42"], "time {time}: it did not pass the proxy by");
    }
}
