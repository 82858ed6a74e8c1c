//! Outlier detection: ejects hosts that fail in a row.

use super::Host;

/// How a request to a host ended, as the detector counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The host answered with this status.
    Status(u16),
    /// The connection could not be made, or broke (local origin).
    ConnectFailed,
    /// No answer in time (local origin).
    Timeout,
}

/// A cluster's detector.
#[derive(Debug, Default)]
pub struct Detector {}

impl Detector {
    /// Counts a request's outcome.
    pub fn report(&self, _host: &Host, _outcome: Outcome) {}
}
