//! Heads of messages: bytes to [`RequestHead`] and [`ResponseHead`], with how the body is framed.
//!
//! Rules: RFC 9112 2 to 6, RFC 9110 7.6.1 (hop-by-hop headers). Header values are slices of the bytes read.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use super::framing::Framing;
use super::names::preserved;
use super::target::{authority_of, bad_host, target_of};
use super::{Refusal, Settings};
use crate::cause::Cause;
use crate::message::{RequestHead, ResponseHead};
use crate::text::Text;

/// Room for this many headers is on the stack.
const ON_STACK: usize = 128;

/// A request's head.
#[derive(Debug)]
pub struct ParsedRequest {
    /// Head; `scheme` is the target's for the absolute form, else empty.
    pub head: RequestHead,
    /// How its body is framed.
    pub framing: Framing,
    /// The client lets the connection stay open.
    pub keep_alive: bool,
    /// `Expect: 100-continue`; taken out of the headers.
    pub expect_continue: bool,
    /// Its host is missing or malformed: it must be answered with this, and the connection closed.
    pub bad_host: Option<Refusal>,
}

/// A response's head.
#[derive(Debug)]
pub struct ParsedResponse {
    /// Head.
    pub head: ResponseHead,
    /// How its body is framed.
    pub framing: Framing,
    /// The server lets the connection stay open.
    pub keep_alive: bool,
}

const fn invalid(detail: &'static str) -> Refusal {
    Refusal::new(Cause::DownstreamProtocolError, detail)
}

/// Where the head ends that `input` starts with; `scanned` bytes are known not to end it.
///
/// # Errors
/// If it is beyond the limit, or a line ends in a bare LF.
pub fn head_end(input: &[u8], scanned: usize, settings: Settings) -> Result<Option<usize>, Refusal> {
    let mut from = scanned.saturating_sub(3);
    while let Some(at) = input.get(from..).and_then(|rest| memchr::memchr(b'\n', rest)) {
        let at = from + at;
        if at == 0 || input[at - 1] != b'\r' {
            return Err(invalid("a line of the head ends in a bare LF"));
        }
        if at >= 3 && input[at - 3..at - 1] == *b"\r\n" {
            return if at < settings.head_bytes { Ok(Some(at + 1)) } else { Err(too_large()) };
        }
        from = at + 1;
    }
    if input.len() > settings.head_bytes { Err(too_large()) } else { Ok(None) }
}

const fn too_large() -> Refusal {
    Refusal::new(Cause::HeadersTooLarge, "the head has too many bytes")
}

/// Takes a whole head out of `input`; `None` if more bytes are needed, `scanned` then says how far it was looked at.
///
/// # Errors
/// If what is there cannot become a head.
pub fn take_head(input: &mut BytesMut, scanned: &mut usize, settings: Settings) -> Result<Option<Bytes>, Refusal> {
    if *scanned == 0 {
        // RFC 9112, 2.2: a server should ignore empty lines before a request line; all of them, so that it does not
        // matter in which pieces they come.
        while input.starts_with(b"\r\n") {
            let _ = input.split_to(2);
        }
        match input.first() {
            None => return Ok(None),
            Some(b'\r') if input.len() == 1 => return Ok(None),
            Some(byte) if !byte.is_ascii_alphanumeric() && !b"!#$%&'*+-.^_`|~".contains(byte) => {
                return Err(invalid("not HTTP/1"));
            }
            Some(_) => {}
        }
    }
    match head_end(input, *scanned, settings)? {
        Some(end) => {
            *scanned = 0;
            Ok(Some(input.split_to(end).freeze()))
        }
        None => {
            *scanned = input.len();
            Ok(None)
        }
    }
}

fn from_httparse(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::new(Cause::TooManyHeaders, "too many headers"),
        httparse::Error::HeaderName => Refusal::new(Cause::InvalidHeader, "a malformed header name"),
        httparse::Error::HeaderValue => Refusal::new(Cause::InvalidHeader, "a malformed header value"),
        httparse::Error::NewLine => invalid("a malformed line ending"),
        httparse::Error::Status => invalid("a malformed status line"),
        httparse::Error::Token => invalid("a malformed start line"),
        httparse::Error::Version => invalid("not HTTP/1.0 or HTTP/1.1"),
    }
}

/// Gives `parse` room for as many headers as the settings allow.
fn with_slots<'h, T>(
    settings: Settings,
    stack: &'h mut [MaybeUninit<httparse::Header<'h>>; ON_STACK],
    heap: &'h mut Vec<httparse::Header<'h>>,
    parse: impl FnOnce(&'h mut [MaybeUninit<httparse::Header<'h>>]) -> T,
) -> T {
    if let Some(slots) = stack.get_mut(..settings.headers) {
        return parse(slots);
    }
    heap.reserve_exact(settings.headers);
    parse(heap.spare_capacity_mut())
}

/// Reads a whole request head.
///
/// # Errors
/// If it breaks a rule; the connection is then closed.
pub fn request(bytes: &Bytes, settings: Settings) -> Result<ParsedRequest, Refusal> {
    let mut stack = [MaybeUninit::uninit(); ON_STACK];
    let mut heap = Vec::new();
    let mut parsed = httparse::Request::new(&mut []);
    let status = with_slots(settings, &mut stack, &mut heap, |slots| parsed.parse_with_uninit_headers(bytes, slots));
    match status.map_err(from_httparse)? {
        httparse::Status::Complete(length) if length == bytes.len() => {}
        _ => return Err(invalid("a malformed head")),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(invalid("a malformed request line"));
    };
    let version = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| invalid("a malformed method"))?;
    if !settings.custom_methods && !is_registered(&method) {
        return Err(Refusal::new(Cause::UnknownMethod, "a method that is not registered"));
    }
    let mut facts = Facts::default();
    let mut headers = collect(bytes, parsed.headers, &mut facts)?;
    let names = preserved(settings.names, bytes, parsed.headers, None);
    let framing = request_framing(&facts, version)?;
    let connection = facts.connection(&mut headers)?;
    let target = target_of(&method, bytes.slice_ref(target.as_bytes()), settings)?;
    let (authority, bad_host) = match authority_of(facts.host.as_ref(), target.authority, version) {
        Ok(authority) => (authority, None),
        Err(refusal) => (Text::default(), Some(refusal)),
    };
    let upgrade = request_upgrade(&method, version, &facts, &connection, framing)?;
    let keep_alive = !connection.close && (version == Version::HTTP_11 || connection.keep_alive);
    let expect_continue = facts.expect_continue && version == Version::HTTP_11 && framing != Framing::None;
    let head =
        RequestHead { method, scheme: target.scheme, authority, path: target.path, version, headers, upgrade, names };
    Ok(ParsedRequest { head, framing, keep_alive, expect_continue, bad_host })
}

/// Reads a whole response head; `method` is the request's.
///
/// # Errors
/// If it breaks a rule; the connection is then destroyed.
pub fn response(bytes: &Bytes, method: &Method, settings: Settings) -> Result<ParsedResponse, Refusal> {
    let mut stack = [MaybeUninit::uninit(); ON_STACK];
    let mut heap = Vec::new();
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let status = with_slots(settings, &mut stack, &mut heap, |slots| {
        config.parse_response_with_uninit_headers(&mut parsed, bytes, slots)
    });
    match status.map_err(from_httparse)? {
        httparse::Status::Complete(length) if length == bytes.len() => {}
        _ => return Err(invalid("a malformed head")),
    }
    let (Some(code), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(invalid("a malformed status line"));
    };
    let status = StatusCode::from_u16(code).map_err(|_| invalid("a malformed status code"))?;
    let mut facts = Facts::default();
    let mut headers = collect(bytes, parsed.headers, &mut facts)?;
    let names = preserved(settings.names, bytes, parsed.headers, parsed.reason);
    let connection = facts.connection(&mut headers)?;
    let upgrade = match status.as_u16() {
        101 if connection.upgrade => Some(facts.upgrade.clone().ok_or_else(|| invalid("101 without Upgrade"))?),
        101 => return Err(invalid("101 without Connection: upgrade")),
        200..=299 if method == Method::CONNECT => Some(Text::from_static("CONNECT")),
        _ => None,
    };
    let (framing, clean) = response_framing(&facts, status, method, upgrade.is_some(), minor)?;
    let keep_alive =
        clean && !connection.close && (minor == 1 || connection.keep_alive) && !matches!(framing, Framing::UntilClose);
    Ok(ParsedResponse { head: ResponseHead { status, headers, upgrade, names }, framing, keep_alive })
}

/// What the headers say about the connection and the body.
#[derive(Debug, Default)]
struct Facts {
    host: Option<Text>,
    connection: Vec<Bytes>,
    upgrade: Option<Text>,
    content_length: Option<u64>,
    transfer_encoding: Option<Coding>,
    expect_continue: bool,
    /// `te: trailers`, all of TE that goes on.
    trailers: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Chunked,
    Unknown,
}

#[derive(Debug, Default)]
struct ConnectionOptions {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

/// Sorts headers: the ones about this hop into `facts`, the others into the map.
fn collect(bytes: &Bytes, parsed: &[httparse::Header<'_>], facts: &mut Facts) -> Result<HeaderMap, Refusal> {
    let malformed = || Refusal::new(Cause::InvalidHeader, "a malformed header");
    let mut headers = HeaderMap::with_capacity(parsed.len() + 8);
    for found in parsed {
        let name = HeaderName::from_bytes(found.name.as_bytes()).map_err(|_| malformed())?;
        let value = found.value.trim_ascii();
        if !facts.note(&name, bytes, value)? {
            continue;
        }
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(value)).map_err(|_| malformed())?;
        headers.try_append(name, value).map_err(|_| malformed())?;
    }
    if facts.trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    Ok(headers)
}

impl Facts {
    /// Notes what a header says; whether it goes on to the next hop.
    fn note(&mut self, name: &HeaderName, bytes: &Bytes, value: &[u8]) -> Result<bool, Refusal> {
        match *name {
            header::HOST => {
                let host = Text::from_utf8(bytes.slice_ref(value)).map_err(|_| bad_host("Host is not ASCII"))?;
                if self.host.replace(host).is_some() {
                    return Err(bad_host("more than one Host"));
                }
            }
            header::CONTENT_LENGTH => {
                let length = parse_length(value)?;
                if self.content_length.replace(length).is_some() {
                    return Err(Refusal::new(Cause::InvalidContentLength, "more than one Content-Length"));
                }
                return Ok(true);
            }
            header::TRANSFER_ENCODING => {
                if self.transfer_encoding.is_some() {
                    return Err(invalid("more than one Transfer-Encoding"));
                }
                let chunked = value.eq_ignore_ascii_case(b"chunked");
                self.transfer_encoding = Some(if chunked { Coding::Chunked } else { Coding::Unknown });
            }
            header::CONNECTION => self.connection.push(bytes.slice_ref(value)),
            header::UPGRADE => {
                self.upgrade = std::str::from_utf8(value).ok().map(|value| Text::from(value.to_ascii_lowercase()));
            }
            header::EXPECT => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Ok(true);
                }
                self.expect_continue = true;
            }
            header::TE => self.trailers |= tokens(value).any(|token| token.eq_ignore_ascii_case(b"trailers")),
            _ => return Ok(!matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")),
        }
        Ok(false)
    }

    /// Reads the Connection headers, and takes out what they nominate.
    fn connection(&self, headers: &mut HeaderMap) -> Result<ConnectionOptions, Refusal> {
        let mut options = ConnectionOptions::default();
        for token in self.connection.iter().flat_map(|value| tokens(value)) {
            match token {
                token if token.eq_ignore_ascii_case(b"close") => options.close = true,
                token if token.eq_ignore_ascii_case(b"keep-alive") => options.keep_alive = true,
                token if token.eq_ignore_ascii_case(b"upgrade") => options.upgrade = true,
                // What goes on of it says the same of the next hop.
                token if token.eq_ignore_ascii_case(b"te") => {}
                token => {
                    let name = HeaderName::from_bytes(token).map_err(|_| invalid("a malformed Connection header"))?;
                    if name == header::CONTENT_LENGTH || name == header::HOST {
                        return Err(invalid("Connection nominates a header that frames or routes the message"));
                    }
                    headers.remove(name);
                }
            }
        }
        Ok(options)
    }
}

/// Whether somebody uses the method: the IANA registry's common ones, and those of the older parsers that Envoy follows.
fn is_registered(method: &Method) -> bool {
    const OTHERS: [&str; 26] = [
        "ACL",
        "BIND",
        "CHECKOUT",
        "COPY",
        "LINK",
        "LOCK",
        "M-SEARCH",
        "MERGE",
        "MKACTIVITY",
        "MKCALENDAR",
        "MKCOL",
        "MOVE",
        "MSEARCH",
        "NOTIFY",
        "PROPFIND",
        "PROPPATCH",
        "PURGE",
        "REBIND",
        "REPORT",
        "SEARCH",
        "SOURCE",
        "SUBSCRIBE",
        "UNBIND",
        "UNLINK",
        "UNLOCK",
        "UNSUBSCRIBE",
    ];
    matches!(
        *method,
        Method::GET
            | Method::POST
            | Method::PUT
            | Method::DELETE
            | Method::HEAD
            | Method::OPTIONS
            | Method::PATCH
            | Method::CONNECT
            | Method::TRACE
    ) || OTHERS.contains(&method.as_str())
}

fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

fn parse_length(value: &[u8]) -> Result<u64, Refusal> {
    let bad = || Refusal::new(Cause::InvalidContentLength, "Content-Length is not one decimal number");
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(bad());
    }
    std::str::from_utf8(value).ok().and_then(|value| value.parse().ok()).ok_or_else(bad)
}

fn request_framing(facts: &Facts, version: Version) -> Result<Framing, Refusal> {
    match (facts.transfer_encoding, facts.content_length) {
        (Some(_), _) if version == Version::HTTP_10 => Err(invalid("Transfer-Encoding in HTTP/1.0")),
        (Some(_), Some(_)) => {
            Err(Refusal::new(Cause::ContentLengthWithTransferEncoding, "both Content-Length and Transfer-Encoding"))
        }
        (Some(Coding::Unknown), None) => {
            Err(Refusal::new(Cause::UnsupportedTransferEncoding, "a transfer coding other than chunked"))
        }
        (Some(Coding::Chunked), None) => Ok(Framing::Chunked),
        (None, Some(0)) | (None, None) => Ok(Framing::None),
        (None, Some(length)) => Ok(Framing::Length(length)),
    }
}

/// RFC 9112, 6.3; and whether the connection can be trusted after it.
fn response_framing(
    facts: &Facts,
    status: StatusCode,
    method: &Method,
    upgraded: bool,
    minor: u8,
) -> Result<(Framing, bool), Refusal> {
    if facts.transfer_encoding.is_some() && (facts.content_length.is_some() || minor == 0) {
        return Err(invalid("Transfer-Encoding beside Content-Length or in HTTP/1.0"));
    }
    let framed = facts.transfer_encoding.is_some() || facts.content_length.unwrap_or(0) > 0;
    if upgraded {
        return Ok((Framing::UntilClose, false));
    }
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        return Ok((Framing::None, !framed));
    }
    if *method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
        return Ok((Framing::None, true));
    }
    match (facts.transfer_encoding, facts.content_length) {
        (Some(Coding::Chunked), _) => Ok((Framing::Chunked, true)),
        (Some(Coding::Unknown), _) => Err(invalid("a transfer coding other than chunked")),
        (None, Some(0)) => Ok((Framing::None, true)),
        (None, Some(length)) => Ok((Framing::Length(length), true)),
        (None, None) => Ok((Framing::UntilClose, false)),
    }
}

fn request_upgrade(
    method: &Method,
    version: Version,
    facts: &Facts,
    connection: &ConnectionOptions,
    framing: Framing,
) -> Result<Option<Text>, Refusal> {
    if *method == Method::CONNECT {
        // RFC 9110, 9.3.6: content of a CONNECT request has no meaning, and what follows is the tunnel's.
        return match framing {
            Framing::None => Ok(Some(Text::from_static("CONNECT"))),
            _ => Err(invalid("CONNECT with a body")),
        };
    }
    let wanted = connection.upgrade && version == Version::HTTP_11 && framing == Framing::None;
    // RFC 9113, 3.1: the upgrade to h2c is obsolete; a server may ignore an upgrade.
    Ok(facts.upgrade.clone().filter(|protocol| wanted && protocol.as_str() != "h2c"))
}

/// Headers that a trailer must not carry (RFC 9110, 6.5.1), whatever their sender means by it.
pub fn is_forbidden_trailer(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONTENT_LENGTH
            | header::TRANSFER_ENCODING
            | header::HOST
            | header::CONNECTION
            | header::UPGRADE
            | header::TE
            | header::TRAILER
            | header::AUTHORIZATION
            | header::COOKIE
            | header::SET_COOKIE
            | header::CONTENT_ENCODING
            | header::CONTENT_TYPE
            | header::CONTENT_RANGE
            | header::EXPECT
    )
}
