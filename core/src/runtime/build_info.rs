//! What this binary was built from.

use std::fmt;

/// Version, commit and compiler of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct BuildInfo {
    /// The workspace's version.
    pub version: &'static str,
    /// The commit, if the build was told it (`FERROMESH_GIT`).
    pub git: &'static str,
    /// The compiler, as it names itself.
    pub rustc: &'static str,
}

/// This build.
pub const BUILD: BuildInfo = BuildInfo {
    version: env!("CARGO_PKG_VERSION"),
    git: match option_env!("FERROMESH_GIT") {
        Some(git) => git,
        None => "unknown",
    },
    rustc: env!("FERROMESH_RUSTC"),
};

/// Prints `0.1.0 (unknown, rustc 1.95.0)`.
impl fmt::Display for BuildInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.version, self.git, self.rustc)
    }
}
