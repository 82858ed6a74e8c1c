//! What both sides of HTTP/2 share (RFC 9113). Frames, HPACK and flow control are the `h2` crate's.

use std::time::Duration;

mod decode;
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
    /// How much of what costs us more than the peer a peer may send.
    pub limits: Limits,
}

/// What ends a connection, under the names of Envoy's Http2ProtocolOptions (defaults are Envoy's).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Frames that may come at once to which we answer, or that nobody needs often: PING, SETTINGS, GOAWAY and those of
    /// unknown types. More come in with time.
    pub max_outbound_control_frames: u32,
    /// HEADERS, CONTINUATION and DATA in a row that carry nothing and end nothing.
    pub max_consecutive_inbound_frames_with_empty_payload: u32,
    /// PRIORITY frames, for each stream and one more.
    pub max_inbound_priority_frames_per_stream: u32,
    /// WINDOW_UPDATE frames, for each DATA frame that we send; some come free.
    pub max_inbound_window_update_frames_per_data_frame_sent: u32,
    /// RST_STREAM frames of a client that may come at once (Envoy's runtime key
    /// `overload.premature_reset_total_stream_count`). More come in with time and with requests.
    pub premature_resets: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_outbound_control_frames: 1000,
            max_consecutive_inbound_frames_with_empty_payload: 1,
            max_inbound_priority_frames_per_stream: 100,
            max_inbound_window_update_frames_per_data_frame_sent: 10,
            premature_resets: 500,
        }
    }
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
            limits: Limits::default(),
        }
    }
}
