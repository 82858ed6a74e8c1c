//! Rate limit actions: from a request to descriptor entries.

/// One action.
#[derive(Debug)]
pub enum Action {}
