//! `ferromesh install` and its kin, as far as they go without a cluster.

use super::{ferromesh, repository, run, runtime};

/// A kubeconfig whose API server nobody serves.
const NOBODY: &str = "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n\
    clusters: [{name: a, cluster: {server: 'http://127.0.0.1:9'}}]\nusers: [{name: a, user: {}}]\n";

#[test]
fn a_dry_run_shows_the_values_and_names_what_has_no_effect() {
    let (code, stdout, stderr) = run(&runtime(), &["install", "-f", "examples/tutorial-install.yaml", "--dry-run"], "");
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let shown: serde_json::Value = serde_saphyr::from_str(&stdout).expect("YAML");
    let wanted =
        std::fs::read_to_string(repository().join("charts/ferromesh/ci/tutorial-values.yaml")).expect("a file");
    let wanted: serde_json::Value = serde_saphyr::from_str(&wanted).expect("YAML");
    assert_eq!(shown, wanted);
    let file =
        "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec: {profile: minimal, hub: docker.io/istio}\n";
    let (code, _, stderr) = run(&runtime(), &["install", "-y", "-f", "-", "--dry-run"], file);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("warning: spec.hub has no effect here: it is Istio's images"), "{stderr}");
}

#[test]
fn what_cannot_be_used_is_exit_code_2_and_no_cluster_3() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config");
    std::fs::write(&config, NOBODY).expect("written");
    let config = config.to_str().expect("UTF-8");
    let cases: &[(&[&str], &str, i32, &str)] = &[
        (&["install", "-f", "/nowhere"], "", 2, "cannot read /nowhere"),
        (&["install", "-f", "-"], "kind: Service\n", 2, "an IstioOperator object is wanted"),
        (&["install", "-n", "Not Good"], "", 2, "cannot be a namespace"),
        (&["upgrade", "--kubeconfig", "/nowhere", "-f", "/nowhere"], "", 2, "cannot read /nowhere"),
        (&["install", "--kubeconfig", "/nowhere"], "", 3, "/nowhere"),
        (&["install", "--kubeconfig", config], "", 3, "cannot be reached"),
        (&["check", "--kubeconfig", config], "", 3, "cannot be reached"),
        (&["proxy-status", "--kubeconfig", config], "", 3, "cannot be reached"),
        (&["config", "web", "routes", "--kubeconfig", config], "", 3, "cannot be reached"),
        (&["check", "--context", "nobody", "--kubeconfig", config], "", 3, "nobody"),
    ];
    for (args, input, code, says) in cases {
        let (found, _, stderr) = run(&runtime(), args, input);
        assert_eq!(found, Some(*code), "{args:?}: {stderr}");
        assert!(stderr.contains(says), "{args:?}: {stderr}");
    }
}

#[test]
fn without_helm_it_is_said_where_to_get_it() {
    let folder = runtime();
    let out = ferromesh(&folder).args(["uninstall"]).env("PATH", folder.path()).output().expect("it runs");
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("https://helm.sh"));
}
