//! Fields of clusters and endpoints that are implemented.

use crate::config::supported::Table;

/// Fields of this room's messages that are implemented.
pub const SUPPORTED: Table = &[
    (
        "envoy.config.cluster.v3.Cluster",
        "transport_socket_matches name alt_stat_name type eds_cluster_config connect_timeout \
         per_connection_buffer_limit_bytes lb_policy load_assignment health_checks max_requests_per_connection \
         circuit_breakers upstream_http_protocol_options common_http_protocol_options http_protocol_options \
         http2_protocol_options typed_extension_protocol_options dns_refresh_rate dns_jitter \
         dns_failure_refresh_rate respect_dns_ttl dns_lookup_family wait_for_warm_on_init outlier_detection \
         cleanup_interval upstream_bind_config lb_subset_config common_lb_config transport_socket metadata \
         protocol_selection upstream_connection_options close_connections_on_host_health_failure \
         ignore_health_on_host_removal filters load_balancing_policy round_robin_lb_config least_request_lb_config \
         ring_hash_lb_config maglev_lb_config original_dst_lb_config typed_dns_resolver_config dns_resolution_config \
         dns_resolvers use_tcp_for_dns_lookups",
    ),
    ("envoy.config.core.v3.DnsResolutionConfig", "*"),
    ("envoy.config.core.v3.DnsResolverOptions", "*"),
    (
        "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
        "resolvers use_resolvers_as_fallback dns_resolver_options udp_max_queries query_timeout_seconds query_tries \
         rotate_nameservers edns0_max_payload_size max_udp_channel_duration reinit_channel_on_timeout",
    ),
    ("envoy.config.cluster.v3.Cluster.TransportSocketMatch", "*"),
    ("envoy.config.cluster.v3.Cluster.EdsClusterConfig", "*"),
    ("envoy.config.cluster.v3.Cluster.RefreshRate", "*"),
    (
        "envoy.config.cluster.v3.Cluster.LbSubsetConfig",
        "fallback_policy default_subset subset_selectors panic_mode_any list_as_any",
    ),
    ("envoy.config.cluster.v3.Cluster.LbSubsetConfig.LbSubsetSelector", "keys fallback_policy fallback_keys_subset"),
    ("envoy.config.cluster.v3.Cluster.RoundRobinLbConfig", "slow_start_config"),
    ("envoy.config.cluster.v3.Cluster.LeastRequestLbConfig", "choice_count slow_start_config"),
    ("envoy.config.cluster.v3.Cluster.SlowStartConfig", "*"),
    ("envoy.config.cluster.v3.Cluster.RingHashLbConfig", "minimum_ring_size hash_function maximum_ring_size"),
    ("envoy.config.cluster.v3.Cluster.MaglevLbConfig", "*"),
    ("envoy.config.cluster.v3.Cluster.OriginalDstLbConfig", "use_http_header http_header_name upstream_port_override"),
    (
        "envoy.config.cluster.v3.Cluster.CommonLbConfig",
        "healthy_panic_threshold update_merge_window ignore_new_hosts_until_first_hc consistent_hashing_lb_config \
         zone_aware_lb_config locality_weighted_lb_config",
    ),
    ("envoy.config.cluster.v3.Cluster.CommonLbConfig.ZoneAwareLbConfig", "routing_enabled min_cluster_size"),
    ("envoy.config.cluster.v3.Cluster.CommonLbConfig.LocalityWeightedLbConfig", "*"),
    ("envoy.config.cluster.v3.Cluster.CommonLbConfig.ConsistentHashingLbConfig", "use_hostname_for_hashing"),
    ("envoy.config.cluster.v3.CircuitBreakers", "thresholds"),
    (
        "envoy.config.cluster.v3.CircuitBreakers.Thresholds",
        "priority max_connections max_pending_requests max_requests max_retries retry_budget track_remaining",
    ),
    ("envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget", "*"),
    (
        "envoy.config.cluster.v3.OutlierDetection",
        "consecutive_5xx interval base_ejection_time max_ejection_percent enforcing_consecutive_5xx \
         enforcing_success_rate success_rate_minimum_hosts success_rate_request_volume success_rate_stdev_factor \
         consecutive_gateway_failure enforcing_consecutive_gateway_failure split_external_local_origin_errors \
         consecutive_local_origin_failure enforcing_consecutive_local_origin_failure \
         enforcing_local_origin_success_rate failure_percentage_threshold enforcing_failure_percentage \
         enforcing_failure_percentage_local_origin failure_percentage_minimum_hosts \
         failure_percentage_request_volume max_ejection_time max_ejection_time_jitter \
         successful_active_health_check_uneject_host always_eject_one_host",
    ),
    ("envoy.config.cluster.v3.Filter", "name typed_config"),
    ("envoy.config.cluster.v3.UpstreamConnectionOptions", "tcp_keepalive"),
    ("envoy.config.core.v3.TcpKeepalive", "*"),
    ("envoy.config.core.v3.BindConfig", "source_address"),
    (
        "envoy.config.core.v3.HealthCheck",
        "timeout interval initial_jitter interval_jitter interval_jitter_percent unhealthy_threshold \
         healthy_threshold alt_port reuse_connection no_traffic_interval no_traffic_healthy_interval \
         unhealthy_interval unhealthy_edge_interval healthy_edge_interval http_health_check tcp_health_check \
         grpc_health_check always_log_health_check_failures",
    ),
    ("envoy.config.core.v3.HealthCheck.Payload", "*"),
    (
        "envoy.config.core.v3.HealthCheck.HttpHealthCheck",
        "host path request_headers_to_add expected_statuses codec_client_type method",
    ),
    ("envoy.config.core.v3.HealthCheck.TcpHealthCheck", "send receive"),
    ("envoy.config.core.v3.HealthCheck.GrpcHealthCheck", "service_name authority"),
    (
        "envoy.config.core.v3.HttpProtocolOptions",
        "idle_timeout max_connection_duration max_headers_count max_response_headers_kb \
         max_requests_per_connection max_stream_duration",
    ),
    ("envoy.config.core.v3.UpstreamHttpProtocolOptions", "auto_sni"),
    ("envoy.config.core.v3.Http1ProtocolOptions", "allow_absolute_url enable_trailers header_key_format"),
    (
        "envoy.config.core.v3.Http2ProtocolOptions",
        "max_concurrent_streams initial_stream_window_size initial_connection_window_size allow_connect \
         connection_keepalive max_outbound_control_frames \
         max_consecutive_inbound_frames_with_empty_payload max_inbound_priority_frames_per_stream \
         max_inbound_window_update_frames_per_data_frame_sent",
    ),
    ("envoy.config.core.v3.KeepaliveSettings", "interval timeout interval_jitter"),
    (
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options upstream_http_protocol_options explicit_http_config \
         use_downstream_protocol_config auto_config",
    ),
    (
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig",
        "http_protocol_options http2_protocol_options",
    ),
    (
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig",
        "http_protocol_options http2_protocol_options",
    ),
    (
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.AutoHttpConfig",
        "http_protocol_options http2_protocol_options",
    ),
    ("envoy.config.cluster.v3.LoadBalancingPolicy", "*"),
    ("envoy.config.cluster.v3.LoadBalancingPolicy.Policy", "*"),
    ("envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin", "locality_lb_config slow_start_config"),
    (
        "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
        "choice_count locality_lb_config slow_start_config",
    ),
    ("envoy.extensions.load_balancing_policies.common.v3.SlowStartConfig", "*"),
    ("envoy.extensions.load_balancing_policies.random.v3.Random", "locality_lb_config"),
    (
        "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash",
        "hash_function minimum_ring_size maximum_ring_size use_hostname_for_hashing consistent_hashing_lb_config \
         locality_weighted_lb_config",
    ),
    (
        "envoy.extensions.load_balancing_policies.maglev.v3.Maglev",
        "table_size consistent_hashing_lb_config locality_weighted_lb_config",
    ),
    ("envoy.extensions.load_balancing_policies.cluster_provided.v3.ClusterProvided", "*"),
    (
        "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig",
        "zone_aware_lb_config locality_weighted_lb_config",
    ),
    (
        "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.ZoneAwareLbConfig",
        "routing_enabled min_cluster_size",
    ),
    ("envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.LocalityWeightedLbConfig", "*"),
    ("envoy.extensions.load_balancing_policies.common.v3.ConsistentHashingLbConfig", "use_hostname_for_hashing"),
    ("envoy.config.endpoint.v3.ClusterLoadAssignment", "*"),
    ("envoy.config.endpoint.v3.ClusterLoadAssignment.Policy", "overprovisioning_factor"),
    ("envoy.config.endpoint.v3.LocalityLbEndpoints", "locality metadata lb_endpoints load_balancing_weight priority"),
    ("envoy.config.endpoint.v3.LbEndpoint", "*"),
    ("envoy.config.endpoint.v3.Endpoint", "address health_check_config hostname"),
    ("envoy.config.endpoint.v3.Endpoint.HealthCheckConfig", "port_value hostname disable_active_health_check"),
    ("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer", "*"),
];
