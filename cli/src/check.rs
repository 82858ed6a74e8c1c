//! Whether a cluster can carry the mesh, and whether the mesh in it works: what the API server says, judged.
//!
//! ```text
//! look (requests) -> Seen -> before, after (pure) -> Check: what, whether, what was seen, what to do
//! ```
//!
//! # Invariants
//! * Nothing is changed.
//! * A check that does not hold comes with a remedy.

use ferromesh_api::cluster::{Cluster, ClusterError};
use serde::Serialize;

mod after;
mod before;
mod look;

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Good,
    /// The mesh works, but perhaps not as one thinks.
    Warning,
    /// The mesh cannot work like this.
    Error,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub what: &'static str,
    /// How it stands.
    pub level: Level,
    /// What was seen.
    pub seen: String,
    /// What to do; empty where it is good.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

impl Check {
    fn good(what: &'static str, seen: impl Into<String>) -> Self {
        Self { what, level: Level::Good, seen: seen.into(), remedy: String::new() }
    }

    fn warning(what: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what, level: Level::Warning, seen: seen.into(), remedy: remedy.into() }
    }

    fn error(what: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what, level: Level::Error, seen: seen.into(), remedy: remedy.into() }
    }
}

/// Checks a cluster: before the installation, or after it if the mesh is in `namespace`.
///
/// # Errors
/// If the API server cannot be reached, or the caller may not read what is judged.
pub async fn run(cluster: &Cluster, namespace: &str) -> Result<Vec<Check>, ClusterError> {
    let seen = look::look(cluster, namespace).await?;
    let mut checks = before::cluster(&seen);
    if seen.is_installed() {
        checks.extend(after::mesh(&seen));
    } else {
        checks.extend(before::installer(&seen));
    }
    Ok(checks)
}

/// What must hold for an installation (or another one) to be tried.
///
/// # Errors
/// The same.
pub async fn before(cluster: &Cluster, namespace: &str) -> Result<Vec<Check>, ClusterError> {
    let seen = look::look(cluster, namespace).await?;
    let mut checks = before::cluster(&seen);
    checks.extend(before::installer(&seen));
    Ok(checks)
}
