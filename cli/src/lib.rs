//! The `ferromesh` command: the mesh on one machine, its demo, analysis, and a look inside; in a cluster: installation,
//! checks, and the same look inside.
//!
//! ```text
//! args (what was typed) -> commands (one file each) -> up (the mesh in one process) | demo (its checks) -> output
//!                                                   -> cluster (pods, admin pages), check, install (the chart, by Helm)
//! ```
//!
//! # Invariants
//! * Only `output` prints; results go to standard output, progress and notes to standard error.
//! * A command's exit code says how it ended (see `ferromesh --help`).

pub mod args;
pub mod check;
pub mod client;
pub mod cluster;
pub mod commands;
pub mod demo;
pub mod echo;
pub mod failure;
pub mod install;
pub mod output;
pub mod up;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, nothing is wrong.
    Ok,
    /// A check failed, or an error was found.
    Failed,
    /// The command line or the input cannot be used.
    Usage,
    /// The mesh could not be started or reached.
    Unreachable,
}

impl Exit {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
        }
    }
}
