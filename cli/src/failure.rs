//! How a command ends that could not do its work.

use crate::Exit;

/// Why a command could not do its work, and the exit code for it.
#[derive(Debug)]
pub struct Failure {
    /// What happened.
    pub error: anyhow::Error,
    /// The exit code.
    pub exit: Exit,
}

impl Failure {
    /// The input cannot be used.
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { error: error.into(), exit: Exit::Usage }
    }

    /// The mesh could not be started or reached.
    pub fn unreachable(error: impl Into<anyhow::Error>) -> Self {
        Self { error: error.into(), exit: Exit::Unreachable }
    }
}
