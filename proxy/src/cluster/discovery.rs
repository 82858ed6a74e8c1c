//! Where a cluster's hosts come from: the configuration itself, EDS, DNS, or the connections' own destinations.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use ferromesh_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;

use super::balance::HostSet;
use super::endpoints::{self, Assignment, Plan};
use super::health::{HostHealth, Unhealthy};
use super::{Cluster, ClusterManager, Host};
use crate::config::{Awaited, ConfigError, FetchLimit};
use crate::text::Text;

mod dns;
mod original_dst;
mod resolver;

pub use dns::{Dns, Family};
pub use original_dst::OriginalDst;
pub use resolver::Settings;

/// Where the hosts come from.
#[derive(Debug)]
pub enum Discovery {
    /// The configuration.
    Static,
    /// EDS, under this name.
    Eds {
        /// `service_name`, or the cluster's name.
        service_name: Text,
        /// How long they are waited for.
        limit: FetchLimit,
    },
    /// DNS; all answers are hosts, or one of them (LOGICAL_DNS).
    Dns(Box<Dns>),
    /// The connections' own destinations.
    OriginalDst(Box<OriginalDst>),
}

impl Cluster {
    /// The EDS resource that the cluster waits for, if it is of that type.
    pub fn eds_service_name(&self) -> Option<&str> {
        match &self.discovery {
            Discovery::Eds { service_name, .. } => Some(service_name),
            _ => None,
        }
    }

    /// Replaces the hosts by EDS; those whose address stays keep their identity, pools, health and outlier state.
    ///
    /// # Errors
    /// Names the field that cannot be served; the hosts stay as they are then.
    pub fn update_endpoints(&self, assignment: &ClusterLoadAssignment) -> Result<(), ConfigError> {
        let plan = endpoints::decode(assignment, &self.config.transports).inspect_err(|_| {
            self.stats.update_failure.inc();
        })?;
        if let Some((name, _)) = plan.names().next() {
            self.stats.update_failure.inc();
            return Err(ConfigError::new("endpoints", format!("{name:?} is not an IP address, as EDS needs")));
        }
        self.apply(&plan);
        Ok(())
    }

    /// What the cluster waits for, as long as it has not come: its endpoints by EDS.
    pub fn awaits(&self) -> Option<Awaited> {
        match &self.discovery {
            Discovery::Eds { service_name, limit } if !self.known.load(Ordering::Acquire) => {
                Some(Awaited { what: "endpoints", name: service_name.clone(), limit: *limit })
            }
            _ => None,
        }
    }

    /// Secrets that its transports name and that have not come.
    pub fn awaits_secrets(&self) -> impl Iterator<Item = Awaited> {
        self.config.transports.iter().filter_map(|transport| transport.tls.as_ref()).flat_map(|tls| tls.awaits())
    }

    /// Gives up waiting for the first hosts (`initial_fetch_timeout` has passed, or there are none).
    pub fn stop_waiting(&self) {
        if self.awaits().is_some() {
            self.set_known();
        }
    }

    /// Puts the hosts of `plan` in place.
    pub(super) fn apply(&self, plan: &Plan) {
        self.stats.update_success.inc();
        self.put(plan, &|_| Vec::new());
        self.set_known();
    }

    /// Puts the hosts of `plan` in place, with what its names stand for by `resolve`.
    fn put(&self, plan: &Plan, resolve: &dyn Fn(&str) -> Vec<IpAddr>) {
        let guard = self.updating.lock();
        let before = self.hosts.load_full();
        let mut assignment = plan.hosts(&before.assignment, &|| self.new_health(), resolve);
        if self.health_check.is_some() && !self.config.ignore_health_on_host_removal {
            assignment.keep_passing(&before.assignment);
        }
        self.replace(&before, assignment);
        drop(guard);
        // Active checks follow the hosts.
        self.hosts_changed.notify_one();
    }

    /// Takes hosts out that discovery has taken out before, now that their checks fail.
    pub(super) fn drop_leavers(&self) {
        let leaves =
            |host: &Arc<Host>| host.health.has(Unhealthy::PendingRemoval) && host.health.has(Unhealthy::ActiveCheck);
        if !self.hosts.load().hosts.iter().any(leaves) {
            return;
        }
        let _guard = self.updating.lock();
        let before = self.hosts.load_full();
        self.replace(&before, before.assignment.without(leaves));
        self.hosts_changed.notify_one();
    }

    /// Puts hosts in the place of those of `before`; to be called while `updating` is held.
    fn replace(&self, before: &HostSet, assignment: Assignment) {
        let mut changed = false;
        let kept: rustc_hash::FxHashSet<u64> =
            assignment.localities.iter().flat_map(|group| &group.hosts).map(|host| host.id).collect();
        for host in before.hosts.iter().filter(|host| !kept.contains(&host.id)) {
            changed = true;
            host.health.remove();
            if let Some(detector) = &self.outlier {
                detector.forget(host);
            }
        }
        changed |= kept.len() != before.hosts.len();
        if kept.is_empty() {
            self.stats.update_empty.inc();
        }
        if changed {
            self.stats.membership_change.inc();
        }
        let epoch = self.health_epoch.load(Ordering::Acquire);
        self.store(Arc::new(assignment), epoch);
    }

    /// The first hosts are there. With active checks the cluster is warm once each of them was asked, as in Envoy.
    fn set_known(&self) {
        self.known.store(true, Ordering::Release);
        self.warm_if_checked();
    }

    /// Says that the cluster is warm, if its first hosts are there and were asked.
    pub(super) fn warm_if_checked(&self) {
        let pending = |host: &Arc<Host>| host.health.has(Unhealthy::Pending);
        let asked = self.health_check.is_none() || !self.hosts.load().hosts.iter().any(pending);
        if asked && self.known.load(Ordering::Acquire) {
            self.set_warm();
        }
    }

    /// Health of a new host: with active checks it fails until its first answer.
    fn new_health(&self) -> HostHealth {
        let health = HostHealth::new(self.health_epoch.clone());
        if self.health_check.is_some() {
            health.set(Unhealthy::Pending, true);
            health.set(Unhealthy::ActiveCheck, true);
        }
        health
    }

    /// Starts what runs beside the requests: DNS, health checks, and outlier sweeps once a request has ended. Stopped when
    /// the cluster is dropped.
    pub fn start(self: &Arc<Self>, runtime: &tokio::runtime::Handle) {
        let mut tasks = self.tasks.lock();
        if !tasks.is_empty() || self.sweeps.lock().is_some() {
            return;
        }
        if matches!(self.discovery, Discovery::Dns(_)) {
            tasks.push(runtime.spawn(dns::run(Arc::downgrade(self))).abort_handle());
        }
        if matches!(self.discovery, Discovery::OriginalDst(_)) {
            tasks.push(runtime.spawn(original_dst::run(Arc::downgrade(self))).abort_handle());
        }
        if self.outlier.is_some() {
            *self.sweeps.lock() = Some(Sweeps { runtime: runtime.clone(), cluster: Arc::downgrade(self) });
            self.sweeps_wait.store(true, Ordering::Release);
        }
        if self.health_check.is_some() {
            let changed = self.hosts_changed.clone();
            tasks.push(runtime.spawn(super::health::run(Arc::downgrade(self), changed)).abort_handle());
        }
    }

    /// The first request has ended: from now on there may be something to sweep.
    pub(super) fn start_sweeps(&self) {
        self.sweeps_wait.store(false, Ordering::Release);
        if let (Some(Sweeps { runtime, cluster }), Some(detector)) = (self.sweeps.lock().take(), &self.outlier) {
            self.tasks.lock().push(runtime.spawn(sweep(cluster, detector.interval)).abort_handle());
        }
    }

    /// Ends background work and marks the hosts as gone, so that workers close their idle connections.
    pub fn retire(&self) {
        self.sweeps.lock().take();
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
        for host in &self.hosts.load().hosts {
            host.health.remove();
        }
        if let Discovery::OriginalDst(destinations) = &self.discovery {
            destinations.retire();
        }
    }
}

/// Who sweeps what.
pub(super) struct Sweeps {
    runtime: tokio::runtime::Handle,
    cluster: Weak<Cluster>,
}

async fn sweep(cluster: Weak<Cluster>, interval: std::time::Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(cluster) = cluster.upgrade() else { return };
        if let Some(detector) = &cluster.outlier {
            detector.sweep(&cluster);
        }
        // Without traffic nobody else would show the change.
        cluster.refresh_if_stale();
    }
}

impl ClusterManager {
    /// Retires the clusters of `before` that are not in use any more.
    pub(super) fn retire_missing(&self, before: &rustc_hash::FxHashMap<Text, Arc<Cluster>>) {
        let now = self.all();
        for (name, cluster) in before {
            if !now.get(name).is_some_and(|current| Arc::ptr_eq(current, cluster)) {
                cluster.retire();
            }
        }
    }
}

/// An assignment without hosts.
pub(super) fn nothing() -> Arc<Assignment> {
    Arc::new(Assignment { localities: Vec::new(), overprovisioning: 140 })
}
