//! What hosts say of their own health in answers: `x-envoy-degraded`, `x-envoy-immediate-health-check-fail`.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::as_envoy::{Kind, flags, kinds};
use crate::health::{Checked, END, TIMES};
use crate::hosts::Client;
use crate::peers::{eventually, get};
use crate::process::Process;
use crate::proxies::{Setup, endpoints, stat};
use crate::wire::Server;

fn answer(name: &str, headers: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{headers}content-length: {}\r\n\r\n{name}", name.len())
}

const DEGRADED: &str = "x-envoy-degraded:\r\n";
const FAIL: &str = "x-envoy-immediate-health-check-fail: true\r\n";

/// Hosts that answer with their names.
async fn hosts(names: &[&str]) -> Vec<(Arc<Checked>, SocketAddr)> {
    let mut hosts = Vec::new();
    for name in names {
        let server = Server::new().await;
        let address = server.address;
        hosts.push((Checked::start(server, END, &answer(name, "")), address));
    }
    hosts
}

async fn start(kind: &Kind, hosts: &[(Arc<Checked>, SocketAddr)], check: &str) -> Process {
    let all: Vec<(SocketAddr, &str)> = hosts.iter().map(|(_, address)| (*address, "")).collect();
    let cluster = format!("health_checks: [{{{check}, http_health_check: {{path: /}}}}], {}", endpoints(&all));
    let process = kind.start(&Setup { cluster: &cluster, ..Setup::default() }.bootstrap()).await;
    for (_, address) in hosts {
        eventually("it is well", || async { flags(process.admin, "c", *address).await == "healthy" }).await;
    }
    process
}

async fn until(process: &Process, host: SocketAddr, wanted: &str) {
    eventually(wanted, || async { flags(process.admin, "c", host).await == wanted }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_says_that_it_is_degraded_is_used_when_the_others_do_not_suffice() {
    for kind in kinds() {
        let hosts = hosts(&["a", "b", "c", "d"]).await;
        let process = start(&kind, &hosts, TIMES).await;
        let address = process.listener("in").await;
        let mut client = Client::new(address);
        assert_eq!(client.count(40, "/").await.len(), 4);
        hosts[3].0.says(&answer("d", DEGRADED));
        until(&process, hosts[3].1, "/degraded_active_hc").await;
        let number = |name: &str| stat(process.admin, format!("cluster.c.{name}").leak());
        eventually("the numbers show it", || async {
            let membership = [number("membership_healthy").await, number("membership_degraded").await];
            membership == [3, 1] && number("health_check.degraded").await == 1
        })
        .await;
        // Three of four, by 140 percent, bear everything; two bear 70 percent.
        eventually("it is not used", || async { !Client::new(address).count(40, "/").await.contains_key("d") }).await;
        hosts[2].0.says("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n");
        until(&process, hosts[2].1, "/failed_active_hc").await;
        eventually("c is not used, d bears its share", || async {
            let found = Client::new(address).count(200, "/").await;
            !found.contains_key("503") && found.get("d").is_some_and(|count| (20..100).contains(count))
        })
        .await;
        hosts[3].0.says(&answer("d", ""));
        until(&process, hosts[3].1, "healthy").await;
        // Envoy forgets to count it down.
        if kind == Kind::Ours {
            eventually("the number shows it", || async { number("health_check.degraded").await == 0 }).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_discovery_says_is_degraded_is_used_as_one_that_says_so_itself() {
    for kind in kinds() {
        let hosts = hosts(&["a", "b", "c", "d"]).await;
        let of = |place: usize, more: &'static str| (hosts[place].1, more);
        let degraded = ", health_status: DEGRADED";
        for (third, is_used) in [("", false), (", health_status: UNHEALTHY", true)] {
            let all = [of(0, ""), of(1, ""), of(2, third), of(3, degraded)];
            let process = kind.start(&Setup { cluster: &endpoints(&all), ..Setup::default() }.bootstrap()).await;
            assert_eq!(flags(process.admin, "c", hosts[3].1).await, "/degraded_eds_health", "{kind:?}");
            let found = Client::new(process.listener("in").await).count(200, "/").await;
            assert_eq!(found.contains_key("d"), is_used, "{kind:?}: {found:?}");
            assert_eq!(stat(process.admin, "cluster.c.membership_degraded").await, 1, "{kind:?}");
        }
    }
}

/// A first check, and then none for as long as a test runs.
const ONCE: &str =
    "timeout: 5s, interval: 600s, no_traffic_interval: 600s, unhealthy_threshold: 3, healthy_threshold: 2";
const EXCLUDED: &str = "/failed_active_hc/excluded_via_immediate_hc_fail";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_says_in_an_answer_that_it_fails_is_out_at_once_and_counts_for_nothing() {
    for kind in kinds() {
        let hosts = hosts(&["a", "b", "c", "d"]).await;
        let process = start(&kind, &hosts, ONCE).await;
        for (place, name) in ["b", "c", "d"].into_iter().enumerate() {
            hosts[place + 1].0.says(&answer(name, FAIL));
        }
        let address = process.listener("in").await;
        let mut client = Client::new(address);
        eventually("each has said it", || async {
            for (_, address) in &hosts[1..] {
                if flags(process.admin, "c", *address).await != EXCLUDED {
                    get(process.listener("in").await, "/").await;
                    return false;
                }
            }
            true
        })
        .await;
        // A quarter of the hosts would be a panic if the others counted.
        eventually("only one is asked", || async {
            Client::new(address).count(20, "/").await.into_keys().collect::<Vec<_>>() == ["a"]
        })
        .await;
        assert_eq!(stat(process.admin, "cluster.c.lb_healthy_panic").await, 0, "{kind:?}");
        assert!(stat(process.admin, "cluster.c.health_check.passive_failure").await >= 3, "{kind:?}");
        assert_eq!(stat(process.admin, "cluster.c.health_check.healthy").await, 1, "{kind:?}");
        // The last one, too: nobody is left who counts, and all are asked.
        hosts[0].0.says(&answer("a", FAIL));
        let (status, headers, _) = client.get("/").await.unwrap();
        assert_eq!((status, headers.contains_key("x-envoy-immediate-health-check-fail")), (200, true), "{kind:?}");
        until(&process, hosts[0].1, EXCLUDED).await;
        assert_eq!(client.get("/").await.unwrap().0, 200, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_said_that_it_fails_comes_back_by_its_checks() {
    for kind in kinds() {
        let hosts = hosts(&["a"]).await;
        let process = start(&kind, &hosts, &TIMES.replace("healthy_threshold: 2", "healthy_threshold: 3")).await;
        hosts[0].0.says(&answer("a", FAIL));
        // Checks do not heed the header as long as the status is good.
        assert_eq!(get(process.listener("in").await, "/").await.0, 200);
        let failures = || async { stat(process.admin, "cluster.c.health_check.passive_failure").await };
        eventually("it is counted", || async { failures().await == 1 }).await;
        until(&process, hosts[0].1, "healthy").await;
        // A check that fails with it excludes.
        hosts[0].0.says(&format!("HTTP/1.1 503 No\r\n{FAIL}content-length: 0\r\n\r\n"));
        until(&process, hosts[0].1, EXCLUDED).await;
        hosts[0].0.says(&answer("a", ""));
        until(&process, hosts[0].1, "healthy").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_checks_nobody_heeds_what_a_host_says_of_itself() {
    for kind in kinds() {
        let hosts = hosts(&["a"]).await;
        hosts[0].0.says(&answer("a", &format!("{FAIL}{DEGRADED}")));
        let cluster = endpoints(&[(hosts[0].1, "")]);
        let process = kind.start(&Setup { cluster: &cluster, ..Setup::default() }.bootstrap()).await;
        let mut client = Client::new(process.listener("in").await);
        for _ in 0..3 {
            assert_eq!(client.get("/").await.unwrap().0, 200, "{kind:?}");
        }
        assert_eq!(flags(process.admin, "c", hosts[0].1).await, "healthy", "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_without_an_answer_in_time_is_told_from_others() {
    for kind in kinds() {
        let silent = Server::new().await;
        let (host, address) = (hosts(&["a"]).await.remove(0), silent.address);
        let check =
            "timeout: 0.2s, interval: 0.02s, no_traffic_interval: 0.02s, unhealthy_threshold: 2, healthy_threshold: 1";
        let cluster = format!(
            "health_checks: [{{{check}, http_health_check: {{path: /}}}}], {}",
            endpoints(&[(address, ""), (host.1, "")])
        );
        let process = kind.start(&Setup { cluster: &cluster, ..Setup::default() }.bootstrap()).await;
        until(&process, address, "/failed_active_hc/active_hc_timeout").await;
        until(&process, host.1, "healthy").await;
    }
}
