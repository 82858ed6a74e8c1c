//! `ferromesh inject` gives what the golden files of the injector say.

use super::{repository, run, runtime};

/// A rule of the injector's golden files, by the command.
fn inject(rule: &str, more: &[&str], input: &str) -> (Option<i32>, String, String) {
    let file = format!("injector/tests/golden/{rule}.yaml");
    let mut args = vec!["inject", "-f", if input.is_empty() { &file } else { "-" }];
    args.extend(more);
    run(&runtime(), &args, input)
}

/// The golden file without what is said before it, and that.
fn golden(rule: &str) -> (String, Vec<String>) {
    let path = repository().join(format!("injector/tests/golden/{rule}.injected.yaml"));
    let text = std::fs::read_to_string(path).expect("a golden file");
    let said = |line: &&str| [": warning: ", ": not injected: ", "# error: "].iter().any(|word| line.contains(word));
    let notes: Vec<String> = text.lines().take_while(said).map(str::to_owned).collect();
    let rest = text.split_inclusive('\n').skip(notes.len()).collect();
    (rest, notes)
}

/// The settings of the golden files, which name no version of the image.
fn settings(folder: &tempfile::TempDir) -> String {
    let path = folder.path().join("settings.yaml");
    std::fs::write(&path, "proxyImage: ferromesh/proxy:latest\n").expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn the_command_gives_what_the_webhook_gives() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = settings(&folder);
    let with = |file: &str| format!("injector/tests/golden/{file}");
    let own = [with("image.settings.yaml"), with("proxy-config.mesh.yaml"), with("left-alone.settings.yaml")];
    let cases: &[(&str, &[&str])] = &[
        ("deployment", &["--injectConfigFile", &settings]),
        ("kinds", &["--injectConfigFile", &settings]),
        ("list", &["--injectConfigFile", &settings]),
        ("image", &["--injectConfigFile", &own[0]]),
        ("proxy-config", &["--injectConfigFile", &settings, "--meshConfigFile", &own[1]]),
        ("left-alone", &["--inject-config-file", &own[2]]),
    ];
    for (rule, flags) in cases {
        let (code, stdout, stderr) = inject(rule, flags, "");
        assert_eq!((code, &stdout), (Some(0), &golden(rule).0), "{rule}: {stderr}");
    }
    let text = std::fs::read_to_string(repository().join("injector/tests/golden/list.yaml")).expect("a file");
    assert_eq!(inject("list", &["--injectConfigFile", &settings], &text).1, golden("list").0);
}

#[test]
fn what_is_not_done_is_said_beside_the_result() {
    let (code, stdout, stderr) = inject("warned", &[], "");
    assert_eq!(code, Some(0));
    for line in golden("warned").1 {
        let (name, what) = line.trim_start_matches("# ").split_once(": warning: ").expect("a warning");
        assert!(stderr.contains(&format!("warning: {name}: {what}")), "{stderr}");
    }
    assert!(stdout.contains(concat!("image: ferromesh/proxy:", env!("CARGO_PKG_VERSION"))), "{stdout}");
    let (_, _, stderr) = inject("left-alone", &[], "");
    assert!(stderr.contains("Pod default/label-says-no is left as it is: the pod has the label"), "{stderr}");
}

#[test]
fn what_the_webhook_refuses_is_exit_code_2_and_nothing_is_written() {
    let (code, stdout, stderr) = inject("refused", &[], "");
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    for line in golden("refused").1 {
        let line = line.trim_start_matches("# error: ");
        assert!(stderr.contains(&format!("injector/tests/golden/refused.yaml: {line}")), "{line}: {stderr}");
    }
}

#[test]
fn output_revision_namespace_and_istios_values_are_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let (out, values) = (folder.path().join("out.yaml"), folder.path().join("values.yaml"));
    let values_text = "global:\n  hub: docker.io/istio\n  proxy: {logLevel: debug, statusPort: 15033}\n";
    std::fs::write(&values, values_text).expect("written");
    let (out, values) = (out.to_str().expect("UTF-8"), values.to_str().expect("UTF-8"));
    let flags = ["-o", out, "-r", "canary", "-n", "west", "--valuesFile", values];
    let (code, stdout, stderr) = inject("native", &flags, "");
    assert_eq!((code, stdout.as_str()), (Some(0), ""), "{stderr}");
    assert!(stderr.contains("values: global.hub has no effect"), "{stderr}");
    let text = std::fs::read_to_string(out).expect("the result");
    for part in ["istio.io/rev: canary", "namespaces/west/pods", "--proxyLogLevel=debug", "15090,15021,15033"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let templates = folder.path().join("templates.yaml");
    std::fs::write(&templates, "templates:\n  sidecar: spec\n").expect("written");
    let cases: &[(&[&str], &str, &str)] = &[
        (&["inject"], "", "--filename <FILE>"),
        (&["inject", "-f", "/nowhere"], "", "cannot read /nowhere"),
        (&["inject", "-f", "-"], "kind: [\n", "(standard input): line 1: not valid YAML"),
        (&["inject", "-f", "-", "-n", "Not Good"], "", "cannot be a namespace"),
        (&["inject", "-f", "-", "--meshConfigFile", "/nowhere"], "", "cannot read /nowhere"),
        (
            &["inject", "-f", "-", "--injectConfigFile", templates.to_str().expect("UTF-8")],
            "",
            "templates of Istio's injector are not supported",
        ),
    ];
    for (args, input, says) in cases {
        let (code, stdout, stderr) = run(&runtime(), args, input);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{args:?}: {stderr}");
        assert!(stderr.contains(says), "{args:?}: {stderr}");
    }
}
