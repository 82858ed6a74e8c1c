//! Priority levels: which level, which class of health and which locality get a pick.
//!
//! Rules: Envoy, "Priority levels", "Degraded endpoints", "Panic threshold", "Locality weighted load balancing".

use std::sync::Arc;

use super::members::{Members, running_sums, scale};
use super::{Dice, Kind, Policy};
use crate::cluster::health::Unhealthy;
use crate::cluster::{Assignment, Host, LbContext, LocalityHosts};

/// The tables over all levels.
#[derive(Debug, Default)]
pub struct Tables {
    levels: Vec<Level>,
    /// Percent of each level for its healthy hosts, and for its degraded ones; together 100.
    load: Load,
    overprovisioning: u32,
}

#[derive(Debug, Default)]
struct Level {
    healthy: Group,
    degraded: Group,
    all: Members,
    /// Hosts of `all` that do not count.
    excluded: u64,
    panic: bool,
}

/// Hosts of one level and class, whole or by weighted localities.
#[derive(Debug, Default)]
struct Group {
    members: Members,
    localities: Vec<Members>,
    sums: Vec<u64>,
}

impl Tables {
    /// The tables of the hosts that `keep` wants.
    pub(super) fn new(assignment: &Assignment, policy: &Policy, keep: impl Fn(&Host) -> bool) -> Self {
        let count = assignment.localities.iter().map(|locality| locality.priority + 1).max().unwrap_or(0);
        let mut levels: Vec<Level> = (0..count)
            .map(|priority| {
                let group = |class: fn(&Host) -> bool| {
                    let chosen = |host: &Host| keep(host) && class(host);
                    Group::new(assignment, priority, policy, &keep, &chosen)
                };
                let every =
                    |host: &Host| keep(host) && !(policy.ignore_unchecked && host.health.has(Unhealthy::Pending));
                Level {
                    healthy: group(|host| host.health.is_healthy()),
                    degraded: group(|host| host.health.is_degraded()),
                    all: Members::new(of_level(assignment, priority).filter(|host| every(host)).cloned().collect()),
                    excluded: excluded(assignment, priority, policy, &keep),
                    panic: false,
                }
            })
            .collect();
        let counts: Vec<Counts> = levels.iter().map(Level::counts).collect();
        let load = distribute(&counts, assignment.overprovisioning, policy.panic_threshold);
        for (level, panic) in levels.iter_mut().zip(&load.panic) {
            level.panic = *panic;
        }
        Self { levels, load, overprovisioning: assignment.overprovisioning }
    }

    /// Whether there are no hosts at all.
    pub(super) fn is_empty(&self) -> bool {
        self.levels.iter().all(|level| level.all.hosts().is_empty())
    }

    pub(super) fn in_panic(&self) -> bool {
        self.levels.iter().any(|level| level.panic)
    }

    pub(super) fn choose(&self, policy: &Policy, context: &LbContext<'_>, dice: Dice) -> Option<&Arc<Host>> {
        let hashes = matches!(policy.kind, Kind::RingHash { .. } | Kind::Maglev { .. });
        // The same hash must lead to the same level.
        let point = match context.hash {
            Some(hash) if hashes => hash % 100,
            _ => scale(dice.group, 100),
        };
        let others = if context.avoid_levels.is_empty() { None } else { self.load_without(context.avoid_levels) };
        let (level, degraded) = others.as_ref().unwrap_or(&self.load).at(point as u32)?;
        let level = self.levels.get(level)?;
        match (level.panic, degraded) {
            // Localities' weights do not count in a panic, as in Envoy.
            (true, _) => level.all.choose(policy, context, dice),
            (false, true) => level.degraded.choose(policy, context, dice),
            (false, false) => level.healthy.choose(policy, context, dice),
        }
    }
}

impl Tables {
    /// The shares if these levels bear nothing; `None` if the others bear nothing either.
    fn load_without(&self, avoided: &[u32]) -> Option<Load> {
        let counts = self.levels.iter().enumerate().map(|(level, hosts)| {
            let avoid = avoided.iter().any(|avoided| *avoided as usize == level);
            if avoid { Counts::default() } else { hosts.counts() }
        });
        let counts: Vec<Counts> = counts.collect();
        let bears = counts.iter().any(|level| level.healthy + level.degraded > 0);
        bears.then(|| distribute(&counts, self.overprovisioning, 0.0))
    }
}

impl Level {
    fn counts(&self) -> Counts {
        Counts {
            hosts: self.all.hosts().len() as u64,
            all: (self.all.hosts().len() as u64).saturating_sub(self.excluded),
            healthy: self.healthy.members.hosts().len() as u64,
            degraded: self.degraded.members.hosts().len() as u64,
        }
    }
}

fn of_level(assignment: &Assignment, priority: u32) -> impl Iterator<Item = &Arc<Host>> {
    let localities = assignment.localities.iter().filter(move |locality| locality.priority == priority);
    localities.flat_map(|locality| &locality.hosts)
}

/// How many of the hosts of a level's `all` have said themselves that they fail: they count for nothing.
fn excluded(assignment: &Assignment, priority: u32, policy: &Policy, keep: &dyn Fn(&Host) -> bool) -> u64 {
    let hosts = of_level(assignment, priority).filter(|host| keep(host));
    let counted = hosts.filter(|host| !(policy.ignore_unchecked && host.health.has(Unhealthy::Pending)));
    counted.filter(|host| host.health.has(Unhealthy::Excluded)).count() as u64
}

impl Group {
    fn new(
        assignment: &Assignment,
        priority: u32,
        policy: &Policy,
        keep: &dyn Fn(&Host) -> bool,
        chosen: &dyn Fn(&Host) -> bool,
    ) -> Self {
        let localities: Vec<&LocalityHosts> =
            assignment.localities.iter().filter(|locality| locality.priority == priority).collect();
        let of = |locality: &LocalityHosts| -> Vec<Arc<Host>> {
            locality.hosts.iter().filter(|host| chosen(host)).cloned().collect()
        };
        if !policy.locality_weighted {
            return Self { members: Members::new(localities.into_iter().flat_map(of).collect()), ..Self::default() };
        }
        let weights = localities.iter().map(|locality| {
            let total = locality.hosts.iter().filter(|host| keep(host)).count() as u64;
            effective_weight(u64::from(locality.weight), of(locality).len() as u64, total, assignment.overprovisioning)
        });
        Self {
            sums: running_sums(weights),
            members: Members::new(localities.iter().copied().flat_map(of).collect()),
            localities: localities.into_iter().map(|locality| Members::new(of(locality))).collect(),
        }
    }

    fn choose(&self, policy: &Policy, context: &LbContext<'_>, dice: Dice) -> Option<&Arc<Host>> {
        match self.sums.last() {
            Some(total) if *total > 0 => {
                let random = match (policy.kind, context.hash) {
                    (Kind::RingHash { .. } | Kind::Maglev { .. }, Some(hash)) => {
                        hash.wrapping_mul(0x9E37_79B9_7F4A_7C15)
                    }
                    _ => dice.group.rotate_left(32),
                };
                let point = scale(random, *total);
                let place = self.sums.partition_point(|sum| *sum <= point);
                self.localities.get(place)?.choose(policy, context, dice)
            }
            _ => self.members.choose(policy, context, dice),
        }
    }
}

/// A locality's weight, less where its hosts fail beyond what overprovisioning bears.
fn effective_weight(weight: u64, available: u64, total: u64, overprovisioning: u32) -> u64 {
    match total {
        0 => 0,
        total => weight * (u64::from(overprovisioning) * 100 * available / total).min(10_000),
    }
}

/// Numbers of hosts of a level.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    /// All that a panic picks from.
    hosts: u64,
    /// Those that count.
    all: u64,
    healthy: u64,
    degraded: u64,
}

/// Percent by level.
#[derive(Debug, Default, PartialEq, Eq)]
struct Load {
    healthy: Vec<u32>,
    degraded: Vec<u32>,
    panic: Vec<bool>,
}

impl Load {
    /// The level and class (degraded?) that the point of 0..100 falls on.
    fn at(&self, point: u32) -> Option<(usize, bool)> {
        let mut sum = 0;
        for (degraded, loads) in [(false, &self.healthy), (true, &self.degraded)] {
            for (level, load) in loads.iter().enumerate() {
                sum += load;
                if point < sum {
                    return Some((level, degraded));
                }
            }
        }
        None
    }
}

/// Shares the traffic out over levels: each takes what it can bear, the rest goes to the next.
fn distribute(counts: &[Counts], overprovisioning: u32, panic_threshold: f64) -> Load {
    let bears = |part: u64, all: u64| match all {
        0 => 0,
        all => u32::try_from((u64::from(overprovisioning) * part / all).min(100)).unwrap_or(100),
    };
    let health: Vec<u32> = counts.iter().map(|level| bears(level.healthy, level.all)).collect();
    let degraded: Vec<u32> = counts.iter().map(|level| bears(level.degraded, level.all)).collect();
    let available = health.iter().chain(&degraded).sum::<u32>().min(100);
    let mut load =
        Load { healthy: vec![0; counts.len()], degraded: vec![0; counts.len()], panic: vec![false; counts.len()] };
    if available < 100 && panic_threshold > 0.0 {
        for (panic, level) in load.panic.iter_mut().zip(counts) {
            let usable = 100.0 * (level.healthy + level.degraded) as f64;
            *panic = level.all == 0 || usable / (level.all as f64) < panic_threshold;
        }
    }
    if !counts.is_empty() && load.panic.iter().all(|panic| *panic) {
        share_by_size(counts, &mut load.healthy);
    } else if available == 0 {
        // Nothing can be found there; the shares must only add up.
        if let Some(first) = load.healthy.first_mut() {
            *first = 100;
        }
    } else {
        let mut left = 100;
        for (source, target) in [(&health, &mut load.healthy), (&degraded, &mut load.degraded)] {
            for (bears, share) in source.iter().zip(target) {
                *share = (bears * 100).checked_div(available).unwrap_or(0).min(left);
                left -= *share;
            }
        }
        // What rounding left goes to the first level that bears anything.
        let first = load.healthy.iter_mut().chain(load.degraded.iter_mut()).find(|share| **share > 0);
        if let Some(first) = first {
            *first += left;
        }
    }
    load
}

/// All levels panic: traffic by the number of hosts.
fn share_by_size(counts: &[Counts], shares: &mut [u32]) {
    let total: u64 = counts.iter().map(|level| level.hosts).sum();
    if total == 0 {
        return;
    }
    for (level, share) in counts.iter().zip(shares.iter_mut()) {
        *share = u32::try_from(100 * level.hosts / total).unwrap_or(0);
    }
    let left = 100 - shares.iter().sum::<u32>();
    if let Some(share) = shares.iter_mut().find(|share| **share > 0) {
        *share += left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(all: u64, healthy: u64, degraded: u64) -> Counts {
        Counts { hosts: all, all, healthy, degraded }
    }

    #[test]
    fn traffic_spills_to_the_next_level_as_health_goes_down() {
        // Envoy's table: two levels, overprovisioning 140, the second wholly healthy.
        for (healthy, first) in [(100, 100), (72, 100), (71, 99), (50, 70), (25, 35), (0, 0)] {
            let load = distribute(&[level(100, healthy, 0), level(100, 100, 0)], 140, 50.0);
            assert_eq!(load.healthy, [first, 100 - first], "{healthy}% healthy");
            assert_eq!(load.panic, [false, false]);
        }
    }

    #[test]
    fn levels_that_cannot_bear_it_together_are_scaled_up() {
        let load = distribute(&[level(100, 20, 0), level(100, 20, 0)], 140, 0.0);
        assert_eq!(load.healthy, [50, 50]);
        let load = distribute(&[level(100, 25, 0), level(100, 25, 0)], 140, 50.0);
        assert_eq!(load.panic, [true, true]);
        assert_eq!(load.healthy, [50, 50]);
    }

    #[test]
    fn degraded_hosts_take_what_healthy_ones_cannot() {
        let load = distribute(&[level(100, 50, 50)], 140, 50.0);
        assert_eq!((load.healthy, load.degraded), (vec![70], vec![30]));
    }

    #[test]
    fn hosts_that_say_themselves_that_they_fail_cause_no_panic() {
        let load = distribute(&[Counts { hosts: 4, all: 1, healthy: 1, degraded: 0 }], 140, 50.0);
        assert_eq!((load.healthy, load.panic), (vec![100], vec![false]));
    }

    #[test]
    fn without_panic_no_host_is_found_when_none_is_healthy() {
        let load = distribute(&[level(2, 0, 0)], 140, 0.0);
        assert_eq!((load.healthy, load.panic), (vec![100], vec![false]));
    }
}
