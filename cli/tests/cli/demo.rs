//! The whole mesh, end to end: the tutorial runs, and what it promises is measured.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{BINARY, run, runtime};

/// Ends with its test, whatever comes of that.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

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

#[test]
fn a_demo_that_is_kept_can_be_looked_into_until_it_is_ended() {
    let runtime = runtime();
    let mut command = Command::new(BINARY);
    command.args(["demo", "--keep", "--json", "--requests", "100"]).env("XDG_RUNTIME_DIR", runtime.path());
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut kept = Kept(child);
    let mut said = BufReader::new(kept.0.stderr.take().expect("piped")).lines().map_while(Result::ok);
    assert!(said.any(|line| line.contains("The mesh goes on")), "it ended");
    let (code, stdout, stderr) = run(&runtime, &["get", "gateways", "-A"], "");
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("Programmed"), "{stdout}");
    let process = i32::try_from(kept.0.id()).ok().and_then(Pid::from_raw).expect("a process");
    kill_process(process, Signal::INT).expect("it runs");
    assert_eq!(kept.0.wait().expect("it ends").code(), Some(0));
    assert_eq!(run(&runtime, &["get", "gateways", "-A"], "").0, Some(3), "nothing is left of it");
}
