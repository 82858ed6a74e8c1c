//! Envoy's command operators (`%REQ(X)%`, `%START_TIME%`, ...) for access logs and header rules.
//!
//! A text is compiled once by [`Formatter::parse`] and rendered from an [`Info`].
//! Operators: Envoy, "Access Logging: Command Operators".

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use http::HeaderMap;
use serde_json::Value;

use crate::cause::Cause;
use crate::config::ConfigError;
use crate::connection::{Connection, Peer, UpstreamPeer};
use crate::matcher::metadata::Dynamic;
use crate::message::{RequestHead, ResponseHead};
use crate::stream::{FilterState, Traffic, Upstream};

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod json;
mod operator;
mod parse;
mod substitution;
mod time;

pub use json::JsonFormatter;
pub use operator::{GRPC_NAMES, Operator, PeerField, grpc_status, protocol, response_flags};
pub use substitution::Substitution;
pub use time::TimeFormat;

/// What operators read: one request, or one connection if `request` is `None`.
#[derive(Clone, Copy)]
pub struct Info<'a> {
    /// The connection.
    pub connection: &'a Connection,
    /// The request's head, as it is now.
    pub request: Option<&'a RequestHead>,
    /// The response's head.
    pub response: Option<&'a ResponseHead>,
    /// The response's trailers.
    pub trailers: Option<&'a HeaderMap>,
    /// The client's address.
    pub remote: SocketAddr,
    /// Monotonic start.
    pub start: Instant,
    /// Wall-clock start.
    pub start_time: SystemTime,
    /// Time to the end, if it has come.
    pub duration: Option<Duration>,
    /// Time to the last byte of the request.
    pub request_duration: Option<Duration>,
    /// When the first byte of the response was sent.
    pub first_sent: Option<Instant>,
    /// Bytes on the client's connection.
    pub wire: Traffic,
    /// What happened upstream.
    pub upstream: &'a Upstream,
    /// Causes, for the response flags.
    pub causes: &'a [Cause],
    /// `response_code_details`.
    pub details: &'a str,
    /// `connection_termination_details`.
    pub termination_details: Option<&'a str>,
    /// Status sent to the client.
    pub status: Option<u16>,
    /// Body bytes (or raw bytes) from the client.
    pub bytes_received: u64,
    /// Body bytes (or raw bytes) to the client.
    pub bytes_sent: u64,
    /// The route; of a connection, what stands for one.
    pub route: Option<RouteInfo<'a>>,
    /// Dynamic metadata.
    pub metadata: Option<&'a Dynamic>,
    /// Typed values of filters.
    pub state: Option<&'a FilterState>,
    /// The body of the proxy's own answer, while it is made.
    pub local_reply: &'a str,
}

impl<'a> Info<'a> {
    /// The client's workload, as filters or the connection told it.
    pub fn downstream_peer(&self) -> Option<&'a Peer> {
        self.state.and_then(|state| state.get::<Peer>()).or(self.connection.peer.as_deref())
    }

    /// The server's workload, as its headers or connection told it.
    pub fn upstream_peer(&self) -> Option<&'a Peer> {
        self.state?.get::<UpstreamPeer>().map(|peer| &*peer.0)
    }
}

/// What operators read of a route.
#[derive(Clone, Copy)]
pub struct RouteInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// The name of its virtual host; empty if there is none.
    pub virtual_host: &'a str,
    /// Its metadata by filter name.
    pub metadata: Option<&'a serde_json::Map<String, Value>>,
}

/// What header rules apply to: operators read it, and its request's headers may change in between.
pub trait Subject {
    /// What operators read, as it is now.
    fn info(&self) -> Info<'_>;

    /// The headers of its request.
    fn request_headers(&mut self) -> &mut HeaderMap;
}

/// The value of one operator.
#[derive(Debug)]
pub enum Rendered<'a> {
    /// There is none.
    Missing,
    /// Text.
    Text(Cow<'a, str>),
    /// A number; JSON logs show it as one.
    Number(u64),
    /// An address with port.
    Address(SocketAddr),
    /// An address without port.
    Ip(IpAddr),
    /// A structured value.
    Json(&'a Value),
    /// An object.
    Object(&'a serde_json::Map<String, Value>),
}

#[derive(Debug, Clone)]
enum Part {
    Literal(Box<str>),
    Operator(Operator, Option<usize>),
}

/// A compiled text with operators.
#[derive(Debug, Clone)]
pub struct Formatter {
    parts: Vec<Part>,
}

/// What is done with the bytes of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    /// Control characters become `\xNN`, so that nobody can forge log lines.
    Control,
    /// Nothing.
    None,
    /// As in a JSON string.
    Json,
}

impl Formatter {
    /// Compiles a text.
    ///
    /// # Errors
    /// Names the operator that is unknown or malformed.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        parse::parse(text).map(|parts| Self { parts })
    }

    /// The text, if it has no operators.
    pub fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Appends the line of an access log: missing values are `-`.
    pub fn format(&self, info: &Info<'_>, out: &mut Vec<u8>) {
        self.render(info, "-", Escape::Control, out);
    }

    /// Appends the value of a header: missing values are empty.
    pub fn format_header(&self, info: &Info<'_>, out: &mut Vec<u8>) {
        self.render(info, "", Escape::None, out);
    }

    /// Appends the text with `missing` in place of values that are not there.
    pub fn render(&self, info: &Info<'_>, missing: &str, escape: Escape, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Literal(text) if escape == Escape::Json => push(text, Escape::Json, None, out),
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Operator(operator, limit) => match operator.value(info) {
                    Rendered::Missing => out.extend_from_slice(missing.as_bytes()),
                    value => write_value(&value, escape, *limit, out),
                },
            }
        }
    }
}

fn write_ip(ip: IpAddr, out: &mut Vec<u8>) {
    use std::io::Write;
    let IpAddr::V4(ip) = ip else {
        // Writing into a Vec cannot fail.
        let _ = write!(out, "{ip}");
        return;
    };
    // By hand, since every line of a log has some.
    for (place, octet) in ip.octets().into_iter().enumerate() {
        if place > 0 {
            out.push(b'.');
        }
        out.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
    }
}

/// Appends an address with its port, as `SocketAddr` shows itself.
fn write_address(address: SocketAddr, out: &mut Vec<u8>) {
    use std::io::Write;
    if address.is_ipv6() {
        let _ = write!(out, "{address}");
        return;
    }
    write_ip(address.ip(), out);
    out.push(b':');
    out.extend_from_slice(itoa::Buffer::new().format(address.port()).as_bytes());
}

fn write_value(value: &Rendered<'_>, escape: Escape, limit: Option<usize>, out: &mut Vec<u8>) {
    match value {
        Rendered::Missing => {}
        Rendered::Text(text) => push(text, escape, limit, out),
        Rendered::Number(number) => out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes()),
        Rendered::Address(address) => write_address(*address, out),
        Rendered::Ip(ip) => write_ip(*ip, out),
        Rendered::Json(Value::String(text)) => push(text, escape, limit, out),
        Rendered::Json(value) => push(&value.to_string(), escape, limit, out),
        Rendered::Object(map) => push(&object(map), escape, limit, out),
    }
}

/// An object as JSON; a map of strings cannot fail to be written.
fn object(map: &serde_json::Map<String, Value>) -> String {
    serde_json::to_string(map).unwrap_or_default()
}

/// Appends at most `limit` bytes of a text, escaped.
fn push(text: &str, escape: Escape, limit: Option<usize>, out: &mut Vec<u8>) {
    use std::io::Write;
    let text = limit.map_or(text, |limit| &text[..floor_char_boundary(text, limit)]);
    let plain = |byte: &u8| match escape {
        Escape::None => true,
        Escape::Control => *byte >= b' ' && *byte != 0x7f,
        Escape::Json => *byte >= b' ' && *byte != b'"' && *byte != b'\\',
    };
    let bytes = text.as_bytes();
    // Without an early end, so that many bytes are looked at in one step; hardly any value has such characters.
    if bytes.iter().fold(true, |all, byte| all & plain(byte)) {
        out.extend_from_slice(bytes);
        return;
    }
    for byte in bytes {
        let _ = match (escape, byte) {
            (_, byte) if plain(byte) => {
                out.push(*byte);
                Ok(())
            }
            (Escape::Json, b'"' | b'\\') => out.write_all(&[b'\\', *byte]),
            (Escape::Json, b'\n') => out.write_all(b"\\n"),
            (Escape::Json, b'\t') => out.write_all(b"\\t"),
            (Escape::Json, b'\r') => out.write_all(b"\\r"),
            (Escape::Json, byte) => write!(out, "\\u{byte:04x}"),
            (_, byte) => write!(out, "\\x{byte:02x}"),
        };
    }
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    if at >= text.len() {
        return text.len();
    }
    (0..=at).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0)
}

#[cfg(test)]
pub(crate) mod tests;
