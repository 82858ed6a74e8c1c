//! Compiled matchers of paths, headers and query parameters, and the lookup of virtual host and route.

/// When a route applies.
#[derive(Debug, Default)]
pub struct RouteMatch {}

/// Matches one header.
#[derive(Debug, Default)]
pub struct HeaderMatcher {}
