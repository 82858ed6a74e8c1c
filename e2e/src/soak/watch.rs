//! Memory, descriptors and gauges of both proxies.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::pair::{Pair, Sidecar};
use super::row;
use crate::rows::Row;

/// What memory may grow from the first window after the warm-up to the last: a tenth, and this.
const SLACK: u64 = 2 << 20;

pub(super) struct Watch {
    base: [u64; 2],
    rss: [Vec<u64>; 2],
    open: [u64; 2],
}

impl Watch {
    pub(super) fn begin(pair: &Pair) -> anyhow::Result<Self> {
        let mut watch = Self { base: [0; 2], rss: [Vec::new(), Vec::new()], open: [0; 2] };
        for (base, side) in watch.base.iter_mut().zip(&pair.sides) {
            *base = settled(side)?;
        }
        Ok(watch)
    }

    pub(super) fn sample(&mut self, pair: &Pair) -> anyhow::Result<()> {
        for (i, side) in pair.sides.iter().enumerate() {
            self.rss[i].push(side.process.rss()?);
            self.open[i] = descriptors(side)?;
        }
        Ok(())
    }

    /// Of both: KiB, descriptors.
    pub(super) fn last(&self) -> (String, String) {
        let [client, server] = self.rss.each_ref().map(|all| all.last().copied().unwrap_or_default() / 1024);
        (format!("{client}+{server}"), format!("{}+{}", self.open[0], self.open[1]))
    }

    /// Once the load has ended: all that was taken for it is given back.
    pub(super) fn rows(&self, pair: &Pair, within: Duration) -> anyhow::Result<Vec<Row>> {
        let mut rows = Vec::new();
        for (i, side) in pair.sides.iter().enumerate() {
            let (is_flat, from, to) = flat(&self.rss[i]);
            let seen = format!("{} KiB to {} KiB", from / 1024, to / 1024);
            rows.push(row(&format!("{}: memory is flat", side.name), is_flat, seen));
            let deadline = Instant::now() + within;
            let (mut open, mut active) = (descriptors(side)?, gauges(side)?);
            while (open > self.base[i] || !active.is_empty()) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(200));
                (open, active) = (descriptors(side)?, gauges(side)?);
            }
            let seen = format!("{}, under load {}, then {open}", self.base[i], self.open[i]);
            rows.push(row(&format!("{}: descriptors are given back", side.name), open <= self.base[i], seen));
            let what = format!("{}: no connection or request is left", side.name);
            rows.push(row(&what, active.is_empty(), active.join(", ")));
        }
        Ok(rows)
    }
}

/// Compares the median of the second fifth (the first is the warm-up) with that of the last.
fn flat(rss: &[u64]) -> (bool, u64, u64) {
    let fifth = (rss.len() / 5).max(1);
    let median = |window: &[u64]| {
        let mut sorted = window.to_vec();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    };
    let from = median(rss.get(fifth..2 * fifth).unwrap_or(rss));
    let to = median(&rss[rss.len().saturating_sub(fifth)..]);
    (from > 0 && to <= from + from / 10 + SLACK, from, to)
}

/// Descriptors of a proxy that nobody uses yet: its workers have begun, and the probe that saw it listen has gone.
fn settled(side: &Sidecar) -> anyhow::Result<u64> {
    let deadline = Instant::now() + Duration::from_secs(15);
    let (mut last, mut alike, mut ready) = (0, 0, false);
    while Instant::now() < deadline {
        // Once it is ready it is asked no more: the question's own connection would be counted.
        ready = ready || get(side.admin, "/ready")?.starts_with("HTTP/1.1 200");
        let now = if ready { descriptors(side)? } else { 0 };
        alike = if now == last && now > 0 { alike + 1 } else { 0 };
        if alike == 10 {
            return Ok(now);
        }
        last = now;
        std::thread::sleep(Duration::from_millis(100));
    }
    anyhow::bail!("{}: not ready, or its descriptors do not settle: {last}", side.name)
}

fn descriptors(side: &Sidecar) -> anyhow::Result<u64> {
    Ok(std::fs::read_dir(format!("/proc/{}/fd", side.process.id()))?.count() as u64)
}

/// Gauges of connections and requests that are not zero, but those of the control plane and the admin pages.
fn gauges(side: &Sidecar) -> anyhow::Result<Vec<String>> {
    let page = get(side.admin, "/stats")?;
    anyhow::ensure!(page.contains("cluster.next.upstream_cx_active"), "the page of metrics lacks the cluster's");
    let active = |line: &&str| {
        line.split_once(": ").is_some_and(|(name, value)| {
            (name.ends_with("cx_active") || name.ends_with("rq_active"))
                && !name.contains("admin")
                && !name.starts_with("cluster.ads.")
                && value.trim() != "0"
        })
    };
    Ok(page.lines().filter(active).map(str::to_owned).collect())
}

/// One request on a connection of its own: the whole answer.
pub(super) fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(socket, "GET {path} HTTP/1.1\r\nhost: app\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.take(16 << 20).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::flat;

    #[test]
    fn memory_that_grows_after_the_warm_up_is_not_flat() {
        let (much, warm) = (40 << 20, 20 << 20);
        let steady: Vec<u64> = [10 << 20].into_iter().chain([warm; 19]).collect();
        assert!(flat(&steady).0);
        let grows: Vec<u64> = (0..20).map(|i| warm + i * (much - warm) / 20).collect();
        assert!(!flat(&grows).0);
        assert!(!flat(&[]).0);
    }
}
