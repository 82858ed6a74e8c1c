//! The operators: their names, and the value of each.

use std::borrow::Cow;
use std::time::Duration;

use smallvec::SmallVec;

use super::parse::Compiled;
use super::{Info, Rendered, TimeFormat};
use crate::cluster::HostAddress;
use crate::config::{At, ConfigError};
use crate::connection::TlsInfo;
use crate::connection::{Peer, UpstreamPeer};
use crate::matcher::header::Name;
use crate::matcher::{metadata, query_value};
use crate::text::Text;

/// A compiled operator.
#[derive(Debug, Clone)]
pub enum Operator {
    /// A request header, or the second if the first is absent.
    Request(Name, Option<Name>),
    /// A response header, or the second.
    Response(Name, Option<Name>),
    /// A response trailer, or the second.
    Trailer(Name, Option<Name>),
    /// Start of the request.
    StartTime(TimeFormat),
    /// The moment of logging.
    EmitTime(TimeFormat),
    /// The path; the bool says with query.
    Path(bool),
    /// A query parameter.
    QueryParam(Box<str>),
    /// Dynamic metadata: filter, path.
    DynamicMetadata(Box<str>, Vec<Box<str>>),
    /// Metadata of the chosen cluster: filter, path.
    ClusterMetadata(Box<str>, Vec<Box<str>>),
    /// Metadata of the chosen host: filter, path.
    UpstreamMetadata(Box<str>, Vec<Box<str>>),
    /// Metadata of the route: filter, path.
    RouteMetadata(Box<str>, Vec<Box<str>>),
    /// A field of the peer's metadata; the bools say upstream, and that no field is named.
    Peer(bool, PeerField),
    /// A value that takes no arguments.
    Simple(fn(&Info<'_>) -> Simple),
    /// A borrowed value that takes no arguments.
    Borrowed(for<'a> fn(&'a Info<'a>) -> Option<Cow<'a, str>>),
}

/// Fields of the peer's metadata that logs can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PeerField {
    All,
    Workload,
    Namespace,
    App,
    Version,
    Service,
    Revision,
    Cluster,
    Id,
}

/// A value without borrow.
#[derive(Debug)]
pub enum Simple {
    /// None.
    Missing,
    /// A number.
    Number(u64),
    /// An address with port.
    Address(std::net::SocketAddr),
    /// An address without port.
    Ip(std::net::IpAddr),
}

fn number(value: Option<u64>) -> Simple {
    value.map_or(Simple::Missing, Simple::Number)
}

fn millis(value: Option<Duration>) -> Simple {
    number(value.map(|value| u64::try_from(value.as_millis()).unwrap_or(u64::MAX)))
}

impl Operator {
    /// Compiles an operator.
    pub(super) fn compile(name: &str, arguments: Option<&str>) -> Result<Compiled, ConfigError> {
        let failed = |error: ConfigError| ConfigError::new("", format!("operator %{name}%: {}", error.reason));
        if let Some(found) = Self::with_arguments(name, arguments.unwrap_or_default()) {
            return found.map_err(failed);
        }
        if arguments.is_some() {
            return Err(failed(ConfigError::new("", "is unknown, or takes no arguments")));
        }
        if let Some(simple) = simple(name) {
            return Ok(Compiled::Operator(Self::Simple(simple)));
        }
        if let Some(borrowed) = borrowed(name) {
            return Ok(Compiled::Operator(Self::Borrowed(borrowed)));
        }
        match name {
            "HOSTNAME" => Ok(Compiled::Literal(hostname())),
            "ACCESS_LOG_TYPE" => Ok(Compiled::Literal("DownstreamEnd".to_owned())),
            _ => Err(failed(ConfigError::new("", "is unknown"))),
        }
    }

    fn with_arguments(name: &str, arguments: &str) -> Option<Result<Compiled, ConfigError>> {
        let path = |make: fn(Box<str>, Vec<Box<str>>) -> Self| {
            let mut keys = arguments.split(':').map(Into::into);
            let filter: Box<str> = keys.next().unwrap_or_default();
            Ok(make(filter, keys.collect()))
        };
        let operator = match name {
            "REQ" => headers(arguments).map(|(first, second)| Self::Request(first, second)),
            "RESP" => headers(arguments).map(|(first, second)| Self::Response(first, second)),
            "TRAILER" => headers(arguments).map(|(first, second)| Self::Trailer(first, second)),
            "START_TIME" => TimeFormat::parse(arguments).map(Self::StartTime),
            "EMIT_TIME" => TimeFormat::parse(arguments).map(Self::EmitTime),
            "PATH" => match arguments {
                "" | "WQ" | "WITH_QUERY" | "WQ:PATH" => Ok(Self::Path(true)),
                "NQ" | "WITHOUT_QUERY" | "NQ:PATH" => Ok(Self::Path(false)),
                _ => Err(ConfigError::new("", "argument must be WQ or NQ")),
            },
            "QUERY_PARAM" => Ok(Self::QueryParam(arguments.into())),
            "DYNAMIC_METADATA" => path(Self::DynamicMetadata),
            "CLUSTER_METADATA" => path(Self::ClusterMetadata),
            "UPSTREAM_METADATA" => path(Self::UpstreamMetadata),
            "METADATA" => {
                let (kind, rest) = arguments.split_once(':').unwrap_or((arguments, ""));
                let inner = match kind {
                    "DYNAMIC" => "DYNAMIC_METADATA",
                    "CLUSTER" => "CLUSTER_METADATA",
                    "UPSTREAM_HOST" => "UPSTREAM_METADATA",
                    "ROUTE" => {
                        let mut keys = rest.split(':').map(Into::into);
                        let filter: Box<str> = keys.next().unwrap_or_default();
                        return Some(Ok(Compiled::Operator(Self::RouteMetadata(filter, keys.collect()))));
                    }
                    other => {
                        let reason = format!("metadata of kind {other:?} is not implemented");
                        return Some(Err(ConfigError::new("", reason)));
                    }
                };
                return Self::with_arguments(inner, rest);
            }
            "FILTER_STATE" => peer(arguments),
            "ENVIRONMENT" => {
                return Some(Ok(Compiled::Literal(std::env::var(arguments).unwrap_or_else(|_| "-".into()))));
            }
            _ => return None,
        };
        Some(operator.map(Compiled::Operator))
    }

    /// Its value now.
    pub fn value<'a>(&'a self, info: &'a Info<'a>) -> Rendered<'a> {
        let text = |value: Option<Cow<'a, str>>| value.map_or(Rendered::Missing, Rendered::Text);
        match self {
            Self::Request(first, second) => text(
                info.request
                    .and_then(|head| first.first_in_request(head).or_else(|| second.as_ref()?.first_in_request(head))),
            ),
            Self::Response(first, second) => {
                text(info.response.and_then(|head| {
                    first.first_in_response(head).or_else(|| second.as_ref()?.first_in_response(head))
                }))
            }
            Self::Trailer(first, second) => text(
                info.trailers
                    .and_then(|trailers| first.first_in(trailers).or_else(|| second.as_ref()?.first_in(trailers))),
            ),
            Self::StartTime(format) => Rendered::Text(format.format(info.start_time).into()),
            Self::EmitTime(format) => Rendered::Text(format.format(info.start_time + info.start.elapsed()).into()),
            Self::Path(query) => {
                text(info.request.map(|head| Cow::Borrowed(if *query { head.path.as_str() } else { head.path_only() })))
            }
            Self::QueryParam(name) => text(info.request.and_then(|head| query_value(head.query(), name))),
            Self::DynamicMetadata(filter, path) => {
                json(info.metadata.and_then(|metadata| metadata.get(&**filter)), path)
            }
            Self::ClusterMetadata(filter, path) => {
                let cluster = info.upstream.cluster.as_ref();
                json(cluster.and_then(|cluster| cluster.config.metadata.get(&**filter)?.as_object()), path)
            }
            Self::UpstreamMetadata(filter, path) => {
                let host = info.upstream.host.as_ref();
                json(host.and_then(|host| host.metadata.get(&**filter)?.as_object()), path)
            }
            Self::RouteMetadata(filter, path) => {
                json(info.route.and_then(|route| route.metadata?.get(&**filter)?.as_object()), path)
            }
            Self::Peer(upstream, field) => text(peer_of(info, *upstream).and_then(|peer| field.of(peer))),
            Self::Simple(value) => match value(info) {
                Simple::Missing => Rendered::Missing,
                Simple::Number(value) => Rendered::Number(value),
                Simple::Address(value) => Rendered::Address(value),
                Simple::Ip(value) => Rendered::Ip(value),
            },
            Self::Borrowed(value) => text(value(info)),
        }
    }
}

fn json<'a>(map: Option<&'a serde_json::Map<String, serde_json::Value>>, path: &[Box<str>]) -> Rendered<'a> {
    map.and_then(|map| metadata::lookup(map, path)).map_or(Rendered::Missing, Rendered::Json)
}

fn headers(arguments: &str) -> Result<(Name, Option<Name>), ConfigError> {
    let (first, second) = match arguments.split_once('?') {
        Some((first, second)) => (first, Some(second)),
        None => (arguments, None),
    };
    Ok((Name::parse(first)?, second.map(Name::parse).transpose().at("")?))
}

/// `FILTER_STATE(wasm.upstream_peer)` and its fields, as Istio's logs name them.
fn peer(arguments: &str) -> Result<Operator, ConfigError> {
    let mut words = arguments.split(':');
    let key = words.next().unwrap_or_default();
    let upstream = match key.strip_prefix("wasm.").unwrap_or(key) {
        "upstream_peer" => true,
        "downstream_peer" => false,
        _ => return Err(ConfigError::new("", format!("filter state {key:?} is not implemented"))),
    };
    let mut field = PeerField::All;
    while let Some(word) = words.next() {
        match word {
            "PLAIN" | "TYPED" => {}
            "FIELD" => {
                let name = words.next().unwrap_or_default();
                field = PeerField::parse(name)
                    .ok_or_else(|| ConfigError::new("", format!("the peer has no field {name:?}")))?;
            }
            other => return Err(ConfigError::new("", format!("option {other:?} is not implemented"))),
        }
    }
    Ok(Operator::Peer(upstream, field))
}

impl PeerField {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "workload" => Self::Workload,
            "namespace" => Self::Namespace,
            "app" => Self::App,
            "version" => Self::Version,
            "service" => Self::Service,
            "revision" => Self::Revision,
            "cluster" => Self::Cluster,
            "name" => Self::Id,
            _ => return None,
        })
    }

    fn of(self, peer: &Peer) -> Option<Cow<'_, str>> {
        let field = match self {
            Self::All => {
                let object = serde_json::json!({
                    "workload": peer.workload.as_str(), "namespace": peer.namespace.as_str(),
                    "app": peer.app.as_str(), "version": peer.version.as_str(),
                    "service": peer.canonical_name.as_str(), "revision": peer.canonical_revision.as_str(),
                    "cluster": peer.cluster.as_str(), "name": peer.id.as_str(),
                });
                return Some(Cow::Owned(object.to_string()));
            }
            Self::Workload => &peer.workload,
            Self::Namespace => &peer.namespace,
            Self::App => &peer.app,
            Self::Version => &peer.version,
            Self::Service => &peer.canonical_name,
            Self::Revision => &peer.canonical_revision,
            Self::Cluster => &peer.cluster,
            Self::Id => &peer.id,
        };
        (!field.is_empty()).then(|| Cow::Borrowed(field.as_str()))
    }
}

fn peer_of<'a>(info: &Info<'a>, upstream: bool) -> Option<&'a Peer> {
    if upstream {
        return info.state?.get::<UpstreamPeer>().map(|peer| &*peer.0);
    }
    info.state.and_then(|state| state.get::<Peer>()).or(info.connection.peer.as_deref())
}

fn simple(name: &str) -> Option<fn(&Info<'_>) -> Simple> {
    Some(match name {
        "RESPONSE_CODE" => |info| Simple::Number(info.status.unwrap_or(0).into()),
        "BYTES_RECEIVED" => |info| Simple::Number(info.bytes_received),
        "BYTES_SENT" => |info| Simple::Number(info.bytes_sent),
        "REQUEST_HEADERS_BYTES" => |info| number(info.request.map(|head| header_bytes(&head.headers))),
        "RESPONSE_HEADERS_BYTES" => |info| number(info.response.map(|head| header_bytes(&head.headers))),
        "DURATION" => |info| millis(info.duration),
        "REQUEST_DURATION" => |info| millis(info.request_duration),
        "RESPONSE_DURATION" => |info| millis(info.response_duration),
        "RESPONSE_TX_DURATION" => {
            |info| millis(info.duration.zip(info.response_duration).map(|(end, start)| end.saturating_sub(start)))
        }
        "CONNECTION_ID" => |info| Simple::Number(info.connection.id),
        "UPSTREAM_REQUEST_ATTEMPT_COUNT" => |info| Simple::Number(info.upstream.attempts.into()),
        "UPSTREAM_LOCAL_ADDRESS" => |info| info.upstream.local.map_or(Simple::Missing, Simple::Address),
        "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => {
            |info| info.upstream.local.map_or(Simple::Missing, |at| Simple::Ip(at.ip()))
        }
        "UPSTREAM_LOCAL_PORT" => |info| number(info.upstream.local.map(|at| at.port().into())),
        "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => {
            |info| upstream_address(info).map_or(Simple::Missing, |at| Simple::Ip(at.ip()))
        }
        "UPSTREAM_REMOTE_PORT" => |info| number(upstream_address(info).map(|at| at.port().into())),
        "DOWNSTREAM_REMOTE_ADDRESS" => |info| Simple::Address(info.remote),
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => |info| Simple::Ip(info.remote.ip()),
        "DOWNSTREAM_REMOTE_PORT" => |info| Simple::Number(info.remote.port().into()),
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => |info| Simple::Address(info.connection.direct_remote),
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => |info| Simple::Ip(info.connection.direct_remote.ip()),
        "DOWNSTREAM_DIRECT_REMOTE_PORT" => |info| Simple::Number(info.connection.direct_remote.port().into()),
        "DOWNSTREAM_LOCAL_ADDRESS" => |info| Simple::Address(info.connection.local),
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => |info| Simple::Ip(info.connection.local.ip()),
        "DOWNSTREAM_LOCAL_PORT" => |info| Simple::Number(info.connection.local.port().into()),
        "GRPC_STATUS_NUMBER" => |info| number(grpc_status(info).map(Into::into)),
        _ => return None,
    })
}

type Borrowed = for<'a> fn(&'a Info<'a>) -> Option<Cow<'a, str>>;

fn borrowed(name: &str) -> Option<Borrowed> {
    Some(match name {
        "PROTOCOL" => |info| info.request.map(|head| Cow::Borrowed(protocol(head.version))),
        "RESPONSE_CODE_DETAILS" => |info| some(info.details).map(without_spaces),
        "CONNECTION_TERMINATION_DETAILS" => |info| info.termination_details.map(Cow::Borrowed),
        // Never missing, so that it is a hyphen in headers and JSON too.
        "RESPONSE_FLAGS" => |info| Some(response_flags(info).unwrap_or(Cow::Borrowed("-"))),
        "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => |info| {
            Some(match &info.upstream.host.as_ref()?.address {
                HostAddress::Tcp(address) => {
                    let mut text = Vec::with_capacity(21);
                    super::write_address(*address, &mut text);
                    Cow::Owned(String::from_utf8(text).unwrap_or_default())
                }
                HostAddress::Unix(path) => Cow::Borrowed(path.as_str()),
            })
        },
        "UPSTREAM_HOST_NAME" | "UPSTREAM_HOST_NAME_WITHOUT_PORT" => {
            |info| some(&info.upstream.host.as_ref()?.hostname).map(Cow::Borrowed)
        }
        "UPSTREAM_CLUSTER" => |info| some(&info.upstream.cluster.as_ref()?.config.stat_name).map(Cow::Borrowed),
        "UPSTREAM_CLUSTER_RAW" => |info| some(&info.upstream.cluster.as_ref()?.config.name).map(Cow::Borrowed),
        "UPSTREAM_TRANSPORT_FAILURE_REASON" => |info| info.upstream.transport_failure.as_deref().map(without_spaces),
        "REQUESTED_SERVER_NAME" => |info| info.connection.server_name.as_deref().map(Cow::Borrowed),
        "LOCAL_REPLY_BODY" => |info| Some(Cow::Borrowed(info.local_reply)),
        "ROUTE_NAME" => |info| some(info.route?.name).map(Cow::Borrowed),
        "VIRTUAL_HOST_NAME" => |info| some(info.route?.virtual_host).map(Cow::Borrowed),
        "VIRTUAL_CLUSTER_NAME" => |_| None,
        "FILTER_CHAIN_NAME" => |info| some(&info.connection.filter_chain).map(Cow::Borrowed),
        "STREAM_ID" => |info| Some(Cow::Borrowed(info.request?.headers.get("x-request-id")?.to_str().ok()?)),
        "UNIQUE_ID" => |_| Some(Cow::Owned(uuid::Uuid::new_v4().to_string())),
        "GRPC_STATUS" => |info| {
            grpc_status(info).map(|status| {
                GRPC_NAMES
                    .get(status as usize)
                    .map_or_else(|| Cow::Owned(status.to_string()), |name| Cow::Borrowed(*name))
            })
        },
        "DOWNSTREAM_TLS_VERSION" => |info| some(info.connection.tls.as_ref()?.version).map(Cow::Borrowed),
        "DOWNSTREAM_TLS_CIPHER" => |info| some(info.connection.tls.as_ref()?.cipher).map(Cow::Borrowed),
        "DOWNSTREAM_PEER_URI_SAN" => |info| list(&info.connection.tls.as_ref()?.peer_uri_sans),
        "DOWNSTREAM_PEER_DNS_SAN" => |info| list(&info.connection.tls.as_ref()?.peer_dns_sans),
        "DOWNSTREAM_LOCAL_URI_SAN" => |info| list(&info.connection.tls.as_ref()?.local_uri_sans),
        "DOWNSTREAM_PEER_SUBJECT" => |info| some(&info.connection.tls.as_ref()?.peer_subject).map(Cow::Borrowed),
        "DOWNSTREAM_PEER_ISSUER" => |info| some(&info.connection.tls.as_ref()?.peer_issuer).map(Cow::Borrowed),
        "DOWNSTREAM_PEER_FINGERPRINT_256" => |info| some(&info.connection.tls.as_ref()?.peer_sha256).map(Cow::Borrowed),
        "DOWNSTREAM_PEER_SERIAL" => |info| some(&info.connection.tls.as_ref()?.peer_serial).map(Cow::Borrowed),
        "DOWNSTREAM_PEER_CERT" => |info| owned(info.connection.tls.as_ref()?.peer_pem()),
        "UPSTREAM_TLS_VERSION" => |info| some(upstream_tls(info)?.version).map(Cow::Borrowed),
        "UPSTREAM_TLS_CIPHER" => |info| some(upstream_tls(info)?.cipher).map(Cow::Borrowed),
        "UPSTREAM_PEER_URI_SAN" => |info| list(&upstream_tls(info)?.peer_uri_sans),
        "UPSTREAM_PEER_DNS_SAN" => |info| list(&upstream_tls(info)?.peer_dns_sans),
        "UPSTREAM_LOCAL_URI_SAN" => |info| list(&upstream_tls(info)?.local_uri_sans),
        "UPSTREAM_PEER_SUBJECT" => |info| some(&upstream_tls(info)?.peer_subject).map(Cow::Borrowed),
        "UPSTREAM_PEER_ISSUER" => |info| some(&upstream_tls(info)?.peer_issuer).map(Cow::Borrowed),
        _ => return None,
    })
}

/// Names of gRPC status codes, as Envoy's logs write them.
pub const GRPC_NAMES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// The gRPC status of the response: of its trailers, else of its head, else what its HTTP status stands for. `None` if
/// the request is not a gRPC one.
pub fn grpc_status(info: &Info<'_>) -> Option<u32> {
    info.request.filter(|head| head.is_grpc())?;
    let of = |headers: &http::HeaderMap| headers.get("grpc-status")?.to_str().ok()?.parse().ok();
    let told = info.trailers.and_then(of).or_else(|| of(&info.response?.headers));
    let implied = || http::StatusCode::from_u16(info.status?).ok().map(crate::message::grpc_status);
    told.or_else(implied)
}

/// The response flags, separated by commas; `None` if there are none.
pub fn response_flags<'a>(info: &Info<'a>) -> Option<Cow<'a, str>> {
    let mut flags: SmallVec<[&'static str; 4]> = SmallVec::new();
    for flag in info.causes.iter().map(|cause| cause.flag()) {
        if !flag.is_empty() && !flags.contains(&flag) {
            flags.push(flag);
        }
    }
    match flags.as_slice() {
        [] => None,
        [one] => Some(Cow::Borrowed(one)),
        several => Some(Cow::Owned(several.join(","))),
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

fn owned(text: String) -> Option<Cow<'static, str>> {
    (!text.is_empty()).then_some(Cow::Owned(text))
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Logs are split at spaces, so details have none.
fn without_spaces(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_whitespace) {
        Cow::Owned(text.replace(char::is_whitespace, "_"))
    } else {
        Cow::Borrowed(text)
    }
}

fn list(texts: &[Text]) -> Option<Cow<'_, str>> {
    match texts {
        [] => None,
        [one] => Some(Cow::Borrowed(one.as_str())),
        many => Some(Cow::Owned(many.iter().map(Text::as_str).collect::<Vec<_>>().join(","))),
    }
}

fn upstream_tls<'a>(info: &Info<'a>) -> Option<&'a TlsInfo> {
    info.upstream.tls.as_deref()
}

fn upstream_address(info: &Info<'_>) -> Option<std::net::SocketAddr> {
    match info.upstream.host.as_ref()?.address {
        HostAddress::Tcp(address) => Some(address),
        HostAddress::Unix(_) => None,
    }
}

fn header_bytes(headers: &http::HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len()) as u64).sum()
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_else(|| "-".to_owned())
}
