//! What tells whether an update changes a filter chain, and whether its connections may stay.

use ferromesh_proto::envoy::config::listener::v3 as proto;
use ferromesh_proto::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use ferromesh_proto::prost::Message;
use ferromesh_proto::{Any, json};
use proto::filter::ConfigType;

/// Of everything in the chain, and whether it is the default one.
pub(super) fn whole(chain: &proto::FilterChain, is_default: bool) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(&chain.encode_to_vec(), is_default.into())
}

/// Of what a connection takes when it begins: match, TLS, network filters, and of the HTTP connection manager only the
/// codec and the HTTP/2 settings. The rest of the manager is read per request.
pub(super) fn frame(chain: &proto::FilterChain, is_default: bool) -> u64 {
    let mut frame = chain.clone();
    // Nothing reads it.
    frame.metadata = None;
    if let Some(filter) = frame.filters.last_mut()
        && let Some(ConfigType::TypedConfig(any)) = &mut filter.config_type
        && let Some(manager) = manager(any)
    {
        *any = Any::pack(&HttpConnectionManager {
            codec_type: manager.codec_type,
            http2_protocol_options: manager.http2_protocol_options,
            ..Default::default()
        });
    }
    whole(&frame, is_default)
}

/// What is not a good manager is refused where it is decoded.
fn manager(any: &Any) -> Option<HttpConnectionManager> {
    let any = json::resolve_typed_struct(any).ok()?;
    if any.is::<HttpConnectionManager>() { any.unpack().ok() } else { None }
}
