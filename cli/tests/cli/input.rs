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
    assert!(stdout.contains("(standard input):1: not valid YAML"), "{stdout}");
}

#[test]
fn what_an_api_server_would_refuse_fails_the_analysis_with_its_line_and_field() {
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\n";
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n";
    let cases = [
        ("spec: {rules: [{timeouts: {request: 1s, backendRequest: 2s}}]}", "spec.rules[0].timeouts.backendRequest"),
        ("spec: {hostnames: [\"a b\"], rules: [{}]}", "spec.hostnames[0]"),
        ("spec: {rules: [{name: a}, {name: a}]}", "spec.rules: name"),
    ];
    for (spec, path) in cases {
        let input = format!("{namespace}{route}{spec}\n");
        let (code, stdout, _) = run(&runtime(), &["analyze", "-f", "-"], &input);
        assert_eq!(code, Some(1), "{stdout}");
        let one_line = stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(one_line.contains(&format!("(standard input):5: HTTPRoute \"r\": {path}")), "{stdout}");
    }
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
        (&["analyze", "-f", "cli/tests/cli"], 2, "holds no object"),
        (&["demo", "--requests", "0"], 2, "100..=1000000"),
        (&["demo", "--manifests", "/nowhere"], 2, "reading /nowhere"),
        (&["demo", "--manifests", "cli/tests/cli"], 2, "holds no YAML"),
        (&["get", "gateways", "-n", "a", "-A"], 2, "cannot be used with"),
        (&["config", "web", "nothing"], 2, "possible values: listeners"),
        (&["analyze", "-f", "examples/tutorial", "-n", "Not Good"], 2, "cannot be a namespace"),
        (&["get", "../metrics"], 2, "is not a kind"),
        (&["get", "gate ways"], 2, "is not a kind"),
        (&["get", "gateways", "-n", "under_score"], 2, "cannot be a namespace"),
        (&["config", "web", "routes", "-n", ""], 2, "cannot be a namespace"),
        (&["get", "gateways", "-o", "xml"], 2, "possible values: table, wide, json, yaml"),
        (&["completion", "tcsh"], 2, "possible values: bash"),
        (&["version", "extra"], 2, "unexpected argument"),
        (&["get", "gateways"], 3, "start one with: ferromesh up -f FOLDER"),
        (&["config", "web", "routes"], 3, "start one with: ferromesh up -f FOLDER"),
        (&["proxy-status"], 3, "no cluster (KUBECONFIG, --kubeconfig)"),
    ];
    for (args, code, says) in cases {
        let (found, _, stderr) = run(&runtime(), args, "");
        assert_eq!(found, Some(*code), "{args:?}: {stderr}");
        assert!(stderr.contains(says), "{args:?}: {stderr}");
    }
}

#[test]
fn a_gateway_port_that_was_asked_for_and_is_taken_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let (code, _, stderr) = run(&runtime(), &["up", "-f", "examples/tutorial", "--gateway-port", &port], "");
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains(&format!("--gateway-port {port}: ")), "{stderr}");
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

#[test]
fn input_that_is_no_yaml_is_named_with_its_line_and_nothing_hangs_or_panics() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("written");
    write("binary.yaml", b"\xff\xfe\0\x80");
    write("deep.yaml", "[".repeat(20_000).as_bytes());
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for n in 1..12 {
        bomb += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(","));
    }
    write("bomb.yaml", bomb.as_bytes());
    write("good.yaml", b"apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n");
    std::os::unix::fs::symlink(".", folder.path().join("circle")).expect("a link");
    let path = folder.path().to_str().expect("UTF-8");
    let (code, stdout, stderr) = run(&runtime(), &["analyze", "-f", path], "");
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    let one_line = stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for says in ["binary.yaml: cannot be read", "deep.yaml:1: not valid YAML", "bomb.yaml:"] {
        assert!(one_line.contains(says), "{says}: {stdout}");
    }
    assert!(!one_line.contains("circle"), "{stdout}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn a_pipe_among_the_files_is_passed_over_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe.yaml");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    std::fs::write(folder.path().join("good.yaml"), "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n")
        .expect("a file");
    let (code, stdout, _) = run(&runtime(), &["analyze", "-f", folder.path().to_str().expect("UTF-8")], "");
    assert_eq!(code, Some(0), "{stdout}");
}

#[test]
fn a_damaged_state_file_is_said_to_be_and_how_to_go_on() {
    let runtime = runtime();
    std::fs::write(runtime.path().join("ferromesh-mesh.json"), "{{").expect("a file");
    for args in [&["get", "gateways"][..], &["config", "web", "routes"]] {
        let (code, _, stderr) = run(&runtime, args, "");
        assert_eq!(code, Some(3), "{stderr}");
        assert!(stderr.contains("is damaged; remove it"), "{stderr}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_a_command_without_a_panic() {
    let mut child = std::process::Command::new(super::BINARY)
        .args(["completion", "bash"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
