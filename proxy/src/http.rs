//! The HTTP connection manager: from a connection's bytes to answered requests.
//!
//! ```text
//! serve (codec loop: h1 or h2) -> head (ids, XFF, XFCC, path) -> exchange (route, filters, router) -> codec -> finish (log, stats)
//! ```

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode, Version};

use crate::body::Body;
use crate::cause::Cause;
use crate::config::supported::Table;
use crate::text::Text;

pub mod exchange;
pub mod filters;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod grpc_timeout;
pub mod h1;
pub mod h2;
pub(crate) mod head;
pub mod local_reply;
pub mod manager;
mod respond;
pub mod router;
pub mod serve;
pub mod timer;

pub use manager::HttpConnectionManager;

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
         strip_trailing_host_dot append_x_forwarded_port stream_error_on_invalid_http_message",
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
        "subject cert dns uri",
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
         override_stream_error_on_invalid_http_message",
    ),
    (
        "envoy.config.core.v3.Http2ProtocolOptions",
        "max_concurrent_streams initial_stream_window_size initial_connection_window_size allow_connect \
         override_stream_error_on_invalid_http_message connection_keepalive",
    ),
    ("envoy.config.core.v3.KeepaliveSettings", "interval timeout"),
];

/// The head of a request, the same for HTTP/1 and HTTP/2.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// Method.
    pub method: Method,
    /// `http` or `https`.
    pub scheme: Text,
    /// Host and port; what `:authority` or `Host` said. Not among `headers`.
    pub authority: Text,
    /// Path with query; `*` for OPTIONS; empty for CONNECT. Always starts with `/` otherwise.
    pub path: Text,
    /// What the client speaks.
    pub version: Version,
    /// The other headers, names in lower case, hop-by-hop ones taken out.
    pub headers: HeaderMap,
    /// The protocol that the request asks to switch to (`websocket`; `CONNECT` for CONNECT), hop-by-hop headers aside.
    pub upgrade: Option<Text>,
}

impl RequestHead {
    /// The path without its query and fragment.
    pub fn path_only(&self) -> &str {
        let path = self.path.as_str();
        path.split(['?', '#']).next().unwrap_or(path)
    }

    /// The query without its `?`, if there is one.
    pub fn query(&self) -> Option<&str> {
        self.path.as_str().split_once('?').map(|(_, query)| query)
    }

    /// Whether this is a gRPC request, by its content type.
    pub fn is_grpc(&self) -> bool {
        self.headers.get(http::header::CONTENT_TYPE).is_some_and(|value| {
            let value = value.as_bytes();
            value.starts_with(b"application/grpc") && matches!(value.get(16), None | Some(b'+' | b';'))
        })
    }
}

/// The head of a response.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// Status.
    pub status: StatusCode,
    /// Headers, names in lower case, hop-by-hop ones taken out.
    pub headers: HeaderMap,
    /// The response switches protocols: its body and the request's are raw bytes until the end.
    pub upgrade: Option<Text>,
}

/// A response on its way to the client.
#[derive(Debug)]
pub struct Response {
    /// Head.
    pub head: ResponseHead,
    /// Body.
    pub body: Body,
}

/// An answer that the proxy makes itself.
#[derive(Debug, Clone)]
pub struct LocalReply {
    /// Why.
    pub cause: Cause,
    /// Status, unless the cause's own.
    pub status: Option<StatusCode>,
    /// Text of the body; for gRPC it becomes `grpc-message`.
    pub body: Text,
    /// Further headers.
    pub headers: HeaderMap,
    /// gRPC status, unless the one that belongs to the HTTP status.
    pub grpc_status: Option<u32>,
    /// Details, unless the cause's own.
    pub details: Option<std::borrow::Cow<'static, str>>,
}

impl LocalReply {
    /// A reply with the cause's status and no body.
    pub fn new(cause: Cause) -> Self {
        Self { cause, status: None, body: Text::default(), headers: HeaderMap::new(), grpc_status: None, details: None }
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Text>) -> Self {
        self.body = body.into();
        self
    }
}

/// A shared, decoded filter list.
pub type FilterChain = Arc<[filters::Entry]>;
