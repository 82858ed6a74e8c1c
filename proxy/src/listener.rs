//! Listeners: sockets, listener filters, filter chain match.
//!
//! ```text
//! bind -> accept -> listener filters -> (hand-over to the listener of the original destination)
//!      -> filter chain match -> TLS -> network filters -> terminal filter
//! ```
//!
//! [`Listener`] is configuration, shared by the workers; [`Listeners`] is one worker's sockets and connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::access_log::AccessLog;
use crate::config::Awaited;
use crate::config::supported::Table;
use crate::network::NetworkChain;
use crate::stats::{Counter, Gauge};
use crate::text::Text;
use crate::tls::DownstreamTls;

mod balance;
mod decode;
mod filter;
mod fingerprint;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod hello;
mod matcher;
mod proxy_header;
mod serve;
mod sockets;
#[cfg(test)]
mod tests;
mod worker;

pub use matcher::{Facts, Matcher};
pub use sockets::{SocketOptions, bind};
pub use worker::Listeners;

/// Fields of this room's messages that are implemented.
pub const SUPPORTED: Table = &[
    (
        "envoy.config.listener.v3.Listener",
        "name address additional_addresses stat_prefix filter_chains use_original_dst default_filter_chain \
         per_connection_buffer_limit_bytes metadata drain_type listener_filters listener_filters_timeout \
         continue_on_listener_filters_timeout transparent freebind tcp_backlog_size traffic_direction \
         connection_balance_config reuse_port enable_reuse_port access_log bind_to_port \
         max_connections_to_accept_per_socket_event ignore_global_conn_limit bypass_overload_manager tcp_keepalive \
         deprecated_v1",
    ),
    ("envoy.config.listener.v3.Listener.DeprecatedV1", "*"),
    ("envoy.config.listener.v3.AdditionalAddress", "address"),
    ("envoy.config.listener.v3.Listener.ConnectionBalanceConfig", "exact_balance"),
    ("envoy.config.listener.v3.Listener.ConnectionBalanceConfig.ExactBalance", "*"),
    (
        "envoy.config.listener.v3.FilterChain",
        "filter_chain_match filters metadata transport_socket transport_socket_connect_timeout name",
    ),
    (
        "envoy.config.listener.v3.FilterChainMatch",
        "destination_port prefix_ranges direct_source_prefix_ranges source_type source_prefix_ranges source_ports \
         server_names transport_protocol application_protocols",
    ),
    ("envoy.config.listener.v3.Filter", "name typed_config"),
    ("envoy.config.listener.v3.ListenerFilter", "name typed_config filter_disabled"),
    ("envoy.config.listener.v3.ListenerFilterChainMatchPredicate", "*"),
    ("envoy.config.listener.v3.ListenerFilterChainMatchPredicate.MatchSet", "*"),
    ("envoy.config.core.v3.TcpKeepalive", "*"),
    ("envoy.extensions.filters.listener.original_dst.v3.OriginalDst", "*"),
    ("envoy.extensions.filters.listener.http_inspector.v3.HttpInspector", "*"),
    (
        "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
        "initial_read_buffer_size close_connection_on_client_hello_parsing_errors max_client_hello_size",
    ),
    (
        "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
        "allow_requests_without_proxy_protocol disallowed_versions stat_prefix",
    ),
];

/// Connections that a listener holds at most, over all workers.
const MAX_CONNECTIONS: u64 = 10_000;

/// A listener, decoded; shared by the workers.
pub struct Listener {
    /// Its name.
    pub name: Text,
    /// Where it listens; more than one with `additional_addresses`.
    pub addresses: Vec<SocketAddr>,
    /// Whether it has sockets; else it gets connections by hand-over.
    pub bind_to_port: bool,
    /// Options of its sockets.
    pub socket_options: SocketOptions,
    /// Its counters.
    pub stats: ListenerStats,
    /// `traffic_direction`, Envoy's enum.
    pub direction: i32,
    /// Connections end also while the proxy fails its health check (`drain_type` DEFAULT).
    drains_with_health: bool,
    use_original_dst: bool,
    filters: Vec<filter::ListenerFilter>,
    filters_timeout: Option<Duration>,
    continue_on_timeout: bool,
    matcher: Matcher,
    chains: Vec<Arc<FilterChain>>,
    default_chain: Option<Arc<FilterChain>>,
    access_logs: Vec<AccessLog>,
    balancer: Option<balance::Balancer>,
    max_connections: u64,
    /// `ignore_global_conn_limit`.
    ignores_global_limit: bool,
    /// `bypass_overload_manager`.
    bypasses_overload: bool,
}

/// A filter chain, decoded.
pub struct FilterChain {
    /// Its name.
    pub name: Text,
    tls: Option<Arc<DownstreamTls>>,
    /// Time for the TLS handshake.
    tls_timeout: Duration,
    network: NetworkChain,
    /// Of the encoded chain; tells whether an update changes it.
    fingerprint: u64,
    /// The same without what its HTTP connection manager reads per request; connections stay while it stays.
    frame: u64,
}

/// Counters of a listener (`listener.<address>.`).
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct ListenerStats {
    pub downstream_cx_total: Counter,
    pub downstream_cx_active: Gauge,
    pub downstream_cx_destroy: Counter,
    pub downstream_cx_overflow: Counter,
    pub downstream_global_cx_overflow: Counter,
    pub downstream_cx_overload_reject: Counter,
    pub downstream_cx_descriptor_overflow: Counter,
    pub downstream_pre_cx_timeout: Counter,
    pub downstream_listener_filter_error: Counter,
    pub no_filter_chain_match: Counter,
    pub ssl_handshake: Counter,
    pub ssl_connection_error: Counter,
    pub ssl_fail_verify_error: Counter,
}

impl Listener {
    /// What its chains name and that has not come yet: secrets, route tables, configurations of filters.
    pub fn awaits(&self) -> impl Iterator<Item = Awaited> {
        self.all_chains().flat_map(|chain| {
            let secrets = chain.tls.as_ref().into_iter().flat_map(|tls| tls.awaits());
            secrets.chain(chain.network.awaits())
        })
    }

    /// Whether the sockets of `before` can serve this listener as they are.
    pub fn same_sockets(&self, before: &Self) -> bool {
        self.addresses == before.addresses
            && self.bind_to_port == before.bind_to_port
            && self.socket_options == before.socket_options
    }

    /// Connections now, over all workers.
    pub fn connections(&self) -> u64 {
        self.stats.downstream_cx_active.get()
    }

    fn all_chains(&self) -> impl Iterator<Item = &Arc<FilterChain>> {
        self.chains.iter().chain(self.default_chain.as_ref())
    }

    /// The chain whose connections this version keeps, if it has it.
    fn framed(&self, frame: u64) -> Option<&Arc<FilterChain>> {
        self.all_chains().find(|chain| chain.frame == frame)
    }

    fn choose(&self, facts: &Facts<'_>) -> Option<&Arc<FilterChain>> {
        let matched = self.matcher.find(facts).and_then(|place| self.chains.get(place));
        matched.or(self.default_chain.as_ref())
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Listener({} on {:?}, {} chains)", self.name, self.addresses, self.chains.len())
    }
}
