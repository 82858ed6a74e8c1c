//! Listener filters: what is learned about a connection before its filter chain is chosen.

use std::net::SocketAddr;

use bytes::BytesMut;
use ferromesh_proto::envoy::config::core::v3::proxy_protocol_config::Version;
use ferromesh_proto::envoy::config::listener::v3 as proto;
use ferromesh_proto::envoy::extensions::filters::listener as filters;
use tokio::io::AsyncReadExt;

use super::hello::{self, Peek};
use super::proxy_header::{self, Header};
use crate::config::{At, ConfigError, required};
use crate::io::Socket;

/// Bytes of a request line that are waited for.
const MAX_REQUEST_LINE: usize = 8 * 1024;
/// Envoy's `max_client_hello_size`.
const MAX_HELLO: usize = 16 * 1024;

/// A connection before its filter chain is chosen.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) socket: Socket,
    /// Read from the socket and not consumed.
    pub(super) ahead: BytesMut,
    pub(super) remote: SocketAddr,
    pub(super) direct_remote: SocketAddr,
    /// The socket's own address.
    pub(super) direct_local: SocketAddr,
    pub(super) local: SocketAddr,
    /// `local` is where the peer wanted to go, not the socket's own address.
    pub(super) restored: bool,
    pub(super) transport: &'static str,
    pub(super) server_name: Option<String>,
    pub(super) alpn: Vec<String>,
}

/// Why a connection ends before it has a filter chain.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilterError {
    #[error("the peer closed the connection")]
    Closed,
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("PROXY protocol: {0}")]
    ProxyProtocol(&'static str),
    #[error("the TLS ClientHello is malformed")]
    Hello,
}

impl Arrival {
    /// Reads what comes next.
    async fn more(&mut self) -> Result<(), FilterError> {
        self.ahead.reserve(1024);
        match self.socket.read_buf(&mut self.ahead).await? {
            0 => Err(FilterError::Closed),
            _ => Ok(()),
        }
    }
}

/// A listener filter.
#[derive(Debug)]
pub(super) struct ListenerFilter {
    kind: Kind,
    disabled: Option<Predicate>,
}

#[derive(Debug)]
enum Kind {
    OriginalDst,
    TlsInspector { limit: usize, close_on_error: bool },
    HttpInspector,
    ProxyProtocol { optional: bool, refused: Vec<Version> },
}

impl ListenerFilter {
    pub(super) fn decode(proto: &proto::ListenerFilter) -> Result<Self, ConfigError> {
        use proto::listener_filter::ConfigType;
        let disabled = proto.filter_disabled.as_ref().map(Predicate::decode).transpose().at("filter_disabled")?;
        let ConfigType::TypedConfig(any) = required(proto.config_type.as_ref(), "typed_config")? else {
            return Err(ConfigError::new("config_discovery", "is not implemented"));
        };
        let kind = kind(any).at("typed_config")?;
        Ok(Self { kind, disabled })
    }

    /// The one that a listener with `use_original_dst` has anyway.
    pub(super) fn original_dst() -> Self {
        Self { kind: Kind::OriginalDst, disabled: None }
    }

    #[cfg(test)]
    pub(super) fn is_original_dst(&self) -> bool {
        matches!(self.kind, Kind::OriginalDst)
    }

    /// Looks at the connection; reads ahead as far as it must.
    pub(super) async fn run(&self, arrival: &mut Arrival) -> Result<(), FilterError> {
        if self.disabled.as_ref().is_some_and(|predicate| predicate.matches(arrival.local.port())) {
            return Ok(());
        }
        match &self.kind {
            Kind::OriginalDst => {
                if let Socket::Tcp(socket) = &arrival.socket
                    && let Some(address) = crate::linux::original_dst(socket)
                {
                    arrival.restored = true;
                    arrival.local = address;
                }
                Ok(())
            }
            Kind::TlsInspector { limit, close_on_error } => inspect_tls(arrival, *limit, *close_on_error).await,
            Kind::HttpInspector => inspect_http(arrival).await,
            Kind::ProxyProtocol { optional, refused } => read_proxy_header(arrival, *optional, refused).await,
        }
    }
}

fn kind(any: &ferromesh_proto::Any) -> Result<Kind, ConfigError> {
    let broken = |error: ferromesh_proto::UnpackError| ConfigError::new("", error.to_string());
    let any =
        ferromesh_proto::json::resolve_typed_struct(any).map_err(|error| ConfigError::new("", error.to_string()))?;
    if any.is::<filters::original_dst::v3::OriginalDst>() {
        Ok(Kind::OriginalDst)
    } else if any.is::<filters::http_inspector::v3::HttpInspector>() {
        Ok(Kind::HttpInspector)
    } else if any.is::<filters::tls_inspector::v3::TlsInspector>() {
        let proto: filters::tls_inspector::v3::TlsInspector = any.unpack().map_err(broken)?;
        let limit = proto.max_client_hello_size.map_or(MAX_HELLO, |size| (size as usize).min(MAX_HELLO));
        Ok(Kind::TlsInspector { limit, close_on_error: proto.close_connection_on_client_hello_parsing_errors })
    } else if any.is::<filters::proxy_protocol::v3::ProxyProtocol>() {
        let proto: filters::proxy_protocol::v3::ProxyProtocol = any.unpack().map_err(broken)?;
        Ok(Kind::ProxyProtocol {
            optional: proto.allow_requests_without_proxy_protocol,
            refused: proto.disallowed_versions().collect(),
        })
    } else {
        Err(ConfigError::new("", format!("listener filter {:?} is not implemented", any.type_url)))
    }
}

async fn inspect_tls(arrival: &mut Arrival, limit: usize, close_on_error: bool) -> Result<(), FilterError> {
    loop {
        let seen = if arrival.ahead.is_empty() { Peek::Partial } else { hello::peek(&arrival.ahead, limit) };
        match seen {
            Peek::Partial => arrival.more().await?,
            Peek::Other => {
                arrival.transport = "raw_buffer";
                return Ok(());
            }
            Peek::Malformed if close_on_error => return Err(FilterError::Hello),
            Peek::Malformed => {
                arrival.transport = "raw_buffer";
                return Ok(());
            }
            Peek::Hello(hello) => {
                arrival.transport = "tls";
                arrival.server_name = hello.server_name;
                arrival.alpn = hello.alpn;
                return Ok(());
            }
        }
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes say about HTTP; `None` if more are needed, an empty name if it is not HTTP.
pub(super) fn http_version(bytes: &[u8]) -> Option<&'static str> {
    let common = bytes.len().min(PREFACE.len());
    if bytes[..common] == PREFACE[..common] {
        return (common == PREFACE.len()).then_some("h2c");
    }
    let method = bytes.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-').count();
    match bytes.get(method) {
        _ if method > 24 => return Some(""),
        None => return None,
        Some(b' ') if method > 0 => {}
        Some(_) => return Some(""),
    }
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return (bytes.len() > MAX_REQUEST_LINE).then_some("");
    };
    let line = bytes[..end].trim_ascii_end();
    Some(if line.ends_with(b" HTTP/1.1") {
        "http/1.1"
    } else if line.ends_with(b" HTTP/1.0") {
        "http/1.0"
    } else {
        ""
    })
}

async fn inspect_http(arrival: &mut Arrival) -> Result<(), FilterError> {
    if arrival.transport == "tls" {
        return Ok(());
    }
    loop {
        let version = if arrival.ahead.is_empty() { None } else { http_version(&arrival.ahead) };
        match version {
            None => arrival.more().await?,
            Some("") => return Ok(()),
            Some(version) => {
                arrival.alpn = vec![version.to_owned()];
                return Ok(());
            }
        }
    }
}

async fn read_proxy_header(arrival: &mut Arrival, optional: bool, refused: &[Version]) -> Result<(), FilterError> {
    let header = loop {
        match proxy_header::parse(&arrival.ahead) {
            Header::Partial => arrival.more().await?,
            Header::Absent if optional => return Ok(()),
            Header::Absent => return Err(FilterError::ProxyProtocol("the connection does not begin with a header")),
            Header::Malformed => return Err(FilterError::ProxyProtocol("the header is malformed")),
            Header::Whole { version, length, addresses } => break (version, length, addresses),
        }
    };
    let (version, length, addresses) = header;
    if refused.contains(&version) {
        return Err(FilterError::ProxyProtocol("this version is not allowed here (disallowed_versions)"));
    }
    let _ = arrival.ahead.split_to(length);
    if let Some((source, destination)) = addresses {
        arrival.remote = source;
        arrival.restored |= destination != arrival.local;
        arrival.local = destination;
    }
    Ok(())
}

/// Where a listener filter is off.
#[derive(Debug)]
enum Predicate {
    Or(Vec<Predicate>),
    And(Vec<Predicate>),
    Not(Box<Predicate>),
    Any,
    Ports(i32, i32),
}

impl Predicate {
    fn decode(proto: &proto::ListenerFilterChainMatchPredicate) -> Result<Self, ConfigError> {
        use proto::listener_filter_chain_match_predicate::Rule;
        let all = |rules: &[proto::ListenerFilterChainMatchPredicate]| {
            rules.iter().map(Self::decode).collect::<Result<Vec<_>, _>>()
        };
        Ok(match required(proto.rule.as_ref(), "rule")? {
            Rule::OrMatch(set) => Self::Or(all(&set.rules).at("or_match")?),
            Rule::AndMatch(set) => Self::And(all(&set.rules).at("and_match")?),
            Rule::NotMatch(inner) => Self::Not(Box::new(Self::decode(inner).at("not_match")?)),
            Rule::AnyMatch(_) => Self::Any,
            Rule::DestinationPortRange(range) => Self::Ports(range.start, range.end),
        })
    }

    fn matches(&self, port: u16) -> bool {
        match self {
            Self::Or(rules) => rules.iter().any(|rule| rule.matches(port)),
            Self::And(rules) => rules.iter().all(|rule| rule.matches(port)),
            Self::Not(rule) => !rule.matches(port),
            Self::Any => true,
            // The end is not part of the range.
            Self::Ports(start, end) => (*start..*end).contains(&i32::from(port)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_told_by_its_first_line() {
        for (bytes, found) in [
            (&b"GET / HTTP/1.1\r\nHost: a\r\n"[..], Some("http/1.1")),
            (b"OPTIONS * HTTP/1.0\n", Some("http/1.0")),
            (b"M-SEARCH * HTTP/1.1\r\n", Some("http/1.1")),
            (PREFACE, Some("h2c")),
            (b"PRI * HTTP/2.0\r\n", None),
            (b"PRINT / HTTP/1.1\r\n", Some("http/1.1")),
            (b"GET / HT", None),
            (b"GET", None),
            (b"get / HTTP/1.1\r\n", Some("")),
            (b"\x00\x01\x02", Some("")),
            (b"SSH-2.0-OpenSSH_9\r\n", Some("")),
            (b"GET / FTP/1.1\r\n", Some("")),
        ] {
            assert_eq!(http_version(bytes), found, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
