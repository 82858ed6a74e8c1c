//! The `ferromesh` command as a user runs it: processes, exit codes, output, live changes.

mod demo;
mod docs;
mod help;
mod inject;
mod input;
mod install;
mod live;

use std::path::PathBuf;

use assert_cmd::Command;

const BINARY: &str = env!("CARGO_BIN_EXE_ferromesh");

/// The command, with a runtime folder of its own (a mesh that runs beside the tests is not seen, nor a cluster) and 100 columns.
fn ferromesh(runtime: &tempfile::TempDir) -> Command {
    let mut command = Command::new(BINARY);
    command.env("XDG_RUNTIME_DIR", runtime.path()).env("COLUMNS", "100").env_remove("FERROMESH_LOG");
    command.env("HOME", runtime.path()).env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST");
    command.timeout(std::time::Duration::from_secs(120));
    command
}

/// A runtime folder.
fn runtime() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The repository.
fn repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// What a run printed and how it ended.
fn run(runtime: &tempfile::TempDir, args: &[&str], input: &str) -> (Option<i32>, String, String) {
    let output = ferromesh(runtime).args(args).current_dir(repository()).write_stdin(input).output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}
