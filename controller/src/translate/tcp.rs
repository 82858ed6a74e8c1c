//! A cluster's name goes in; the network filters that bytes to it pass come out, in Istio's order.

use ferromesh_api::istio::MeshConfig;
use ferromesh_proto::envoy::config::listener::v3::{Filter, FilterChain};
use ferromesh_proto::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier};
use ferromesh_proto::envoy::tcp::metadataexchange::config::MetadataExchange;
use ferromesh_proto::stats::PluginConfig;

use super::access_log::access_logs;
use super::hcm::Side;
use super::message::network_filter;
use super::tls::PEER_EXCHANGE;

/// Name of the last filter.
pub const NAME: &str = "envoy.filters.network.tcp_proxy";
/// Name of the filter that tells peers of each other, in listeners and in clusters.
pub const EXCHANGE: &str = "istio.metadata_exchange";
/// Name of the filter that counts.
pub const STATS: &str = "istio.stats";

/// The network filters. Towards others it is their cluster that has the exchange.
pub fn filters(side: Side, mesh: &MeshConfig, stat_prefix: &str, cluster: &str) -> Vec<Filter> {
    let proxy = TcpProxy {
        stat_prefix: stat_prefix.to_owned(),
        access_log: access_logs(mesh),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..TcpProxy::default()
    };
    let stats = PluginConfig { disable_host_header_fallback: side != Side::Outbound, ..PluginConfig::default() };
    let mut filters = Vec::with_capacity(3);
    if side == Side::Inbound {
        filters.push(network_filter(EXCHANGE, &exchange()));
    }
    filters.push(network_filter(STATS, &stats));
    filters.push(network_filter(NAME, &proxy));
    filters
}

/// A filter chain with nothing but those filters.
pub fn chain(side: Side, mesh: &MeshConfig, name: &str, cluster: &str) -> FilterChain {
    FilterChain { name: name.to_owned(), filters: filters(side, mesh, cluster, cluster), ..FilterChain::default() }
}

/// How peers tell of themselves.
pub fn exchange() -> MetadataExchange {
    MetadataExchange { protocol: PEER_EXCHANGE.to_owned(), enable_discovery: true, ..MetadataExchange::default() }
}
