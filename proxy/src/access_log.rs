//! Access logs: which requests, in which format, to which file.

use crate::config::supported::Table;

/// Fields of this room's messages that are implemented.
pub const SUPPORTED: Table = &[];

/// The files that logs go to.
#[derive(Default)]
pub struct Sinks {}

/// One configured access log.
#[derive(Debug)]
pub struct AccessLog {}
