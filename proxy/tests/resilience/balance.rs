//! Balancers by what they give each host over many requests.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use crate::hosts::{Client, Host, hosts_at};
use crate::peers::{eventually, get};
use crate::proxies::{Serving, Setup, endpoints, locality};

async fn start(cluster: &str, route: &str) -> Serving {
    Setup { cluster, route, ..Setup::default() }.start().await
}

/// Hosts of these names.
pub async fn named<const N: usize>(names: [&str; N]) -> Vec<Host> {
    let mut hosts = Vec::new();
    for name in names {
        hosts.push(Host::start(name).await);
    }
    hosts
}

fn weighted(hosts: &[Host], weights: &[u32]) -> String {
    let weights: Vec<String> = weights.iter().map(|weight| format!(", load_balancing_weight: {weight}")).collect();
    let hosts: Vec<(SocketAddr, &str)> =
        hosts.iter().zip(&weights).map(|(host, weight)| (host.address, weight.as_str())).collect();
    endpoints(&hosts)
}

/// Whether a count is within five standard deviations of what `share` of `all` would give.
pub fn is_near(count: usize, all: usize, share: f64) -> bool {
    let (count, all) = (count as f64, all as f64);
    (count - all * share).abs() <= 5.0 * (all * share * (1.0 - share)).sqrt()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn round_robin_and_random_follow_the_weights() {
    let hosts = named(["a", "b", "c"]).await;
    let serving = start(&weighted(&hosts, &[1, 2, 5]), "").await;
    let found = Client::new(serving.address).count(800, "/").await;
    assert_eq!(found.into_values().collect::<Vec<_>>(), [100, 200, 500]);
    serving.proxy.shutdown().await;
    let serving = start(&format!("lb_policy: RANDOM, {}", weighted(&hosts, &[1, 2, 5])), "").await;
    let found = Client::new(serving.address).count(1600, "/").await;
    for (name, share) in [("a", 0.125), ("b", 0.25), ("c", 0.625)] {
        assert!(is_near(found[name], 1600, share), "{found:?}");
    }
    serving.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn least_request_avoids_a_host_that_is_busy() {
    let hosts = named(["busy", "idle", "rest"]).await;
    let policy = "lb_policy: LEAST_REQUEST, least_request_lb_config: {choice_count: 10}";
    let serving = start(&format!("{policy}, {}", weighted(&hosts, &[1, 1, 1])), "").await;
    hosts[0].state.holds.store(true, Ordering::SeqCst);
    let address = serving.address;
    let held: Vec<_> = (0..9).map(|_| tokio::spawn(async move { get(address, "/").await })).collect();
    eventually("a request is held", || async { hosts[0].state.waiting() > 0 }).await;
    let found = Client::new(serving.address).count(200, "/").await;
    assert_eq!(found.get("busy"), None, "the others have nothing to do: {found:?}");
    hosts[0].state.release();
    for held in held {
        assert_eq!(held.await.unwrap().0, 200);
    }
    serving.proxy.shutdown().await;
}

/// Which host each of many keys goes to.
async fn places(serving: &Serving, keys: usize) -> BTreeMap<usize, String> {
    let mut client = Client::new(serving.address);
    let mut places = BTreeMap::new();
    for key in 0..keys {
        let (status, _, name) = client.ask("/", &[("x-key", &key.to_string())]).await.unwrap();
        assert_eq!(status, 200);
        places.insert(key, name);
    }
    places
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ring_hash_and_maglev_keep_a_key_on_its_host_and_move_few_when_one_joins() {
    const KEYS: usize = 400;
    let (_, hosts) = hosts_at(&["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"]).await;
    let route = ", hash_policy: [{header: {header_name: x-key}}]";
    for policy in ["lb_policy: RING_HASH, ring_hash_lb_config: {minimum_ring_size: 4096}", "lb_policy: MAGLEV"] {
        let four = format!("{policy}, {}", weighted(&hosts[..4], &[1; 4]));
        let five = format!("{policy}, {}", weighted(&hosts, &[1; 5]));
        let (first, second, more) = (start(&four, route).await, start(&four, route).await, start(&five, route).await);
        let before = places(&first, KEYS).await;
        assert_eq!(places(&first, KEYS).await, before, "a key stays");
        assert_eq!(places(&second, KEYS).await, before, "every proxy chooses alike");
        let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
        before.values().for_each(|name| *shares.entry(name).or_default() += 1);
        assert!(shares.len() == 4 && shares.values().all(|count| (40..=180).contains(count)), "{policy}: {shares:?}");
        let after = places(&more, KEYS).await;
        let joined = after.values().filter(|name| *name == "127.0.0.5").count();
        assert!(is_near(joined, KEYS, 0.2), "{policy}: {joined} keys go to the new host");
        let others = (0..KEYS).filter(|key| after[key] != before[key] && after[key] != "127.0.0.5").count();
        // A few: five hosts on a ring of the same size have fewer points each, and Maglev fills its table anew.
        assert!(others <= KEYS / 7, "{policy}: {others} others moved");
        for serving in [first, second, more] {
            serving.proxy.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lower_priority_takes_what_the_higher_one_cannot_bear() {
    let hosts = named(["high1", "high2", "low"]).await;
    let (one, two, low) = (hosts[0].address, hosts[1].address, hosts[2].address);
    for (health_one, health_two, low_share) in
        [("HEALTHY", "HEALTHY", 0.0), ("UNHEALTHY", "HEALTHY", 0.3), ("UNHEALTHY", "DRAINING", 1.0)]
    {
        let (one_is, two_is) = (format!(", health_status: {health_one}"), format!(", health_status: {health_two}"));
        let groups = [locality(&[(one, &one_is), (two, &two_is)], ""), locality(&[(low, "")], ", priority: 1")];
        let cluster = format!("load_assignment: {{cluster_name: c, endpoints: [{}]}}", groups.join(", "));
        let serving = start(&cluster, "").await;
        let found = Client::new(serving.address).count(1000, "/").await;
        let low = found.get("low").copied().unwrap_or_default();
        assert!(is_near(low, 1000, low_share), "{health_one}, {health_two}: {found:?}");
        serving.proxy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn localities_share_by_their_weights_less_what_is_not_well() {
    let hosts = named(["near1", "near2", "far"]).await;
    let (one, two, far) = (hosts[0].address, hosts[1].address, hosts[2].address);
    for (sick, share) in [("HEALTHY", 0.75), ("UNHEALTHY", 0.75 * 0.7 / (0.75 * 0.7 + 0.25))] {
        let health = format!(", health_status: {sick}");
        let groups = [
            locality(&[(one, ""), (two, &health)], ", locality: {zone: near}, load_balancing_weight: 75"),
            locality(&[(far, "")], ", locality: {zone: far}, load_balancing_weight: 25"),
        ];
        let cluster = format!(
            "common_lb_config: {{locality_weighted_lb_config: {{}}}}, load_assignment: {{cluster_name: c, endpoints: [{}]}}",
            groups.join(", ")
        );
        let serving = start(&cluster, "").await;
        let found = Client::new(serving.address).count(1000, "/").await;
        assert!(is_near(1000 - found["far"], 1000, share), "{sick}: {found:?}");
        assert!(serving.clusters().await.contains("::zone::far"));
        serving.proxy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_panic_all_hosts_serve_unless_the_threshold_is_zero() {
    let hosts = named(["a", "b", "c"]).await;
    let sick = ", health_status: UNHEALTHY";
    let endpoints = endpoints(&[(hosts[0].address, sick), (hosts[1].address, sick), (hosts[2].address, "")]);
    for (threshold, found) in [("{value: 50}", vec!["a", "b", "c"]), ("{value: 30}", vec!["c"]), ("{}", vec!["c"])] {
        let cluster = format!("common_lb_config: {{healthy_panic_threshold: {threshold}}}, {endpoints}");
        let serving = start(&cluster, "").await;
        let names = Client::new(serving.address).count(30, "/").await;
        assert_eq!(names.into_keys().collect::<Vec<_>>(), found, "threshold {threshold}");
        let panics = serving.stat("cluster.c.lb_healthy_panic").await;
        assert_eq!(panics, if found.len() == 3 { 30 } else { 0 });
        assert!(serving.flags(hosts[0].address).await.contains("/failed_eds_health"));
        serving.proxy.shutdown().await;
    }
}
