//! The bootstrap file: YAML or JSON of `envoy.config.bootstrap.v3.Bootstrap`.

use crate::config::supported::Table;

/// Fields of this room's messages that are implemented.
pub const SUPPORTED: Table = &[];
