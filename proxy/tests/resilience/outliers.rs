//! Outlier detection: a host that fails real requests is left alone for a while.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use crate::hosts::{Client, Host};
use crate::peers::{eventually, get};
use crate::proxies::{Serving, Setup, endpoints};

async fn start(hosts: &[SocketAddr], detection: &str) -> Serving {
    let hosts: Vec<_> = hosts.iter().map(|address| (*address, "")).collect();
    let cluster = format!(
        "outlier_detection: {{base_ejection_time: 3600s, max_ejection_time: 3600s, {detection}}}, {}",
        endpoints(&hosts)
    );
    Setup { cluster: &cluster, ..Setup::default() }.start().await
}

const EJECTED: &str = "/failed_outlier_check";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_in_a_row_eject_a_host_by_their_kind() {
    const OFF: &str = "enforcing_success_rate: 0";
    let table = [
        (Some(500), "consecutive_5xx: 3, enforcing_consecutive_gateway_failure: 0", "consecutive_5xx"),
        (
            Some(503),
            "consecutive_5xx: 100, consecutive_gateway_failure: 3, enforcing_consecutive_gateway_failure: 100",
            "consecutive_gateway_failure",
        ),
        (
            None,
            "consecutive_5xx: 100, split_external_local_origin_errors: true, consecutive_local_origin_failure: 3",
            "consecutive_local_origin_failure",
        ),
    ];
    for (status, detection, counter) in table {
        let (good, bad) = (Host::start("good").await, Host::start("bad").await);
        let address = bad.address;
        match status {
            Some(status) => bad.says(status),
            // Nobody listens there.
            None => drop(bad.stop().await),
        }
        let serving = start(&[good.address, address], &format!("max_ejection_percent: 50, {OFF}, {detection}")).await;
        let mut client = Client::new(serving.address);
        let found = client.count(60, "/").await;
        assert_eq!(found["good"], 57, "{counter}: three fail, then the host is out: {found:?}");
        assert_eq!(serving.flags(address).await, EJECTED, "{counter}");
        assert_eq!(serving.stat("cluster.c.outlier_detection.ejections_active").await, 1);
        let enforced = format!("cluster.c.outlier_detection.ejections_enforced_{counter}");
        assert_eq!(serving.stat(&enforced).await, 1, "{counter}");
        serving.proxy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_comes_back_when_its_time_is_over() {
    let (good, bad) = (Host::start("good").await, Host::start("bad").await);
    bad.says(500);
    let cluster = format!(
        "outlier_detection: {{consecutive_5xx: 2, interval: 0.02s, base_ejection_time: 0.2s, max_ejection_percent: 50, \
         enforcing_success_rate: 0}}, {}",
        endpoints(&[(good.address, ""), (bad.address, "")])
    );
    let serving = Setup { cluster: &cluster, ..Setup::default() }.start().await;
    let mut client = Client::new(serving.address);
    client.count(4, "/").await;
    assert_eq!(serving.stat("cluster.c.outlier_detection.ejections_enforced_total").await, 1);
    bad.says(200);
    eventually("it is back", || async { serving.flags(bad.address).await == "healthy" }).await;
    assert_eq!(serving.stat("cluster.c.outlier_detection.ejections_active").await, 0);
    assert_eq!(client.count(10, "/").await.len(), 2);
    serving.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_hosts_are_ejected_than_the_percentage_allows() {
    let mut hosts = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let host = Host::start(name).await;
        host.says(500);
        hosts.push(host);
    }
    let addresses: Vec<_> = hosts.iter().map(|host| host.address).collect();
    let serving = start(&addresses, "consecutive_5xx: 2, max_ejection_percent: 50, enforcing_success_rate: 0").await;
    Client::new(serving.address).count(60, "/").await;
    assert_eq!(serving.stat("cluster.c.outlier_detection.ejections_active").await, 2);
    assert!(serving.stat("cluster.c.outlier_detection.ejections_overflow").await > 0);
    assert_eq!(serving.clusters().await.matches(EJECTED).count(), 2);
    serving.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_success_rate_far_below_the_others_or_a_failure_percentage_ejects() {
    let table = [
        (
            "success_rate_minimum_hosts: 5, success_rate_request_volume: 10, success_rate_stdev_factor: 1000",
            "ejections_enforced_success_rate",
        ),
        (
            "enforcing_success_rate: 0, enforcing_failure_percentage: 100, failure_percentage_threshold: 80, \
             failure_percentage_minimum_hosts: 5, failure_percentage_request_volume: 10",
            "ejections_enforced_failure_percentage",
        ),
    ];
    for (detection, counter) in table {
        let mut hosts = Vec::new();
        for name in ["a", "b", "c", "d", "e"] {
            hosts.push(Host::start(name).await);
        }
        hosts[2].says(500);
        let addresses: Vec<_> = hosts.iter().map(|host| host.address).collect();
        let more = format!("consecutive_5xx: 100000, interval: 0.4s, max_ejection_percent: 20, {detection}");
        let serving = start(&addresses, &more).await;
        let name = format!("cluster.c.outlier_detection.{counter}");
        let (name, serving) = (name.as_str(), &serving);
        eventually("an interval with enough requests", || async {
            Client::new(serving.address).count(60, "/").await;
            serving.stat(name).await == 1
        })
        .await;
        assert_eq!(serving.flags(hosts[2].address).await, EJECTED, "{counter}");
        let before = hosts[2].state.requests.load(Ordering::SeqCst);
        Client::new(serving.address).count(20, "/").await;
        assert_eq!(hosts[2].state.requests.load(Ordering::SeqCst), before);
        serving.proxy.drain();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passing_health_check_ends_an_ejection() {
    let (good, bad) = (Host::start("good").await, Host::start("bad").await);
    bad.says(500);
    let check =
        "timeout: 5s, interval: 0.02s, no_traffic_interval: 0.02s, unhealthy_threshold: 1, healthy_threshold: 1";
    let cluster = format!(
        "health_checks: [{{{check}, http_health_check: {{path: /healthz}}}}], outlier_detection: {{consecutive_5xx: 2, \
         base_ejection_time: 3600s, max_ejection_time: 3600s, max_ejection_percent: 50, enforcing_success_rate: 0}}, {}",
        endpoints(&[(good.address, ""), (bad.address, "")])
    );
    let serving = Setup { cluster: &cluster, ..Setup::default() }.start().await;
    let before = serving.stat("cluster.c.outlier_detection.ejections_enforced_total").await;
    assert_eq!(before, 0);
    eventually("it is ejected again and again", || async {
        get(serving.address, "/").await;
        serving.stat("cluster.c.outlier_detection.ejections_enforced_total").await >= 2
    })
    .await;
    bad.says(200);
    eventually("it stays", || async { serving.flags(bad.address).await == "healthy" }).await;
    serving.proxy.shutdown().await;
}
