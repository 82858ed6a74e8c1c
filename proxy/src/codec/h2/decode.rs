//! Decodes Envoy's Http2ProtocolOptions, of either side.

use ferromesh_proto::envoy::config::core::v3 as core;

use super::{Http2Options, Limits};
use crate::config::{ConfigError, duration};

impl Http2Options {
    /// Decodes the settings of either side; what is not set has our default.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn decode(message: Option<&core::Http2ProtocolOptions>) -> Result<Self, ConfigError> {
        let mut options = Self::default();
        let Some(message) = message else { return Ok(options) };
        let window = |value: Option<u32>, field: &str, default: u32| match value {
            None => Ok(default),
            Some(value @ 65_535..=0x7fff_ffff) => Ok(value),
            Some(_) => Err(ConfigError::new(field, "must be from 65535 to 2147483647")),
        };
        options.initial_stream_window =
            window(message.initial_stream_window_size, "initial_stream_window_size", options.initial_stream_window)?;
        options.initial_connection_window = window(
            message.initial_connection_window_size,
            "initial_connection_window_size",
            options.initial_connection_window,
        )?;
        match message.max_concurrent_streams {
            Some(0) => return Err(ConfigError::new("max_concurrent_streams", "must be at least 1")),
            Some(streams) => options.max_concurrent_streams = streams,
            None => {}
        }
        options.allow_connect = message.allow_connect;
        options.limits = limits(message)?;
        if let Some(keepalive) = &message.connection_keepalive {
            options.keepalive_interval = duration(keepalive.interval, "connection_keepalive.interval")?;
            if let Some(timeout) = duration(keepalive.timeout, "connection_keepalive.timeout")? {
                options.keepalive_timeout = timeout;
            }
        }
        Ok(options)
    }
}

fn limits(message: &core::Http2ProtocolOptions) -> Result<Limits, ConfigError> {
    let default = Limits::default();
    let positive = |value: Option<u32>, field: &str, default: u32| match value {
        Some(0) => Err(ConfigError::new(field, "must be at least 1")),
        value => Ok(value.unwrap_or(default)),
    };
    Ok(Limits {
        max_outbound_control_frames: positive(
            message.max_outbound_control_frames,
            "max_outbound_control_frames",
            default.max_outbound_control_frames,
        )?,
        max_inbound_window_update_frames_per_data_frame_sent: positive(
            message.max_inbound_window_update_frames_per_data_frame_sent,
            "max_inbound_window_update_frames_per_data_frame_sent",
            default.max_inbound_window_update_frames_per_data_frame_sent,
        )?,
        max_consecutive_inbound_frames_with_empty_payload: message
            .max_consecutive_inbound_frames_with_empty_payload
            .unwrap_or(default.max_consecutive_inbound_frames_with_empty_payload),
        max_inbound_priority_frames_per_stream: message
            .max_inbound_priority_frames_per_stream
            .unwrap_or(default.max_inbound_priority_frames_per_stream),
        ..default
    })
}
