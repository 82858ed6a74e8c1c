//! The whole mesh, end to end: the tutorial runs, and what it promises is measured.

use serde_json::Value;

use super::{run, runtime};

fn all_checks_pass(args: &[&str]) {
    let (code, stdout, stderr) = run(&runtime(), args, "");
    let result: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout} {stderr}"));
    let checks = result["checks"].as_array().expect("a list of checks");
    let failed: Vec<&Value> = checks.iter().filter(|check| check["passed"] != true).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(checks.len() >= 10, "{checks:#?}");
    assert_eq!(code, Some(0), "{stderr}");
}

#[test]
fn every_step_of_the_tutorial_does_what_it_says() {
    all_checks_pass(&["demo", "--json", "--requests", "300"]);
}

#[test]
fn the_tutorials_own_manifests_do_what_it_says() {
    let Ok(folder) = std::env::var("FERROMESH_TUTORIAL_DIR") else {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "FERROMESH_TUTORIAL_DIR must be set where CI=true");
        eprintln!("skipped: FERROMESH_TUTORIAL_DIR does not name a folder with the tutorial's manifests");
        return;
    };
    all_checks_pass(&["demo", "--json", "--requests", "300", "--manifests", &folder]);
}
