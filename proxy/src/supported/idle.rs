//! Fields that are accepted although nothing reads them: each with the reason why that is no lie.
//!
//! They are set by Istio, its bootstrap or common samples. What would change something is refused by name instead; a test
//! holds this list against the code, so that a field that somebody begins to read leaves it.

/// (message, fields, why they have no effect).
pub const IDLE: &[(&str, &str, &str)] = &[
    // What is not there, is not told how to do it.
    ("envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig", "*", NO_TRACING),
    ("envoy.config.route.v3.Decorator", "propagate", NO_TRACING),
    ("envoy.config.route.v3.RouteAction.RequestMirrorPolicy", "trace_sampled", NO_TRACING),
    ("envoy.extensions.filters.http.router.v3.Router", "start_child_span", NO_TRACING),
    ("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", "max_session_keys", NO_SESSIONS),
    (
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "disable_stateless_session_resumption disable_stateful_session_resumption",
        NO_SESSIONS,
    ),
    (
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.InternalAddressConfig",
        "unix_sockets",
        "no listener has a Unix socket",
    ),
    ("envoy.extensions.bootstrap.internal_listener.v3.InternalListener", "*", "internal listeners are refused"),
    ("io.istio.http.peer_metadata.Config", "shared_with_upstream", "internal listeners are refused"),
    ("envoy.config.bootstrap.v3.Bootstrap", "bootstrap_extensions", "the one that is accepted has no effect"),
    ("envoy.config.bootstrap.v3.Admin", "profile_path", "profiles are not taken"),
    (
        "envoy.config.cluster.v3.Cluster.CommonLbConfig",
        "zone_aware_lb_config",
        "needs cluster_manager.local_cluster_name, which is refused",
    ),
    (
        "envoy.config.cluster.v3.Cluster.CommonLbConfig.ZoneAwareLbConfig",
        "routing_enabled min_cluster_size",
        "needs cluster_manager.local_cluster_name, which is refused",
    ),
    (
        "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig",
        "zone_aware_lb_config",
        "needs cluster_manager.local_cluster_name, which is refused",
    ),
    (
        "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.ZoneAwareLbConfig",
        "routing_enabled min_cluster_size",
        "needs cluster_manager.local_cluster_name, which is refused",
    ),
    ("envoy.config.core.v3.Metadata", "typed_filter_metadata", "the filters that read it are refused"),
    (
        "envoy.extensions.filters.http.fault.v3.HTTPFault",
        "disable_downstream_cluster_stats",
        "faults are not counted by the client's cluster",
    ),
    // Metrics are read when somebody asks.
    ("envoy.config.bootstrap.v3.Bootstrap", "stats_flush_interval", "there are no sinks, for which alone it is"),
    ("envoy.config.bootstrap.v3.Bootstrap", "enable_dispatcher_stats", "there is no dispatcher of Envoy's to measure"),
    (
        "envoy.config.metrics.v3.HistogramBucketSettings",
        "bins",
        "how much room Envoy's histogram begins with; here there is one number for each bucket",
    ),
    (
        "envoy.config.bootstrap.v3.Bootstrap",
        "application_log_config",
        "how the proxy's own log is written is said by --log-format",
    ),
    ("envoy.config.bootstrap.v3.Bootstrap", "deferred_stat_options", "counters are made when they are needed"),
    (
        "envoy.config.bootstrap.v3.Bootstrap.DeferredStatOptions",
        "enable_deferred_creation_stats",
        "counters are made when they are needed",
    ),
    (
        "envoy.config.bootstrap.v3.ClusterManager",
        "enable_deferred_cluster_creation",
        "a cluster is made when it is told, its connections with the first request",
    ),
    // Told to the control plane as they stand.
    (
        "envoy.config.core.v3.Node",
        "dynamic_parameters user_agent_name user_agent_version user_agent_build_version client_features listening_addresses",
        "the node is sent whole",
    ),
    ("envoy.config.core.v3.Extension", "category type_descriptor", "the node is sent whole"),
    ("envoy.type.v3.SemanticVersion", "major_number minor_number patch", "the node is sent whole"),
    // What they ask for is done in any case.
    ("envoy.config.core.v3.ConfigSource", "resource_api_version", "there is only V3"),
    ("envoy.config.core.v3.ApiConfigSource", "transport_api_version", "there is only V3"),
    ("envoy.config.core.v3.ApiConfigSource", "set_node_on_first_message_only", "always so"),
    ("envoy.type.matcher.v3.RegexMatcher", "google_re2", "RE2's rules are the only ones"),
    ("envoy.type.matcher.v3.RegexMatcher.GoogleRE2", "max_program_size", "programs have a limit of their own"),
    ("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", "enforce_rsa_key_usage", "always so, as in Envoy"),
    ("envoy.config.route.v3.WeightedCluster", "total_weight", "Envoy takes the sum of the weights, too"),
    (
        "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
        "emit_filter_state",
        "the counts are always in the filter state",
    ),
    ("envoy.config.accesslog.v3.RuntimeFilter", "use_independent_randomness", "always so"),
    ("envoy.config.core.v3.SubstitutionFormatString", "json_format_options", "properties are always sorted"),
    ("envoy.config.core.v3.JsonFormatOptions", "sort_properties", "always so"),
    ("envoy.config.cluster.v3.Cluster.CommonLbConfig", "update_merge_window", "updates are merged by the host set"),
    (
        "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
        "udp_max_queries max_udp_channel_duration reinit_channel_on_timeout",
        "each question has a socket of its own",
    ),
    (
        "envoy.tcp.metadataexchange.config.MetadataExchange",
        "enable_discovery additional_labels",
        "peers are known by the exchange, with all labels that they tell",
    ),
    ("envoy.config.core.v3.Http1ProtocolOptions", "allow_absolute_url", "of servers only; the cluster's says nothing"),
    // How work is cut into pieces, which nobody sees.
    ("envoy.extensions.compression.gzip.compressor.v3.Gzip", "memory_level chunk_size", PIECES),
    ("envoy.extensions.compression.brotli.compressor.v3.Brotli", "input_block_bits chunk_size", PIECES),
    ("envoy.extensions.compression.zstd.compressor.v3.Zstd", "chunk_size", PIECES),
    (
        "envoy.config.listener.v3.Listener",
        "per_connection_buffer_limit_bytes max_connections_to_accept_per_socket_event",
        "nothing is read that the other side does not take; connections are accepted one by one",
    ),
    (
        "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
        "initial_read_buffer_size",
        "the buffer grows with what comes",
    ),
];

const NO_TRACING: &str = "requests are not traced";
const NO_SESSIONS: &str = "sessions are never resumed";
const PIECES: &str = "each piece is compressed as it comes and sent on at once, with the memory that it needs";
