//! Listeners: sockets, listener filters, filter chain match.

use crate::config::supported::Table;

/// Fields of this room's messages that are implemented.
pub const SUPPORTED: Table = &[];
