//! Active health checks: a host that is not well gets no request, and comes back when it is.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;

use crate::hosts::{Client, Host};
use crate::peers::{eventually, get};
use crate::proxies::{Serving, Setup, endpoints};
use crate::wire::{Server, header};

pub const TIMES: &str =
    "timeout: 5s, interval: 0.02s, no_traffic_interval: 0.02s, unhealthy_threshold: 3, healthy_threshold: 2";

async fn start(hosts: &[&Host], check: &str, more: &str) -> Serving {
    let hosts: Vec<_> = hosts.iter().map(|host| (host.address, "")).collect();
    let cluster = format!("health_checks: [{{{TIMES}, {check}}}], {more} {}", endpoints(&hosts));
    Setup { cluster: &cluster, ..Setup::default() }.start().await
}

async fn only(serving: &Serving, name: &str) {
    assert_eq!(Client::new(serving.address).count(10, "/").await.into_keys().collect::<Vec<_>>(), [name]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_and_a_grpc_check_take_a_host_out_and_back() {
    for check in [
        "http_health_check: {path: /healthz}",
        "http_health_check: {path: /healthz, codec_client_type: HTTP2}",
        "grpc_health_check: {service_name: shop}",
    ] {
        let (a, b) = (Host::start("a").await, Host::start("b").await);
        b.health(500);
        let serving = start(&[&a, &b], check, "").await;
        // The cluster served only after a first check of each host.
        assert_eq!(serving.flags(b.address).await, "/failed_active_hc", "{check}");
        assert_eq!(serving.flags(a.address).await, "healthy", "{check}");
        only(&serving, "a").await;
        assert_eq!(serving.stat("cluster.c.membership_healthy").await, 1);
        b.health(200);
        eventually("b is well", || async { serving.flags(b.address).await == "healthy" }).await;
        a.health(404);
        eventually("a is not", || async { serving.flags(a.address).await == "/failed_active_hc" }).await;
        eventually("the numbers show it", || async { serving.stat("cluster.c.membership_healthy").await == 1 }).await;
        assert_eq!(serving.stat("cluster.c.health_check.healthy").await, 1);
        only(&serving, "b").await;
        assert!(serving.stat("cluster.c.health_check.failure").await > 0);
        assert_eq!(serving.stat("cluster.c.health_check.network_failure").await, 0);
        serving.proxy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tcp_check_finds_a_host_that_nobody_serves() {
    let (a, b) = (Host::start("a").await, Host::start("b").await);
    let (address, serving) = (b.address, start(&[&a, &b], "tcp_health_check: {}", "").await);
    assert_eq!(Client::new(serving.address).count(10, "/").await.len(), 2);
    b.stop().await;
    eventually("b is not there", || async { serving.flags(address).await == "/failed_active_hc" }).await;
    assert!(serving.stat("cluster.c.health_check.network_failure").await >= 3, "the threshold counts");
    only(&serving, "a").await;
    let _back = Host::at("b", TcpListener::bind(address).await.unwrap());
    eventually("b is back", || async { serving.flags(address).await == "healthy" }).await;
    assert_eq!(Client::new(serving.address).count(10, "/").await.len(), 2);
    serving.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_may_go_to_another_port_or_be_off_for_a_host() {
    let (a, b, checked) = (Host::start("a").await, Host::start("b").await, Host::start("checked").await);
    a.health(500);
    b.health(500);
    let port = format!("health_check_config: {{port_value: {}}}", checked.address.port());
    let endpoint = |host: &Host, config: &str| {
        format!(
            "{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}, {config}}}}}",
            host.address.port()
        )
    };
    let cluster = format!(
        "health_checks: [{{{TIMES}, http_health_check: {{path: /healthz}}}}], load_assignment: {{cluster_name: c, \
         endpoints: [{{lb_endpoints: [{}, {}]}}]}}",
        endpoint(&a, &port),
        endpoint(&b, "health_check_config: {disable_active_health_check: true}")
    );
    let serving = Setup { cluster: &cluster, ..Setup::default() }.start().await;
    assert_eq!(Client::new(serving.address).count(10, "/").await.len(), 2);
    assert!(checked.state.checks.load(Ordering::SeqCst) > 0);
    assert_eq!(a.state.checks.load(Ordering::SeqCst) + b.state.checks.load(Ordering::SeqCst), 0);
    serving.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_no_host_that_is_well_the_panic_threshold_decides() {
    let a = Host::start("a").await;
    a.health(500);
    let check = "http_health_check: {path: /healthz}";
    let serving = start(&[&a], check, "").await;
    assert_eq!(get(serving.address, "/").await.0, 200, "panic");
    serving.proxy.shutdown().await;
    let serving = start(&[&a], check, "common_lb_config: {healthy_panic_threshold: {}},").await;
    assert_eq!(get(serving.address, "/").await, (503, "no healthy upstream".into()));
    a.health(200);
    eventually("a is well", || async { get(serving.address, "/").await.0 == 200 }).await;
    serving.proxy.shutdown().await;
}

/// A host whose only requests are checks.
#[derive(Default)]
pub struct Checked {
    says: Mutex<String>,
    /// What it was asked.
    asked: Mutex<Vec<String>>,
    connections: AtomicUsize,
}

impl Checked {
    /// Serves; every question ends with `end`.
    pub fn start(server: Server, end: &'static str, says: &str) -> Arc<Self> {
        let checked = Arc::new(Self { says: Mutex::new(says.to_owned()), ..Self::default() });
        let state = checked.clone();
        tokio::spawn(async move {
            loop {
                let mut wire = server.accept().await;
                let state = state.clone();
                state.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    loop {
                        while !wire.text().contains(end) {
                            if !wire.fill().await {
                                return;
                            }
                        }
                        let question = wire.until(end).await;
                        let answer = state.says.lock().unwrap().clone();
                        wire.send(&answer).await;
                        state.asked.lock().unwrap().push(question);
                    }
                });
            }
        });
        checked
    }

    pub fn says(&self, answer: &str) {
        answer.clone_into(&mut self.says.lock().unwrap());
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    async fn until_asked(&self, count: usize) {
        eventually("it is asked often enough", || async { self.count() >= count }).await;
    }
}

async fn checked(server: Server, end: &'static str, says: &str, check: &str) -> (Arc<Checked>, SocketAddr, Serving) {
    let address = server.address;
    let cluster = format!("health_checks: [{{{check}}}], {}", endpoints(&[(address, "")]));
    let checked = Checked::start(server, end, says);
    (checked, address, Setup { cluster: &cluster, ..Setup::default() }.start().await)
}

async fn until_flags(serving: &Serving, host: SocketAddr, flags: &str) {
    eventually(flags, || async { serving.flags(host).await == flags }).await;
}

pub const END: &str = "\r\n\r\n";
const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_check_asks_and_judges_as_it_is_told() {
    let check = "http_health_check: {host: shop.test, path: '/healthz?deep', method: HEAD, \
                 expected_statuses: [{start: 204, end: 206}, {start: 418, end: 419}], \
                 request_headers_to_add: [{header: {key: x-check, value: 'yes'}}]}";
    let (host, address, serving) = checked(Server::new().await, END, NO_CONTENT, &format!("{TIMES}, {check}")).await;
    assert_eq!(serving.flags(address).await, "healthy");
    let head = host.asked.lock().unwrap()[0].clone();
    assert!(head.starts_with("HEAD /healthz?deep HTTP/1.1\r\n"), "{head}");
    for (name, value) in [("host", "shop.test"), ("x-check", "yes"), ("user-agent", "Envoy/HC")] {
        assert_eq!(header(&head, name), Some(value), "{head}");
    }
    for (status, flags) in [(206, "/failed_active_hc"), (418, "healthy"), (200, "/failed_active_hc")] {
        host.says(&format!("HTTP/1.1 {status} Word\r\ncontent-length: 0\r\n\r\n"));
        until_flags(&serving, address, flags).await;
    }
    serving.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_share_a_connection_unless_they_may_not_or_it_has_ended() {
    const CLOSED: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    const OPEN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let check = "http_health_check: {path: /}";
    for (more, answer, is_shared) in [("", OPEN, true), ("reuse_connection: false,", OPEN, false), ("", CLOSED, false)]
    {
        let (host, address, serving) =
            checked(Server::new().await, END, answer, &format!("{TIMES}, {more} {check}")).await;
        host.until_asked(5).await;
        let connections = host.connections.load(Ordering::SeqCst);
        assert!(if is_shared { connections == 1 } else { connections >= 5 }, "{more} {answer}: {connections}");
        assert_eq!(serving.flags(address).await, "healthy");
        assert_eq!(serving.stat("cluster.c.health_check.failure").await, 0);
        serving.proxy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tcp_check_sends_bytes_and_looks_for_others_in_the_answer() {
    let check = "timeout: 0.3s, interval: 0.02s, no_traffic_interval: 0.02s, unhealthy_threshold: 1, healthy_threshold: 1, \
                 tcp_health_check: {send: {text: '70696e67'}, receive: [{text: '706f'}, {text: '6e67'}]}";
    let (host, address, serving) = checked(Server::new().await, "ping", "a pong", check).await;
    for (answer, flags) in [
        ("a pong", "healthy"),
        ("ng po", "/failed_active_hc/active_hc_timeout"),
        ("po, then something, then ng", "healthy"),
        ("po", "/failed_active_hc/active_hc_timeout"),
    ] {
        host.says(answer);
        until_flags(&serving, address, flags).await;
    }
    serving.proxy.shutdown().await;
}
