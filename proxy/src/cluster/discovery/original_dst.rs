//! ORIGINAL_DST: each connection goes where it wanted to go; hosts are made on demand and forgotten when unused.
//!
//! As in Envoy, a connection that rests in a pool uses its host: the pool's idle timeout comes before the cleanup.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::RwLock;
use rustc_hash::FxHashMap;

use super::Discovery;
use crate::cluster::{Cluster, Host, LbContext, endpoints};

/// Most destinations at a time: beyond it those that only rest make way, and if none does, the new one is refused.
const MOST: usize = 16_384;

/// Hosts by destination.
#[derive(Debug)]
pub struct OriginalDst {
    /// The header that may name the destination, if the cluster allows one.
    pub header: Option<http::HeaderName>,
    /// Port instead of the destination's.
    pub port: Option<u16>,
    /// Hosts unused for this long are forgotten.
    pub cleanup_interval: Duration,
    most: usize,
    hosts: RwLock<FxHashMap<SocketAddr, Entry>>,
}

#[derive(Debug)]
struct Entry {
    host: Arc<Host>,
    /// Since the last cleanup.
    used: AtomicBool,
}

impl Entry {
    /// Whether no request and no TCP connection is under way.
    fn rests(&self) -> bool {
        self.host.active.load(Ordering::Relaxed) == 0
    }
}

impl OriginalDst {
    pub(in crate::cluster) fn new(
        header: Option<http::HeaderName>,
        port: Option<u16>,
        cleanup_interval: Duration,
    ) -> Self {
        Self { header, port, cleanup_interval, most: MOST, hosts: RwLock::default() }
    }

    pub(in crate::cluster) fn pick(&self, cluster: &Cluster, context: &LbContext<'_>) -> Option<Arc<Host>> {
        let mut address = context.original_dst_header.or(context.original_dst)?;
        if let Some(port) = self.port {
            address.set_port(port);
        }
        if let Some(entry) = self.hosts.read().get(&address) {
            entry.used.store(true, Ordering::Relaxed);
            return Some(entry.host.clone());
        }
        let mut hosts = self.hosts.write();
        if hosts.len() >= self.most && !hosts.contains_key(&address) {
            forget(cluster, &mut hosts, |entry| !entry.rests() || entry.used.load(Ordering::Relaxed));
            if hosts.len() >= self.most {
                forget(cluster, &mut hosts, |entry| !entry.rests());
            }
            if hosts.len() >= self.most {
                return None;
            }
        }
        let known = hosts.len();
        let entry = hosts
            .entry(address)
            .or_insert_with(|| Entry { host: endpoints::original_host(address, cluster), used: AtomicBool::new(true) });
        entry.used.store(true, Ordering::Relaxed);
        let host = entry.host.clone();
        if hosts.len() > known {
            show(cluster, &hosts);
        }
        Some(host)
    }

    /// The hosts now.
    pub fn hosts(&self) -> Vec<Arc<Host>> {
        self.hosts.read().values().map(|entry| entry.host.clone()).collect()
    }

    /// Forgets the hosts that were not used since the last time and have neither request nor connection.
    fn clean(&self, cluster: &Cluster) {
        forget(cluster, &mut self.hosts.write(), |entry| {
            entry.used.swap(false, Ordering::Relaxed) || !entry.rests() || entry.host.stats.cx_active.get() > 0
        });
    }

    pub(super) fn retire(&self) {
        for (_, entry) in self.hosts.write().drain() {
            entry.host.health.remove();
        }
    }
}

/// Forgets the hosts that `keep` does not want; workers close the connections to them that rest.
fn forget(cluster: &Cluster, hosts: &mut FxHashMap<SocketAddr, Entry>, keep: impl Fn(&Entry) -> bool) {
    let before = hosts.len();
    hosts.retain(|_, entry| {
        let keep = keep(entry);
        if !keep {
            entry.host.health.remove();
            if let Some(detector) = &cluster.outlier {
                detector.forget(&entry.host);
            }
        }
        keep
    });
    if hosts.len() < before {
        show(cluster, hosts);
    }
}

/// Shows a change of the hosts.
fn show(cluster: &Cluster, hosts: &FxHashMap<SocketAddr, Entry>) {
    cluster.stats.membership_change.inc();
    cluster.stats.membership_total.set(hosts.len() as u64);
    let healthy = hosts.values().filter(|entry| entry.host.health.is_healthy()).count();
    cluster.stats.membership_healthy.set(healthy as u64);
}

pub(super) async fn run(cluster: Weak<Cluster>) {
    loop {
        let Some(interval) = cluster.upgrade().and_then(|cluster| match &cluster.discovery {
            Discovery::OriginalDst(destinations) => Some(destinations.cleanup_interval),
            _ => None,
        }) else {
            return;
        };
        tokio::time::sleep(interval).await;
        let Some(cluster) = cluster.upgrade() else { return };
        if let Discovery::OriginalDst(destinations) = &cluster.discovery {
            destinations.clean(&cluster);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::cluster;

    fn ask(cluster: &Cluster, place: u16) -> Option<Arc<Host>> {
        let original_dst = Some(SocketAddr::from(([10, 0, 0, 1], place)));
        cluster.pick(&LbContext { original_dst, ..LbContext::default() }).ok()
    }

    fn bounded(most: usize) -> Cluster {
        let cluster = cluster("{name: c, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED}");
        let mut cluster = Arc::into_inner(cluster).expect("nobody else has it");
        if let Discovery::OriginalDst(destinations) = &mut cluster.discovery {
            destinations.most = most;
        }
        cluster
    }

    fn ports(cluster: &Cluster) -> Vec<String> {
        let Discovery::OriginalDst(destinations) = &cluster.discovery else { return Vec::new() };
        let mut found: Vec<String> = destinations.hosts().iter().map(|host| host.address.to_string()).collect();
        found.sort();
        assert_eq!(cluster.stats.membership_total.get(), found.len() as u64);
        found.iter().map(|address| address.replace("10.0.0.1:", "")).collect()
    }

    fn clean(cluster: &Cluster) {
        let Discovery::OriginalDst(destinations) = &cluster.discovery else { return };
        destinations.clean(cluster);
    }

    #[test]
    fn a_destination_without_use_request_and_connection_is_forgotten() {
        let cluster = bounded(8);
        let [used, busy, connected, unused] = [1, 2, 3, 4].map(|port| ask(&cluster, port).expect("there is room"));
        busy.active.fetch_add(1, Ordering::Relaxed);
        connected.stats.cx_active.inc();
        clean(&cluster);
        assert_eq!(ports(&cluster), ["1", "2", "3", "4"], "all were used since the cleanup before");
        ask(&cluster, 1);
        clean(&cluster);
        assert_eq!(ports(&cluster), ["1", "2", "3"]);
        assert!(unused.health.is_removed() && !used.health.is_removed());
        connected.stats.cx_active.dec();
        busy.active.fetch_sub(1, Ordering::Relaxed);
        clean(&cluster);
        assert_eq!(ports(&cluster), Vec::<String>::new());
    }

    #[test]
    fn where_there_is_no_room_what_rests_makes_way() {
        let cluster = bounded(2);
        let busy = ask(&cluster, 1).expect("there is room");
        busy.active.fetch_add(1, Ordering::Relaxed);
        let resting = ask(&cluster, 2).expect("there is room");
        resting.stats.cx_active.inc();
        let third = ask(&cluster, 3).expect("one rests");
        assert_eq!(ports(&cluster), ["1", "3"]);
        assert!(resting.health.is_removed());
        third.active.fetch_add(1, Ordering::Relaxed);
        assert!(ask(&cluster, 4).is_none(), "all are busy");
        assert!(ask(&cluster, 3).is_some(), "known ones go on");
    }
}
