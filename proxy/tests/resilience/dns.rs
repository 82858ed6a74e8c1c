//! STRICT_DNS and LOGICAL_DNS against a real name server.

use std::net::IpAddr;

use crate::dns_server::{DnsServer, Say};
use crate::hosts::{Client, hosts_at};
use crate::peers::{eventually, get};
use crate::proxies::{Serving, Setup};

/// A cluster of names at a port, that asks `server`.
pub fn cluster(server: &DnsServer, kind: &str, names: &[&str], port: u16, more: &str) -> String {
    let endpoints: Vec<String> = names
        .iter()
        .map(|name| format!("{{endpoint: {{address: {{socket_address: {{address: {name}, port_value: {port}}}}}}}}}"))
        .collect();
    format!(
        "type: {kind}, {more}, typed_dns_resolver_config: {{name: cares, typed_config: {{
          '@type': type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig,
          resolvers: [{{socket_address: {{address: 127.0.0.1, port_value: {}}}}}], query_tries: 1, query_timeout_seconds: 1,
          dns_resolver_options: {{no_default_search_domain: true}}}}}},
          load_assignment: {{cluster_name: c, endpoints: [{{lb_endpoints: [{}]}}]}}",
        server.address.port(),
        endpoints.join(", ")
    )
}

async fn start(cluster: &str) -> Serving {
    Setup { cluster, ..Setup::default() }.start().await
}

async fn hosts_are(serving: &Serving, port: u16, wanted: &[&str]) {
    let wanted: Vec<String> = wanted.iter().map(|ip| format!("{ip}:{port}")).collect();
    eventually(&format!("the hosts are {wanted:?}"), || async { serving.hosts("c").await == wanted }).await;
}

pub const FAST: &str = "dns_lookup_family: V4_ONLY, dns_refresh_rate: 0.02s";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_dns_follows_its_answers_and_keeps_the_last_good_one() {
    let server = DnsServer::start().await;
    let (port, _hosts) = hosts_at(&["127.0.0.1", "127.0.0.2", "127.0.0.3"]).await;
    server.addresses("web.test", &["127.0.0.2", "127.0.0.1"]);
    let serving = start(&cluster(&server, "STRICT_DNS", &["web.test"], port, FAST)).await;
    hosts_are(&serving, port, &["127.0.0.1", "127.0.0.2"]).await;
    let mut client = Client::new(serving.address);
    let found = client.count(10, "/").await;
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [("127.0.0.1".into(), 5), ("127.0.0.2".into(), 5)]);
    server.addresses("web.test", &["127.0.0.3"]);
    hosts_are(&serving, port, &["127.0.0.3"]).await;
    assert_eq!(client.count(3, "/").await["127.0.0.3"], 3);
    for failure in [Say::NoSuchName, Say::ServerFailure, Say::Addresses(Vec::new(), 60), Say::Nothing] {
        let before = serving.stat("cluster.c.update_failure").await;
        server.say("web.test", failure);
        eventually("two failures", || async { serving.stat("cluster.c.update_failure").await >= before + 2 }).await;
        assert_eq!(serving.hosts("c").await, [format!("127.0.0.3:{port}")]);
        assert_eq!(client.count(3, "/").await["127.0.0.3"], 3);
    }
    server.addresses("web.test", &["127.0.0.1"]);
    hosts_are(&serving, port, &["127.0.0.1"]).await;
    assert!(serving.clusters().await.contains("::hostname::web.test"));
    serving.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ttl_rules_where_it_is_respected_and_the_refresh_rate_where_not() {
    let server = DnsServer::start().await;
    let (port, _hosts) = hosts_at(&["127.0.0.1", "127.0.0.2"]).await;
    for name in ["ttl.test", "rate.test", "zero.test"] {
        let ttl = u32::from(name != "zero.test");
        server.say(name, Say::Addresses(vec!["127.0.0.1".parse().unwrap()], ttl));
    }
    let family = "dns_lookup_family: V4_ONLY";
    let by_ttl = format!("{family}, dns_refresh_rate: 3600s, respect_dns_ttl: true");
    let by_rate = format!("{family}, dns_refresh_rate: 3600s");
    let by_rate_for_zero = format!("{family}, dns_refresh_rate: 0.05s, respect_dns_ttl: true");
    let mut all = Vec::new();
    for (name, more) in [("ttl.test", &by_ttl), ("rate.test", &by_rate), ("zero.test", &by_rate_for_zero)] {
        all.push(start(&cluster(&server, "STRICT_DNS", &[name], port, more)).await);
    }
    eventually("the TTL has passed twice", || async { server.asked("ttl.test") >= 3 }).await;
    eventually("a TTL of zero is none", || async { server.asked("zero.test") >= 3 }).await;
    assert_eq!(server.asked("rate.test"), 1);
    for serving in all {
        serving.proxy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_without_an_answer_serves_503_and_asks_again_at_the_failure_rate() {
    let server = DnsServer::start().await;
    let (port, _hosts) = hosts_at(&["127.0.0.1"]).await;
    server.say("web.test", Say::ServerFailure);
    server.addresses("other.test", &["127.0.0.1"]);
    let more = "dns_lookup_family: V4_ONLY, dns_refresh_rate: 3600s, \
                dns_failure_refresh_rate: {base_interval: 0.02s, max_interval: 0.1s}";
    let serving = start(&cluster(&server, "STRICT_DNS", &["web.test"], port, more)).await;
    let (status, body) = get(serving.address, "/").await;
    assert_eq!((status, body.as_str()), (503, "no healthy upstream"));
    eventually("it asks again", || async { server.asked("web.test") >= 4 }).await;
    server.addresses("web.test", &["127.0.0.1"]);
    eventually("it serves", || async { get(serving.address, "/").await.0 == 200 }).await;
    serving.proxy.shutdown().await;
    // A name that fails does not hold up another one, nor ask it more often.
    server.say("web.test", Say::ServerFailure);
    let before = server.asked("web.test");
    let serving = start(&cluster(&server, "STRICT_DNS", &["web.test", "other.test"], port, more)).await;
    eventually("one fails often", || async { server.asked("web.test") > before + 4 }).await;
    assert_eq!(server.asked("other.test"), 1);
    assert_eq!(get(serving.address, "/").await.0, 200);
    serving.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logical_dns_has_one_host_and_keeps_it_while_it_is_among_the_answers() {
    let server = DnsServer::start().await;
    let (port, hosts) = hosts_at(&["127.0.0.1", "127.0.0.2"]).await;
    server.addresses("web.test", &["127.0.0.1", "127.0.0.2"]);
    let serving = start(&cluster(&server, "LOGICAL_DNS", &["web.test"], port, FAST)).await;
    let first = serving.hosts("c").await;
    assert_eq!(first.len(), 1);
    server.addresses("web.test", &["127.0.0.2", "127.0.0.1"]);
    let before = server.asked("web.test");
    eventually("new answers", || async { server.asked("web.test") > before + 2 }).await;
    assert_eq!(serving.hosts("c").await, first);
    // A request that is on its way when the address changes still gets its answer.
    let kept = if first[0].starts_with("127.0.0.1:") { 0 } else { 1 };
    let other = ["127.0.0.1", "127.0.0.2"][1 - kept];
    hosts[kept].state.holds.store(true, std::sync::atomic::Ordering::SeqCst);
    let address = serving.address;
    let held = tokio::spawn(async move { get(address, "/").await });
    eventually("the request waits", || async { hosts[kept].state.waiting() == 1 }).await;
    server.addresses("web.test", &[other]);
    hosts_are(&serving, port, &[other]).await;
    assert_eq!(get(serving.address, "/").await, (200, other.to_owned()));
    hosts[kept].state.release();
    assert_eq!(held.await.unwrap().0, 200);
    serving.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lookup_family_chooses_among_ipv4_and_ipv6() {
    let server = DnsServer::start().await;
    let (port, _hosts) = hosts_at(&["127.0.0.1", "::1"]).await;
    server.addresses("both.test", &["127.0.0.1", "::1"]);
    server.addresses("four.test", &["127.0.0.1"]);
    let (four, six) = (vec!["127.0.0.1"], vec!["[::1]"]);
    for (name, family, wanted) in [
        ("both.test", "V4_ONLY", four.clone()),
        ("both.test", "V6_ONLY", six.clone()),
        ("both.test", "AUTO", six.clone()),
        ("four.test", "AUTO", four.clone()),
        ("both.test", "V4_PREFERRED", four.clone()),
        ("both.test", "ALL", [four.clone(), six].concat()),
        ("four.test", "ALL", four),
    ] {
        let more = format!("dns_lookup_family: {family}, dns_refresh_rate: 0.05s");
        let serving = start(&cluster(&server, "STRICT_DNS", &[name], port, &more)).await;
        hosts_are(&serving, port, &wanted).await;
        assert_eq!(get(serving.address, "/").await.0, 200, "{name} {family}");
        serving.proxy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_answers_than_fit_a_datagram_come_by_tcp() {
    let server = DnsServer::start().await;
    let many: Vec<IpAddr> = (0..500).map(|n| IpAddr::from([127, 1, (n / 250) as u8, (n % 250 + 1) as u8])).collect();
    server.say("many.test", Say::Addresses(many, 60));
    let serving = start(&cluster(&server, "STRICT_DNS", &["many.test"], 9, FAST)).await;
    eventually("all of them", || async { serving.stat("cluster.c.membership_total").await == 500 }).await;
    assert!(server.asked_over_tcp() > 0);
    serving.proxy.shutdown().await;
}
