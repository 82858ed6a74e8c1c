//! A cluster's name goes in; a TCP proxy filter comes out.

use ferromesh_api::istio::MeshConfig;
use ferromesh_proto::envoy::config::listener::v3::{Filter, FilterChain};
use ferromesh_proto::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier};

use super::access_log::access_logs;
use super::message::network_filter;

/// Name of the filter.
pub const NAME: &str = "envoy.filters.network.tcp_proxy";

/// The network filter.
pub fn filter(mesh: &MeshConfig, stat_prefix: &str, cluster: &str) -> Filter {
    let config = TcpProxy {
        stat_prefix: stat_prefix.to_owned(),
        access_log: access_logs(mesh),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..TcpProxy::default()
    };
    network_filter(NAME, &config)
}

/// A filter chain with nothing but that filter.
pub fn chain(mesh: &MeshConfig, name: &str, cluster: &str) -> FilterChain {
    FilterChain { name: name.to_owned(), filters: vec![filter(mesh, cluster, cluster)], ..FilterChain::default() }
}
