//! The upstream connections of one worker: pools by host and [`Wanted`].

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use super::lease::ClientStream;
use super::pool::Pool;
use super::{UpstreamError, Wanted};
use crate::cluster::{Cluster, Host};

/// How often idle connections are looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// The upstream connections of one worker.
#[derive(Default)]
pub struct Pools {
    /// The newest connection's id.
    ids: Arc<AtomicU64>,
    hosts: RefCell<FxHashMap<u64, Vec<Rc<Pool>>>>,
    sweeping: Cell<bool>,
}

impl Pools {
    /// No connections.
    pub fn new() -> Self {
        Self::default()
    }

    /// No connections; `ids` numbers those to come.
    pub fn numbered_by(ids: Arc<AtomicU64>) -> Self {
        Self { ids, ..Self::default() }
    }

    pub(super) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A stream on a pooled or new connection; waits for one, within the cluster's breakers and connect timeout.
    ///
    /// # Errors
    /// Overflow, connect or TLS failure, timeout.
    pub async fn stream(
        self: &Rc<Self>,
        cluster: &Arc<Cluster>,
        host: &Arc<Host>,
        wanted: &Wanted,
    ) -> Result<ClientStream, UpstreamError> {
        let pool = self.pool(cluster, host, wanted);
        let lease = match pool.ready() {
            Some(lease) => lease,
            None => pool.wait().await?,
        };
        ClientStream::new(&pool, lease)
    }

    /// Closes what rests: HTTP/1 connections that are idle; HTTP/2 ones end with their last stream.
    pub fn drain(&self) {
        for pool in self.hosts.borrow().values().flatten() {
            pool.close_idle(|_| true);
        }
    }

    fn pool(self: &Rc<Self>, cluster: &Arc<Cluster>, host: &Arc<Host>, wanted: &Wanted) -> Rc<Pool> {
        let mut hosts = self.hosts.borrow_mut();
        let pools = hosts.entry(host.id).or_default();
        if let Some(pool) = pools.iter().find(|pool| pool.wanted == *wanted && pool.reaches(host)) {
            pool.leave(false);
            return pool.clone();
        }
        let others: Vec<Rc<Pool>> = pools.iter().filter(|pool| !pool.reaches(host)).cloned().collect();
        let pool = Pool::new(cluster.clone(), host.clone(), wanted.clone(), self.ids.clone());
        pools.push(pool.clone());
        drop(hosts);
        others.iter().for_each(|pool| pool.leave(true));
        if !self.sweeping.replace(true) {
            tokio::task::spawn_local(sweep(Rc::downgrade(self)));
        }
        pool
    }
}

/// Closes connections that have rested or lived too long, or whose host is gone; forgets empty pools.
async fn sweep(pools: Weak<Pools>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(pools) = pools.upgrade() else { return };
        let now = Instant::now();
        let all: Vec<Rc<Pool>> = pools.hosts.borrow().values().flatten().cloned().collect();
        for pool in &all {
            pool.sweep(now);
        }
        drop(all);
        pools.hosts.borrow_mut().retain(|_, of_host| {
            of_host.retain(|pool| Rc::strong_count(pool) > 1 || !pool.is_empty());
            !of_host.is_empty()
        });
    }
}
