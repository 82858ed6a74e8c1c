//! Heads and bodies of HTTP/1, and paths. What is read must not depend on where the network cut it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method};

use super::grpc_timeout;
use super::head::path::{Outcome, Rules, normalize};
use crate::body::Frame;
use crate::codec::h1::framing::{Decoder, Framing, Step};
use crate::codec::h1::names::NameFormat;
use crate::codec::h1::{Settings, parse};
use crate::route::GrpcTimeout;

const LIMITS: Settings = Settings {
    head_bytes: 4096,
    headers: 20,
    trailers: true,
    custom_methods: true,
    absolute_urls: true,
    names: NameFormat::Lower,
};
/// Messages of one connection that are read.
const MESSAGES: usize = 8;

/// What was read; of a refusal only that it was one.
#[derive(Debug, PartialEq)]
enum Event {
    Head(String),
    Body(Vec<u8>),
    Trailers(Vec<String>),
    Refused,
    Incomplete,
}

/// Reads a head: what it says, and how its body is framed.
type Head<'a> = &'a dyn Fn(&Bytes) -> Result<(String, Framing), ()>;

/// Reads heads by `head` and their bodies, the bytes coming in these pieces.
fn read(pieces: &[&[u8]], head: Head<'_>) -> Vec<Event> {
    let (mut input, mut events, mut scanned) = (BytesMut::new(), Vec::new(), 0);
    let mut body: Option<(Decoder, Vec<u8>)> = None;
    let mut messages = 0;
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            if let Some((decoder, taken)) = &mut body {
                match decoder.decode(&mut input) {
                    Ok(Step::Frame(Frame::Data(data))) => taken.extend_from_slice(&data),
                    Ok(Step::Frame(Frame::Trailers(trailers))) => {
                        events.push(Event::Body(std::mem::take(taken)));
                        events.push(Event::Trailers(checked(&trailers)));
                    }
                    Ok(Step::End) => {
                        events.push(Event::Body(std::mem::take(taken)));
                        body = None;
                        messages += 1;
                        if messages == MESSAGES {
                            return events;
                        }
                    }
                    Ok(Step::More) => break,
                    Err(_) => {
                        events.push(Event::Refused);
                        return events;
                    }
                }
                continue;
            }
            match parse::take_head(&mut input, &mut scanned, LIMITS)
                .map_err(drop)
                .and_then(|bytes| bytes.map(|bytes| head(&bytes)).transpose())
            {
                Ok(Some((shown, framing))) => {
                    events.push(Event::Head(shown));
                    body = Some((Decoder::new(framing, LIMITS), Vec::new()));
                }
                Ok(None) => break,
                Err(()) => {
                    events.push(Event::Refused);
                    return events;
                }
            }
        }
    }
    if let Some((_, taken)) = body {
        events.push(Event::Body(taken));
    }
    events.push(Event::Incomplete);
    events
}

/// Header lines, none of which can be read as two.
fn checked(headers: &HeaderMap) -> Vec<String> {
    let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        assert!(!value.as_bytes().iter().any(|byte| b"\r\n\0".contains(byte)), "{name}: {value:?}");
        format!("{name}: {value:?}")
    };
    headers.iter().map(line).collect()
}

fn same_in_pieces(data: &[u8], head: Head<'_>) {
    let whole = read(&[data], head);
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    let pieces: Vec<&[u8]> = data.chunks(7).collect();
    for split in [bytes, pieces] {
        let split = read(&split, head);
        // Where a message is refused, the bytes of its body that came before may have been seen or not.
        let known = |events: &[Event]| events.iter().filter(|event| matches!(event, Event::Head(_))).count();
        match whole.last() {
            Some(Event::Refused) => {
                assert_eq!(split.last(), Some(&Event::Refused), "whole: {whole:?}");
                assert_eq!(known(&whole), known(&split));
            }
            _ => assert_eq!(whole, split),
        }
    }
}

/// Requests as a server reads them.
pub fn h1_request(data: &[u8]) {
    same_in_pieces(data, &|bytes| {
        let parsed = parse::request(bytes, LIMITS).map_err(drop)?;
        let head = &parsed.head;
        let lines = checked(&head.headers);
        for text in [head.path.as_str(), head.authority.as_str(), head.scheme.as_str()] {
            assert!(!text.bytes().any(|byte| byte <= b' ' || byte == 0x7f), "{text:?}");
        }
        for name in ["host", "content-length", "transfer-encoding", "connection"] {
            assert!(name == "content-length" || !head.headers.contains_key(name), "{name} is passed on");
        }
        let shown = format!("{} {:?} {:?} {:?} {lines:?}", head.method, head.path, head.authority, parsed.framing);
        Ok((shown, parsed.framing))
    });
}

/// Responses as a client reads them; the first byte chooses the method of the request.
pub fn h1_response(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let method = [Method::GET, Method::HEAD, Method::CONNECT, Method::POST][usize::from(first % 4)].clone();
    same_in_pieces(data, &|bytes| {
        let parsed = parse::response(bytes, &method, LIMITS).map_err(drop)?;
        let lines = checked(&parsed.head.headers);
        Ok((format!("{} {:?} {lines:?}", parsed.head.status, parsed.framing), parsed.framing))
    });
}

/// Path normalization; the first byte chooses the rules.
pub fn path(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(data) else { return };
    if !text.starts_with('/') || text.contains('#') {
        return;
    }
    let rules =
        Rules { normalize: first & 1 != 0, merge_slashes: first & 2 != 0, escaped_slashes: i32::from(first >> 2) % 5 };
    let form = match normalize(text, rules) {
        Outcome::Same => text.to_owned(),
        Outcome::Changed(form) | Outcome::Redirect(form) => form,
        Outcome::Reject => return,
    };
    let only = form.split('?').next().unwrap_or_default();
    assert!(only.starts_with('/'), "{form:?}");
    assert_eq!(form.find('?').map(|at| &form[at..]), text.find('?').map(|at| &text[at..]), "the query stays");
    if rules.normalize {
        assert!(!only.contains('\\'), "{form:?}");
        assert!(!only.split('/').any(|segment| segment == "." || segment == ".."), "{form:?}");
    }
    if rules.merge_slashes {
        assert!(!only.contains("//"), "{form:?}");
    }
    if rules.normalize && rules.escaped_slashes == 2 {
        let escaped = form.split('?').next().unwrap_or_default().to_ascii_lowercase();
        assert!(!["%2f", "%5c", "%00"].iter().any(|escape| escaped.contains(escape)), "{text:?} became {form:?}");
    }
    // A form that would change again could mean one thing to a policy and another to the upstream.
    if rules.normalize && rules.merge_slashes && rules.escaped_slashes == 4 {
        assert_eq!(normalize(&form, rules), Outcome::Same, "{text:?} became {form:?}");
    }
}

/// `grpc-timeout`: what is told on is no longer than what was asked for, and a route's bound is kept.
pub fn grpc_timeout(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let mut headers = HeaderMap::new();
    headers.insert("grpc-timeout", value);
    let Some(asked) = grpc_timeout::asked(&headers) else { return };
    grpc_timeout::tell(&mut headers, asked);
    let told = grpc_timeout::asked(&headers).expect("what is told can be read");
    assert!(told <= asked, "{asked:?} became {told:?}");
    let (max, offset) = (Duration::from_secs(5), Some(Duration::from_secs(1)));
    for of_stream in [false, true] {
        let bounded = grpc_timeout::bounded(asked, &GrpcTimeout { max, offset, of_stream });
        assert!(bounded <= max && (asked.is_zero() || bounded <= asked), "{asked:?} became {bounded:?}");
    }
}
