//! HTTP/1.0 and 1.1: bytes of a connection in, heads and body frames out, and the reverse (RFC 9110, RFC 9112).
//!
//! ```text
//! wire (socket and buffers) -> parse (heads) -> framing (bodies) -> server | client
//!                           <- write (heads) <-
//! ```
//! One strict pass: what two parsers could read differently is refused, never repaired. A request lives in one task
//! from its first byte to its last; nothing is handed to another task.

pub mod client;
pub mod framing;
pub mod parse;
pub mod server;
pub mod wire;
pub mod write;

#[cfg(test)]
mod tests;

/// Limits on one message's head and trailers.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the head, start line and all.
    pub head_bytes: usize,
    /// Number of headers.
    pub headers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head_bytes: 60 * 1024, headers: 100 }
    }
}

/// Why a message is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}: {detail}")]
pub struct Refusal {
    /// The cause, in a request's terms.
    pub cause: crate::cause::Cause,
    /// What is wrong.
    pub detail: &'static str,
}

impl Refusal {
    /// A refusal.
    pub const fn new(cause: crate::cause::Cause, detail: &'static str) -> Self {
        Self { cause, detail }
    }
}
