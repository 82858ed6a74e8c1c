//! The same scene on this proxy and on the real Envoy, each a process of its own.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use crate::peers::get;
use crate::process::Process;

/// Which proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The binary of this crate.
    Ours,
    /// The real Envoy.
    Envoy(PathBuf),
}

/// This proxy, and the binary that FERROMESH_ENVOY names. Without it Envoy's part is skipped aloud, and fails where CI=true.
pub fn kinds() -> Vec<Kind> {
    if let Some(path) = std::env::var_os("FERROMESH_ENVOY") {
        return vec![Kind::Envoy(path.into()), Kind::Ours];
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs FERROMESH_ENVOY, the path of Envoy 1.40");
    eprintln!("SKIPPED: set FERROMESH_ENVOY to the binary of Envoy 1.40 to compare with it");
    vec![Kind::Ours]
}

impl Kind {
    /// Started and ready.
    pub async fn start(&self, bootstrap: &str) -> Process {
        match self {
            Self::Ours => Process::start(bootstrap, &[]).await,
            Self::Envoy(path) => {
                let mut command = Command::new(path);
                command.args(["--disable-hot-restart", "-l", "error", "--file-flush-interval-msec", "50"]);
                Process::of(command, bootstrap).await
            }
        }
    }
}

/// A host's `health_flags`.
pub async fn flags(admin: SocketAddr, cluster: &str, host: SocketAddr) -> String {
    let text = get(admin, "/clusters").await.1;
    let prefix = format!("{cluster}::{host}::health_flags::");
    text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or("no such host").to_owned()
}
