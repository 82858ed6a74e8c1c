//! HTTP options of a cluster: HttpProtocolOptions, or the older fields of the cluster itself.

// Envoy's own deprecations; Istio and older bootstraps still send these fields.
#![allow(deprecated)]

use std::time::Duration;

use ferromesh_proto::envoy::config::cluster::v3 as proto;
use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::extensions::upstreams::http::v3 as upstream;
use upstream::http_protocol_options::UpstreamProtocolOptions;
use upstream::http_protocol_options::explicit_http_config::ProtocolConfig;

use crate::cluster::UpstreamProtocol;
use crate::codec::h1::Settings;
use crate::codec::h1::names::NameFormat;
use crate::codec::h2::Http2Options;
use crate::config::{At, ConfigError, duration};

/// Key of `typed_extension_protocol_options`.
const KEY: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// HTTP options, decoded.
pub(super) struct Http {
    pub protocol: UpstreamProtocol,
    pub http2: Http2Options,
    pub idle_timeout: Option<Duration>,
    pub max_connection_duration: Option<Duration>,
    pub max_stream_duration: Option<Duration>,
    pub max_requests_per_connection: u32,
    pub max_response_headers_bytes: usize,
    pub max_response_headers_count: usize,
    pub http1: Settings,
    pub auto_sni: bool,
    pub auto_san_validation: bool,
}

pub(super) fn decode(cluster: &proto::Cluster) -> Result<Http, ConfigError> {
    let mut options = upstream::HttpProtocolOptions::default();
    for (key, any) in &cluster.typed_extension_protocol_options {
        let at = format!("typed_extension_protocol_options[{key}]");
        if key != KEY {
            return Err(ConfigError::new(at, "is not implemented"));
        }
        options = any.unpack().map_err(|error| ConfigError::new(at, error.to_string()))?;
    }
    let http1 = http1_options(&options, cluster);
    let (protocol, http2) = match &options.upstream_protocol_options {
        Some(chosen) => protocol(chosen)?,
        None => older(cluster),
    };
    let common = options.common_http_protocol_options.as_ref().or(cluster.common_http_protocol_options.as_ref());
    let upstream = options.upstream_http_protocol_options.as_ref().or(cluster.upstream_http_protocol_options.as_ref());
    let time = |value, field| duration(value, field).at("common_http_protocol_options");
    let idle = common.and_then(|common| common.idle_timeout);
    let older_requests = cluster.max_requests_per_connection;
    let requests = common.and_then(|common| common.max_requests_per_connection).or(older_requests);
    let head_bytes = common.and_then(|it| it.max_response_headers_kb).unwrap_or(60) as usize * 1024;
    let headers = common.and_then(|it| it.max_headers_count).unwrap_or(100) as usize;
    Ok(Http {
        protocol,
        http2: Http2Options::decode(http2.as_ref()).at("http2_protocol_options")?,
        // An hour unless set; zero is off.
        idle_timeout: Some(time(idle, "idle_timeout")?.unwrap_or(Duration::from_secs(3600)))
            .filter(|time| !time.is_zero()),
        max_connection_duration: time(common.and_then(|it| it.max_connection_duration), "max_connection_duration")?,
        max_stream_duration: time(common.and_then(|it| it.max_stream_duration), "max_stream_duration")?,
        max_requests_per_connection: requests.unwrap_or(0),
        max_response_headers_bytes: head_bytes,
        max_response_headers_count: headers,
        http1: Settings {
            head_bytes,
            headers,
            trailers: http1.enable_trailers,
            custom_methods: true,
            names: NameFormat::decode(&http1).at("http_protocol_options")?,
            ..Settings::default()
        },
        auto_sni: upstream.is_some_and(|it| it.auto_sni),
        auto_san_validation: upstream.is_some_and(|it| it.auto_san_validation),
    })
}

type Chosen = (UpstreamProtocol, Option<core::Http2ProtocolOptions>);

fn protocol(options: &UpstreamProtocolOptions) -> Result<Chosen, ConfigError> {
    let http3 = |at: &str| Err(ConfigError::new(format!("{at}.http3_protocol_options"), "is not implemented"));
    match options {
        UpstreamProtocolOptions::ExplicitHttpConfig(config) => match &config.protocol_config {
            None | Some(ProtocolConfig::HttpProtocolOptions(_)) => Ok((UpstreamProtocol::Http1, None)),
            Some(ProtocolConfig::Http2ProtocolOptions(http2)) => Ok((UpstreamProtocol::Http2, Some(http2.clone()))),
            Some(ProtocolConfig::Http3ProtocolOptions(_)) => http3("explicit_http_config"),
        },
        UpstreamProtocolOptions::UseDownstreamProtocolConfig(config) => match config.http3_protocol_options {
            Some(_) => http3("use_downstream_protocol_config"),
            None => Ok((UpstreamProtocol::UseDownstream, config.http2_protocol_options.clone())),
        },
        UpstreamProtocolOptions::AutoConfig(config) => match config.http3_protocol_options {
            Some(_) => http3("auto_config"),
            None => Ok((UpstreamProtocol::Auto, config.http2_protocol_options.clone())),
        },
    }
}

/// The HTTP/1 options of whichever kind is chosen.
fn http1_options(options: &upstream::HttpProtocolOptions, cluster: &proto::Cluster) -> core::Http1ProtocolOptions {
    let found = match &options.upstream_protocol_options {
        None => cluster.http_protocol_options.clone(),
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(config)) => match &config.protocol_config {
            Some(ProtocolConfig::HttpProtocolOptions(http1)) => Some(http1.clone()),
            _ => None,
        },
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(config)) => config.http_protocol_options.clone(),
        Some(UpstreamProtocolOptions::AutoConfig(config)) => config.http_protocol_options.clone(),
    };
    found.unwrap_or_default()
}

fn older(cluster: &proto::Cluster) -> Chosen {
    let downstream = proto::cluster::ClusterProtocolSelection::UseDownstreamProtocol as i32;
    match &cluster.http2_protocol_options {
        http2 if cluster.protocol_selection == downstream => (UpstreamProtocol::UseDownstream, http2.clone()),
        Some(http2) => (UpstreamProtocol::Http2, Some(http2.clone())),
        None => (UpstreamProtocol::Http1, None),
    }
}
