//! HTTP/1.0 and 1.1: bytes of a connection in, heads and body frames out, and the reverse (RFC 9110, RFC 9112).
//!
//! ```text
//! wire (socket and buffers) -> parse (heads) -> framing (bodies) -> http::h1 | upstream::h1
//!                           <- write (heads) <-
//! ```
//! One strict pass: what two parsers could read differently is refused, never repaired. A request lives in one task
//! from its first byte to its last; nothing is handed to another task.

pub mod framing;
pub mod names;
pub mod parse;
pub mod target;
pub mod wire;
pub mod write;

#[cfg(test)]
mod tests;

/// What one side's configuration says of its messages (Envoy's Http1ProtocolOptions, and the limits on heads).
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Most bytes of a head, start line and all; also of trailers.
    pub head_bytes: usize,
    /// Most headers.
    pub headers: usize,
    /// Trailers go on and are written (`enable_trailers`); without it they are read and forgotten.
    pub trailers: bool,
    /// Methods that are not registered are taken (`allow_custom_methods`).
    pub custom_methods: bool,
    /// Targets with scheme and host are taken apart (`allow_absolute_url`); else they are paths that do not exist.
    pub absolute_urls: bool,
    /// How names are written (`header_key_format`).
    pub names: names::NameFormat,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            head_bytes: 60 * 1024,
            headers: 100,
            trailers: false,
            custom_methods: false,
            absolute_urls: true,
            names: names::NameFormat::Lower,
        }
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
