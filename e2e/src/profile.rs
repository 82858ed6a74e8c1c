//! What a request costs, counted: instructions, allocations and system calls do not depend on what else the machine does.
//!
//! ```text
//! certificates -> pairs under callgrind or strace -> N and M requests -> (M - N) / difference -> tables, bounds
//! ```
//! The pairs are the benchmark's: HTTP/1.1 keep-alive, 1 KiB answers, mTLS between, one request after the other.

pub mod callgrind;
pub mod counted;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use callgrind::{Cost, Functions};
use counted::{Pair, Tool};

use crate::bench::backend::Backend;
use crate::bench::bootstrap::Metrics;
use crate::bench::certificates;
use crate::bench::peers::{self, OURS, Peer, Protocol};

/// What one request may take, by the folder of Cargo's profile.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    profile: &'static str,
    /// Instructions of both proxies. Processors and compilers differ in what their libraries and cryptography take: a
    /// twentieth is left for that. When a change makes a request cheaper, lower the bounds with it.
    instructions: f64,
    /// Share of them that counting Envoy's metrics may take, and these with Istio's.
    metrics: [(&'static str, f64); 2],
}

const BOUNDS: [Bounds; 2] = [
    Bounds { profile: "debug", instructions: 892_000.0, metrics: [(OURS, 0.03), (ISTIO, 0.11)] },
    Bounds { profile: "release", instructions: 129_000.0, metrics: [(OURS, 0.03), (ISTIO, 0.08)] },
];

/// What to count.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Our proxy.
    pub proxy: PathBuf,
    /// Requests that are counted.
    pub requests: u32,
    /// Count instructions (callgrind).
    pub instructions: bool,
    /// Count system calls (strace).
    pub syscalls: bool,
    /// The relay, too: what bounds do not need.
    pub relay: bool,
    /// What the requests are; bounds are those of HTTP/1.1.
    pub protocol: Protocol,
}

/// All that was counted, by peer.
#[derive(Debug, Default)]
pub struct Counts {
    instructions: Vec<(String, Pair)>,
    syscalls: Vec<(String, Pair)>,
}

const UNCOUNTED: &str = "without metrics";
const ISTIO: &str = "with Istio's metrics";
const RELAY: &str = "relay";

/// Counts.
///
/// # Errors
/// If a tool is missing, or a proxy does not start or serve under it.
pub fn run(plan: &Plan) -> anyhow::Result<Counts> {
    let folder = tempfile::Builder::new().prefix("ferromesh-profile-").tempdir()?;
    certificates::write(folder.path())?;
    let backend = Backend::start(plan.protocol)?;
    let of = |name: &str, metrics| peers::ours(name, &plan.proxy, metrics).carrying(plan.protocol);
    let ours = of(OURS, Metrics::On);
    let uncounted = of(UNCOUNTED, Metrics::Off);
    let istio = of(ISTIO, Metrics::Istio);
    let relay = peers::relay().carrying(plan.protocol);
    let mut counts = Counts::default();
    let measure = |tool: Tool, peer: &Peer| {
        counted::is_there(tool)?;
        eprintln!("{}: {tool:?}", peer.name);
        let counted = counted::measure(peer, tool, folder.path(), backend.address(), plan.requests)?;
        Ok::<_, anyhow::Error>((peer.name.clone(), counted))
    };
    if plan.instructions {
        let relay = plan.relay.then_some(&relay);
        for peer in [&ours, &uncounted, &istio].into_iter().chain(relay) {
            counts.instructions.push(measure(Tool::Callgrind, peer)?);
        }
    }
    if plan.syscalls {
        for peer in [&ours, &relay] {
            counts.syscalls.push(measure(Tool::Strace, peer)?);
        }
    }
    Ok(counts)
}

/// The bounds of a program, by the profile that it was built in.
///
/// # Errors
/// If there are none for that profile.
pub fn bounds(proxy: &Path) -> anyhow::Result<Bounds> {
    let folder = proxy.parent().and_then(Path::file_name).unwrap_or_default();
    let found = BOUNDS.iter().find(|bounds| bounds.profile == folder).copied();
    found.with_context(|| format!("no bounds are recorded for programs in a folder {}", folder.display()))
}

/// Holds the counts against the bounds.
///
/// # Errors
/// With the bound that is not kept.
pub fn check(counts: &Counts, bounds: &Bounds) -> anyhow::Result<()> {
    let of = |name: &str| {
        let pair = counts.instructions.iter().find(|(found, _)| found == name).map(|(_, pair)| pair);
        pair.map_or(f64::NAN, total)
    };
    let (ours, most) = (of(OURS), bounds.instructions);
    ensure!(ours <= most, "{ours:.0} instructions a request; the bound is {most:.0}");
    for (with, most) in bounds.metrics {
        let share = (of(with) - of(UNCOUNTED)) / of(with);
        ensure!(share <= most, "{with}: counting takes {:.1} % of the instructions", share * 100.0);
    }
    Ok(())
}

/// All counts as tables, in Markdown.
pub fn table(counts: &Counts, functions: usize) -> String {
    let mut text = String::new();
    instructions_table(&mut text, &counts.instructions);
    if let Some((_, [client, server])) = counts.instructions.first().filter(|_| functions > 0) {
        functions_table(&mut text, &sum(client, server), functions);
    }
    syscalls_table(&mut text, &counts.syscalls);
    text
}

fn instructions_table(text: &mut String, all: &[(String, Pair)]) {
    if all.is_empty() {
        return;
    }
    let of_relay = all.iter().find(|(name, _)| name == RELAY).map(|(_, pair)| total(pair));
    text.push_str(
        "\nInstructions and allocations of one request\n\n\
         | pair | towards the client | towards the server | both | of the relay's | allocations |\n|---|---|---|---|---|---|\n",
    );
    for (name, pair) in all {
        let [client, server] = pair;
        let _ = writeln!(
            text,
            "| {name} | {:.0} | {:.0} | {:.0} | {} | {:.1} |",
            callgrind::total(client),
            callgrind::total(server),
            total(pair),
            of_relay.map_or_else(|| "-".to_owned(), |relay| format!("{:.2}", total(pair) / relay)),
            callgrind::allocations(client) + callgrind::allocations(server),
        );
    }
}

fn total(pair: &Pair) -> f64 {
    pair.iter().map(callgrind::total).sum()
}

fn sum(one: &Functions, other: &Functions) -> Functions {
    let mut both = one.clone();
    for (name, cost) in other {
        *both.entry(name.clone()).or_default() += *cost;
    }
    both
}

fn dearest(functions: &Functions, by: fn(&Cost) -> f64, count: usize) -> Vec<(&str, Cost)> {
    let mut all: Vec<(&str, Cost)> = functions.iter().map(|(name, cost)| (name.as_str(), *cost)).collect();
    all.sort_by(|(_, one), (_, other)| by(other).total_cmp(&by(one)));
    all.truncate(count);
    all
}

fn functions_table(text: &mut String, functions: &Functions, count: usize) {
    for (title, by) in
        [("of their own", (|cost| cost.own) as fn(&Cost) -> f64), ("with all that they call", |cost| cost.whole)]
    {
        let _ = writeln!(text, "\nOur dearest functions {title}, both proxies, one request\n");
        text.push_str("| own | whole | calls | function |\n|---|---|---|---|\n");
        for (name, cost) in dearest(functions, by, count) {
            let _ = writeln!(text, "| {:.0} | {:.0} | {:.1} | `{name}` |", cost.own, cost.whole, cost.calls);
        }
    }
}

fn syscalls_table(text: &mut String, all: &[(String, Pair)]) {
    let [(_, ours), (_, relay)] = all else { return };
    let (ours, relay) = (sum(&ours[0], &ours[1]), sum(&relay[0], &relay[1]));
    text.push_str("\nSystem calls of one request, both proxies\n\n| call | ferromesh | relay |\n|---|---|---|\n");
    let calls = |functions: &Functions, name: &str| functions.get(name).map_or(0.0, |cost| cost.calls);
    for (name, cost) in dearest(&sum(&ours, &relay), |cost| cost.calls, 12) {
        if cost.calls >= 0.01 {
            let _ = writeln!(text, "| {name} | {:.2} | {:.2} |", calls(&ours, name), calls(&relay, name));
        }
    }
    let all_of = |functions: &Functions| functions.values().map(|cost| cost.calls).sum::<f64>();
    let _ = writeln!(text, "| all | {:.2} | {:.2} |", all_of(&ours), all_of(&relay));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(ours: f64, istio: f64, without: f64) -> Counts {
        let pair =
            |own| [Functions::from([("serve".to_owned(), Cost { own, whole: own, calls: 1.0 })]), Functions::new()];
        let instructions = [(OURS, ours), (ISTIO, istio), (UNCOUNTED, without), (RELAY, 50.0)];
        Counts {
            instructions: instructions.map(|(name, own)| (name.to_owned(), pair(own))).into(),
            syscalls: Vec::new(),
        }
    }

    #[test]
    fn bounds_are_of_the_whole_and_of_the_share_of_metrics() {
        let bounds = Bounds { profile: "", instructions: 1000.0, metrics: [(OURS, 0.03), (ISTIO, 0.06)] };
        let holds = |counts: &Counts| check(counts, &bounds).is_ok();
        assert!(holds(&counts(1000.0, 1030.0, 980.0)));
        assert!(!holds(&counts(1001.0, 1001.0, 1000.0)));
        assert!(!holds(&counts(1000.0, 1000.0, 900.0)));
        assert!(!holds(&counts(1000.0, 1100.0, 1000.0)));
        assert!(!holds(&Counts::default()), "what was not counted keeps no bound");
        assert!(table(&counts(1000.0, 1000.0, 980.0), 5).contains("| ferromesh | 1000 | 0 | 1000 | 20.00 | 0.0 |"));
    }

    #[test]
    fn bounds_are_of_a_profile() {
        let of = |file: &str| bounds(Path::new(file)).map(|bounds| bounds.instructions).ok();
        assert!(of("target/release/ferromesh-proxy") < of("target/debug/ferromesh-proxy"));
        assert_eq!(of("ferromesh-proxy"), None);
    }
}
