//! What happens to traffic when hosts fail and come back: other priorities, other hosts, little by little.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::balance::{is_near, named};
use crate::hosts::{Client, Host};
use crate::peers::eventually;
use crate::proxies::{Serving, Setup, endpoints, locality};

const CHECK: &str = "health_checks: [{timeout: 5s, interval: 0.02s, no_traffic_interval: 0.02s, unhealthy_threshold: 1, \
                     healthy_threshold: 1, http_health_check: {path: /healthz}}]";

async fn names(serving: &Serving) -> Vec<String> {
    Client::new(serving.address).count(20, "/").await.into_keys().collect()
}

async fn is(serving: &Serving, host: &Host, flags: &str) {
    eventually(flags, || async { serving.flags(host.address).await == flags }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_priority_serves_from_when_a_check_fails_until_it_passes_again() {
    let hosts = named(["first", "second", "third"]).await;
    let level = |place: usize| locality(&[(hosts[place].address, "")], &format!(", priority: {place}"));
    let cluster =
        format!("{CHECK}, load_assignment: {{cluster_name: c, endpoints: [{}, {}, {}]}}", level(0), level(1), level(2));
    let serving = Setup { cluster: &cluster, ..Setup::default() }.start().await;
    assert_eq!(names(&serving).await, ["first"]);
    hosts[0].health(500);
    is(&serving, &hosts[0], "/failed_active_hc").await;
    assert_eq!(names(&serving).await, ["second"]);
    hosts[1].health(500);
    is(&serving, &hosts[1], "/failed_active_hc").await;
    assert_eq!(names(&serving).await, ["third"]);
    hosts[0].health(200);
    is(&serving, &hosts[0], "healthy").await;
    assert_eq!(names(&serving).await, ["first"]);
    serving.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ejected_outlier_gives_way_to_the_next_priority_and_comes_back() {
    let hosts = named(["first", "second"]).await;
    hosts[0].says(500);
    let cluster = format!(
        "outlier_detection: {{consecutive_5xx: 2, interval: 0.02s, base_ejection_time: 0.3s, max_ejection_percent: 100, \
         enforcing_success_rate: 0}}, load_assignment: {{cluster_name: c, endpoints: [{}, {}]}}",
        locality(&[(hosts[0].address, "")], ""),
        locality(&[(hosts[1].address, "")], ", priority: 1")
    );
    let serving = Setup { cluster: &cluster, ..Setup::default() }.start().await;
    let mut client = Client::new(serving.address);
    let answers = client.count(4, "/").await;
    assert_eq!(answers.get("500"), Some(&2), "the third request goes to the next priority: {answers:?}");
    hosts[0].says(200);
    is(&serving, &hosts[0], "healthy").await;
    assert_eq!(names(&serving).await, ["first"]);
    serving.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn degraded_hosts_serve_only_what_the_others_cannot() {
    let hosts = named(["good", "degraded"]).await;
    let cluster =
        format!("{CHECK}, {}", endpoints(&[(hosts[0].address, ""), (hosts[1].address, ", health_status: DEGRADED")]));
    let serving = Setup { cluster: &cluster, ..Setup::default() }.start().await;
    // Half of the hosts are good, and bear 70 percent of the traffic.
    let found = Client::new(serving.address).count(1000, "/").await;
    assert!(is_near(found["good"], 1000, 0.7), "{found:?}");
    assert_eq!(serving.stat("cluster.c.membership_degraded").await, 1);
    hosts[0].health(500);
    is(&serving, &hosts[0], "/failed_active_hc").await;
    assert_eq!(names(&serving).await, ["degraded"]);
    serving.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_comes_back_gets_its_share_little_by_little() {
    const WINDOW: Duration = Duration::from_secs(3);
    let hosts = named(["old", "back"]).await;
    let cluster = format!(
        "{CHECK}, round_robin_lb_config: {{slow_start_config: {{slow_start_window: 3s, min_weight_percent: {{value: 5}}}}}}, {}",
        endpoints(&[(hosts[0].address, ""), (hosts[1].address, "")])
    );
    let serving = Setup { cluster: &cluster, ..Setup::default() }.start().await;
    let begun = Instant::now();
    eventually("both are grown up", || async { begun.elapsed() > WINDOW }).await;
    let found = Client::new(serving.address).count(40, "/").await;
    assert_eq!(found["back"], 20, "{found:?}");
    let found = loop {
        hosts[1].health(500);
        is(&serving, &hosts[1], "/failed_active_hc").await;
        let back = Instant::now();
        hosts[1].health(200);
        is(&serving, &hosts[1], "healthy").await;
        let found = Client::new(serving.address).count(40, "/").await;
        if back.elapsed() < WINDOW / 4 {
            break found;
        }
    };
    // A quarter of a whole host's weight at most, which is a fifth of the traffic.
    let count = found.get("back").copied().unwrap_or_default();
    assert!(count <= 10, "{found:?}");
    eventually("it has its whole share", || async {
        Client::new(serving.address).count(40, "/").await.get("back").is_some_and(|count| *count >= 19)
    })
    .await;
    serving.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_goes_to_a_host_that_was_not_tried() {
    let hosts = named(["good", "bad"]).await;
    hosts[1].says(503);
    let cluster = format!("lb_policy: RANDOM, {}", endpoints(&[(hosts[0].address, ""), (hosts[1].address, "")]));
    let predicate = "retry_host_predicate: [{name: p, typed_config: {'@type': \
                     type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}}], \
                     host_selection_retry_max_attempts: 50";
    let route = format!(
        ", retry_policy: {{retry_on: 5xx, num_retries: 1, retry_back_off: {{base_interval: 0.001s}}, {predicate}}}"
    );
    let serving = Setup { cluster: &cluster, route: &route, ..Setup::default() }.start().await;
    let found = Client::new(serving.address).count(100, "/").await;
    assert_eq!(found.get("good"), Some(&100), "{found:?}");
    assert!(hosts[1].state.requests.load(Ordering::SeqCst) > 10, "it was tried first now and then");
    serving.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_the_requests_is_mirrored_and_nobody_waits_for_its_answer() {
    let hosts = named(["own", "mirror"]).await;
    let (own, mirror) = (endpoints(&[(hosts[0].address, "")]), endpoints(&[(hosts[1].address, "")]));
    let route = ", request_mirror_policies: [{cluster: m, runtime_fraction: {default_value: {numerator: 30}}}]";
    hosts[1].state.holds.store(true, Ordering::SeqCst);
    let serving = Setup { cluster: &own, route, other: &mirror, ..Setup::default() }.start().await;
    let found = Client::new(serving.address).count(600, "/").await;
    assert_eq!(found.get("own"), Some(&600), "{found:?}");
    let sent = || async { serving.stat("cluster.m.upstream_rq_total").await };
    eventually("all of them have come", || async {
        sent().await == hosts[1].state.requests.load(Ordering::SeqCst) as u64
    })
    .await;
    let count = usize::try_from(sent().await).unwrap();
    assert!(is_near(count, 600, 0.3), "{count} of 600 were mirrored");
    hosts[1].state.release();
    eventually("none is left", || async { serving.stat("cluster.m.upstream_rq_active").await == 0 }).await;
    serving.proxy.shutdown().await;
}
