//! The one list of reasons for which the proxy answers or closes by itself.
//!
//! A cause gives the status code, Envoy's response flag, `response_code_details`, the metric label and a sentence
//! for people, so that they can never disagree.
//! Flags and details: Envoy, "Response Code Details" and the access log's `%RESPONSE_FLAGS%`.

macro_rules! causes {
    ($($(#[doc = $doc:literal])* $name:ident => $status:literal, $flag:literal, $details:literal, $explain:literal;)*) => {
        /// Why the proxy itself answered, or broke an exchange off.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Cause {
            $($(#[doc = $doc])* $name,)*
        }

        impl Cause {
            /// Every cause.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// HTTP status of the local reply; 0 where there is none: the answer is another's, or the exchange breaks off.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// Envoy's response flag; empty where Envoy has none.
            pub const fn flag(self) -> &'static str {
                match self { $(Self::$name => $flag,)* }
            }

            /// Envoy's response code details; empty where a flag stands beside the details of the answer.
            pub const fn details(self) -> &'static str {
                match self { $(Self::$name => $details,)* }
            }

            /// What happened and what to check, in a sentence.
            pub const fn explain(self) -> &'static str {
                match self { $(Self::$name => $explain,)* }
            }
        }
    };
}

causes! {
    /// No route matches.
    RouteNotFound => 404, "NR", "route_not_found", "No virtual host or route matches this host and path; check the routes of this listener.";
    /// The route's cluster does not exist.
    ClusterNotFound => 503, "NC", "cluster_not_found", "The route names a cluster that is not configured; check that the service exists and is visible to this proxy.";
    /// A direct response of the route.
    DirectResponse => 200, "", "direct_response", "The route answers by itself (redirect or direct response).";
    /// All hosts are unhealthy, or there are none.
    NoHealthyUpstream => 503, "UH", "no_healthy_upstream", "The service has no healthy endpoint; check its pods, readiness and outlier ejections.";
    /// TCP connect failed or was refused.
    UpstreamConnectionFailure => 503, "UF", "upstream_reset_before_response_started{remote_connection_failure}", "No connection to the endpoint could be made; check that it listens and that the network lets it through.";
    /// TCP connect or TLS handshake took too long.
    UpstreamConnectTimeout => 503, "UF", "upstream_reset_before_response_started{connection_timeout}", "The endpoint did not accept a connection in time (connect_timeout).";
    /// TLS towards the endpoint failed.
    UpstreamTlsFailure => 503, "UF", "upstream_reset_before_response_started{remote_connection_failure|TLS_error}", "TLS to the endpoint failed; check both sides' mTLS mode, certificates and expected identity.";
    /// The endpoint closed the connection before it answered.
    UpstreamConnectionTermination => 503, "UC", "upstream_reset_before_response_started{connection_termination}", "The endpoint closed the connection before it answered; check its idle timeout and restarts.";
    /// The endpoint reset the stream before it answered.
    UpstreamRemoteReset => 503, "UR", "upstream_reset_before_response_started{remote_reset}", "The endpoint reset the stream before it answered.";
    /// The endpoint refused the stream.
    UpstreamRefusedStream => 503, "UR", "upstream_reset_before_response_started{remote_refused_stream_reset}", "The endpoint refused the stream (its concurrency limit).";
    /// The endpoint's answer is not valid HTTP.
    UpstreamProtocolError => 502, "UPE", "upstream_reset_before_response_started{protocol_error}", "The endpoint's answer is not valid HTTP; check the port's protocol (appProtocol or port name).";
    /// The request, as the route rewrote it, cannot be written.
    UnwritableRequest => 500, "", "upstream_request_not_writable", "The route's rewrites made an authority or a path with a space or a control character; nothing was sent. Check the rewrites, and the endpoints' hostnames.";
    /// The response broke off after its head was sent on.
    UpstreamResetAfterResponse => 0, "UR", "upstream_reset_after_response_started{remote_reset}", "The endpoint broke its answer off midway.";
    /// The connection ended after the response's head was sent on.
    UpstreamTerminationAfterResponse => 0, "UC", "upstream_reset_after_response_started{connection_termination}", "The endpoint closed the connection in the middle of its answer.";
    /// Too many connections to the cluster.
    MaxConnections => 503, "UO", "upstream_reset_before_response_started{overflow}", "The cluster's max_connections is reached.";
    /// Too many requests waiting for a connection.
    MaxPendingRequests => 503, "UO", "upstream_reset_before_response_started{overflow}", "The cluster's max_pending_requests is reached.";
    /// Too many requests in flight.
    MaxRequests => 503, "UO", "upstream_reset_before_response_started{overflow}", "The cluster's max_requests is reached.";
    /// Too many retries in flight; the last try's answer was given.
    RetryOverflow => 0, "UO", "", "The cluster's max_retries or retry budget is used up.";
    /// The route's timeout passed.
    ResponseTimeout => 504, "UT", "response_timeout", "The service did not answer within the route's timeout.";
    /// The timeout of a try passed and no try was left.
    PerTryTimeout => 504, "UT", "upstream_per_try_timeout", "The last try did not answer within per_try_timeout.";
    /// The stream was idle too long, before a response.
    StreamIdleTimeout => 408, "SI", "stream_idle_timeout", "No bytes moved on this stream for stream_idle_timeout.";
    /// The request took longer than request_timeout.
    RequestTimeout => 408, "DT", "request_overall_timeout", "The client did not send its whole request within request_timeout.";
    /// The head of a request took too long.
    RequestHeaderTimeout => 408, "DT", "request_header_timeout", "The client did not send its whole request head in time.";
    /// max_stream_duration passed.
    MaxDurationTimeout => 504, "", "max_duration_timeout", "The stream lasted longer than max_stream_duration.";
    /// A try's longest life passed.
    UpstreamMaxStreamDuration => 504, "UMSDR", "upstream_max_stream_duration_reached", "The exchange with the endpoint lasted longer than the cluster's max_stream_duration.";
    /// Retries were used up.
    UpstreamRetryLimitExceeded => 0, "URX", "", "Every try failed; the last one's answer was given.";
    /// The client went away.
    DownstreamRemoteDisconnect => 0, "DC", "downstream_remote_disconnect", "The client closed the connection before it had its answer.";
    /// The client reset the stream.
    DownstreamRemoteReset => 0, "DR", "http2.remote_reset", "The client reset the stream.";
    /// The client's message is not valid HTTP/1.
    DownstreamProtocolError => 400, "DPE", "http1.codec_error", "The request is not valid HTTP/1.";
    /// The client's HTTP/2 is not valid.
    DownstreamH2Error => 0, "DPE", "http2.violation.of.messaging.rule", "The client broke a rule of HTTP/2.";
    /// The client floods us with HTTP/2 frames.
    DownstreamFlood => 0, "DPE", "http2.flood", "The client sent more PING, SETTINGS, PRIORITY, WINDOW_UPDATE or RST_STREAM frames than any use of HTTP/2 needs; its connection was closed with GOAWAY (ENHANCE_YOUR_CALM).";
    /// Transfer-Encoding that cannot be served.
    UnsupportedTransferEncoding => 501, "DPE", "http1.invalid_transfer_encoding", "Only the chunked transfer coding can be served.";
    /// Content-Length and Transfer-Encoding together.
    ContentLengthWithTransferEncoding => 400, "DPE", "http1.content_length_and_chunked_not_allowed", "A request must not have both Content-Length and Transfer-Encoding (RFC 9112 6.3).";
    /// Content-Length that is not one number.
    InvalidContentLength => 400, "DPE", "http1.invalid_content_length", "Content-Length must be one decimal number.";
    /// A chunk that breaks the chunked coding.
    InvalidChunk => 400, "DPE", "http1.invalid_chunk", "The chunked body is malformed.";
    /// Host missing, doubled or malformed.
    InvalidHost => 400, "DPE", "http.invalid_authority", "An HTTP/1.1 request needs exactly one valid Host (RFC 9112 3.2).";
    /// Host missing.
    MissingHost => 400, "", "missing_host_header", "An HTTP/1.1 request needs exactly one valid Host (RFC 9112 3.2).";
    /// Request target that is no URI.
    InvalidTarget => 400, "DPE", "http1.codec_error", "The request target is malformed; characters that a URI must not have are to be percent-encoded.";
    /// A method that nobody has registered.
    UnknownMethod => 400, "DPE", "http1.codec_error", "The request's method is not a registered one; others are taken only with allow_custom_methods.";
    /// Path that does not start with a slash.
    RelativePath => 404, "", "absolute_path_rejected", "The path does not start with a slash.";
    /// Path that cannot be served.
    InvalidPath => 400, "", "path_normalization_failed", "The path is malformed.";
    /// Header name or value with forbidden characters.
    InvalidHeader => 400, "DPE", "http1.invalid_characters", "A header has characters that are not allowed.";
    /// No address of the client where there must be one.
    OriginalIpUnknown => 403, "", "rejecting_because_detection_failed", "The request does not carry the client's address in the header that must have it (original_ip_detection_extensions).";
    /// HTTP/1.0 where it is not accepted.
    LowVersion => 426, "DPE", "low_version", "HTTP/1.0 is not accepted here (accept_http_10).";
    /// Headers beyond the limits.
    HeadersTooLarge => 431, "DPE", "http1.headers_too_large", "The request's head is beyond the limit (max_request_headers_kb).";
    /// More headers than the limit.
    TooManyHeaders => 431, "DPE", "http1.too_many_headers", "The request has more headers than the limit (max_headers_count).";
    /// Upgrade that the route does not allow.
    UpgradeFailed => 403, "", "upgrade_failed", "The request asks for an upgrade that is not configured (upgrade_configs).";
    /// An answer to a WebSocket handshake that neither grants nor refuses it.
    WebsocketHandshake => 0, "", "websocket_handshake_unsuccessful", "The endpoint answered a WebSocket handshake with success, but not with 101; check that it speaks WebSocket.";
    /// Response headers beyond the limits.
    ResponseHeadersTooLarge => 502, "UPE", "upstream_reset_before_response_started{protocol_error}", "The endpoint's response headers are beyond the limit.";
    /// Local rate limit.
    RateLimited => 429, "RL", "local_rate_limited", "The local rate limit's bucket is empty.";
    /// Authorization says no.
    RbacDenied => 403, "", "rbac_access_denied", "No policy allows this request, or one denies it.";
    /// An injected delay.
    FaultDelay => 0, "DI", "", "The fault filter delayed this request.";
    /// An injected abort.
    FaultAbort => 503, "FI", "fault_filter_abort", "The fault filter aborted this request.";
    /// A health check answered by the proxy.
    HealthCheckReply => 200, "", "health_check_ok", "The health_check filter answered.";
    /// A health check that the proxy failed.
    HealthCheckFailed => 503, "LH", "health_check_failed", "The health_check filter answered that this proxy, or a cluster that it must reach, is not healthy.";
    /// A filter's configuration has not come by ECDS, and it has no default.
    NoFilterConfig => 500, "NFCF", "no_filter_config_found", "The configuration of an HTTP filter has not come from the control plane (ECDS); check that it serves the extension that the listener names.";
    /// A CORS preflight answered by the proxy.
    CorsPreflight => 200, "", "cors_response", "The cors filter answered the preflight request.";
    /// Overload, or limits of the listener.
    Overload => 503, "OM", "overload", "The proxy is at its limits.";
    /// TLS handshake of the client failed.
    DownstreamTlsFailure => 0, "", "downstream_tls_error", "The client's TLS handshake failed; check its certificate and this port's mTLS mode.";
    /// A peer broke Istio's exchange of metadata.
    MetadataExchangeFailure => 0, "", "metadata_exchange_failed", "The client agreed on istio-peer-exchange (ALPN) and did not speak it; check that both sides have istio.metadata_exchange.";
    /// No filter chain matches.
    NoFilterChain => 0, "NR", "filter_chain_not_found", "No filter chain of the listener matches this connection; under STRICT mTLS plain text is refused.";
    /// A TCP connection lasted longer than max_downstream_connection_duration.
    TcpMaxDuration => 0, "DT", "max_downstream_connection_duration", "The connection lasted longer than max_downstream_connection_duration.";
    /// The TCP connection was idle too long.
    TcpIdleTimeout => 0, "", "tcp_session_idle_timeout", "No bytes moved on this connection for idle_timeout.";
}

impl Cause {
    /// What `details` begin with that may say more than the cause does; empty where it has none.
    pub fn stem(self) -> &'static str {
        self.details().trim_end_matches('}')
    }

    /// The causes that a word of an access log or of a metric's label may stand for: names, flags, details. Details may
    /// say more than the cause does (`rbac_access_denied_matched_policy[ns/name]`); the closest are taken then. Several
    /// flags stand side by side as logs have them (`UF,URX`).
    pub fn find(code: &str) -> Vec<Self> {
        let is = |cause: &Self| {
            format!("{cause:?}").eq_ignore_ascii_case(code)
                || cause.flag().eq_ignore_ascii_case(code)
                || cause.details() == code
        };
        let all = |is: &dyn Fn(&Self) -> bool| -> Vec<Self> { Self::ALL.iter().copied().filter(is).collect() };
        let exact = all(&is);
        if code.is_empty() {
            return Vec::new();
        }
        if !exact.is_empty() {
            return exact;
        }
        let begun = |cause: &Self| !cause.stem().is_empty() && code.starts_with(cause.stem());
        if let Some(longest) = all(&begun).into_iter().map(|cause| cause.stem().len()).max() {
            return all(&|cause| begun(cause) && cause.stem().len() == longest);
        }
        let flags: Vec<&str> = code.split(',').collect();
        let known = |flag: &&str| Self::ALL.iter().any(|cause| !flag.is_empty() && cause.flag() == *flag);
        if flags.iter().all(known) { all(&|cause| flags.contains(&cause.flag())) } else { Vec::new() }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.details())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_found_by_its_name_its_flag_and_whatever_a_log_says_of_it() {
        for (code, wanted) in [
            ("ResponseTimeout", &[Cause::ResponseTimeout][..]),
            ("responsetimeout", &[Cause::ResponseTimeout]),
            ("uf", &[Cause::UpstreamConnectionFailure, Cause::UpstreamConnectTimeout, Cause::UpstreamTlsFailure]),
            ("URX,SI", &[Cause::StreamIdleTimeout, Cause::UpstreamRetryLimitExceeded]),
            ("direct_response", &[Cause::DirectResponse]),
            ("rbac_access_denied_matched_policy[ns/one]", &[Cause::RbacDenied]),
            (
                "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_111}",
                &[Cause::UpstreamConnectionFailure],
            ),
            (
                "upstream_reset_before_response_started{remote_connection_failure|TLS_error:_no_peer,_really}",
                &[Cause::UpstreamTlsFailure],
            ),
            (
                "upstream_reset_before_response_started{overflow}",
                &[Cause::MaxConnections, Cause::MaxPendingRequests, Cause::MaxRequests],
            ),
            ("XX", &[]),
            ("UF,XX", &[]),
            ("", &[]),
        ] {
            assert_eq!(Cause::find(code), wanted, "{code:?}");
        }
    }
}
