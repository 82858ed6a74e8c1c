//! Gauges: whatever happens to requests and connections, what is active now is what is counted.

use std::sync::atomic::Ordering;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::hosts::Host;
use crate::load::Load;
use crate::peers::{eventually, get};
use crate::proxies::{Setup, endpoints};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_load_failures_and_broken_clients_nothing_is_active() {
    let (good, bad) = (Host::start("good").await, Host::start("bad").await);
    let cluster = endpoints(&[(good.address, ""), (bad.address, "")]);
    let route = ", retry_policy: {retry_on: 'reset,5xx', num_retries: 2}, timeout: 20s";
    let serving = Setup { cluster: &cluster, route, ..Setup::default() }.start().await;
    let load = Load::start(&[serving.address.into()], 3);
    load.further(200).await;
    load.finish().await;
    // Upstream resets and errors.
    bad.state.hangs_up.store(true, Ordering::SeqCst);
    for _ in 0..20 {
        get(serving.address, "/").await;
    }
    bad.state.hangs_up.store(false, Ordering::SeqCst);
    // Clients that go before their answer, in the middle of a head and in the middle of a body.
    good.state.holds.store(true, Ordering::SeqCst);
    bad.state.holds.store(true, Ordering::SeqCst);
    let mut gone = Vec::new();
    for request in
        ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", "GET / HT", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nx"]
    {
        for _ in 0..5 {
            let mut socket = TcpStream::connect(serving.address).await.unwrap();
            socket.write_all(request.as_bytes()).await.unwrap();
            gone.push(socket);
        }
    }
    let waiting = || good.state.waiting() + bad.state.waiting();
    eventually("requests wait", || async { waiting() >= 5 }).await;
    assert!(serving.stat("http.in.downstream_rq_active").await >= 5);
    drop(gone);
    let active = || async {
        let text = get(serving.admin, "/stats?usedonly&filter=active$").await.1;
        let stays = |line: &&str| line.contains("upstream_cx_active") || line.starts_with("listener_manager.");
        let numbers = text.lines().filter(|line| !stays(line));
        numbers.map(str::to_owned).collect::<Vec<_>>()
    };
    eventually("nothing is active", || async { active().await.is_empty() }).await;
    good.state.release();
    bad.state.release();
    let hosts = serving.clusters().await;
    let in_flight = hosts.lines().filter(|line| line.contains("::rq_active::") && !line.ends_with("::0"));
    assert_eq!(in_flight.collect::<Vec<_>>(), Vec::<&str>::new());
    // The hosts' connections are those of the pool.
    let of_hosts =
        hosts.lines().filter_map(|line| line.split_once("::cx_active::")?.1.parse::<u64>().ok()).sum::<u64>();
    assert_eq!(of_hosts, serving.stat("cluster.c.upstream_cx_active").await);
    good.stop().await;
    bad.stop().await;
    eventually("no connection is left", || async { serving.stat("cluster.c.upstream_cx_active").await == 0 }).await;
    serving.proxy.shutdown().await;
}
