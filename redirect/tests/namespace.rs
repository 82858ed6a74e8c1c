//! The real kernel, in network namespaces that the test makes: a pod, and a client outside of it.
#![cfg(target_os = "linux")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Set in the process that listens inside a namespace: `<port>` or `<port> transparent`.
const SERVE: &str = "FERROMESH_TEST_SERVE";
const POD: &str = "10.99.7.2";
const POD_V6: &str = "fd99:7::2";

/// Whether this machine lets the test work; where it must, that it does not is a failure.
fn possible() -> bool {
    let root = rustix::process::geteuid().is_root();
    let tools = ["ip", "nft", "setpriv", "socat"].iter().all(|tool| which(tool));
    let possible =
        root && tools && Command::new("ip").args(["netns", "list"]).output().is_ok_and(|out| out.status.success());
    assert!(
        possible || std::env::var_os("CI").is_none(),
        "network namespaces need root, iproute2, nftables, util-linux and socat"
    );
    if !possible {
        eprintln!("SKIPPED: network namespaces need root, iproute2, nftables, util-linux and socat");
    }
    possible
}

fn which(tool: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(tool).exists()))
}

/// A pod's namespace and a client's, with a wire between; gone when dropped.
struct Namespaces {
    pod: String,
    client: String,
}

impl Namespaces {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let names = Self { pod: format!("fmr-{id}-p"), client: format!("fmr-{id}-c") };
        let (pod, client) = (names.pod.as_str(), names.client.as_str());
        ip(&["netns", "add", pod]);
        ip(&["netns", "add", client]);
        ip(&["-n", pod, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", client]);
        for (name, last) in [(pod, "2"), (client, "1")] {
            ip(&["-n", name, "link", "set", "lo", "up"]);
            ip(&["-n", name, "addr", "add", &format!("10.99.7.{last}/24"), "dev", "eth0"]);
            ip(&["-n", name, "addr", "add", &format!("fd99:7::{last}/64"), "dev", "eth0", "nodad"]);
            ip(&["-n", name, "link", "set", "eth0", "up"]);
        }
        ip(&["-n", pod, "route", "add", "default", "via", "10.99.7.1"]);
        ip(&["-n", pod, "-6", "route", "add", "default", "via", "fd99:7::1"]);
        names
    }

    fn init(&self, args: &[&str]) -> Output {
        in_namespace(&self.pod, env!("CARGO_BIN_EXE_ferromesh-init"), args)
    }

    /// As the proxy's user.
    fn init_as_proxy(&self, args: &[&str]) -> Output {
        let mut all = vec!["--reuid=1337", "--regid=1337", "--clear-groups", env!("CARGO_BIN_EXE_ferromesh-init")];
        all.extend(args);
        in_namespace(&self.pod, "setpriv", &all)
    }

    fn rules(&self) -> String {
        text(&in_namespace(&self.pod, "nft", &["list", "table", "inet", "ferromesh"]))
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in [&self.pod, &self.client] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn ip(args: &[&str]) {
    let out = Command::new("ip").args(args).output().unwrap();
    assert!(out.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

fn in_namespace(name: &str, program: &str, args: &[&str]) -> Output {
    Command::new("ip").args(["netns", "exec", name, program]).args(args).output().unwrap()
}

fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// Not a test of its own: the process that listens in a namespace and tells each client where it had wanted to go.
#[test]
fn a_listener_for_the_other_tests() {
    let Ok(how) = std::env::var(SERVE) else { return };
    let (port, transparent) = how.split_once(' ').map_or((how.as_str(), false), |(port, _)| (port, true));
    let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    if transparent {
        socket.set_ip_transparent_v4(true).unwrap();
    }
    let address: std::net::SocketAddr = format!("[::]:{port}").parse().unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(8).unwrap();
    let listener = TcpListener::from(socket);
    println!("LISTENING");
    let (mut stream, peer) = listener.accept().unwrap();
    let reference = socket2::SockRef::from(&stream);
    let to = if transparent {
        stream.local_addr().unwrap()
    } else {
        let peer_v6 = matches!(peer, std::net::SocketAddr::V6(peer) if peer.ip().to_ipv4_mapped().is_none());
        let address = if peer_v6 { reference.original_dst_v6() } else { reference.original_dst_v4() };
        address.unwrap().as_socket().unwrap()
    };
    let to = std::net::SocketAddr::new(to.ip().to_canonical(), to.port());
    stream.write_all(format!("{to}\n").as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let _ = stream.read(&mut [0; 1]);
}

struct Listening(std::process::Child);

impl Listening {
    fn new(namespace: &str, how: &str) -> Self {
        let test = std::env::current_exe().unwrap();
        let mut child = Command::new("ip")
            .args(["netns", "exec", namespace])
            .arg(test)
            .args(["--exact", "a_listener_for_the_other_tests", "--nocapture"])
            .env(SERVE, how)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let out = child.stdout.as_mut().unwrap();
        let mut byte = [0; 1];
        while !said.ends_with("LISTENING\n") {
            assert_eq!(out.read(&mut byte).unwrap(), 1, "it ended: {said}");
            said.push(byte[0].into());
        }
        Self(child)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a server says to a client in `namespace`.
fn answer(namespace: &str, address: &str) -> String {
    text(&in_namespace(namespace, "socat", &["-T", "5", "-u", &format!("TCP:{address},connect-timeout=5"), "-"]))
}

#[test]
fn outbound_and_inbound_traffic_arrives_at_the_proxy_with_its_destination() {
    if !possible() {
        return;
    }
    let names = Namespaces::new();
    let out = names.init(&["-d", "15090,15021,15020"]);
    let said = text(&out);
    assert!(out.status.success(), "{said}");
    assert!(said.contains("a connection to 192.0.2.1:80 arrives at port 15001"), "{said}");
    assert!(said.contains("a connection to [2001:db8::1]:80 arrives at port 15001"), "{said}");
    for (address, expected) in
        [(format!("{POD}:80"), format!("{POD}:80")), (format!("[{POD_V6}]:81"), format!("[{POD_V6}]:81"))]
    {
        let listening = Listening::new(&names.pod, "15006");
        assert_eq!(answer(&names.client, &address).trim(), expected);
        drop(listening);
    }
    // A port of the proxy itself is reached as it is.
    let _listening = Listening::new(&names.pod, "15021");
    assert_eq!(answer(&names.client, &format!("{POD}:15021")).trim(), format!("{POD}:15021"));
}

#[test]
fn doing_it_again_gives_the_same_rules_and_cleaning_up_leaves_none() {
    if !possible() {
        return;
    }
    let names = Namespaces::new();
    assert!(names.init(&[]).status.success());
    let once = names.rules();
    assert!(names.init(&[]).status.success());
    assert_eq!(names.rules(), once);
    assert!(names.init(&["--cleanup"]).status.success());
    assert!(names.rules().contains("No such file"), "{}", names.rules());
    assert!(names.init(&["--cleanup"]).status.success(), "again");
}

#[test]
fn what_is_printed_is_what_nft_reads_back() {
    if !possible() {
        return;
    }
    let names = Namespaces::new();
    let args =
        ["-i", "10.0.0.0/8,fd00::/8", "-x", "10.1.0.0/16", "-o", "5432", "-q", "8080", "-c", "net1", "--redirect-dns"];
    let printed = text(&names.init(&[&args[..], &["--dry-run"]].concat()));
    let out = names.init(&args);
    assert!(out.status.success(), "{}", text(&out));
    let rules = |text: &str| -> Vec<String> {
        // What is implied by a port match, and how a priority is named, is written in more than one way.
        let plain = |line: &str| {
            let line = line.trim().replace("meta l4proto tcp ", "");
            line.replace("priority dstnat", "priority -100").replace("priority raw", "priority -300")
        };
        text.lines().map(plain).filter(|line| !line.is_empty()).collect()
    };
    assert_eq!(rules(&names.rules()), rules(&printed));
}

#[test]
fn the_proxys_own_user_sees_the_inbound_side_and_a_missing_rule_is_named() {
    if !possible() {
        return;
    }
    let names = Namespaces::new();
    let check = ["--skip-rule-apply", "--run-validation"];
    let before = names.init(&check);
    assert_eq!(before.status.code(), Some(1), "{}", text(&before));
    assert!(text(&before).contains("did not arrive at the proxy's port 15001"), "{}", text(&before));
    assert!(names.init(&[]).status.success());
    let after = names.init_as_proxy(&check);
    assert!(after.status.success(), "{}", text(&after));
    assert!(text(&after).contains(&format!("a connection to {POD}:80 arrives at port 15006")), "{}", text(&after));
}

#[test]
fn without_the_right_nothing_is_changed_and_the_message_says_what_is_needed() {
    if !possible() {
        return;
    }
    let names = Namespaces::new();
    let out = names.init_as_proxy(&[]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out).contains("NET_ADMIN"), "{}", text(&out));
    assert!(names.rules().contains("No such file"));
}

#[test]
fn a_transparent_socket_sees_the_clients_destination_as_its_own_address() {
    if !possible() {
        return;
    }
    let names = Namespaces::new();
    let out = names.init(&["-m", "TPROXY"]);
    assert!(out.status.success(), "{}", text(&out));
    assert!(names.init(&["-m", "TPROXY"]).status.success(), "again");
    let _listening = Listening::new(&names.pod, "15006 transparent");
    assert_eq!(answer(&names.client, &format!("{POD}:8080")).trim(), format!("{POD}:8080"));
}
