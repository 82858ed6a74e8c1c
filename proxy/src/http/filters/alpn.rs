//! `istio.alpn`: the ALPN that goes to the upstream, by the upstream's protocol.

use std::sync::Arc;

use ferromesh_proto::istio::envoy::config::filter::http::alpn::v2alpha1 as proto;

use super::{Build, Flow, HttpFilter};
use crate::body::Body;
use crate::cluster::{Cluster, UpstreamProtocol};
use crate::config::ConfigError;
use crate::config::supported::Table;
use crate::http::stream::Stream;

/// Fields of this filter's messages that are implemented.
pub const SUPPORTED: Table = &[
    ("istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig", "alpn_override"),
    ("istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig.AlpnOverride", "*"),
];

/// Full name of the configuration.
pub const MESSAGE: &str = "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig";

/// Makes the filter.
pub fn build(build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
    let message: proto::FilterConfig = build.unpack()?;
    let mut lists: [Option<Arc<[Vec<u8>]>>; 3] = [None, None, None];
    for one in &message.alpn_override {
        let list: Vec<Vec<u8>> = one.alpn_override.iter().map(|name| name.clone().into_bytes()).collect();
        let place = usize::try_from(one.upstream_protocol).ok().and_then(|index| lists.get_mut(index));
        match place {
            Some(place) => *place = Some(list.into()),
            None => return Err(ConfigError::new("alpn_override.upstream_protocol", "is unknown")),
        }
    }
    Ok(Arc::new(Alpn { lists }))
}

/// Lists for HTTP/1.0, HTTP/1.1 and HTTP/2.
struct Alpn {
    lists: [Option<Arc<[Vec<u8>]>>; 3],
}

impl HttpFilter for Alpn {
    fn on_request(&self, stream: &mut Stream, _body: &mut Body) -> Flow {
        let Some(cluster) = &stream.upstream.cluster else { return Flow::Next };
        if is_overridden(cluster) {
            let http2 = match cluster.config.protocol {
                UpstreamProtocol::Http2 => true,
                UpstreamProtocol::UseDownstream => stream.request.version == http::Version::HTTP_2,
                UpstreamProtocol::Http1 | UpstreamProtocol::Auto => false,
            };
            stream.upstream.alpn_override = self.lists[if http2 { 2 } else { 1 }].clone();
        }
        Flow::Next
    }
}

/// Clusters say `istio.alpn_override: "false"` where their own ALPN must stay.
fn is_overridden(cluster: &Cluster) -> bool {
    let istio = cluster.config.metadata.get("istio").and_then(|istio| istio.as_object());
    istio.and_then(|istio| istio.get("alpn_override")).is_none_or(|value| value != "false")
}
