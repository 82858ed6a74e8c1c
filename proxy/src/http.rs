//! The HTTP connection manager: from a connection's bytes to answered requests.
//!
//! ```text
//! serve (codec loop: h1 or h2) -> head (ids, XFF, XFCC, path) -> exchange (route, filters, router) -> codec -> finish (log, stats)
//! ```

use std::sync::Arc;

use crate::config::supported::Table;

pub mod exchange;
pub mod filters;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod grpc_timeout;
mod h1;
mod h2;
pub(crate) mod head;
pub mod local_reply;
pub mod manager;
mod respond;
pub mod router;
pub mod serve;
pub mod stream;

pub use manager::HttpConnectionManager;

pub use crate::message::{LocalReply, RequestHead, Response, ResponseHead};

/// Fields of this room's messages that are implemented.
pub const SUPPORTED: Table = &[
    (
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "codec_type stat_prefix rds route_config http_filters common_http_protocol_options http_protocol_options \
         http2_protocol_options server_name server_header_transformation max_request_headers_kb stream_idle_timeout \
         request_timeout request_headers_timeout drain_timeout delayed_close_timeout access_log use_remote_address \
         xff_num_trusted_hops internal_address_config skip_xff_append via generate_request_id \
         preserve_external_request_id always_set_request_id_in_response forward_client_cert_details \
         set_current_client_cert_details proxy_100_continue upgrade_configs normalize_path merge_slashes \
         path_with_escaped_slashes_action request_id_extension strip_matching_host_port strip_any_host_port \
         strip_trailing_host_dot append_x_forwarded_port stream_error_on_invalid_http_message local_reply_config \
         original_ip_detection_extensions",
    ),
    ("envoy.extensions.filters.network.http_connection_manager.v3.Rds", "*"),
    ("envoy.extensions.filters.network.http_connection_manager.v3.RequestIDExtension", "*"),
    ("envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig", "pack_trace_reason use_request_id_for_trace_sampling"),
    (
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig",
        "upgrade_type enabled",
    ),
    (
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.SetCurrentClientCertDetails",
        "subject cert chain dns uri",
    ),
    (
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.InternalAddressConfig",
        "unix_sockets cidr_ranges",
    ),
    (
        "envoy.config.core.v3.HttpProtocolOptions",
        "idle_timeout max_connection_duration max_headers_count max_stream_duration \
         headers_with_underscores_action max_requests_per_connection",
    ),
    (
        "envoy.config.core.v3.Http1ProtocolOptions",
        "allow_absolute_url accept_http_10 default_host_for_http_10 enable_trailers allow_custom_methods \
         override_stream_error_on_invalid_http_message header_key_format",
    ),
    (
        "envoy.config.core.v3.Http2ProtocolOptions",
        "max_concurrent_streams initial_stream_window_size initial_connection_window_size allow_connect \
         override_stream_error_on_invalid_http_message connection_keepalive max_outbound_control_frames \
         max_consecutive_inbound_frames_with_empty_payload max_inbound_priority_frames_per_stream \
         max_inbound_window_update_frames_per_data_frame_sent",
    ),
    ("envoy.config.core.v3.KeepaliveSettings", "interval timeout"),
];

/// A shared, decoded filter list.
pub type FilterChain = Arc<[filters::Entry]>;
