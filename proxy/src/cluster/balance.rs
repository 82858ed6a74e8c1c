//! Balancers: which host gets the next request.
//!
//! A [`HostSet`] is made when hosts or their health change and holds every table that a pick needs; a pick is then a
//! pure choice by a few random bits. Rules: Envoy, "Load balancing" (priority levels, panic threshold, degraded
//! endpoints, locality weighted, subsets).

use std::sync::{Arc, OnceLock};

use super::{Assignment, Host, LbContext};

mod hashing;
mod level;
mod members;
mod slow_start;
mod subset;

pub(super) use hashing::is_prime;
pub use level::Tables;
pub use members::Members;
pub use slow_start::SlowStart;
pub use subset::{Fallback, Selector, SubsetConfig};

/// How a host is chosen among equals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// In turn, by weight.
    RoundRobin,
    /// The one with the fewest requests in flight of some drawn by weight.
    LeastRequest {
        /// How many are drawn.
        choices: u32,
    },
    /// Drawn by weight.
    Random,
    /// Ketama ring over xxHash64.
    RingHash {
        /// Least number of points.
        min_size: u64,
        /// Greatest number of points.
        max_size: u64,
    },
    /// Maglev table over xxHash64.
    Maglev {
        /// Number of entries, a prime.
        table_size: u64,
    },
    /// The cluster itself knows (ORIGINAL_DST).
    ClusterProvided,
}

/// A cluster's balancing policy.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Among hosts.
    pub kind: Kind,
    /// Percent of healthy hosts below which health is ignored; 0 never.
    pub panic_threshold: f64,
    /// Localities get traffic by their weights.
    pub locality_weighted: bool,
    /// Hash hosts by name instead of address.
    pub hash_hostnames: bool,
    /// Hosts that no active check has answered for count for nothing, even in a panic.
    pub ignore_unchecked: bool,
    /// Hosts that have just come get their share little by little (round robin and least request).
    pub slow_start: Option<SlowStart>,
    /// Subsets.
    pub subsets: Option<Box<SubsetConfig>>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            kind: Kind::RoundRobin,
            panic_threshold: 50.0,
            locality_weighted: false,
            hash_hostnames: false,
            ignore_unchecked: false,
            slow_start: None,
            subsets: None,
        }
    }
}

/// The hosts of a cluster at one time.
#[derive(Debug, Default)]
pub struct HostSet {
    /// All hosts, by priority.
    pub hosts: Vec<Arc<Host>>,
    /// What they were made of.
    pub(super) assignment: Arc<Assignment>,
    /// The count of health changes that the tables show.
    pub(super) epoch: u64,
    /// Made by the first pick: most clusters of a big mesh see none.
    picking: OnceLock<Box<Picking>>,
}

/// What picks go by.
#[derive(Debug)]
struct Picking {
    /// Whether a priority level ignores health.
    panics: bool,
    tables: Tables,
    subsets: Option<subset::Index>,
}

impl Picking {
    fn new(assignment: &Assignment, policy: &Policy) -> Self {
        let tables = Tables::new(assignment, policy, |_| true);
        let subsets = policy.subsets.as_ref().map(|config| subset::Index::new(config, assignment, policy));
        Self { panics: tables.in_panic(), tables, subsets }
    }
}

impl HostSet {
    /// These hosts with their health now.
    pub fn new(assignment: Arc<Assignment>, epoch: u64) -> Self {
        let mut hosts: Vec<_> =
            assignment.localities.iter().flat_map(|locality| locality.hosts.iter().cloned()).collect();
        hosts.sort_by_key(|host| host.priority);
        Self { hosts, epoch, assignment, picking: OnceLock::new() }
    }

    fn picking(&self, policy: &Policy) -> &Picking {
        self.picking.get_or_init(|| Box::new(Picking::new(&self.assignment, policy)))
    }

    /// Chooses a host; `policy` is always the one of the cluster.
    pub fn choose(&self, policy: &Policy, context: &LbContext<'_>, dice: Dice) -> Option<&Arc<Host>> {
        let picking = self.picking(policy);
        let tables = match (&policy.subsets, &picking.subsets) {
            (Some(config), Some(subsets)) => subsets.find(config, context.metadata_match, &picking.tables)?,
            _ => &picking.tables,
        };
        tables.choose(policy, context, dice)
    }

    /// Whether a priority level ignores health.
    pub fn in_panic(&self, policy: &Policy) -> bool {
        self.picking(policy).panics
    }
}

/// The randomness of one pick.
#[derive(Debug, Clone, Copy)]
pub struct Dice {
    /// For the priority and the locality.
    pub group: u64,
    /// For the host.
    pub host: u64,
    /// How many hosts this pick has passed over.
    pub passed: usize,
}

impl Dice {
    fn throw(passed: usize) -> Self {
        Self { group: fastrand::u64(..), host: fastrand::u64(..), passed }
    }
}

/// A balancer.
#[derive(Debug, Default)]
pub struct Balancer {
    /// Its rules.
    pub policy: Policy,
}

impl Balancer {
    /// With these rules.
    pub fn new(policy: Policy) -> Self {
        Self { policy }
    }

    /// Picks a host of `hosts`, and again if it was tried before, as often as the context allows.
    pub fn pick(&self, hosts: &HostSet, context: &LbContext<'_>) -> Option<Arc<Host>> {
        let mut picked = hosts.choose(&self.policy, context, Dice::throw(0))?;
        for passed in 0..context.reselect as usize {
            if !is_unwanted(picked, context) {
                break;
            }
            picked = hosts.choose(&self.policy, context, Dice::throw(passed + 1))?;
        }
        Some(picked.clone())
    }
}

/// Whether another host would be better for this try.
fn is_unwanted(host: &Host, context: &LbContext<'_>) -> bool {
    let tried = || !context.may_repeat && context.previous.iter().any(|previous| previous.id == host.id);
    let holds = |(key, value): (&String, &serde_json::Value)| host.lb_metadata(key) == Some(value);
    tried() || context.omit.iter().any(|omitted| omitted.iter().all(holds))
}

#[cfg(test)]
mod tests;
