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
#[path = "differential/observe.rs"]
mod observe;
#[path = "differential/upstream.rs"]
mod upstream;
#[path = "differential/wire.rs"]
mod wire;
#[path = "differential/world.rs"]
mod world;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::path::PathBuf;

use differences::{DIFFERENCES, Difference};

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
    let [place_of_envoy, place_of_ours] = world::places(&groups);
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| world::run(world::Kind::Envoy(&envoy), &groups, place_of_envoy));
        let ours = world::run(world::Kind::Ours, &groups, place_of_ours);
        (theirs.join().unwrap(), ours)
    });
    let mut used = HashSet::new();
    let mut report = String::new();
    let cases: BTreeMap<&String, ()> = theirs.keys().chain(ours.keys()).map(|case| (case, ())).collect();
    for case in cases.keys() {
        let empty = Vec::new();
        let differing = observe::compare(theirs.get(*case).unwrap_or(&empty), ours.get(*case).unwrap_or(&empty));
        for (what, envoy, ours) in differing {
            let covered = |difference: &Difference| difference.covers(case, &what, &ours);
            let listed = DIFFERENCES.iter().enumerate().filter(|(_, difference)| covered(difference));
            if listed.map(|(index, _)| used.insert(index)).count() > 0 {
                continue;
            }
            writeln!(report, "{case}: {what}\n    envoy {envoy:?}\n    ours  {ours:?}").unwrap();
        }
    }
    for (index, difference) in DIFFERENCES.iter().enumerate() {
        if !used.contains(&index) {
            writeln!(report, "not seen any more, remove it: {difference:?}").unwrap();
        }
    }
    assert!(report.is_empty(), "{} cases\n{report}", cases.len());
}
