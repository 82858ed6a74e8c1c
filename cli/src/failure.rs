//! How a command ends that could not do its work.

use ferromesh_api::cluster::ClusterError;

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

    /// What was asked of a cluster: it could not be reached or refuses, or has nothing of that name.
    pub fn of_cluster(error: anyhow::Error) -> Self {
        if error.downcast_ref::<ClusterError>().is_some() { Self::unreachable(error) } else { Self::usage(error) }
    }
}
