//! Istio's peer metadata: labels of the other side, told in `x-envoy-peer-metadata` headers.

use std::rc::Rc;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ferromesh_proto::io::istio::http::peer_metadata as proto;
use ferromesh_proto::prost::Message;
use ferromesh_proto::prost_types::{Struct, Value};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Build, Flow, HttpFilter};
use crate::body::Body;
use crate::config::supported::Table;
use crate::config::{At, ConfigError};
use crate::connection::{Peer, UpstreamPeer};
use crate::context::Local;
use crate::http::stream::Stream;
use crate::message::ResponseHead;

/// Fields of this filter's messages that are implemented.
pub const SUPPORTED: Table = &[
    (
        "io.istio.http.peer_metadata.Config",
        "downstream_discovery upstream_discovery downstream_propagation upstream_propagation shared_with_upstream",
    ),
    ("io.istio.http.peer_metadata.Config.DiscoveryMethod", "workload_discovery istio_headers"),
    ("io.istio.http.peer_metadata.Config.WorkloadDiscovery", "*"),
    ("io.istio.http.peer_metadata.Config.PropagationMethod", "istio_headers"),
    ("io.istio.http.peer_metadata.Config.IstioHeaders", "skip_external_clusters"),
];

/// Full name of the configuration.
pub const MESSAGE: &str = "io.istio.http.peer_metadata.Config";

const METADATA: HeaderName = HeaderName::from_static("x-envoy-peer-metadata");
const ID: HeaderName = HeaderName::from_static("x-envoy-peer-metadata-id");

/// What the proxy tells of itself: the fields that Istio's proxies read.
fn own_metadata(local: &Local) -> Option<HeaderValue> {
    const KEYS: [&str; 10] = [
        "NAME",
        "NAMESPACE",
        "WORKLOAD_NAME",
        "CLUSTER_ID",
        "LABELS",
        "OWNER",
        "MESH_ID",
        "INSTANCE_IPS",
        "APP_CONTAINERS",
        "PLATFORM_METADATA",
    ];
    let metadata = local.node.metadata.as_ref()?;
    let keep = |name: &&str| metadata.fields.get(*name).map(|value: &Value| ((*name).to_owned(), value.clone()));
    let fields = Struct { fields: KEYS.iter().filter_map(keep).collect() };
    HeaderValue::from_str(&STANDARD.encode(fields.encode_to_vec())).ok()
}

/// Makes the filter.
pub fn build(build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
    let message: proto::Config = build.unpack()?;
    let discovery = |methods: &[proto::config::DiscoveryMethod], field: &str| -> Result<bool, ConfigError> {
        use proto::config::discovery_method::MethodSpecifier;
        let mut headers = false;
        for method in methods {
            match &method.method_specifier {
                Some(MethodSpecifier::IstioHeaders(_)) => headers = true,
                // Without a workload metadata service it finds nothing, as in Istio's proxy.
                Some(MethodSpecifier::WorkloadDiscovery(_)) => {}
                Some(MethodSpecifier::Baggage(_)) => {
                    return Err(ConfigError::new("baggage", "is not implemented")).at(field);
                }
                None => return Err(ConfigError::new(field, "each method must be set")),
            }
        }
        Ok(headers)
    };
    let propagation = |methods: &[proto::config::PropagationMethod], field: &str| {
        use proto::config::propagation_method::MethodSpecifier;
        let mut headers = None;
        for method in methods {
            match &method.method_specifier {
                Some(MethodSpecifier::IstioHeaders(istio)) => headers = Some(istio.skip_external_clusters),
                Some(MethodSpecifier::Baggage(_)) => {
                    return Err(ConfigError::new("baggage", "is not implemented")).at(field);
                }
                None => return Err(ConfigError::new(field, "each method must be set")),
            }
        }
        Ok(headers)
    };
    Ok(Arc::new(PeerMetadata {
        read_request: discovery(&message.downstream_discovery, "downstream_discovery")?,
        read_response: discovery(&message.upstream_discovery, "upstream_discovery")?,
        write_response: propagation(&message.downstream_propagation, "downstream_propagation")?.is_some(),
        write_request: propagation(&message.upstream_propagation, "upstream_propagation")?,
        id: HeaderValue::from_str(&build.context.local.node.id).ok().filter(|id| !id.is_empty()),
        metadata: own_metadata(&build.context.local),
    }))
}

struct PeerMetadata {
    read_request: bool,
    read_response: bool,
    write_response: bool,
    /// Whether external clusters are left out; `None` writes nothing.
    write_request: Option<bool>,
    id: Option<HeaderValue>,
    metadata: Option<HeaderValue>,
}

/// The request brought metadata, so that its sender wants ours.
struct Asked;

fn take(headers: &mut HeaderMap) -> (bool, Option<Peer>) {
    let metadata = headers.remove(METADATA);
    let id = headers.remove(ID);
    let told = metadata.is_some() || id.is_some();
    let id = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
    (told, metadata.and_then(|value| Peer::from_header(id, value.as_bytes())))
}

impl PeerMetadata {
    fn write(&self, headers: &mut HeaderMap) {
        if let Some(metadata) = &self.metadata {
            headers.insert(METADATA, metadata.clone());
        }
        if let Some(id) = &self.id {
            headers.insert(ID, id.clone());
        }
    }
}

impl HttpFilter for PeerMetadata {
    fn on_request(&self, stream: &mut Stream, _body: &mut Body) -> Flow {
        if self.read_request {
            let (told, peer) = take(&mut stream.request.headers);
            if told {
                stream.state.set(Asked);
            }
            if let Some(peer) = peer {
                stream.state.set(peer);
            }
        }
        if let Some(skip_external) = self.write_request
            && !(skip_external && is_external(stream))
        {
            self.write(&mut stream.request.headers);
        }
        Flow::Next
    }

    fn on_response(&self, stream: &mut Stream, head: &mut ResponseHead, _body: &mut Body) {
        if self.read_response
            && let (_, Some(peer)) = take(&mut head.headers)
        {
            stream.state.set(UpstreamPeer(Rc::new(peer)));
        }
        if self.write_response && stream.state.get::<Asked>().is_some() {
            self.write(&mut head.headers);
        }
    }
}

/// Whether the request leaves the mesh, as far as its cluster tells.
fn is_external(stream: &Stream) -> bool {
    let Some(name) = &stream.upstream.cluster_name else { return false };
    if matches!(name.as_str(), "PassthroughCluster" | "BlackHoleCluster" | "InboundPassthroughCluster") {
        return true;
    }
    let cluster = stream.upstream.cluster.as_ref();
    let external = cluster.and_then(|cluster| cluster.config.metadata.get("istio")?.get("external")?.as_bool());
    external.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferromesh_proto::envoy::config::core::v3::Node;

    fn local() -> Local {
        let metadata = serde_json::json!({
            "NAME": "web-1", "NAMESPACE": "shop", "WORKLOAD_NAME": "web", "CLUSTER_ID": "Kubernetes",
            "LABELS": {"app": "web", "version": "v2"}, "SECRET": "no",
        });
        let metadata = Some(ferromesh_proto::json::json_to_struct(&metadata));
        Local::new(Node { id: "sidecar~1.1.1.1~web-1.shop~x".into(), metadata, ..Default::default() })
    }

    #[test]
    fn what_one_proxy_tells_another_reads() {
        let header = own_metadata(&local()).expect("has metadata");
        let peer = Peer::from_header("id", header.as_bytes()).expect("readable");
        assert_eq!((peer.workload.as_str(), peer.namespace.as_str(), peer.app.as_str()), ("web", "shop", "web"));
        assert_eq!((peer.canonical_name.as_str(), peer.canonical_revision.as_str()), ("web", "latest"));
        assert_eq!((peer.version.as_str(), peer.cluster.as_str()), ("v2", "Kubernetes"));
    }
}
