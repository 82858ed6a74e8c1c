//! The load: Debian's `wrk`, one thread, bounded time.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

/// What a run of the load saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Answers.
    pub requests: u64,
    /// Time, seconds.
    pub seconds: f64,
    /// Median latency, microseconds.
    pub p50_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
}

/// Runs wrk.
///
/// # Errors
/// If it is not there, or any request failed.
pub fn wrk(address: SocketAddr, connections: u32, duration: Duration) -> anyhow::Result<Load> {
    let output = Command::new("wrk")
        .args(["-t1", "--latency", &format!("-c{connections}"), &format!("-d{}s", duration.as_secs().max(1))])
        .arg(format!("http://{address}/"))
        .output()
        .context("wrk is needed for the load: apt-get install wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        bail!("requests failed under load:\n{text}");
    }
    parse(&text).with_context(|| format!("wrk said:\n{text}"))
}

/// Reads wrk's report.
pub fn parse(text: &str) -> Option<Load> {
    let percentile = |name: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(name))?;
        microseconds(line.split_whitespace().nth(1)?)
    };
    let summary = text.lines().find(|line| line.contains("requests in"))?;
    let mut words = summary.split_whitespace();
    let requests = words.next()?.parse().ok()?;
    let seconds = words.nth(2)?.trim_end_matches(',').trim_end_matches('s').parse().ok()?;
    Some(Load { requests, seconds, p50_us: percentile("50%")?, p99_us: percentile("99%")? })
}

fn microseconds(text: &str) -> Option<f64> {
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_wrk_is_read() {
        let text = "  Latency Distribution\n     50%  812.00us\n     75%    1.00ms\n     90%    1.30ms\n     99%    2.10ms\n  39130 requests in 1.00s, 44.93MB read\n";
        let load = parse(text).expect("a report");
        assert_eq!(load, Load { requests: 39130, seconds: 1.0, p50_us: 812.0, p99_us: 2100.0 });
    }
}
