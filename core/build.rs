//! Tells the crate which compiler builds it.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=FERROMESH_GIT");
    if std::env::var_os("FERROMESH_GIT").is_none() {
        commit();
    }
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().ok();
    let text = output.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    // `rustc 1.95.0 (hash date)`: the first two words say enough.
    let words: Vec<&str> = text.split_whitespace().take(2).collect();
    let version = if words.is_empty() { "rustc unknown".to_owned() } else { words.join(" ") };
    println!("cargo::rustc-env=FERROMESH_RUSTC={version}");
}

/// The commit that a release is built from, if it is built in a checkout. Other builds do not say it: each commit would
/// build everything anew.
fn commit() {
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
    };
    let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) else { return };
    println!("cargo::rerun-if-changed={log}");
    if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) {
        println!("cargo::rustc-env=FERROMESH_GIT={commit}");
    }
}
