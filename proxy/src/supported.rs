//! All fields of all messages that are implemented: one table a room, and the check of resources against them.

use std::sync::OnceLock;

use ferromesh_proto::{Any, rules};

use crate::config::ConfigError;
use crate::config::supported::{self, Supported, Table};
use crate::{access_log, cluster, codec, http, listener, network, overload, policy, route, tls};

/// The rooms that decode messages, each with the fields that it reads.
const ROOMS: &[(&str, Table)] = &[
    ("bootstrap", BOOTSTRAP),
    ("listener", listener::SUPPORTED),
    ("network", network::SUPPORTED),
    ("http", http::SUPPORTED),
    ("http/local_reply", http::local_reply::SUPPORTED),
    ("codec/h1/names", codec::h1::names::SUPPORTED),
    ("http/manager/detection", http::manager::detection::SUPPORTED),
    ("http/filters", http::filters::SUPPORTED),
    ("http/filters/alpn", http::filters::alpn::SUPPORTED),
    ("http/filters/compressor", http::filters::compressor::SUPPORTED),
    ("http/filters/cors", http::filters::cors::SUPPORTED),
    ("http/filters/discovered", http::filters::discovered::SUPPORTED),
    ("http/filters/fault", http::filters::fault::SUPPORTED),
    ("http/filters/grpc_stats", http::filters::grpc_stats::SUPPORTED),
    ("http/filters/header_mutation", http::filters::header_mutation::SUPPORTED),
    ("http/filters/health_check", http::filters::health_check::SUPPORTED),
    ("http/filters/istio_stats", http::filters::istio_stats::SUPPORTED),
    ("http/filters/local_ratelimit", http::filters::local_ratelimit::SUPPORTED),
    ("http/filters/peer_metadata", http::filters::peer_metadata::SUPPORTED),
    ("http/filters/rbac", http::filters::rbac::SUPPORTED),
    ("route", route::SUPPORTED),
    ("cluster", cluster::SUPPORTED),
    ("tls", tls::SUPPORTED),
    ("access_log", access_log::SUPPORTED),
    ("overload", overload::SUPPORTED),
    ("policy", policy::SUPPORTED),
    ("agent", NAMES),
];

/// Fields of the bootstrap that are implemented; here, since the bootstrap is checked where it is read.
const BOOTSTRAP: Table = &[
    (
        "envoy.config.bootstrap.v3.Bootstrap",
        "node static_resources dynamic_resources admin layered_runtime stats_config stats_flush_interval cluster_manager \
         enable_dispatcher_stats use_tcp_for_dns_lookups typed_dns_resolver_config dns_resolution_config \
         overload_manager bootstrap_extensions application_log_config deferred_stat_options",
    ),
    ("envoy.config.bootstrap.v3.Bootstrap.StaticResources", "listeners clusters secrets"),
    ("envoy.config.bootstrap.v3.Bootstrap.DynamicResources", "lds_config cds_config ads_config"),
    ("envoy.config.bootstrap.v3.Admin", "address access_log access_log_path profile_path ignore_global_conn_limit"),
    ("envoy.config.bootstrap.v3.LayeredRuntime", "layers"),
    ("envoy.config.bootstrap.v3.RuntimeLayer", "name static_layer admin_layer"),
    ("envoy.config.bootstrap.v3.RuntimeLayer.AdminLayer", "*"),
    ("envoy.config.bootstrap.v3.ClusterManager", "enable_deferred_cluster_creation"),
    ("envoy.config.bootstrap.v3.Bootstrap.ApplicationLogConfig", "*"),
    ("envoy.config.bootstrap.v3.Bootstrap.ApplicationLogConfig.LogFormat", "*"),
    ("envoy.config.bootstrap.v3.Bootstrap.DeferredStatOptions", "*"),
    ("envoy.extensions.bootstrap.internal_listener.v3.InternalListener", "*"),
    ("envoy.config.metrics.v3.StatsConfig", "*"),
    ("envoy.config.metrics.v3.TagSpecifier", "*"),
    ("envoy.config.metrics.v3.StatsMatcher", "*"),
    ("envoy.config.metrics.v3.HistogramBucketSettings", "*"),
    ("envoy.type.matcher.v3.ListStringMatcher", "patterns"),
    ("envoy.config.core.v3.Node", "*"),
    ("envoy.config.core.v3.BuildVersion", "*"),
    ("envoy.config.core.v3.Extension", "*"),
    ("envoy.type.v3.SemanticVersion", "*"),
    ("xds.core.v3.ContextParams", "*"),
];

/// The names that the DNS proxy answers; here, since the room that reads them stands above this one.
const NAMES: Table = &[("istio.networking.nds.v1.NameTable", "*"), ("istio.networking.nds.v1.NameTable.NameInfo", "*")];

/// Checks that every field that `any` sets, at any depth, is implemented and keeps the rules that Envoy's protos state.
///
/// # Errors
/// Names the type URL and the path of the first field that is not, or does not.
pub fn check(any: &Any) -> Result<(), ConfigError> {
    all().check(any)?;
    rules::check_any(any).map_err(|broken| ConfigError::new(broken.path, broken.rule).of_type(&any.type_url))
}

/// Whether a field of a message is implemented; for tests that make messages.
pub fn has(message: &str, field: &str) -> bool {
    all().has(message, field)
}

fn all() -> &'static Supported {
    static SUPPORTED: OnceLock<Supported> = OnceLock::new();
    SUPPORTED.get_or_init(|| Supported::of(supported::COMMON, ROOMS.iter().map(|(_, table)| *table)))
}

pub mod idle;

#[cfg(test)]
mod tests;
