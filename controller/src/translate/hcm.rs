//! Which side of a proxy goes in; an HTTP connection manager as Istio makes it comes out: its HTTP filters in Istio's
//! order, its headers, its access log.

use ferromesh_api::istio::MeshConfig;
use ferromesh_api::istio::mesh_config::NormalizationType;
use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::listener::v3::Filter;
use ferromesh_proto::envoy::config::route::v3::RouteConfiguration;
use ferromesh_proto::envoy::extensions::filters::http::cors::v3::Cors;
use ferromesh_proto::envoy::extensions::filters::http::fault::v3::HttpFault;
use ferromesh_proto::envoy::extensions::filters::http::grpc_stats::v3 as grpc_stats;
use ferromesh_proto::envoy::extensions::filters::http::router::v3::Router;
use ferromesh_proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, RequestIdExtension,
    http_connection_manager::{
        ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier, SetCurrentClientCertDetails,
        UpgradeConfig,
    },
};
use ferromesh_proto::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use ferromesh_proto::io::istio::http::peer_metadata::{self, config as peer};
use ferromesh_proto::istio::envoy::config::filter::http::alpn::v2alpha1 as alpn;
use ferromesh_proto::stats::PluginConfig;

use super::access_log::access_logs;
use super::message::{ads, http_filter, network_filter, seconds};

/// The name of the filter that all the rest of HTTP hangs on.
pub const NAME: &str = "envoy.filters.network.http_connection_manager";

/// Which side of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// A sidecar, towards its application.
    Inbound,
    /// A sidecar, from its application.
    Outbound,
    /// A gateway.
    Gateway,
}

/// Where the routes come from.
pub enum Routes {
    /// By RDS.
    Named(String),
    /// In the listener.
    Inline(Box<RouteConfiguration>),
}

/// The network filter.
pub fn filter(side: Side, mesh: &MeshConfig, stat_prefix: String, routes: Routes) -> Filter {
    network_filter(NAME, &manager(side, mesh, stat_prefix, routes))
}

fn manager(side: Side, mesh: &MeshConfig, stat_prefix: String, routes: Routes) -> HttpConnectionManager {
    let route_specifier = match routes {
        Routes::Named(name) => RouteSpecifier::Rds(Rds { config_source: Some(ads()), route_config_name: name }),
        Routes::Inline(config) => RouteSpecifier::RouteConfig(*config),
    };
    let merge_slashes = matches!(
        mesh.path_normalization.normalization,
        NormalizationType::MergeSlashes | NormalizationType::DecodeAndMergeSlashes
    );
    let mut manager = HttpConnectionManager {
        stat_prefix,
        route_specifier: Some(route_specifier),
        http_filters: http_filters(side),
        access_log: access_logs(mesh),
        use_remote_address: Some(side == Side::Gateway),
        normalize_path: Some(mesh.path_normalization.normalization != NormalizationType::None),
        merge_slashes,
        path_with_escaped_slashes_action: escaped_slashes(mesh) as i32,
        stream_idle_timeout: Some(seconds(0)),
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".to_owned(), ..UpgradeConfig::default() }],
        request_id_extension: Some(RequestIdExtension {
            typed_config: Some(Any::pack(&UuidRequestIdConfig {
                use_request_id_for_trace_sampling: Some(true),
                ..UuidRequestIdConfig::default()
            })),
        }),
        ..HttpConnectionManager::default()
    };
    identify_peers(&mut manager, side, mesh);
    manager
}

fn escaped_slashes(mesh: &MeshConfig) -> PathWithEscapedSlashesAction {
    match mesh.path_normalization.normalization {
        NormalizationType::DecodeAndMergeSlashes => PathWithEscapedSlashesAction::UnescapeAndForward,
        _ => PathWithEscapedSlashesAction::KeepUnchanged,
    }
}

fn identify_peers(manager: &mut HttpConnectionManager, side: Side, mesh: &MeshConfig) {
    let details = SetCurrentClientCertDetails {
        subject: Some(true),
        uri: true,
        dns: true,
        ..SetCurrentClientCertDetails::default()
    };
    match side {
        Side::Inbound => {
            manager.server_name = "istio-envoy".to_owned();
            manager.forward_client_cert_details = ForwardClientCertDetails::AppendForward as i32;
            manager.set_current_client_cert_details = Some(details);
        }
        Side::Gateway => {
            manager.server_name = "istio-envoy".to_owned();
            manager.forward_client_cert_details = ForwardClientCertDetails::SanitizeSet as i32;
            manager.set_current_client_cert_details = Some(details);
            if let Some(topology) = &mesh.default_config.gateway_topology {
                manager.xff_num_trusted_hops = topology.num_trusted_proxies;
                if let Some(forward) = topology.forward_client_cert_details.as_deref().and_then(forward_details) {
                    manager.forward_client_cert_details = forward as i32;
                }
            }
        }
        // A client certificate header that the application sends is not believed: Envoy's default.
        Side::Outbound => {}
    }
}

fn forward_details(word: &str) -> Option<ForwardClientCertDetails> {
    match word {
        "SANITIZE" => Some(ForwardClientCertDetails::Sanitize),
        "FORWARD_ONLY" => Some(ForwardClientCertDetails::ForwardOnly),
        "APPEND_FORWARD" => Some(ForwardClientCertDetails::AppendForward),
        "SANITIZE_SET" => Some(ForwardClientCertDetails::SanitizeSet),
        "ALWAYS_FORWARD_ONLY" => Some(ForwardClientCertDetails::AlwaysForwardOnly),
        _ => None,
    }
}

/// The HTTP filters, in Istio's order. Istio's own are optional, so that an Envoy without them skips them.
fn http_filters(side: Side) -> Vec<HttpFilter> {
    let optional = |mut filter: HttpFilter| {
        filter.is_optional = true;
        filter
    };
    let mut filters = vec![optional(http_filter("istio.metadata_exchange", &peer_config(side)))];
    let stats = grpc_stats::FilterConfig {
        emit_filter_state: true,
        per_method_stat_specifier: Some(grpc_stats::filter_config::PerMethodStatSpecifier::StatsForAllMethods(false)),
        ..grpc_stats::FilterConfig::default()
    };
    filters.push(http_filter("envoy.filters.http.grpc_stats", &stats));
    if side != Side::Inbound {
        filters.push(optional(http_filter("istio.alpn", &alpn_config())));
    }
    filters.push(http_filter("envoy.filters.http.fault", &HttpFault::default()));
    filters.push(http_filter("envoy.filters.http.cors", &Cors {}));
    let plugin = PluginConfig { disable_host_header_fallback: side != Side::Outbound, ..PluginConfig::default() };
    filters.push(optional(http_filter("istio.stats", &plugin)));
    filters.push(http_filter("envoy.filters.http.router", &Router::default()));
    filters
}

/// Who tells whom about itself, by `x-envoy-peer-metadata`.
fn peer_config(side: Side) -> peer_metadata::Config {
    use peer::{discovery_method::MethodSpecifier as Discover, propagation_method::MethodSpecifier as Propagate};
    let discover =
        peer::DiscoveryMethod { method_specifier: Some(Discover::IstioHeaders(peer::IstioHeaders::default())) };
    let propagate =
        peer::PropagationMethod { method_specifier: Some(Propagate::IstioHeaders(peer::IstioHeaders::default())) };
    match side {
        Side::Inbound => peer_metadata::Config {
            downstream_discovery: vec![discover],
            downstream_propagation: vec![propagate],
            ..peer_metadata::Config::default()
        },
        Side::Outbound | Side::Gateway => peer_metadata::Config {
            upstream_discovery: vec![discover],
            upstream_propagation: vec![propagate],
            ..peer_metadata::Config::default()
        },
    }
}

/// Which ALPN words a request of each protocol asks for upstream.
fn alpn_config() -> alpn::FilterConfig {
    use alpn::filter_config::{AlpnOverride, Protocol};
    let one = |protocol: Protocol, words: [&str; 3]| AlpnOverride {
        upstream_protocol: protocol as i32,
        alpn_override: super::tls::words(&words),
    };
    alpn::FilterConfig {
        alpn_override: vec![
            one(Protocol::Http10, ["istio-http/1.0", "istio", "http/1.0"]),
            one(Protocol::Http11, ["istio-http/1.1", "istio", "http/1.1"]),
            one(Protocol::Http2, ["istio-h2", "istio", "h2"]),
        ],
    }
}
