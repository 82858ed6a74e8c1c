//! The configuration of one HTTP connection manager, decoded.

use std::time::Duration;

use crate::codec::h1::Settings;
use crate::codec::h2::Http2Options;
use crate::config::Awaited;
use crate::route::RouteHandle;
use crate::text::Text;

mod decode;
pub mod detection;
mod stats;

pub use stats::{Routed, Stats};

/// Which codec serves a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// By ALPN, else by the HTTP/2 preface.
    Auto,
    /// HTTP/1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
}

/// What is done with the `server` header of responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerHeader {
    /// Ours replaces it.
    Overwrite,
    /// Ours, if there is none.
    AppendIfAbsent,
    /// Left as it is.
    PassThrough,
}

/// What is done with X-Forwarded-Client-Cert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardClientCert {
    /// Removed.
    Sanitize,
    /// Kept, if the connection is mTLS.
    ForwardOnly,
    /// Appended to, if the connection is mTLS.
    AppendForward,
    /// Replaced, if the connection is mTLS.
    SanitizeSet,
    /// Kept always.
    AlwaysForwardOnly,
}

/// Configuration of one HTTP connection manager; read per request.
pub struct HttpConnectionManager {
    /// Codec.
    pub codec: Codec,
    /// Name in metrics.
    pub stat_prefix: Text,
    /// The route table, inline or by RDS.
    pub routes: RouteHandle,
    /// The table by RDS, and how long a listener waits for it.
    pub rds: Option<Awaited>,
    /// The filters in their order; the router is last.
    pub filters: super::FilterChain,
    /// Access logs.
    pub access_logs: Vec<crate::access_log::AccessLog>,
    /// Value of the `server` header.
    pub server_name: Text,
    /// What is done with it.
    pub server_header: ServerHeader,
    /// Trust the connection's address and set X-Forwarded-For (edge).
    pub use_remote_address: bool,
    /// Proxies in front that are trusted.
    pub xff_num_trusted_hops: u32,
    /// Ways to find the client's address, tried in their order; in place of X-Forwarded-For.
    pub ip_detection: Vec<detection::Detection>,
    /// Do not append to X-Forwarded-For.
    pub skip_xff_append: bool,
    /// Make x-request-id if there is none.
    pub generate_request_id: bool,
    /// Keep an x-request-id that came from outside.
    pub preserve_external_request_id: bool,
    /// Send x-request-id back.
    pub always_set_request_id_in_response: bool,
    /// XFCC.
    pub forward_client_cert: ForwardClientCert,
    /// XFCC elements: subject, cert, chain, dns, uri.
    pub set_client_cert_details: [bool; 5],
    /// Upgrades allowed (lower case).
    pub upgrades: Vec<Text>,
    /// Path rules.
    pub normalize_path: bool,
    /// Path rules.
    pub merge_slashes: bool,
    /// 0 and 1 keep, 2 reject, 3 unescape and redirect, 4 unescape and forward (Envoy's enum).
    pub escaped_slashes_action: i32,
    /// Take the port off the authority: never (0), if it matches the listener's (1), any (2).
    pub strip_port: u8,
    /// Accept HTTP/1.0.
    pub accept_http_10: bool,
    /// Authority for HTTP/1.0 requests without Host.
    pub default_host_for_http_10: Text,
    /// Connection idle timeout.
    pub idle_timeout: Option<Duration>,
    /// Stream idle timeout.
    pub stream_idle_timeout: Option<Duration>,
    /// Whole request must arrive within.
    pub request_timeout: Option<Duration>,
    /// Head must arrive within.
    pub request_headers_timeout: Option<Duration>,
    /// Longest life of a stream.
    pub max_stream_duration: Option<Duration>,
    /// Longest life of a connection.
    pub max_connection_duration: Option<Duration>,
    /// Requests per connection; 0 is unlimited.
    pub max_requests_per_connection: u32,
    /// Bytes of headers.
    pub max_request_headers_bytes: usize,
    /// Number of headers.
    pub max_headers_count: usize,
    /// Reject, drop or allow header names with underscores: 0 allow, 1 reject, 2 drop (Envoy's enum).
    pub underscores_action: i32,
    /// HTTP/1 settings.
    pub http1: Settings,
    /// An HTTP/1 connection stays open after a malformed request or a 400 of our own.
    pub keep_after_bad_request: bool,
    /// HTTP/2 server settings.
    pub http2: Http2Options,
    /// Grace between GOAWAY frames while draining.
    pub drain_timeout: Duration,
    /// Content of Via; empty for none.
    pub via: Text,
    /// Take the dot off the end of the authority's host.
    pub strip_trailing_host_dot: bool,
    /// Set `x-forwarded-port` if it is absent.
    pub append_x_forwarded_port: bool,
    /// Addresses that count as internal.
    pub internal_addresses: Vec<ipnet::IpNet>,
    /// How long a closed connection waits for the client to close too.
    pub delayed_close: Duration,
    /// Leave `Expect: 100-continue` to the upstream.
    pub proxy_100_continue: bool,
    /// What becomes of the proxy's own answers.
    pub local_reply: Option<super::local_reply::Rewrite>,
    /// Counters.
    pub stats: Stats,
}

impl HttpConnectionManager {
    /// What has not come yet: the route table, configurations of filters.
    pub fn awaits(&self) -> impl Iterator<Item = Awaited> {
        let table = self.rds.as_ref().filter(|_| self.routes.load().is_none()).cloned();
        table.into_iter().chain(self.filters.iter().filter_map(|entry| entry.filter.awaits()))
    }
}
