//! The mesh in a cluster: what is wanted, in the chart's values; the chart itself; Helm, which does it.
//!
//! ```text
//! IstioOperator files -> operator (pure) -> values + what is not honoured
//! chart (in this program) + values -> helm upgrade --install
//! ```

use std::path::PathBuf;

pub mod chart;
pub mod operator;

/// Helm, if it is in PATH.
pub fn helm() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("helm")).find(|file| file.is_file())
}
