//! Headers to add, set and remove, with Envoy's format operators.

/// Header rules of a route, virtual host, table or weighted cluster.
#[derive(Debug, Default)]
pub struct HeaderRules {}
