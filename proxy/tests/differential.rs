//! The same bootstrap and the same requests for the real Envoy and for this proxy: the same answers, the same requests
//! upstream, the same access log. Where they may differ is listed, with reasons, in `differential/differences.rs`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it is wrong")]

#[path = "differential/config.rs"]
mod config;
#[path = "differential/differences.rs"]
mod differences;
#[path = "differential/groups.rs"]
mod groups;
#[path = "differential/http2.rs"]
mod http2;
#[path = "differential/metrics.rs"]
mod metrics;
#[path = "differential/observe.rs"]
mod observe;
#[path = "differential/upstream.rs"]
mod upstream;
#[path = "differential/wire.rs"]
mod wire;
#[path = "differential/world.rs"]
mod world;

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use differences::{DIFFERENCES, Difference};
use groups::{Case, Group};
use world::Facts;

/// The binary that FERROMESH_ENVOY names. Without it the test is skipped aloud, and fails where CI=true.
fn envoy() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("FERROMESH_ENVOY") {
        return Some(path.into());
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs FERROMESH_ENVOY, the path of Envoy 1.40");
    eprintln!("SKIPPED: set FERROMESH_ENVOY to the binary of Envoy 1.40 to compare with it");
    None
}

#[test]
fn this_proxy_answers_forwards_and_logs_as_envoy_does_but_for_the_listed_differences() {
    let Some(envoy) = envoy() else { return };
    let groups = groups::all();
    let mut names = HashSet::new();
    for (group, case) in groups.iter().flat_map(|group| group.cases.iter().map(move |case| (group, case))) {
        assert!(names.insert((group.name, case.name)), "case {}/{} is there twice", group.name, case.name);
    }
    let (mut theirs, mut ours) = both(&envoy, &groups);
    let mut seen = listed(&theirs, &ours);
    // Some cases end by a timer, which on a busy machine is late in one proxy and not in the other: what differs is
    // asked again, and counts if it differs each time; a listed difference counts as seen if it is seen once.
    for _ in 0..AGAIN {
        let differing: HashSet<String> = unlisted(&theirs, &ours).into_iter().map(|(case, ..)| case).collect();
        let is_unsure = |case: &String| {
            let missing = |(index, difference): (usize, &Difference)| !seen.contains(&index) && difference.is_of(case);
            differing.contains(case) || DIFFERENCES.iter().enumerate().any(missing)
        };
        let is_of = |group: &Group| group.cases.iter().any(|case| is_unsure(&key(group, case)));
        let groups: Vec<Group> = groups::all().into_iter().filter(is_of).collect();
        if groups.is_empty() {
            break;
        }
        let (envoy, proxy) = both(&envoy, &groups);
        theirs.extend(envoy);
        ours.extend(proxy);
        seen.extend(listed(&theirs, &ours));
    }
    let mut report = String::new();
    for (case, what, envoy, ours) in unlisted(&theirs, &ours) {
        writeln!(report, "{case}: {what}\n    envoy {envoy:?}\n    ours  {ours:?}").unwrap();
    }
    for (_, difference) in DIFFERENCES.iter().enumerate().filter(|(index, _)| !seen.contains(index)) {
        writeln!(report, "not seen any more, remove it: {difference:?}").unwrap();
    }
    assert!(report.is_empty(), "{} cases\n{report}", names.len());
}

/// How often a difference is looked for once more.
const AGAIN: usize = 2;

/// Case, what differs, Envoy's values and ours.
type Differing = (String, String, Vec<String>, Vec<String>);

fn key(group: &Group, case: &Case) -> String {
    format!("{}/{}", group.name, case.name)
}

/// What Envoy and this proxy do with the same cases at the same time.
fn both(envoy: &Path, groups: &[Group]) -> (Facts, Facts) {
    let [place_of_envoy, place_of_ours] = world::places(groups);
    std::thread::scope(|scope| {
        let theirs = scope.spawn(|| world::run(world::Kind::Envoy(envoy), groups, place_of_envoy));
        let ours = world::run(world::Kind::Ours, groups, place_of_ours);
        (theirs.join().unwrap(), ours)
    })
}

fn differing(theirs: &Facts, ours: &Facts) -> Vec<Differing> {
    let cases: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
    let facts = |all: &Facts, case: &String| all.get(case).cloned().unwrap_or_default();
    let of_case = |case: &String| -> Vec<Differing> {
        let found = observe::compare(&facts(theirs, case), &facts(ours, case));
        found.into_iter().map(|(what, envoy, ours)| (case.clone(), what, envoy, ours)).collect()
    };
    cases.into_iter().flat_map(of_case).collect()
}

/// Which of the list are seen, by their places in it.
fn listed(theirs: &Facts, ours: &Facts) -> HashSet<usize> {
    let found = differing(theirs, ours);
    let is_seen =
        |difference: &Difference| found.iter().any(|(case, what, _, ours)| difference.covers(case, what, ours));
    DIFFERENCES.iter().enumerate().filter(|(_, difference)| is_seen(difference)).map(|(index, _)| index).collect()
}

/// What differs, and is not listed.
fn unlisted(theirs: &Facts, ours: &Facts) -> Vec<Differing> {
    let mut found = differing(theirs, ours);
    found.retain(|(case, what, _, ours)| !DIFFERENCES.iter().any(|difference| difference.covers(case, what, ours)));
    found
}
