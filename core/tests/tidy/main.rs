//! The house inspector: every tracked file in, a list of `file:line: what is wrong` out. Standard library only.
//!
//! The rules are in `rules.rs` (one function each; who uses whom in `rooms.rs`), what they read in `source.rs`, their proofs in `proofs.rs`.

mod proofs;
mod rooms;
mod rules;
mod source;

use std::path::{Path, PathBuf};
use std::process::Command;

use source::Source;

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, from the workspace's root.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub message: String,
}

#[test]
fn the_workspace_keeps_the_house_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a folder of the workspace");
    let sources: Vec<Source> = files(root).iter().filter_map(|path| Source::read(root, path)).collect();
    assert!(sources.iter().any(|source| source.path == "core/src/lib.rs"), "the workspace's files were not found");
    let findings = rules::all(&sources);
    let lines: Vec<String> = findings.iter().map(|f| format!("{}:{}: {}", f.path, f.line, f.message)).collect();
    assert!(findings.is_empty(), "{} findings:\n{}", lines.len(), lines.join("\n"));
}

/// The tracked files; all but build output where there is no git.
fn files(root: &Path) -> Vec<PathBuf> {
    let listed = Command::new("git").arg("-C").arg(root).args(["ls-files", "-z"]).output();
    match listed {
        Ok(output) if output.status.success() && !output.stdout.is_empty() => String::from_utf8_lossy(&output.stdout)
            .split('\0')
            .filter(|name| !name.is_empty())
            .map(PathBuf::from)
            .collect(),
        _ => walk(root, Path::new("")),
    }
}

fn walk(root: &Path, folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name == "target" || name.to_string_lossy().starts_with('.') {
            continue;
        }
        let path = folder.join(&name);
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(walk(root, &path)),
            Ok(kind) if kind.is_file() => found.push(path),
            _ => {}
        }
    }
    found
}
