//! TLS: contexts of listeners and clusters, and the secrets they use.

use crate::config::supported::Table;

/// Fields of this room's messages that are implemented.
pub const SUPPORTED: Table = &[];

/// A cluster's TLS context (Envoy's UpstreamTlsContext), decoded; follows its secrets as they rotate.
#[derive(Debug, Default)]
pub struct UpstreamTls {}

/// A listener's TLS context (Envoy's DownstreamTlsContext), decoded; follows its secrets as they rotate.
#[derive(Debug, Default)]
pub struct DownstreamTls {}

/// Secrets by name; a context waits for the ones that it names.
#[derive(Default)]
pub struct SecretStore {}
