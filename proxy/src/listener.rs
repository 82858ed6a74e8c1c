//! Listeners: sockets, listener filters, filter chain match.

use crate::config::supported::Table;

mod drain;

pub use drain::{Drain, DrainSignal};

/// Fields of this room's messages that are implemented.
pub const SUPPORTED: Table = &[];
