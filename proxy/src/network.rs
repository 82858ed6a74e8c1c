//! Network filters: `rbac`, `tcp_proxy`, metadata exchange; the HTTP connection manager is the other terminal one.

use crate::config::supported::Table;

/// Fields of this room's messages that are implemented.
pub const SUPPORTED: Table = &[];
