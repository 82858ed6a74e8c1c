//! A group of hosts of which one is chosen by the policy's kind alone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::slow_start::{Ramp, Weights};
use super::{Dice, Kind, Policy, hashing};
use crate::cluster::{Host, LbContext};

/// Round robin over unequal weights follows a whole schedule up to this length, a quasi-random one beyond it.
const LONGEST_SCHEDULE: u64 = 1024;

/// Multiples of the golden ratio visit a circle evenly.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Hosts, and the tables over them; hash tables are made when first used.
#[derive(Debug, Default)]
pub struct Members {
    hosts: Vec<Arc<Host>>,
    /// Running sums of the weights; empty if they are all equal.
    sums: Vec<u64>,
    turn: AtomicUsize,
    schedule: OnceLock<Option<Vec<u32>>>,
    hashed: OnceLock<hashing::Table>,
    ramp: Ramp,
}

impl Members {
    /// A group of `hosts`.
    pub fn new(hosts: Vec<Arc<Host>>) -> Self {
        let equal = hosts.windows(2).all(|pair| pair[0].weight == pair[1].weight);
        let sums = if equal { Vec::new() } else { running_sums(hosts.iter().map(|host| u64::from(host.weight))) };
        let turn = AtomicUsize::new(if hosts.is_empty() { 0 } else { fastrand::usize(..hosts.len()) });
        Self { hosts, sums, turn, ..Self::default() }
    }

    /// The hosts.
    pub fn hosts(&self) -> &[Arc<Host>] {
        &self.hosts
    }

    /// Chooses one.
    pub fn choose(&self, policy: &Policy, context: &LbContext<'_>, dice: Dice) -> Option<&Arc<Host>> {
        let ramp = policy.slow_start.as_ref().and_then(|rule| self.ramp.weights(rule, &self.hosts));
        if let Some(weights) = ramp {
            return self.by_ramp(policy.kind, &weights, dice.host);
        }
        let index = match policy.kind {
            _ if self.hosts.len() < 2 => 0,
            Kind::RoundRobin | Kind::ClusterProvided => self.in_turn(),
            Kind::LeastRequest { choices } => return self.least(choices, dice.host),
            Kind::Random => self.draw(dice.host),
            Kind::RingHash { .. } | Kind::Maglev { .. } => {
                let table = self.hashed.get_or_init(|| hashing::Table::new(&self.hosts, policy));
                table.find(context.hash.unwrap_or(dice.host), dice.passed)
            }
        };
        self.hosts.get(index)
    }

    /// While hosts start slowly, the weights of now decide.
    fn by_ramp(&self, kind: Kind, weights: &Weights, random: u64) -> Option<&Arc<Host>> {
        let part = |bits: u64| bits as f64 / (u64::MAX as f64 + 1.0);
        let Kind::LeastRequest { choices } = kind else {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) as u64;
            return self.hosts.get(weights.at(part(turn.wrapping_mul(GOLDEN))));
        };
        let load = |place: usize| {
            let active = self.hosts.get(place).map_or(0, |host| host.active.load(Ordering::Relaxed));
            f64::from(active) / weights.of(place).max(f64::MIN_POSITIVE)
        };
        let mut best = weights.at(part(random));
        let mut state = random;
        for _ in 1..choices {
            state = mix(state);
            let other = weights.at(part(state));
            if load(other) < load(best) {
                best = other;
            }
        }
        self.hosts.get(best)
    }

    fn in_turn(&self) -> usize {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let Some(total) = self.sums.last().copied() else { return turn % self.hosts.len() };
        match self.schedule.get_or_init(|| schedule(&self.hosts)) {
            Some(schedule) => schedule.get(turn % schedule.len()).map_or(0, |index| *index as usize),
            // A golden-ratio sequence visits each share as evenly as a schedule of any length would.
            None => self.at(scale((turn as u64).wrapping_mul(GOLDEN), total)),
        }
    }

    fn draw(&self, random: u64) -> usize {
        match self.sums.last() {
            None => usize::try_from(scale(random, self.hosts.len() as u64)).unwrap_or(0),
            Some(total) => self.at(scale(random, *total)),
        }
    }

    /// Draws some by weight and takes the one with the least load for its weight.
    fn least(&self, choices: u32, random: u64) -> Option<&Arc<Host>> {
        let load = |host: &Host| f64::from(host.active.load(Ordering::Relaxed)) / f64::from(host.weight.max(1));
        let mut best = self.hosts.get(self.draw(random))?;
        let mut state = random;
        for _ in 1..choices {
            state = mix(state);
            let other = self.hosts.get(self.draw(state))?;
            if load(other) < load(best) {
                best = other;
            }
        }
        Some(best)
    }

    fn at(&self, point: u64) -> usize {
        self.sums.partition_point(|sum| *sum <= point)
    }
}

/// Running sums of weights.
pub(super) fn running_sums(weights: impl Iterator<Item = u64>) -> Vec<u64> {
    weights
        .scan(0u64, |sum, weight| {
            *sum += weight;
            Some(*sum)
        })
        .collect()
}

/// Maps 64 random bits evenly to `0..bound`.
pub(super) fn scale(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

/// Further random bits from random bits (the finaliser of SplitMix64).
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(GOLDEN);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The order of one whole round by weights (smooth weighted round robin); `None` if it would be too long.
fn schedule(hosts: &[Arc<Host>]) -> Option<Vec<u32>> {
    let divisor = hosts.iter().fold(0, |divisor, host| gcd(divisor, u64::from(host.weight)));
    let weights: Vec<i64> = hosts.iter().map(|host| (u64::from(host.weight) / divisor.max(1)) as i64).collect();
    let total: i64 = weights.iter().sum();
    if total as u64 > LONGEST_SCHEDULE {
        return None;
    }
    let mut current = vec![0i64; weights.len()];
    let round = (0..total).map(|_| {
        for (current, weight) in current.iter_mut().zip(&weights) {
            *current += weight;
        }
        // `max_by_key` takes the last of equals; the first is what people expect.
        let next = (0..current.len()).rev().max_by_key(|index| current[*index]).unwrap_or(0);
        current[next] -= total;
        next as u32
    });
    Some(round.collect())
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
