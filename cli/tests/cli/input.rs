//! What is found in input, and how input that cannot be used is answered.

use super::{run, runtime};

#[test]
fn the_tutorials_trap_is_found_and_fails_the_analysis() {
    let (code, stdout, _) = run(&runtime(), &["analyze", "-f", "examples/tutorial"], "");
    assert!(stdout.contains("error [FM0001] EnvoyFilter istio-system/ingress-local-ratelimit"), "{stdout}");
    assert!(stdout.lines().all(|line| line.chars().count() <= 100), "{stdout}");
    assert_eq!(stdout.matches("error").count(), 1, "{stdout}");
    assert_eq!(code, Some(1));
}

#[test]
fn findings_are_json_for_programs() {
    let (code, stdout, _) = run(&runtime(), &["analyze", "-f", "examples/tutorial", "-o", "json"], "");
    let value: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((code, value["findings"][0]["code"].as_str()), (Some(1), Some("FM0001")));
}

#[test]
fn standard_input_is_analyzed() {
    let good = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";
    assert_eq!(run(&runtime(), &["analyze", "-f", "-"], good).0, Some(0));
    let (code, stdout, _) = run(&runtime(), &["analyze", "-f", "-"], "kind: [\n");
    assert_eq!(code, Some(1), "{stdout}");
    assert!(stdout.contains("not valid YAML"), "{stdout}");
}

#[test]
fn wrong_input_is_exit_code_2_and_a_missing_mesh_is_3() {
    let cases: &[(&[&str], i32, &str)] = &[
        (&["upp"], 2, "similar subcommand exists: 'up'"),
        (&["up"], 2, "--filename <FOLDER>"),
        (&["up", "-f", "/nowhere"], 2, "/nowhere: is not a folder"),
        (&["up", "-f", "examples/tutorial", "--workloads", "/nowhere"], 2, "cannot read /nowhere"),
        (&["up", "-f", "examples/tutorial", "--gateway-port", "99999"], 2, "99999"),
        (&["analyze", "-f", "/nowhere"], 2, "cannot read /nowhere"),
        (&["get", "gateways", "-n", "a", "-A"], 2, "cannot be used with"),
        (&["config", "web", "nothing"], 2, "possible values: listeners"),
        (&["get", "gateways"], 3, "start one with: ferromesh up -f FOLDER"),
        (&["config", "web", "routes"], 3, "start one with: ferromesh up -f FOLDER"),
    ];
    for (args, code, says) in cases {
        let (found, _, stderr) = run(&runtime(), args, "");
        assert_eq!(found, Some(*code), "{args:?}: {stderr}");
        assert!(stderr.contains(says), "{args:?}: {stderr}");
    }
}

#[test]
fn a_mesh_that_died_is_said_to_be_gone() {
    let runtime = runtime();
    let state = r#"{"pid": 1, "controller": "127.0.0.1:1", "xds": null, "dashboard": null, "pods": {}}"#;
    std::fs::write(runtime.path().join("ferromesh-mesh.json"), state).expect("a file");
    let (code, _, stderr) = run(&runtime, &["get", "gateways"], "");
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("did it end?"), "{stderr}");
}
