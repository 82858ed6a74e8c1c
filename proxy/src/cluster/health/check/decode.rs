//! From Envoy's `HealthCheck` message to a check.

use std::time::Duration;

use bytes::Bytes;
use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::config::endpoint::v3 as endpoint;

use super::{CheckStats, Checker, HealthCheck, HostCheck};
use crate::config::{At, ConfigError, duration, required};
use crate::stats::Scope;

impl HostCheck {
    pub(in crate::cluster) fn decode(config: &endpoint::endpoint::HealthCheckConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            port: port(config.port_value).at("port_value")?,
            hostname: config.hostname.as_str().into(),
            disabled: config.disable_active_health_check,
        })
    }
}

fn port(value: u32) -> Result<Option<u16>, ConfigError> {
    let port = u16::try_from(value).map_err(|_| ConfigError::new("", "must be at most 65535"))?;
    Ok((port != 0).then_some(port))
}

impl HealthCheck {
    pub(in crate::cluster) fn decode(config: &core::HealthCheck, scope: &Scope) -> Result<Self, ConfigError> {
        let positive = |value, field| {
            required(duration(value, field)?, field).and_then(|value| {
                (!value.is_zero()).then_some(value).ok_or_else(|| ConfigError::new(field, "must not be zero"))
            })
        };
        let interval = positive(config.interval, "interval")?;
        Ok(Self {
            timeout: positive(config.timeout, "timeout")?,
            interval,
            initial_jitter: duration(config.initial_jitter, "initial_jitter")?.unwrap_or_default(),
            interval_jitter: duration(config.interval_jitter, "interval_jitter")?.unwrap_or_default(),
            jitter_percent: config.interval_jitter_percent.min(100),
            unhealthy_threshold: required(config.unhealthy_threshold, "unhealthy_threshold")?.max(1),
            healthy_threshold: required(config.healthy_threshold, "healthy_threshold")?.max(1),
            no_traffic_interval: duration(config.no_traffic_interval, "no_traffic_interval")?
                .unwrap_or(Duration::from_secs(60)),
            no_traffic_healthy_interval: duration(config.no_traffic_healthy_interval, "no_traffic_healthy_interval")?,
            unhealthy_interval: duration(config.unhealthy_interval, "unhealthy_interval")?,
            unhealthy_edge_interval: duration(config.unhealthy_edge_interval, "unhealthy_edge_interval")?,
            healthy_edge_interval: duration(config.healthy_edge_interval, "healthy_edge_interval")?,
            port: port(config.alt_port.unwrap_or_default()).at("alt_port")?,
            reuse_connection: config.reuse_connection.unwrap_or(true),
            log_failures: config.always_log_health_check_failures,
            checker: checker(required(config.health_checker.as_ref(), "health_checker")?)?,
            stats: CheckStats::new(scope),
            bounds: (Duration::ZERO, Duration::MAX),
        })
    }
}

fn checker(config: &core::health_check::HealthChecker) -> Result<Checker, ConfigError> {
    use core::health_check::HealthChecker;
    match config {
        HealthChecker::HttpHealthCheck(config) => http_checker(config).at("http_health_check"),
        HealthChecker::TcpHealthCheck(config) => {
            let receive = config.receive.iter().map(payload).collect::<Result<_, _>>();
            let send = config.send.as_ref().map(payload).transpose();
            Ok(Checker::Tcp {
                send: send.at("tcp_health_check.send")?.unwrap_or_default(),
                receive: receive.at("tcp_health_check.receive")?,
            })
        }
        HealthChecker::GrpcHealthCheck(config) => {
            Ok(Checker::Grpc { service: config.service_name.clone(), authority: config.authority.clone() })
        }
        HealthChecker::CustomHealthCheck(_) => Err(ConfigError::new("custom_health_check", "is not implemented")),
    }
}

fn http_checker(config: &core::health_check::HttpHealthCheck) -> Result<Checker, ConfigError> {
    let method = match core::RequestMethod::try_from(config.method) {
        Ok(core::RequestMethod::MethodUnspecified) | Err(_) => http::Method::GET,
        Ok(method) => http::Method::from_bytes(method.as_str_name().as_bytes())
            .map_err(|_| ConfigError::new("method", "is no HTTP method"))?,
    };
    let expected = match config.expected_statuses.as_slice() {
        [] => Ok(std::iter::once(200..201).collect()),
        ranges => ranges
            .iter()
            .map(|range| {
                let bound = |value| {
                    u16::try_from(value).map_err(|_| ConfigError::new("expected_statuses", "must be 100 to 600"))
                };
                Ok(bound(range.start)?..bound(range.end)?)
            })
            .collect(),
    };
    let mut headers = http::HeaderMap::new();
    for header in config.request_headers_to_add.iter().filter_map(|option| option.header.as_ref()) {
        let name = http::HeaderName::from_bytes(header.key.as_bytes());
        let value = http::HeaderValue::from_str(&header.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(ConfigError::new("request_headers_to_add", format!("{:?} is no valid header", header.key)));
        };
        headers.append(name, value);
    }
    if http::uri::PathAndQuery::try_from(config.path.as_str()).is_err() || !config.path.starts_with('/') {
        return Err(ConfigError::new("path", "must be a path that starts with /"));
    }
    Ok(Checker::Http {
        host: config.host.clone(),
        path: config.path.clone(),
        method,
        headers,
        expected: expected?,
        http2: config.codec_client_type == ferromesh_proto::envoy::r#type::v3::CodecClientType::Http2 as i32,
    })
}

fn payload(payload: &core::health_check::Payload) -> Result<Bytes, ConfigError> {
    match &payload.payload {
        None => Ok(Bytes::new()),
        Some(core::health_check::payload::Payload::Binary(bytes)) => Ok(bytes.clone()),
        Some(core::health_check::payload::Payload::Text(hex)) => hex
            .as_bytes()
            .chunks(2)
            .map(|pair| {
                std::str::from_utf8(pair)
                    .ok()
                    .filter(|pair| pair.len() == 2)
                    .and_then(|pair| u8::from_str_radix(pair, 16).ok())
            })
            .collect::<Option<Vec<u8>>>()
            .map(Bytes::from)
            .ok_or_else(|| ConfigError::new("text", "must be hexadecimal")),
    }
}
