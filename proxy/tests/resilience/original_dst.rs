//! ORIGINAL_DST behind a real redirect, in a network namespace of the test's own.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpListener;

use crate::hosts::{Client, Host};
use crate::peers::{self, eventually, get};
use crate::proxies::Serving;

/// A network namespace; goes with the test.
struct Namespace(String);

fn run(command: &str, input: &str) -> Result<(), String> {
    let mut words = command.split(' ');
    let mut child = Command::new(words.next().unwrap())
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("{command}: {error}"))?;
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    let status = child.wait().unwrap();
    if status.success() { Ok(()) } else { Err(format!("{command}: {status}")) }
}

impl Namespace {
    /// With addresses on its loopback, where connections to ports 8080 and 9090 are redirected to 15001, unless they
    /// come from 127.0.0.6 or ::6.
    fn new() -> Result<Self, String> {
        let name = format!("ferromesh-test-{}", std::process::id());
        run(&format!("ip netns add {name}"), "")?;
        let made = Self(name);
        let ip = |arguments: &str| run(&format!("ip -n {} {arguments}", made.0), "");
        ip("link set lo up")?;
        for address in ["10.9.0.1/32", "10.9.0.2/32"] {
            ip(&format!("addr add {address} dev lo"))?;
        }
        for address in ["fd09::1/128", "fd09::6/128"] {
            ip(&format!("addr add {address} dev lo nodad"))?;
        }
        // A line each: older releases of nft want one before every closing brace.
        let rules = "table inet test {\nchain output {\ntype nat hook output priority -100\nip saddr 127.0.0.6 return\n\
                     ip6 saddr fd09::6 return\ntcp dport { 8080, 9090 } redirect to :15001\n}\n}\n";
        run(&format!("ip netns exec {} nft -f -", made.0), rules)?;
        Ok(made)
    }

    /// Runs a test inside: threads that it starts are inside, too.
    fn inside<T: Future<Output = ()>>(&self, test: impl FnOnce() -> T + Send + 'static) {
        let path = format!("/run/netns/{}", self.0);
        let thread = std::thread::spawn(move || {
            let namespace = std::fs::File::open(path).unwrap();
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network)).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(test());
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = run(&format!("ip netns del {}", self.0), "");
    }
}

/// Connections rest for a second: as long as one does, its destination is kept, as in Envoy.
fn bootstrap(listen: &str, source: &str, lb: &str) -> String {
    crate::proxies::Setup {
        cluster: &format!(
            "type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, cleanup_interval: 0.05s, \
             common_http_protocol_options: {{idle_timeout: 1s}}, original_dst_lb_config: {{{lb}}}, \
             upstream_bind_config: {{source_address: {{address: '{source}', port_value: 0}}}}"
        ),
        ..Default::default()
    }
    .bootstrap()
    .replace(
        "address: {socket_address: {address: 127.0.0.1, port_value: 0}}\n    filter_chains",
        &format!(
            "address: {{socket_address: {{address: '{listen}', port_value: 15001}}}}\n    listener_filters:\n    \
             - {{name: original_dst, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst}}}}\n    \
             filter_chains"
        ),
    )
}

async fn host(address: &str) -> Host {
    Host::at(address, TcpListener::bind(address).await.unwrap())
}

async fn redirected() {
    let (one, two, six) = ("10.9.0.1:8080", "10.9.0.2:9090", "[fd09::1]:8080");
    let _hosts = [host(one).await, host(two).await, host(six).await];
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let serving = Serving::new(peers::proxy(&bootstrap("0.0.0.0", "127.0.0.6", ""))).await;
    for address in [one, two] {
        assert_eq!(get(at(address), "/").await, (200, address.to_owned()));
        assert!(serving.clusters().await.contains(&format!("c::{address}::rq_total::1")), "{address}");
    }
    // Nobody serves the destination.
    let (status, body) = get(at("10.9.0.2:8080"), "/").await;
    assert!(status == 503 && body.contains("remote connection failure"), "{status} {body}");
    // Not redirected: there is no destination but the proxy itself.
    assert_eq!(get(at("10.9.0.1:15001"), "/").await, (503, "no healthy upstream".into()));
    // Steering by header is off unless the cluster allows it.
    let steered = [("x-envoy-original-dst-host", two)];
    assert_eq!(Client::new(at(one)).ask("/", &steered).await.unwrap().2, one);
    eventually("unused destinations are forgotten", || async { !serving.clusters().await.contains("c::10.9.") }).await;
    assert_eq!(serving.stat("cluster.c.membership_total").await, 0);
    assert_eq!(get(at(one), "/").await.0, 200);
    serving.proxy.shutdown().await;
    let serving = Serving::new(peers::proxy(&bootstrap("0.0.0.0", "127.0.0.6", "use_http_header: true"))).await;
    assert_eq!(Client::new(at(one)).ask("/", &steered).await.unwrap().2, two);
    serving.proxy.shutdown().await;
    let serving = Serving::new(peers::proxy(&bootstrap("0.0.0.0", "127.0.0.6", "upstream_port_override: 9090"))).await;
    assert_eq!(get(at("10.9.0.2:8080"), "/").await, (200, two.to_owned()));
    serving.proxy.shutdown().await;
    let serving = Serving::new(peers::proxy(&bootstrap("::", "fd09::6", ""))).await;
    assert_eq!(get(at(six), "/").await, (200, six.to_owned()));
    serving.proxy.shutdown().await;
}

#[test]
fn a_redirected_connection_goes_where_it_wanted_to() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var("CI").is_err(), "this test needs root");
        eprintln!("skipped: a network namespace needs root");
        return;
    }
    match Namespace::new() {
        Ok(namespace) => namespace.inside(redirected),
        Err(error) => {
            assert!(std::env::var("CI").is_err(), "this test needs ip and nft: {error}");
            eprintln!("skipped: {error}");
        }
    }
}
