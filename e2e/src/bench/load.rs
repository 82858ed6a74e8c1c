//! The load: Debian's `wrk` and `h2load`, one thread, bounded time.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// GETs over HTTP/1.1, one after the other on each connection.
    Http1,
    /// GETs over HTTP/2.
    Http2,
    /// Unary calls with a message of [`MESSAGE`] bytes.
    Grpc,
}

/// Payload of a gRPC call, bytes.
pub const MESSAGE: usize = 128;
/// Over HTTP/2 so many requests share a connection, at most.
const STREAMS: u32 = 32;

impl Kind {
    /// Keeps `concurrent` requests on their way for `duration`; files go to `folder`.
    ///
    /// # Errors
    /// If the program is not there, or any request failed.
    pub fn run(self, address: SocketAddr, concurrent: u32, duration: Duration, folder: &Path) -> anyhow::Result<Load> {
        match self {
            Self::Http1 => wrk(address, concurrent, duration),
            Self::Http2 => h2load(address, concurrent, duration, folder, false),
            Self::Grpc => h2load(address, concurrent, duration, folder, true),
        }
    }
}

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

fn wrk(address: SocketAddr, connections: u32, duration: Duration) -> anyhow::Result<Load> {
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

fn h2load(address: SocketAddr, concurrent: u32, duration: Duration, folder: &Path, grpc: bool) -> anyhow::Result<Load> {
    let (message, log) = (folder.join("message"), folder.join("h2load.log"));
    let mut command = Command::new("h2load");
    let connections = concurrent.div_ceil(STREAMS);
    command.args(["-t1", &format!("-c{connections}"), &format!("-m{}", concurrent / connections)]);
    command.arg(format!("-D{}", duration.as_secs().max(1))).arg("--log-file").arg(&log);
    if grpc {
        let mut bytes = [b'x'; 5 + MESSAGE];
        bytes[..5].copy_from_slice(&[0, 0, 0, 0, MESSAGE as u8]);
        std::fs::write(&message, bytes)?;
        command.args(["-H", "content-type: application/grpc", "-H", "te: trailers", "-d"]).arg(message);
    }
    // It adds to the log of the run before.
    std::fs::write(&log, "")?;
    let output = command.arg(format!("http://{address}/bench.Service/Call")).output();
    let output = output.context("h2load is needed for the load: apt-get install nghttp2-client")?;
    let (text, log) = (String::from_utf8_lossy(&output.stdout), std::fs::read_to_string(&log)?);
    parse_h2load(&text, &log, duration).with_context(|| format!("requests failed, or h2load said:\n{text}"))
}

/// Reads h2load's report and its log: start, status and duration (microseconds) of each request. `None` if it is not a
/// report, or not all of the requests were answered with 200.
fn parse_h2load(text: &str, log: &str, duration: Duration) -> Option<Load> {
    let summary = text.lines().find_map(|line| line.strip_prefix("requests: "))?;
    let count = |name: &str| -> Option<u64> {
        let part = summary.split(", ").find(|part| part.ends_with(name))?;
        part.split(' ').next()?.parse().ok()
    };
    let requests = count("succeeded")?;
    let mut taken: Vec<f64> = Vec::new();
    for line in log.lines() {
        let mut columns = line.split('\t').skip(1);
        if columns.next()? != "200" {
            return None;
        }
        taken.push(columns.next()?.parse().ok()?);
    }
    taken.sort_by(f64::total_cmp);
    let at = |share: f64| taken.get((taken.len() as f64 * share) as usize).copied();
    let failed = count("failed")? + count("errored")? + count("timeout")?;
    let load = Load { requests, seconds: duration.as_secs_f64(), p50_us: at(0.5)?, p99_us: at(0.99)? };
    (failed == 0 && requests > 0).then_some(load)
}

/// Reads wrk's report.
fn parse(text: &str) -> Option<Load> {
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

    #[test]
    fn a_report_of_h2load_is_read_and_a_failure_is_one() {
        let report = |failed| {
            format!("requests: 4 total, 4 started, 4 done, 4 succeeded, {failed} failed, 0 errored, 0 timeout\n")
        };
        let log = "1\t200\t900\n2\t200\t100\n3\t200\t300\n4\t200\t200\n";
        let second = Duration::from_secs(1);
        let load = Load { requests: 4, seconds: 1.0, p50_us: 300.0, p99_us: 900.0 };
        assert_eq!(parse_h2load(&report(0), log, second), Some(load));
        assert_eq!(parse_h2load(&report(1), log, second), None);
        assert_eq!(parse_h2load(&report(0), "1\t503\t9\n", second), None);
    }
}
