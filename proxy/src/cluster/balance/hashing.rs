//! Consistent hashing: the ketama ring and the Maglev table, entry for entry as Envoy makes them.

use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

use super::{Kind, Policy};
use crate::cluster::Host;

/// A table from hashes to places of hosts.
#[derive(Debug)]
pub(super) enum Table {
    /// Points in the order of their hashes.
    Ring(Vec<(u64, u32)>),
    /// Entries by hash modulo length.
    Maglev(Vec<u32>),
}

impl Table {
    pub(super) fn new(hosts: &[Arc<Host>], policy: &Policy) -> Self {
        let keys: Vec<String> = hosts.iter().map(|host| key(host, policy.hash_hostnames)).collect();
        let total: f64 = hosts.iter().map(|host| f64::from(host.weight)).sum();
        let shares: Vec<f64> = hosts.iter().map(|host| f64::from(host.weight) / total).collect();
        match policy.kind {
            Kind::Maglev { table_size } => Self::Maglev(maglev(&keys, &shares, table_size)),
            Kind::RingHash { min_size, max_size } => Self::Ring(ring(&keys, &shares, min_size, max_size)),
            _ => Self::Ring(Vec::new()),
        }
    }

    /// The place of the host for `hash`; each further attempt goes to another entry.
    pub(super) fn find(&self, hash: u64, attempt: usize) -> usize {
        match self {
            Self::Ring(points) => {
                let start = points.partition_point(|(point, _)| *point < hash);
                let place = (start % points.len().max(1) + attempt) % points.len().max(1);
                points.get(place).map_or(0, |(_, host)| *host as usize)
            }
            Self::Maglev(entries) => {
                let hash = if attempt == 0 { hash } else { hash ^ (!0u64 - attempt as u64 + 1) };
                let place = hash % entries.len().max(1) as u64;
                entries.get(place as usize).map_or(0, |host| *host as usize)
            }
        }
    }
}

/// What stands for a host: its `hash_key` metadata, name or address.
fn key(host: &Host, by_hostname: bool) -> String {
    match host.lb_metadata("hash_key").and_then(serde_json::Value::as_str) {
        Some(key) if !key.is_empty() => key.to_owned(),
        _ if by_hostname => host.hostname.to_string(),
        _ => host.address.to_string(),
    }
}

fn ring(keys: &[String], shares: &[f64], min_size: u64, max_size: u64) -> Vec<(u64, u32)> {
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    let scale = ((least * min_size as f64).ceil() / least).min(max_size as f64);
    let mut points = Vec::with_capacity(scale.ceil() as usize);
    let (mut made, mut target) = (0.0, 0.0);
    let mut text = String::new();
    for (index, (key, share)) in keys.iter().zip(shares).enumerate() {
        target += scale * share;
        let mut point = 0u64;
        while made < target {
            text.clear();
            text.push_str(key);
            text.push('_');
            text.push_str(itoa::Buffer::new().format(point));
            points.push((xxh64(text.as_bytes(), 0), index as u32));
            point += 1;
            made += 1.0;
        }
    }
    points.sort_by_key(|(hash, _)| *hash);
    points
}

fn maglev(keys: &[String], shares: &[f64], size: u64) -> Vec<u32> {
    struct Row {
        offset: u64,
        skip: u64,
        share: f64,
        target: f64,
        next: u64,
    }
    const FREE: u32 = u32::MAX;
    let greatest = shares.iter().copied().fold(0.0, f64::max);
    let row = |(key, share): (&String, &f64)| Row {
        offset: xxh64(key.as_bytes(), 0) % size,
        skip: xxh64(key.as_bytes(), 1) % (size - 1) + 1,
        share: *share,
        target: 0.0,
        next: 0,
    };
    let mut rows: Vec<Row> = keys.iter().zip(shares).map(row).collect();
    let mut entries = vec![FREE; size as usize];
    let (mut filled, mut iteration) = (0, 1u64);
    while filled < size {
        for (index, row) in rows.iter_mut().enumerate() {
            if filled == size {
                break;
            }
            // A host of less than the greatest weight takes its turn only in its share of the iterations.
            if (iteration as f64) * row.share < row.target {
                continue;
            }
            row.target += greatest;
            loop {
                let place = (row.offset + row.skip * row.next) % size;
                row.next += 1;
                if entries[place as usize] == FREE {
                    entries[place as usize] = index as u32;
                    break;
                }
            }
            filled += 1;
        }
        iteration += 1;
    }
    entries
}

/// Whether `number` is prime, as a Maglev table's size must be.
pub(in crate::cluster) fn is_prime(number: u64) -> bool {
    number > 1 && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
}
