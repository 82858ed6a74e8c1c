//! Hosts that discovery takes out while their active checks pass: they stay until those fail, as in Envoy.

use std::net::SocketAddr;

use ferromesh_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use ferromesh_proto::{Any, json};
use tokio::net::TcpListener;

use crate::ads::Ads;
use crate::as_envoy::{Kind, flags, kinds};
use crate::dns_server::DnsServer;
use crate::health::TIMES;
use crate::hosts::{Client, Host, hosts_at};
use crate::peers::{eventually, get};
use crate::plane::{at, bootstrap, cluster, listener, route_to};
use crate::process::Process;
use crate::proxies::{Setup, locality, stat};

const CHECK: &str = "http_health_check: {path: /healthz}";

fn endpoints(groups: &[String]) -> (String, Any) {
    let yaml = format!("{{cluster_name: one, endpoints: [{}]}}", groups.join(", "));
    ("one".into(), Any::pack::<ClusterLoadAssignment>(&json::from_yaml(&yaml).unwrap()))
}

fn group(hosts: &[&Host], more: &str) -> String {
    let hosts: Vec<(SocketAddr, &str)> = hosts.iter().map(|host| (host.address, more)).collect();
    locality(&hosts, "")
}

async fn under(kind: &Kind, ads: &Ads, hosts: &[&Host], more: &str) -> Process {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = format!(", health_checks: [{{{TIMES}, {CHECK}}}]{more}");
    ads.set([cluster("one", &own), endpoints(&[group(hosts, "")]), listener("in", ""), route_to("one")]);
    let text = bootstrap(&at(socket.local_addr().unwrap()), true, "");
    ads.serve_tcp(socket);
    kind.start(&text).await
}

async fn until(process: &Process, host: SocketAddr, wanted: &str) {
    eventually(wanted, || async { flags(process.admin, "one", host).await == wanted }).await;
}

const LEAVING: &str = "/pending_dynamic_removal";
const GONE: &str = "no such host";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_eds_takes_out_serves_until_its_check_fails() {
    for kind in kinds() {
        let (a, b, ads) = (Host::start("a").await, Host::start("b").await, Ads::new());
        let process = under(&kind, &ads, &[&a, &b], "").await;
        let mut client = Client::new(process.listener("in").await);
        until(&process, b.address, "healthy").await;
        ads.set([endpoints(&[group(&[&a], "")])]);
        until(&process, b.address, LEAVING).await;
        assert_eq!(client.count(10, "/").await.len(), 2, "{kind:?}");
        assert_eq!(stat(process.admin, "cluster.one.membership_total").await, 2, "{kind:?}");
        ads.set([endpoints(&[group(&[&a, &b], "")])]);
        until(&process, b.address, "healthy").await;
        ads.set([endpoints(&[group(&[&a], "")])]);
        until(&process, b.address, LEAVING).await;
        b.health(500);
        until(&process, b.address, GONE).await;
        assert_eq!(client.count(10, "/").await.into_keys().collect::<Vec<_>>(), ["a"], "{kind:?}");
        eventually("one is left", || async { stat(process.admin, "cluster.one.membership_total").await == 1 }).await;
        // It is as any other when it comes again.
        ads.set([endpoints(&[group(&[&a, &b], "")])]);
        until(&process, b.address, "/failed_active_hc").await;
        ads.set([endpoints(&[group(&[&a], "")])]);
        until(&process, b.address, GONE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_not_checked_or_not_well_or_not_to_be_kept_goes_at_once() {
    for kind in kinds() {
        let (a, b, ads) = (Host::start("a").await, Host::start("b").await, Ads::new());
        let process = under(&kind, &ads, &[&a, &b], ", ignore_health_on_host_removal: true").await;
        until(&process, b.address, "healthy").await;
        ads.set([endpoints(&[group(&[&a], "")])]);
        until(&process, b.address, GONE).await;
        drop(process);
        let ads = Ads::new();
        let process = under(&kind, &ads, &[&a, &b], "").await;
        let say = |more| ads.set([endpoints(&[group(&[&a], ""), group(&[&b], more)])]);
        for (more, shown, then) in [
            (", health_status: UNHEALTHY", "/failed_eds_health", GONE),
            (", health_status: DRAINING", "/eds_status_draining", "/pending_dynamic_removal/eds_status_draining"),
        ] {
            until(&process, b.address, "healthy").await;
            say(more);
            until(&process, b.address, shown).await;
            ads.set([endpoints(&[group(&[&a], "")])]);
            until(&process, b.address, then).await;
            say("");
        }
        until(&process, b.address, "healthy").await;
        let port = b.address.port();
        let unchecked = format!(
            "{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}, \
             health_check_config: {{disable_active_health_check: true}}}}}}]}}"
        );
        ads.set([endpoints(&[group(&[&a], ""), unchecked])]);
        let checks = || b.state.checks.load(std::sync::atomic::Ordering::SeqCst);
        eventually("it is not checked any more", || async {
            let before = checks();
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            checks() == before
        })
        .await;
        ads.set([endpoints(&[group(&[&a], "")])]);
        until(&process, b.address, GONE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_dns_takes_out_serves_until_its_check_fails() {
    for kind in kinds() {
        let server = DnsServer::start().await;
        let (port, hosts) = hosts_at(&["127.0.0.1", "127.0.0.2"]).await;
        server.addresses("web.test", &["127.0.0.1", "127.0.0.2"]);
        let dns = crate::dns::cluster(&server, "STRICT_DNS", &["web.test"], port, crate::dns::FAST);
        let own = format!("health_checks: [{{{TIMES}, {CHECK}}}], {dns}");
        let process = kind.start(&Setup { cluster: &own, ..Setup::default() }.bootstrap()).await;
        let second = hosts[1].address;
        let shown = || flags(process.admin, "c", second);
        eventually("both are well", || async { shown().await == "healthy" }).await;
        server.addresses("web.test", &["127.0.0.1"]);
        eventually("it leaves", || async { shown().await == LEAVING }).await;
        assert_eq!(Client::new(process.listener("in").await).count(10, "/").await.len(), 2, "{kind:?}");
        hosts[1].health(500);
        eventually("it has left", || async { shown().await == GONE }).await;
        assert_eq!(get(process.listener("in").await, "/").await, (200, "127.0.0.1".into()), "{kind:?}");
    }
}
