//! The operators: their names, and the value of each.
//!
//! Names, arguments and values: Envoy, "Access logging: command operators"; which of them take arguments and lengths, as
//! Envoy 1.40 does.

use std::borrow::Cow;

use super::parse::{Command, Compiled};
use super::{Info, Rendered, TimeFormat};
use crate::config::{At, ConfigError};
use crate::matcher::header::Name;
use crate::matcher::{metadata, query_value};
use crate::message::RequestHead;

mod duration;
mod grpc;
mod peer;
mod plain;
mod tls;

pub use duration::Between;
pub use grpc::{GRPC_NAMES, Style, grpc_status};
pub use peer::PeerField;
pub use plain::{protocol, response_flags};
pub use tls::{Side, Validity};

/// A compiled operator.
#[derive(Debug, Clone)]
pub enum Operator {
    /// A request header, or the second if the first is absent.
    Request(Name, Option<Name>),
    /// The same without its query.
    RequestWithoutQuery(Name, Option<Name>),
    /// A response header, or the second.
    Response(Name, Option<Name>),
    /// A response trailer, or the second.
    Trailer(Name, Option<Name>),
    /// Start of the request.
    StartTime(TimeFormat),
    /// The moment of logging.
    EmitTime(TimeFormat),
    /// The path; the bool says with query.
    Path(bool, Which),
    /// A query parameter.
    QueryParam(Box<str>),
    /// The whole query.
    Query,
    /// Metadata: of what, filter, path.
    Metadata(Kind, Box<str>, Vec<Box<str>>),
    /// A field of the peer's metadata; the bool says upstream.
    Peer(bool, PeerField),
    /// The time between two moments.
    Between(Between),
    /// gRPC's status.
    Grpc(Style),
    /// Details with their spaces.
    Details,
    /// The bound of a certificate's validity.
    Certificate(Side, Validity, TimeFormat),
    /// A value that takes no arguments.
    Simple(fn(&Info<'_>) -> Simple),
    /// A borrowed value that takes no arguments.
    Borrowed(for<'a> fn(&'a Info<'a>) -> Option<Cow<'a, str>>),
}

/// Which path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one that came, if it was rewritten.
    Original,
    /// The one that goes on.
    Current,
    /// The one that came, else the one that goes on.
    OriginalOrCurrent,
}

/// What has the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request, by its filters.
    Dynamic,
    /// The chosen cluster.
    Cluster,
    /// The chosen host.
    Host,
    /// The route.
    Route,
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

/// What may stand after a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arguments {
    No,
    May,
    Must,
}

/// What may stand after a name that takes arguments; the bool allows a length.
fn syntax(name: &str) -> Option<(Arguments, bool)> {
    Some(match name {
        "REQ" | "REQUEST_HEADER" | "STREAM_INFO_REQ" | "REQ_WITHOUT_QUERY" | "RESP" | "RESPONSE_HEADER" | "TRAILER"
        | "RESPONSE_TRAILER" | "QUERY_PARAM" | "DYNAMIC_METADATA" | "METADATA" | "FILTER_STATE" | "ENVIRONMENT" => {
            (Arguments::Must, true)
        }
        "CLUSTER_METADATA" | "UPSTREAM_METADATA" | "COMMON_DURATION" => (Arguments::Must, false),
        "PATH" | "QUERY_PARAMS" => (Arguments::May, true),
        "START_TIME"
        | "START_TIME_LOCAL"
        | "EMIT_TIME"
        | "EMIT_TIME_LOCAL"
        | "GRPC_STATUS"
        | "RESPONSE_CODE_DETAILS"
        | "DOWNSTREAM_PEER_CERT_V_START"
        | "DOWNSTREAM_PEER_CERT_V_END"
        | "UPSTREAM_PEER_CERT_V_START"
        | "UPSTREAM_PEER_CERT_V_END" => (Arguments::May, false),
        _ => return None,
    })
}

impl Operator {
    /// Compiles an operator.
    pub(super) fn compile(command: &Command<'_>) -> Result<Compiled, ConfigError> {
        let name = command.name;
        let wrong = |reason: &str| Err(ConfigError::new("", format!("operator %{name}%: {reason}")));
        // Empty parentheses are none.
        let arguments = command.arguments.filter(|arguments| !arguments.is_empty());
        let (takes, length) = syntax(name).unwrap_or((Arguments::No, false));
        match (takes, arguments) {
            (Arguments::Must, None) => return wrong("needs arguments"),
            (Arguments::No, Some(_)) if !is_known(name) => return wrong("is unknown"),
            (Arguments::No, Some(_)) => return wrong("takes no arguments"),
            _ => {}
        }
        if command.limit.is_some() && !length {
            return wrong(if is_known(name) { "takes no length" } else { "is unknown" });
        }
        if takes != Arguments::No {
            let compiled = Self::with_arguments(name, arguments.unwrap_or_default(), command.limit);
            return compiled.map_err(|error| ConfigError::new("", format!("operator %{name}%: {}", error.reason)));
        }
        match Self::plain(name) {
            Some(operator) => Ok(Compiled::Operator(operator)),
            None => match constant(name) {
                Some(text) => Ok(Compiled::Literal(text)),
                None => wrong("is unknown"),
            },
        }
    }

    fn plain(name: &str) -> Option<Self> {
        plain::simple(name)
            .map(Self::Simple)
            .or_else(|| plain::borrowed(name).map(Self::Borrowed))
            .or_else(|| tls::borrowed(name).map(Self::Borrowed))
            .or_else(|| (name == "GRPC_STATUS_NUMBER").then_some(Self::Grpc(Style::Number)))
    }

    fn with_arguments(name: &str, arguments: &str, limit: Option<usize>) -> Result<Compiled, ConfigError> {
        let validity = |side, validity| {
            TimeFormat::parse(arguments, false).map(|format| Self::Certificate(side, validity, format))
        };
        let operator = match name {
            "REQ" | "REQUEST_HEADER" | "STREAM_INFO_REQ" => {
                headers(arguments).map(|(first, second)| Self::Request(first, second))
            }
            "REQ_WITHOUT_QUERY" => headers(arguments).map(|(first, second)| Self::RequestWithoutQuery(first, second)),
            "RESP" | "RESPONSE_HEADER" => headers(arguments).map(|(first, second)| Self::Response(first, second)),
            "TRAILER" | "RESPONSE_TRAILER" => headers(arguments).map(|(first, second)| Self::Trailer(first, second)),
            "START_TIME" => TimeFormat::parse(arguments, false).map(Self::StartTime),
            "START_TIME_LOCAL" => TimeFormat::parse(arguments, true).map(Self::StartTime),
            "EMIT_TIME" => TimeFormat::parse(arguments, false).map(Self::EmitTime),
            "EMIT_TIME_LOCAL" => TimeFormat::parse(arguments, true).map(Self::EmitTime),
            "PATH" => path(arguments),
            "QUERY_PARAM" => Ok(Self::QueryParam(arguments.into())),
            "QUERY_PARAMS" => match arguments {
                // Envoy decodes nothing either way.
                "" | "ORIG" | "DECODED" => Ok(Self::Query),
                _ => Err(ConfigError::new("", "argument must be ORIG or DECODED")),
            },
            "DYNAMIC_METADATA" => Ok(Self::metadata(Kind::Dynamic, arguments)),
            "CLUSTER_METADATA" => Ok(Self::metadata(Kind::Cluster, arguments)),
            "UPSTREAM_METADATA" => Ok(Self::metadata(Kind::Host, arguments)),
            "METADATA" => Self::any_metadata(arguments),
            "FILTER_STATE" => peer::parse(arguments),
            "COMMON_DURATION" => Between::parse(arguments).map(Self::Between),
            "GRPC_STATUS" => Style::parse(arguments).map(Self::Grpc),
            "RESPONSE_CODE_DETAILS" if arguments == "ALLOW_WHITESPACES" => Ok(Self::Details),
            "RESPONSE_CODE_DETAILS" => Ok(Self::Borrowed(plain::details)),
            "DOWNSTREAM_PEER_CERT_V_START" => validity(Side::Downstream, Validity::Start),
            "DOWNSTREAM_PEER_CERT_V_END" => validity(Side::Downstream, Validity::End),
            "UPSTREAM_PEER_CERT_V_START" => validity(Side::Upstream, Validity::Start),
            "UPSTREAM_PEER_CERT_V_END" => validity(Side::Upstream, Validity::End),
            "ENVIRONMENT" => {
                let value = std::env::var(arguments).unwrap_or_else(|_| "-".into());
                let end = limit.map_or(value.len(), |limit| super::floor_char_boundary(&value, limit));
                return Ok(Compiled::Literal(value.get(..end).unwrap_or_default().to_owned()));
            }
            // `syntax` names no other.
            _ => Err(ConfigError::new("", "is unknown")),
        };
        operator.map(Compiled::Operator)
    }

    fn metadata(kind: Kind, arguments: &str) -> Self {
        let mut keys = arguments.split(':').map(Into::into);
        let filter: Box<str> = keys.next().unwrap_or_default();
        Self::Metadata(kind, filter, keys.collect())
    }

    /// `METADATA(KIND:filter:key...)`.
    fn any_metadata(arguments: &str) -> Result<Self, ConfigError> {
        let (kind, rest) = arguments.split_once(':').unwrap_or((arguments, ""));
        let kind = match kind {
            "DYNAMIC" => Kind::Dynamic,
            "CLUSTER" => Kind::Cluster,
            "UPSTREAM_HOST" => Kind::Host,
            "ROUTE" => Kind::Route,
            other => return Err(ConfigError::new("", format!("metadata of kind {other:?} is not implemented"))),
        };
        Ok(Self::metadata(kind, rest))
    }

    /// Its value now.
    pub fn value<'a>(&'a self, info: &'a Info<'a>) -> Rendered<'a> {
        let text = |value: Option<Cow<'a, str>>| value.map_or(Rendered::Missing, Rendered::Text);
        match self {
            Self::Request(first, second) => text(request(info, first, second.as_ref())),
            Self::RequestWithoutQuery(first, second) => text(request(info, first, second.as_ref()).map(without_query)),
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
            Self::Path(query, which) => text(info.request.and_then(|head| path_of(head, *which, *query))),
            Self::QueryParam(name) => text(info.request.and_then(|head| query_value(head.query(), name))),
            Self::Query => text(info.request.and_then(RequestHead::query).map(Cow::Borrowed)),
            Self::Metadata(kind, filter, path) => metadata_of(info, *kind, filter, path),
            Self::Peer(upstream, field) => text(peer::of(info, *upstream).and_then(|peer| field.of(peer))),
            Self::Between(between) => between.value(info).map_or(Rendered::Missing, Rendered::Number),
            Self::Grpc(style) => style.value(info),
            Self::Details => text(Some(Cow::Borrowed(info.details)).filter(|details| !details.is_empty())),
            Self::Certificate(side, validity, format) => {
                text(tls::bound(info, *side, *validity).map(|time| format.format(time).into()))
            }
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

fn is_known(name: &str) -> bool {
    syntax(name).is_some() || Operator::plain(name).is_some() || matches!(name, "HOSTNAME" | "ACCESS_LOG_TYPE")
}

/// Values that are the same for every request.
fn constant(name: &str) -> Option<String> {
    match name {
        "HOSTNAME" => Some(plain::hostname()),
        "ACCESS_LOG_TYPE" => Some("DownstreamEnd".to_owned()),
        _ => None,
    }
}

fn headers(arguments: &str) -> Result<(Name, Option<Name>), ConfigError> {
    let (first, second) = match arguments.split_once('?') {
        Some((first, second)) => (first, Some(second)),
        None => (arguments, None),
    };
    if second.is_some_and(|second| second.contains('?')) {
        return Err(ConfigError::new("", "only one alternative may be named"));
    }
    Ok((Name::parse(first)?, second.map(Name::parse).transpose().at("")?))
}

fn path(arguments: &str) -> Result<Operator, ConfigError> {
    let (query, which) = arguments.split_once(':').unwrap_or((arguments, ""));
    let query = match query {
        "" | "WQ" => true,
        "NQ" => false,
        _ => return Err(ConfigError::new("", "the first argument must be WQ or NQ")),
    };
    let which = match which {
        "" | "ORIG_OR_PATH" => Which::OriginalOrCurrent,
        "ORIG" => Which::Original,
        "PATH" => Which::Current,
        _ => return Err(ConfigError::new("", "the second argument must be ORIG, PATH or ORIG_OR_PATH")),
    };
    Ok(Operator::Path(query, which))
}

fn request<'a>(info: &Info<'a>, first: &Name, second: Option<&Name>) -> Option<Cow<'a, str>> {
    let head = info.request?;
    first.first_in_request(head).or_else(|| second?.first_in_request(head))
}

fn without_query(text: Cow<'_, str>) -> Cow<'_, str> {
    let end = text.find(['?', '#']).unwrap_or(text.len());
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Cow::Owned(text)
        }
    }
}

fn path_of(head: &RequestHead, which: Which, query: bool) -> Option<Cow<'_, str>> {
    let original = || head.headers.get("x-envoy-original-path")?.to_str().ok();
    let path = match which {
        Which::Original => original()?,
        Which::Current => head.path.as_str(),
        Which::OriginalOrCurrent => original().unwrap_or(head.path.as_str()),
    };
    let path = if query { Cow::Borrowed(path) } else { without_query(Cow::Borrowed(path)) };
    Some(path).filter(|path| !path.is_empty())
}

fn metadata_of<'a>(info: &Info<'a>, kind: Kind, filter: &str, path: &[Box<str>]) -> Rendered<'a> {
    let map = match kind {
        Kind::Dynamic => info.metadata.and_then(|metadata| metadata.get(filter)),
        Kind::Cluster => {
            let cluster = info.upstream.cluster.as_ref();
            cluster.and_then(|cluster| cluster.config.metadata.get(filter)?.as_object())
        }
        Kind::Host => {
            let host = info.upstream.host.as_ref();
            host.and_then(|host| host.metadata.get(filter)?.as_object())
        }
        Kind::Route => info.route.and_then(|route| route.metadata?.get(filter)?.as_object()),
    };
    match map {
        None => Rendered::Missing,
        Some(map) if path.is_empty() => Rendered::Object(map),
        Some(map) => metadata::lookup(map, path).map_or(Rendered::Missing, Rendered::Json),
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
