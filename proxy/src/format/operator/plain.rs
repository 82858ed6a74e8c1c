//! Operators without arguments.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::{Simple, some, without_spaces};
use crate::cause::Cause;
use crate::cluster::{Host, HostAddress};
use crate::format::{Info, write_address};

type Borrowed = for<'a> fn(&'a Info<'a>) -> Option<Cow<'a, str>>;

fn number(value: Option<u64>) -> Simple {
    value.map_or(Simple::Missing, Simple::Number)
}

fn millis(value: Option<Duration>) -> Simple {
    number(value.map(|value| u64::try_from(value.as_millis()).unwrap_or(u64::MAX)))
}

/// Milliseconds from the request's start to a moment.
fn until(info: &Info<'_>, moment: Option<Instant>) -> Simple {
    millis(moment.map(|moment| moment.saturating_duration_since(info.start)))
}

fn bytes(headers: Option<&http::HeaderMap>) -> u64 {
    let of = |headers: &http::HeaderMap| -> u64 {
        headers.iter().map(|(name, value)| (name.as_str().len() + value.len()) as u64).sum()
    };
    headers.map_or(0, of)
}

pub(super) fn simple(name: &str) -> Option<fn(&Info<'_>) -> Simple> {
    counts(name).or_else(|| times(name)).or_else(|| addresses(name))
}

fn counts(name: &str) -> Option<fn(&Info<'_>) -> Simple> {
    Some(match name {
        "RESPONSE_CODE" => |info| Simple::Number(info.status.unwrap_or(0).into()),
        "BYTES_RECEIVED" => |info| Simple::Number(info.bytes_received),
        "BYTES_SENT" => |info| Simple::Number(info.bytes_sent),
        // QUIC's, which is not served.
        "BYTES_RETRANSMITTED" | "PACKETS_RETRANSMITTED" => |_| Simple::Number(0),
        "REQUEST_HEADERS_BYTES" => |info| Simple::Number(info.request.map_or(0, request_bytes)),
        "RESPONSE_HEADERS_BYTES" => |info| Simple::Number(info.response.map_or(0, response_bytes)),
        "RESPONSE_TRAILERS_BYTES" => |info| Simple::Number(bytes(info.trailers)),
        "DOWNSTREAM_WIRE_BYTES_RECEIVED" => |info| Simple::Number(info.wire.received),
        "DOWNSTREAM_WIRE_BYTES_SENT" => |info| Simple::Number(info.wire.sent),
        "DOWNSTREAM_HEADER_BYTES_RECEIVED" => |info| Simple::Number(info.wire.head_received),
        "DOWNSTREAM_HEADER_BYTES_SENT" => |info| Simple::Number(info.wire.head_sent),
        "CONNECTION_ID" => |info| Simple::Number(info.connection.id),
        "UPSTREAM_WIRE_BYTES_RECEIVED" => |info| Simple::Number(info.upstream.traffic().received),
        "UPSTREAM_WIRE_BYTES_SENT" => |info| Simple::Number(info.upstream.traffic().sent),
        "UPSTREAM_CONNECTION_ID" => |info| Simple::Number(info.upstream.connection_id.unwrap_or(0)),
        "UPSTREAM_REQUEST_ATTEMPT_COUNT" => |info| Simple::Number(info.upstream.attempts.into()),
        _ => return None,
    })
}

fn times(name: &str) -> Option<fn(&Info<'_>) -> Simple> {
    Some(match name {
        "DURATION" => |info| millis(Some(info.duration.unwrap_or_else(|| info.start.elapsed()))),
        "REQUEST_DURATION" => |info| millis(info.request_duration),
        "REQUEST_TX_DURATION" => |info| until(info, info.upstream.times.last_sent),
        "RESPONSE_DURATION" => |info| until(info, info.upstream.times.first_received),
        "RESPONSE_TX_DURATION" => |info| {
            let end = info.duration.map(|duration| info.start + duration);
            millis(end.zip(info.upstream.times.first_received).map(|(end, begin)| end.saturating_duration_since(begin)))
        },
        "UPSTREAM_CONNECTION_POOL_READY_DURATION" => |info| millis(info.upstream.times.waited),
        // QUIC's.
        "ROUNDTRIP_DURATION" => |_| Simple::Missing,
        _ => return None,
    })
}

fn addresses(name: &str) -> Option<fn(&Info<'_>) -> Simple> {
    Some(match name {
        "UPSTREAM_LOCAL_ADDRESS" => |info| info.upstream.local.map_or(Simple::Missing, Simple::Address),
        "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => {
            |info| info.upstream.local.map_or(Simple::Missing, |at| Simple::Ip(at.ip()))
        }
        "UPSTREAM_LOCAL_PORT" => |info| number(info.upstream.local.map(|at| at.port().into())),
        "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => |info| remote(info).map_or(Simple::Missing, |at| Simple::Ip(at.ip())),
        "UPSTREAM_REMOTE_PORT" => |info| number(remote(info).map(|at| at.port().into())),
        "DOWNSTREAM_REMOTE_ADDRESS" => |info| Simple::Address(info.remote),
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => |info| Simple::Ip(info.remote.ip()),
        "DOWNSTREAM_REMOTE_PORT" => |info| Simple::Number(info.remote.port().into()),
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => |info| Simple::Address(info.connection.direct_remote),
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => |info| Simple::Ip(info.connection.direct_remote.ip()),
        "DOWNSTREAM_DIRECT_REMOTE_PORT" => |info| Simple::Number(info.connection.direct_remote.port().into()),
        "DOWNSTREAM_LOCAL_ADDRESS" => |info| Simple::Address(info.connection.local),
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => |info| Simple::Ip(info.connection.local.ip()),
        "DOWNSTREAM_LOCAL_PORT" => |info| Simple::Number(info.connection.local.port().into()),
        "DOWNSTREAM_DIRECT_LOCAL_ADDRESS" => |info| Simple::Address(info.connection.direct_local),
        "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT" => |info| Simple::Ip(info.connection.direct_local.ip()),
        "DOWNSTREAM_DIRECT_LOCAL_PORT" => |info| Simple::Number(info.connection.direct_local.port().into()),
        _ => return None,
    })
}

/// The host's address, once there is a connection to it.
fn remote(info: &Info<'_>) -> Option<std::net::SocketAddr> {
    info.upstream.local?;
    match info.upstream.host.as_ref()?.address {
        HostAddress::Tcp(address) => Some(address),
        HostAddress::Unix(_) => None,
    }
}

pub(super) fn borrowed(name: &str) -> Option<Borrowed> {
    exchange(name).or_else(|| hosts(name))
}

fn exchange(name: &str) -> Option<Borrowed> {
    Some(match name {
        "PROTOCOL" => |info| info.request.map(|head| Cow::Borrowed(protocol(head.version))),
        "UPSTREAM_PROTOCOL" => |info| info.upstream.version.map(|version| Cow::Borrowed(protocol(version))),
        "CONNECTION_TERMINATION_DETAILS" => |info| info.termination_details.map(Cow::Borrowed),
        // Never missing, so that it is a hyphen in headers and JSON too.
        "RESPONSE_FLAGS" => |info| Some(response_flags(info).unwrap_or(Cow::Borrowed("-"))),
        "RESPONSE_FLAGS_LONG" => |info| Some(long_flags(info).unwrap_or(Cow::Borrowed("-"))),
        // Nothing here sets any.
        "CUSTOM_FLAGS" => |_| Some(Cow::Borrowed("")),
        "LOCAL_REPLY_BODY" => |info| Some(Cow::Borrowed(info.local_reply)),
        "UPSTREAM_CLUSTER" => |info| some(&info.upstream.cluster.as_ref()?.config.stat_name).map(Cow::Borrowed),
        "UPSTREAM_CLUSTER_RAW" => |info| some(&info.upstream.cluster.as_ref()?.config.name).map(Cow::Borrowed),
        "UPSTREAM_TRANSPORT_FAILURE_REASON" => |info| info.upstream.transport_failure.as_deref().map(without_spaces),
        "DOWNSTREAM_TRANSPORT_FAILURE_REASON" => |info| {
            let failed = info.causes.contains(&Cause::DownstreamTlsFailure);
            info.termination_details.filter(|_| failed).map(without_spaces)
        },
        "REQUESTED_SERVER_NAME" => |info| info.connection.server_name.as_deref().map(Cow::Borrowed),
        "ROUTE_NAME" => |info| some(info.route?.name).map(Cow::Borrowed),
        "FILTER_CHAIN_NAME" => |info| some(&info.connection.filter_chain).map(Cow::Borrowed),
        "STREAM_ID" => |info| Some(Cow::Borrowed(info.request?.headers.get("x-request-id")?.to_str().ok()?)),
        "UNIQUE_ID" => |_| Some(Cow::Owned(uuid::Uuid::new_v4().to_string())),
        // Only Envoy's internal addresses have any.
        "UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID" => |info| remote(info).map(|_| Cow::Borrowed("")),
        "DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID" | "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID" => {
            |_| Some(Cow::Borrowed(""))
        }
        // What would set these is refused where it is configured: virtual clusters, tracing, fingerprints of hellos.
        "VIRTUAL_CLUSTER_NAME" | "TRACE_ID" | "SPAN_ID" | "TLS_JA3_FINGERPRINT" | "TLS_JA4_FINGERPRINT" => |_| None,
        _ => return None,
    })
}

fn hosts(name: &str) -> Option<Borrowed> {
    Some(match name {
        "UPSTREAM_HOST" => |info| info.upstream.host.as_deref().map(address),
        "UPSTREAM_REMOTE_ADDRESS" => |info| {
            info.upstream.local?;
            info.upstream.host.as_deref().map(address)
        },
        "UPSTREAM_HOST_NAME" => |info| info.upstream.host.as_deref().map(host_name),
        "UPSTREAM_HOST_NAME_WITHOUT_PORT" => |info| info.upstream.host.as_deref().map(host_name).map(without_port),
        // Envoy forgets those of the tries before.
        "UPSTREAM_HOSTS_ATTEMPTED" => |info| info.upstream.attempted.as_deref().map(address),
        "UPSTREAM_CONNECTION_IDS_ATTEMPTED" => |info| Some(Cow::Owned(info.upstream.connection_id?.to_string())),
        "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT" => {
            |info| info.upstream.attempted.as_deref().map(address).map(without_port)
        }
        "UPSTREAM_HOST_NAMES_ATTEMPTED" => |info| info.upstream.attempted.as_deref().map(host_name),
        "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT" => {
            |info| info.upstream.attempted.as_deref().map(host_name).map(without_port)
        }
        _ => return None,
    })
}

fn address(host: &Host) -> Cow<'_, str> {
    match &host.address {
        HostAddress::Tcp(address) => {
            let mut text = Vec::with_capacity(21);
            write_address(*address, &mut text);
            Cow::Owned(String::from_utf8(text).unwrap_or_default())
        }
        HostAddress::Unix(path) => Cow::Borrowed(path.as_str()),
    }
}

/// The host's name, or its address if it has none.
fn host_name(host: &Host) -> Cow<'_, str> {
    some(&host.hostname).map_or_else(|| address(host), Cow::Borrowed)
}

fn without_port(text: Cow<'_, str>) -> Cow<'_, str> {
    let end = match text.rfind(':') {
        Some(at) if !text[at..].contains(']') && text[at + 1..].bytes().all(|byte| byte.is_ascii_digit()) => at,
        _ => return text,
    };
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Cow::Owned(text)
        }
    }
}

/// `RESPONSE_CODE_DETAILS`.
pub(super) fn details<'a>(info: &'a Info<'a>) -> Option<Cow<'a, str>> {
    some(info.details).map(without_spaces)
}

fn request_bytes(head: &crate::message::RequestHead) -> u64 {
    let pseudo = [
        (":method", head.method.as_str().len()),
        (":scheme", head.scheme.len()),
        (":authority", head.authority.len()),
        (":path", head.path.len()),
    ];
    let pseudo = pseudo.iter().filter(|(_, length)| *length > 0).map(|(name, length)| (name.len() + length) as u64);
    pseudo.sum::<u64>() + bytes(Some(&head.headers))
}

fn response_bytes(head: &crate::message::ResponseHead) -> u64 {
    (":status".len() + 3) as u64 + bytes(Some(&head.headers))
}

/// The response flags, separated by commas; `None` if there are none.
pub fn response_flags<'a>(info: &Info<'a>) -> Option<Cow<'a, str>> {
    joined(flags(info))
}

fn flags(info: &Info<'_>) -> SmallVec<[&'static str; 4]> {
    let mut flags: SmallVec<[&'static str; 4]> = SmallVec::new();
    for flag in info.causes.iter().map(|cause| cause.flag()) {
        if !flag.is_empty() && !flags.contains(&flag) {
            flags.push(flag);
        }
    }
    flags
}

fn joined(flags: SmallVec<[&'static str; 4]>) -> Option<Cow<'static, str>> {
    match flags.as_slice() {
        [] => None,
        [one] => Some(Cow::Borrowed(one)),
        several => Some(Cow::Owned(several.join(","))),
    }
}

fn long_flags(info: &Info<'_>) -> Option<Cow<'static, str>> {
    joined(flags(info).into_iter().map(long_flag).collect())
}

/// Envoy's long name of a flag.
fn long_flag(flag: &'static str) -> &'static str {
    match flag {
        "LH" => "FailedLocalHealthCheck",
        "UH" => "NoHealthyUpstream",
        "UT" => "UpstreamRequestTimeout",
        "LR" => "LocalReset",
        "UR" => "UpstreamRemoteReset",
        "UF" => "UpstreamConnectionFailure",
        "UC" => "UpstreamConnectionTermination",
        "UO" => "UpstreamOverflow",
        "NR" => "NoRouteFound",
        "NC" => "NoClusterFound",
        "DI" => "DelayInjected",
        "FI" => "FaultInjected",
        "RL" => "RateLimited",
        "DC" => "DownstreamConnectionTermination",
        "DR" => "DownstreamRemoteReset",
        "URX" => "UpstreamRetryLimitExceeded",
        "SI" => "StreamIdleTimeout",
        "DPE" => "DownstreamProtocolError",
        "UPE" => "UpstreamProtocolError",
        "UMSDR" => "UpstreamMaxStreamDurationReached",
        "NFCF" => "NoFilterConfigFound",
        "DT" => "DurationTimeout",
        "OM" => "OverloadManagerTerminated",
        other => other,
    }
}

/// The name of an HTTP version.
pub fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_09 | http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2",
        http::Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}

pub(super) fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_else(|| "-".to_owned())
}
