//! Decodes Envoy's HttpConnectionManager.
//!
//! Defaults are Envoy's, but for three that Envoy itself calls unsafe at an edge: heads must arrive within 10 s,
//! paths are normalized, and the HTTP/2 limits are those of [`Http2Options::default`].

use std::sync::Arc;
use std::time::Duration;

use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use ferromesh_proto::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use hcm::http_connection_manager::{RouteSpecifier, StripPortMode};
use ipnet::IpNet;

use super::detection::Detection;
use super::{Codec, ForwardClientCert, HttpConnectionManager, ServerHeader, Stats};
use crate::codec::h1::Settings;
use crate::codec::h1::names::NameFormat;
use crate::codec::h2::Http2Options;
use crate::config::{At, Awaited, ConfigError, duration, from_ads, required};
use crate::context::Context;
use crate::http::filters;
use crate::http::local_reply::Rewrite;
use crate::policy;
use crate::route::{RouteConfiguration, RouteHandle};
use crate::text::Text;

const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
const DELAYED_CLOSE: Duration = Duration::from_secs(1);

impl HttpConnectionManager {
    /// Decodes a connection manager.
    ///
    /// # Errors
    /// Names the field that is missing, wrong or not implemented.
    pub fn decode(message: hcm::HttpConnectionManager, context: &Context) -> Result<Arc<Self>, ConfigError> {
        Self::decode_after(message, context, None)
    }

    /// Decodes a new version of a connection manager. HTTP filters whose configuration has not changed are kept, with
    /// their state; what routes of an inline table configure for a filter is made anew.
    ///
    /// # Errors
    /// Names the field that is missing, wrong or not implemented.
    pub fn decode_after(
        message: hcm::HttpConnectionManager,
        context: &Context,
        before: Option<&Self>,
    ) -> Result<Arc<Self>, ConfigError> {
        if message.stat_prefix.is_empty() {
            return Err(ConfigError::new("stat_prefix", "must be set"));
        }
        check_request_id(message.request_id_extension.as_ref())?;
        let http1 = message.http_protocol_options.clone().unwrap_or_default();
        let common = message.common_http_protocol_options.unwrap_or_default();
        let (head_bytes, headers) = head_limits(&message, &common)?;
        let ip_detection = Detection::decode_list(&message)?;
        let times = Times::decode(&message, &common)?;
        let mut http2 = Http2Options::decode(message.http2_protocol_options.as_ref()).at("http2_protocol_options")?;
        if let Some(resets) = context.runtime.premature_resets() {
            http2.limits.premature_resets = resets;
        }
        let details = message.set_current_client_cert_details.unwrap_or_default();
        let codec = codec(message.codec_type)?;
        let (routes, rds) = routes(message.route_specifier, context)?;
        Ok(Arc::new(Self {
            codec,
            stat_prefix: message.stat_prefix.as_str().into(),
            filters: filters::decode_list(
                &message.http_filters,
                &message.stat_prefix,
                context,
                before.map(|before| &before.filters[..]).unwrap_or_default(),
            )?,
            access_logs: crate::access_log::AccessLog::decode_list(&message.access_log, &context.access_logs)?,
            server_name: server_name(&message.server_name)?,
            server_header: server_header(message.server_header_transformation)?,
            use_remote_address: message.use_remote_address.unwrap_or(false),
            xff_num_trusted_hops: message.xff_num_trusted_hops,
            ip_detection,
            skip_xff_append: message.skip_xff_append,
            generate_request_id: message.generate_request_id.unwrap_or(true),
            preserve_external_request_id: message.preserve_external_request_id,
            always_set_request_id_in_response: message.always_set_request_id_in_response,
            forward_client_cert: forward_client_cert(message.forward_client_cert_details)?,
            set_client_cert_details: [
                details.subject.unwrap_or(false),
                details.cert,
                details.chain,
                details.dns,
                details.uri,
            ],
            upgrades: upgrades(&message.upgrade_configs)?,
            normalize_path: message.normalize_path.unwrap_or(true),
            merge_slashes: message.merge_slashes,
            escaped_slashes_action: message.path_with_escaped_slashes_action,
            strip_port: match message.strip_port_mode {
                Some(StripPortMode::StripAnyHostPort(true)) => 2,
                _ => u8::from(message.strip_matching_host_port),
            },
            strip_trailing_host_dot: message.strip_trailing_host_dot,
            append_x_forwarded_port: message.append_x_forwarded_port,
            internal_addresses: internal_addresses(message.internal_address_config.as_ref())?,
            accept_http_10: http1.accept_http_10,
            default_host_for_http_10: http1.default_host_for_http_10.as_str().into(),
            idle_timeout: times.idle,
            stream_idle_timeout: times.stream_idle,
            request_timeout: times.request,
            request_headers_timeout: times.headers,
            max_stream_duration: times.stream,
            max_connection_duration: times.connection,
            max_requests_per_connection: common.max_requests_per_connection.unwrap_or(0),
            max_request_headers_bytes: head_bytes,
            max_headers_count: headers,
            http1: Settings {
                head_bytes,
                headers,
                trailers: http1.enable_trailers,
                custom_methods: http1.allow_custom_methods,
                absolute_urls: http1.allow_absolute_url.unwrap_or(true),
                names: NameFormat::decode(&http1).at("http_protocol_options")?,
            },
            keep_after_bad_request: http1
                .override_stream_error_on_invalid_http_message
                .or(message.stream_error_on_invalid_http_message)
                .unwrap_or(false),
            underscores_action: common.headers_with_underscores_action,
            http2,
            drain_timeout: times.drain,
            delayed_close: times.delayed_close,
            via: message.via.into(),
            proxy_100_continue: message.proxy_100_continue,
            local_reply: match message.local_reply_config {
                Some(config) => Rewrite::decode(config).at("local_reply_config")?,
                None => None,
            },
            stats: Stats::new(&context.stats.root(), &message.stat_prefix),
            // Last: it names the table in the store, which must not happen for a manager that is refused.
            routes,
            rds,
        }))
    }
}

/// Most bytes and most headers of a request's head.
fn head_limits(
    message: &hcm::HttpConnectionManager,
    common: &core::HttpProtocolOptions,
) -> Result<(usize, usize), ConfigError> {
    let bytes = match message.max_request_headers_kb {
        Some(kilobytes @ 1..=8192) => kilobytes as usize * 1024,
        Some(_) => return Err(ConfigError::new("max_request_headers_kb", "must be from 1 to 8192")),
        None => 60 * 1024,
    };
    match common.max_headers_count {
        Some(0) => Err(ConfigError::new("common_http_protocol_options.max_headers_count", "must be at least 1")),
        count => Ok((bytes, count.unwrap_or(100) as usize)),
    }
}

struct Times {
    idle: Option<Duration>,
    stream_idle: Option<Duration>,
    request: Option<Duration>,
    headers: Option<Duration>,
    stream: Option<Duration>,
    connection: Option<Duration>,
    drain: Duration,
    delayed_close: Duration,
}

impl Times {
    fn decode(message: &hcm::HttpConnectionManager, common: &core::HttpProtocolOptions) -> Result<Self, ConfigError> {
        // Zero turns a limit off.
        let on = |limit: Option<Duration>| limit.filter(|limit| !limit.is_zero());
        let field = |name: &str| format!("common_http_protocol_options.{name}");
        Ok(Self {
            idle: on(duration(common.idle_timeout, &field("idle_timeout"))?.or(Some(IDLE_TIMEOUT))),
            stream: on(duration(common.max_stream_duration, &field("max_stream_duration"))?),
            connection: on(duration(common.max_connection_duration, &field("max_connection_duration"))?),
            stream_idle: on(duration(message.stream_idle_timeout, "stream_idle_timeout")?.or(Some(STREAM_IDLE_TIMEOUT))),
            request: on(duration(message.request_timeout, "request_timeout")?),
            headers: on(duration(message.request_headers_timeout, "request_headers_timeout")?.or(Some(HEADERS_TIMEOUT))),
            drain: duration(message.drain_timeout, "drain_timeout")?.unwrap_or(DRAIN_TIMEOUT),
            delayed_close: duration(message.delayed_close_timeout, "delayed_close_timeout")?.unwrap_or(DELAYED_CLOSE),
        })
    }
}

fn unknown(field: &str, value: i32) -> ConfigError {
    ConfigError::new(field, format!("value {value} is not implemented"))
}

fn codec(value: i32) -> Result<Codec, ConfigError> {
    match value {
        0 => Ok(Codec::Auto),
        1 => Ok(Codec::Http1),
        2 => Ok(Codec::Http2),
        _ => Err(unknown("codec_type", value)),
    }
}

fn server_header(value: i32) -> Result<ServerHeader, ConfigError> {
    match value {
        0 => Ok(ServerHeader::Overwrite),
        1 => Ok(ServerHeader::AppendIfAbsent),
        2 => Ok(ServerHeader::PassThrough),
        _ => Err(unknown("server_header_transformation", value)),
    }
}

fn server_name(name: &str) -> Result<Text, ConfigError> {
    let name = if name.is_empty() { "envoy" } else { name };
    http::HeaderValue::from_str(name).map_err(|_| ConfigError::new("server_name", "is not a valid header value"))?;
    Ok(name.into())
}

fn forward_client_cert(value: i32) -> Result<ForwardClientCert, ConfigError> {
    match value {
        0 => Ok(ForwardClientCert::Sanitize),
        1 => Ok(ForwardClientCert::ForwardOnly),
        2 => Ok(ForwardClientCert::AppendForward),
        3 => Ok(ForwardClientCert::SanitizeSet),
        4 => Ok(ForwardClientCert::AlwaysForwardOnly),
        _ => Err(unknown("forward_client_cert_details", value)),
    }
}

fn check_request_id(extension: Option<&hcm::RequestIdExtension>) -> Result<(), ConfigError> {
    match extension.and_then(|extension| extension.typed_config.as_ref()) {
        Some(any) if !Any::is::<UuidRequestIdConfig>(any) => Err(ConfigError::new(
            "request_id_extension.typed_config",
            format!("extension type {:?} is not implemented", any.type_url),
        )),
        _ => Ok(()),
    }
}

fn upgrades(configs: &[hcm::http_connection_manager::UpgradeConfig]) -> Result<Vec<Text>, ConfigError> {
    let mut upgrades = Vec::new();
    for (index, config) in configs.iter().enumerate() {
        let at = || format!("upgrade_configs[{index}]");
        if !config.filters.is_empty() {
            return Err(ConfigError::new("filters", "is not implemented").at(at()));
        }
        if config.upgrade_type.is_empty() {
            return Err(ConfigError::new("upgrade_type", "must be set").at(at()));
        }
        if config.enabled.unwrap_or(true) {
            upgrades.push(config.upgrade_type.to_ascii_lowercase().into());
        }
    }
    Ok(upgrades)
}

fn internal_addresses(
    config: Option<&hcm::http_connection_manager::InternalAddressConfig>,
) -> Result<Vec<IpNet>, ConfigError> {
    let ranges = config.map(|config| &config.cidr_ranges[..]).unwrap_or_default();
    let decode = |(index, range)| policy::cidr(range).at(format!("internal_address_config.cidr_ranges[{index}]"));
    ranges.iter().enumerate().map(decode).collect()
}

/// The table's place, and what is waited for if it comes by RDS.
fn routes(specifier: Option<RouteSpecifier>, context: &Context) -> Result<(RouteHandle, Option<Awaited>), ConfigError> {
    match required(specifier, "route_config")? {
        RouteSpecifier::RouteConfig(table) => {
            let handle = RouteHandle::default();
            let table = RouteConfiguration::decode(table, &|any| filters::decode_route(any, context));
            handle.store(Arc::new(table.at("route_config")?));
            Ok((handle, None))
        }
        RouteSpecifier::Rds(rds) if rds.route_config_name.is_empty() => {
            Err(ConfigError::new("rds.route_config_name", "must be set"))
        }
        RouteSpecifier::Rds(rds) => {
            let limit = from_ads(rds.config_source.as_ref()).at("rds.config_source")?;
            let awaited = Awaited { what: "route table", name: rds.route_config_name.as_str().into(), limit };
            Ok((context.routes.handle(&rds.route_config_name), Some(awaited)))
        }
        RouteSpecifier::ScopedRoutes(_) => Err(ConfigError::new("scoped_routes", "is not implemented")),
    }
}
