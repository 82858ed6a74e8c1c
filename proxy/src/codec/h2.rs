//! What both sides of HTTP/2 share (RFC 9113). Frames, HPACK and flow control are the `h2` crate's.

use std::time::Duration;

mod frames;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod guard;

/// What HTTP/2 with prior knowledge begins with (RFC 9113, 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// HTTP/2 settings, both sides.
#[derive(Debug, Clone)]
pub struct Http2Options {
    /// SETTINGS_MAX_CONCURRENT_STREAMS.
    pub max_concurrent_streams: u32,
    /// Initial stream window, bytes.
    pub initial_stream_window: u32,
    /// Connection window, bytes.
    pub initial_connection_window: u32,
    /// Extended CONNECT (RFC 8441).
    pub allow_connect: bool,
    /// Keepalive PING interval.
    pub keepalive_interval: Option<Duration>,
    /// Keepalive PING timeout.
    pub keepalive_timeout: Duration,
}

impl Default for Http2Options {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 1000,
            initial_stream_window: 64 * 1024 * 16,
            initial_connection_window: 1024 * 1024 * 4,
            allow_connect: false,
            keepalive_interval: None,
            keepalive_timeout: Duration::from_secs(10),
        }
    }
}
