//! A pair of sidecars (mTLS between them, secrets by SDS) under load for a long time, while its configuration changes
//! each second, its certificates each ten, and clients vanish in the midst of requests.
//!
//! ```text
//! load (HTTP/1, HTTP/1 anew, HTTP/2) ─> client sidecar ══ mTLS ══> server sidecar ─> two upstreams
//! vandals ──────────────────────────────┘      └──── ADS, one for each ────┘
//! ```
//!
//! # The rule
//! Every change leaves at least one upstream that serves, and each upstream serves throughout. So every request of the
//! load must succeed; what a vandal begins is no request of the load, and must harm nobody but itself.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::load::{Aim, Load, Protocol};
use crate::progress::Progress;
use crate::rows::Row;

mod certificates;
mod changes;
mod configuration;
mod pair;
mod random;
mod vandals;
mod watch;

use changes::Changes;
use pair::Pair;
use random::Random;
use vandals::Vandals;
use watch::Watch;

/// How long, and with which proxy.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// Our proxy.
    #[arg(long, default_value = "target/release/ferromesh-proxy")]
    pub proxy: PathBuf,
    /// Minutes of load, at most a day.
    #[arg(long, default_value = "30", value_parser = minutes)]
    pub minutes: f64,
    /// Which changes come, and what vandals do, is decided by this.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|_| "a number of minutes".to_owned())?;
    if (0.5..=1440.0).contains(&minutes) { Ok(minutes) } else { Err("0.5 to 1440 minutes".to_owned()) }
}

const ROTATE: u64 = 10;
const SETTLE: Duration = Duration::from_secs(20);

/// Runs it, and says what was seen.
///
/// # Errors
/// If a proxy does not start, or a change is not answered.
pub fn run(settings: &Settings, progress: &Progress) -> anyhow::Result<Vec<Row>> {
    let proxy = settings.proxy.canonicalize().with_context(|| {
        format!("{} is not there; build it with: cargo build --release -p ferromesh-proxy", settings.proxy.display())
    })?;
    let folder = tempfile::tempdir()?;
    let mut pair = Pair::start(&proxy, folder.path())?;
    let mut watch = Watch::begin(&pair)?;
    let mut changes = Changes::new(Random::new(settings.seed));
    let load = Load::start(aims(&pair))?;
    let vandals = Vandals::start(pair.address, Random::new(settings.seed ^ u64::MAX))?;
    let (begin, whole) = (Instant::now(), Duration::from_secs_f64(settings.minutes * 60.0));
    let mut second = 0;
    while begin.elapsed() < whole {
        second += 1;
        changes.next(&pair)?;
        if second % ROTATE == 0 {
            pair.rotate()?;
        }
        watch.sample(&pair)?;
        if second % 10 == 0 {
            let (rss, open) = watch.last();
            progress.step(&format!(
                "{} requests, {} failed, {} changes, {} rotations, {} vandals, RSS {rss} KiB, descriptors {open}",
                load.requests(),
                load.failed(),
                changes.made(),
                pair.rotations(),
                vandals.done()
            ));
        }
        // The pace of changes, not a wait for anything.
        std::thread::sleep(Duration::from_secs(second).saturating_sub(begin.elapsed()));
    }
    let vandals = vandals.end();
    let outcomes = load.end();
    let mut rows: Vec<Row> = outcomes.iter().map(requests).collect();
    rows.push(row("clients that vanish were there", vandals > 0, format!("{vandals}")));
    rows.extend(changes.rows(&pair)?);
    rows.push(row("certificates were rotated", pair.rotations() > 0, format!("{} times", pair.rotations())));
    rows.extend(watch.rows(&pair, SETTLE)?);
    rows.extend(pair.rows());
    Ok(rows)
}

fn aims(pair: &Pair) -> Vec<Aim> {
    let aim = |name, protocol, connections| Aim {
        name,
        process: i32::try_from(std::process::id()).unwrap_or(0),
        address: pair.address,
        host: "app".into(),
        path: "/".into(),
        protocol,
        connections,
        pause: Duration::from_millis(5),
    };
    vec![
        aim("HTTP/1 keep-alive", Protocol::Http1, 4),
        aim("HTTP/1, a connection each", Protocol::Http1Anew, 2),
        aim("HTTP/2", Protocol::Http2, 2),
    ]
}

fn requests(outcome: &crate::load::Outcome) -> Row {
    let causes: String = outcome.causes.iter().map(|cause| format!("; {} x {}", cause.count, cause.what)).collect();
    row(
        &format!("{}: all succeed", outcome.name),
        outcome.failed == 0 && outcome.requests > 0,
        format!("{} requests, {} failed, longest {:.3} s{causes}", outcome.requests, outcome.failed, outcome.longest),
    )
}

fn row(what: &str, holds: bool, seen: String) -> Row {
    Row { what: what.to_owned(), holds, seen }
}
