//! Resources from a control plane: whatever its bytes, the answer is an ACK or a NACK.

use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::cluster::v3::Cluster as ClusterProto;
use ferromesh_proto::envoy::config::core::v3::Node;
use ferromesh_proto::envoy::config::listener::v3::Listener as ListenerProto;
use ferromesh_proto::envoy::config::route::v3::RouteConfiguration as RouteProto;
use ferromesh_proto::json;

use super::Kind;
use crate::cluster::Cluster;
use crate::context::{Context, Local};
use crate::http::filters;
use crate::listener::Listener;
use crate::route::RouteConfiguration;
use crate::supported;

/// JSON of a resource with its `@type`, or a byte that chooses the type and the message's own bytes.
pub fn xds(data: &[u8]) {
    let any = match data.first() {
        Some(b'{') => {
            let text = std::str::from_utf8(data).ok().and_then(|text| json::yaml_value(text).ok());
            match text.map(json::any_from_json) {
                Some(Ok(any)) => any,
                _ => return,
            }
        }
        Some(kind) => {
            let kind = Kind::ALL[usize::from(*kind) % Kind::ALL.len()];
            Any { type_url: kind.type_url(), value: data[1..].to_vec().into() }
        }
        None => return,
    };
    let _ = super::store::name_of(Kind::Cluster, &any);
    if supported::check(&any).is_err() {
        return;
    }
    // Logs and secrets name files, which must not be opened here.
    let opens_files = [&b"AccessLog"[..], b"access_loggers", b"Tls"].map(|word| memchr::memmem::find(&any.value, word));
    let context = Context::new(Local::new(Node::default()));
    if any.is::<RouteProto>() {
        let _ = any
            .unpack::<RouteProto>()
            .map(|proto| RouteConfiguration::decode(proto, &|any| filters::decode_route(any, &context)));
    } else if any.is::<ListenerProto>() && opens_files[..2] == [None, None] {
        let _ = any.unpack::<ListenerProto>().map(|proto| Listener::decode(&proto, &context));
    } else if any.is::<ClusterProto>() && opens_files == [None; 3] {
        let _ = any.unpack::<ClusterProto>().map(|proto| Cluster::decode(&proto, &context.for_clusters()));
    }
}
