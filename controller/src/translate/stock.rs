//! A listener or cluster goes in; what of it an Envoy takes that has not Istio's network filters comes out.
//!
//! A network filter cannot be marked as optional, as HTTP filters can. Who does not exchange metadata must not agree on it
//! by ALPN either: the peer would take the application's first bytes for it.

use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::cluster::v3::Cluster;
use ferromesh_proto::envoy::config::core::v3::{Extension, TransportSocket, transport_socket::ConfigType};
use ferromesh_proto::envoy::config::listener::v3::Listener;
use ferromesh_proto::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, DownstreamTlsContext, UpstreamTlsContext,
};
use ferromesh_proto::envoy::tcp::metadataexchange::config::MetadataExchange;
use ferromesh_proto::stats::PluginConfig;
use prost::Name;

use super::tcp::{EXCHANGE, STATS};
use super::tls::PEER_EXCHANGE;

/// Where Envoy lists its network filters.
const CATEGORY: &str = "envoy.filters.network";

/// Whether a proxy that lists these extensions has not Istio's network filters. One that lists none has them, as ours.
pub fn is_stock(extensions: &[Extension]) -> bool {
    let has = |kind: &str| {
        let mut filters = extensions.iter().filter(|extension| extension.category == CATEGORY);
        filters.any(|filter| filter.type_urls.iter().any(|known| known == kind))
    };
    let has_all = has(&MetadataExchange::full_name()) && has(&PluginConfig::full_name());
    !(extensions.is_empty() || has_all)
}

/// Takes Istio's network filters out of a listener.
pub fn strip_listener(listener: &mut Listener) {
    for chain in listener.filter_chains.iter_mut().chain(&mut listener.default_filter_chain) {
        chain.filters.retain(|filter| ![EXCHANGE, STATS].contains(&filter.name.as_str()));
        chain.transport_socket.iter_mut().for_each(strip_socket);
    }
}

/// Takes Istio's network filter out of a cluster.
pub fn strip_cluster(cluster: &mut Cluster) {
    cluster.filters.retain(|filter| filter.name != EXCHANGE);
    let matches = cluster.transport_socket_matches.iter_mut().filter_map(|one| one.transport_socket.as_mut());
    matches.chain(&mut cluster.transport_socket).for_each(strip_socket);
}

fn strip_socket(socket: &mut TransportSocket) {
    let Some(ConfigType::TypedConfig(any)) = &mut socket.config_type else { return };
    if let Ok(mut context) = any.unpack::<UpstreamTlsContext>() {
        context.common_tls_context.iter_mut().for_each(strip_alpn);
        *any = Any::pack(&context);
    } else if let Ok(mut context) = any.unpack::<DownstreamTlsContext>() {
        context.common_tls_context.iter_mut().for_each(strip_alpn);
        *any = Any::pack(&context);
    }
}

fn strip_alpn(context: &mut CommonTlsContext) {
    context.alpn_protocols.retain(|word| word != PEER_EXCHANGE);
}
