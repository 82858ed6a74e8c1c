//! ORIGINAL_DST: each connection goes where it wanted to go; hosts are made on demand and forgotten when unused.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::RwLock;
use rustc_hash::FxHashMap;

use super::Discovery;
use crate::cluster::{Cluster, Host, LbContext, endpoints};

/// More destinations than this at a time are refused.
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
    hosts: RwLock<FxHashMap<SocketAddr, Entry>>,
}

#[derive(Debug)]
struct Entry {
    host: Arc<Host>,
    used: AtomicBool,
}

impl OriginalDst {
    pub(in crate::cluster) fn new(
        header: Option<http::HeaderName>,
        port: Option<u16>,
        cleanup_interval: Duration,
    ) -> Self {
        Self { header, port, cleanup_interval, hosts: RwLock::default() }
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
        if hosts.len() >= MOST {
            return None;
        }
        let entry = hosts
            .entry(address)
            .or_insert_with(|| Entry { host: endpoints::original_host(address, cluster), used: AtomicBool::new(true) });
        entry.used.store(true, Ordering::Relaxed);
        Some(entry.host.clone())
    }

    /// The hosts now.
    pub fn hosts(&self) -> Vec<Arc<Host>> {
        self.hosts.read().values().map(|entry| entry.host.clone()).collect()
    }

    /// Forgets the hosts that were not used since the last time and have no request in flight.
    fn clean(&self) {
        self.hosts.write().retain(|_, entry| {
            let keep = entry.used.swap(false, Ordering::Relaxed)
                || entry.host.active.load(Ordering::Relaxed) > 0
                || entry.host.stats.cx_active.get() > 0;
            if !keep {
                entry.host.health.remove();
            }
            keep
        });
    }

    pub(super) fn retire(&self) {
        for (_, entry) in self.hosts.write().drain() {
            entry.host.health.remove();
        }
    }
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
            destinations.clean();
        }
    }
}
