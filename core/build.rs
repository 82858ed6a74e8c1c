//! Tells the crate which compiler builds it.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=FERROMESH_GIT");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().ok();
    let text = output.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    // `rustc 1.95.0 (hash date)`: the first two words say enough.
    let words: Vec<&str> = text.split_whitespace().take(2).collect();
    let version = if words.is_empty() { "rustc unknown".to_owned() } else { words.join(" ") };
    println!("cargo::rustc-env=FERROMESH_RUSTC={version}");
}
