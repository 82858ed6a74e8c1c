//! What connection a request needs. Pure.

use std::net::SocketAddr;
use std::sync::Arc;

use http::Version;

use crate::cluster::Wanted;
use crate::cluster::{Cluster, Discovery, UpstreamProtocol};
use crate::http::stream::Stream;
use crate::message::RequestHead;
use crate::route::table::without_port;

/// The connection for the stream's request.
pub(super) fn wanted(stream: &Stream, cluster: &Arc<Cluster>, high_priority: bool) -> Wanted {
    let config = &cluster.config;
    let http2 = match config.protocol {
        UpstreamProtocol::Http1 => false,
        UpstreamProtocol::Http2 => true,
        UpstreamProtocol::UseDownstream => stream.request.version == Version::HTTP_2,
        UpstreamProtocol::Auto => false,
    };
    let auto = config.protocol == UpstreamProtocol::Auto;
    Wanted {
        http2,
        // A tunnel over a connection of unknown protocol goes by HTTP/1.
        auto: auto && stream.request.upgrade.is_none(),
        high_priority,
        alpn: stream.upstream.alpn_override.clone(),
        sni: config.auto_sni.then(|| without_port(&stream.request.authority).into()),
        source: None,
        exclusive: stream.request.upgrade.is_some() && !http2,
        reserve: false,
    }
}

/// The destination that a header names, if the cluster heeds it.
pub(super) fn original_dst_header(cluster: &Cluster, head: &RequestHead) -> Option<SocketAddr> {
    let Discovery::OriginalDst(destinations) = &cluster.discovery else { return None };
    head.headers.get(destinations.header.as_ref()?)?.to_str().ok()?.parse().ok()
}
