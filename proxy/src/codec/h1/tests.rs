//! Tests of the HTTP/1 codec: framing corpus, splitting.

use bytes::{Bytes, BytesMut};
use http::Method;
use proptest::prelude::{any, prop, prop_assert_eq, proptest};

use super::framing::{Decoder, Framing, Step};
use super::{Settings, parse};
use crate::body::Frame;
use crate::cause::Cause;

fn parsed(head: &str) -> Result<parse::ParsedRequest, Cause> {
    let mut input = BytesMut::from(head.as_bytes());
    let mut scanned = 0;
    let settings = Settings { head_bytes: 4096, headers: 20, ..Settings::default() };
    let head = parse::take_head(&mut input, &mut scanned, settings).map_err(|refusal| refusal.cause)?;
    let head = head.expect("the test's head is whole");
    let parsed = parse::request(&head, settings).map_err(|refusal| refusal.cause)?;
    match parsed.bad_host {
        Some(refusal) => Err(refusal.cause),
        None => Ok(parsed),
    }
}

/// (what it is, head, why it is refused)
const REFUSED: &[(&str, &str, Cause)] = &[
    (
        "CL and TE",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
        Cause::ContentLengthWithTransferEncoding,
    ),
    (
        "TE and CL",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n",
        Cause::ContentLengthWithTransferEncoding,
    ),
    (
        "two equal CL",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n",
        Cause::InvalidContentLength,
    ),
    ("CL list", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 1\r\n\r\n", Cause::InvalidContentLength),
    ("CL with sign", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\n", Cause::InvalidContentLength),
    ("CL hexadecimal", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x1\r\n\r\n", Cause::InvalidContentLength),
    ("CL empty", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length:\r\n\r\n", Cause::InvalidContentLength),
    (
        "CL above u64",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551616\r\n\r\n",
        Cause::InvalidContentLength,
    ),
    (
        "two TE",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
        Cause::DownstreamProtocolError,
    ),
    (
        "TE identity",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n\r\n",
        Cause::UnsupportedTransferEncoding,
    ),
    (
        "TE gzip, chunked",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        Cause::UnsupportedTransferEncoding,
    ),
    ("TE on 1.0", "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", Cause::DownstreamProtocolError),
    ("space before colon", "GET / HTTP/1.1\r\nhost : a\r\n\r\n", Cause::InvalidHeader),
    ("obs-fold", "GET / HTTP/1.1\r\nhost: a\r\nx: b\r\n c\r\n\r\n", Cause::InvalidHeader),
    ("bare CR in a value", "GET / HTTP/1.1\r\nhost: a\r\nx: b\rc\r\n\r\n", Cause::InvalidHeader),
    ("NUL in a value", "GET / HTTP/1.1\r\nhost: a\r\nx: b\0c\r\n\r\n", Cause::InvalidHeader),
    ("NUL in Host", "GET / HTTP/1.1\r\nhost: a\0b\r\n\r\n", Cause::InvalidHeader),
    ("bare LF", "GET / HTTP/1.1\nhost: a\n\n", Cause::DownstreamProtocolError),
    ("bare LF after a header", "GET / HTTP/1.1\r\nhost: a\n\r\n", Cause::DownstreamProtocolError),
    ("no Host", "GET / HTTP/1.1\r\nx: a\r\n\r\n", Cause::MissingHost),
    ("empty Host", "GET / HTTP/1.1\r\nhost:\r\n\r\n", Cause::InvalidHost),
    ("two Hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", Cause::InvalidHost),
    ("Host with space", "GET / HTTP/1.1\r\nhost: a b\r\n\r\n", Cause::InvalidHost),
    ("Host with user", "GET / HTTP/1.1\r\nhost: a@b\r\n\r\n", Cause::InvalidHost),
    ("Host with path", "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", Cause::InvalidHost),
    ("Host with bad port", "GET / HTTP/1.1\r\nhost: a:b\r\n\r\n", Cause::InvalidHost),
    ("absolute form without Host", "GET http://a/ HTTP/1.1\r\nx: a\r\n\r\n", Cause::MissingHost),
    ("absolute form with user", "GET http://u@a/ HTTP/1.1\r\nhost: a\r\n\r\n", Cause::InvalidHost),
    ("unknown method", "BREW / HTTP/1.1\r\nhost: a\r\n\r\n", Cause::UnknownMethod),
    ("high bytes in the path", "GET /\u{e9} HTTP/1.1\r\nhost: a\r\n\r\n", Cause::InvalidTarget),
    ("relative path", "GET admin HTTP/1.1\r\nhost: a\r\n\r\n", Cause::InvalidTarget),
    ("asterisk for GET", "GET * HTTP/1.1\r\nhost: a\r\n\r\n", Cause::InvalidTarget),
    ("HTTP/2.0", "GET / HTTP/2.0\r\nhost: a\r\n\r\n", Cause::DownstreamProtocolError),
    ("HTTP/1.2", "GET / HTTP/1.2\r\nhost: a\r\n\r\n", Cause::DownstreamProtocolError),
    ("lower-case http", "GET / http/1.1\r\nhost: a\r\n\r\n", Cause::DownstreamProtocolError),
    ("two spaces", "GET  / HTTP/1.1\r\nhost: a\r\n\r\n", Cause::DownstreamProtocolError),
    ("no version", "GET /\r\nhost: a\r\n\r\n", Cause::DownstreamProtocolError),
    ("TLS", "\x16\x03\x01\r\n\r\n", Cause::DownstreamProtocolError),
    (
        "CONNECT with body",
        "CONNECT a:1 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n",
        Cause::DownstreamProtocolError,
    ),
    (
        "Connection nominates Host",
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: host\r\n\r\n",
        Cause::DownstreamProtocolError,
    ),
    ("header without name", "GET / HTTP/1.1\r\nhost: a\r\n: b\r\n\r\n", Cause::InvalidHeader),
];

#[test]
fn every_refused_head_of_the_corpus_has_its_cause() {
    for (name, head, cause) in REFUSED {
        assert_eq!(parsed(head).err(), Some(*cause), "{name}");
    }
}

#[test]
fn limits_on_bytes_and_count_are_431() {
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(20));
    assert_eq!(parsed(&many).unwrap_err(), Cause::TooManyHeaders);
    let long = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(5000));
    assert_eq!(parsed(&long).unwrap_err(), Cause::HeadersTooLarge);
    assert_eq!((Cause::HeadersTooLarge.status(), Cause::TooManyHeaders.status()), (431, 431));
}

#[test]
fn hop_by_hop_and_nominated_headers_are_taken_out() {
    let head = "GET /a?b HTTP/1.1\r\nHost: h:80\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\n\
                TE: trailers, gzip\r\nProxy-Connection: close\r\nX-Kept: 2\r\n\r\n";
    let parsed = parsed(head).unwrap();
    assert_eq!(parsed.head.authority.as_str(), "h:80");
    assert_eq!(parsed.head.path.as_str(), "/a?b");
    assert!(!parsed.keep_alive);
    let mut names: Vec<_> = parsed.head.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["te", "x-kept"]);
    assert_eq!(parsed.head.headers["te"], "trailers");
}

#[test]
fn the_absolute_form_gives_the_authority() {
    let head = parsed("GET http://x.test?q HTTP/1.1\r\nhost: other\r\n\r\n").unwrap().head;
    assert_eq!((head.authority.as_str(), head.path.as_str(), head.scheme.as_str()), ("x.test", "/?q", "http"));
}

#[test]
fn upgrades_are_seen_only_with_connection_upgrade_and_without_a_body() {
    let upgrade = |head: &str| parsed(head).unwrap().head.upgrade.map(|upgrade| upgrade.to_string());
    let websocket = "GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: WebSocket\r\n\r\n";
    assert_eq!(upgrade(websocket).as_deref(), Some("websocket"));
    assert_eq!(upgrade("GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n"), None);
    assert_eq!(upgrade("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"), None);
    assert_eq!(upgrade("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n").as_deref(), Some("CONNECT"));
}

/// Decodes a chunked body given in pieces: payload and number of trailers, or the refusal.
fn chunked(pieces: &[&[u8]]) -> Result<Option<(Vec<u8>, usize)>, Cause> {
    let mut decoder = Decoder::new(Framing::Chunked, Settings { trailers: true, ..Settings::default() });
    let mut input = BytesMut::new();
    let (mut payload, mut trailers) = (Vec::new(), 0);
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut input).map_err(|refusal| refusal.cause)? {
                Step::Frame(Frame::Data(data)) => payload.extend_from_slice(&data),
                Step::Frame(Frame::Trailers(found)) => trailers = found.len(),
                Step::End => return Ok(Some((payload, trailers))),
                Step::More => break,
            }
        }
    }
    Ok(None)
}

#[test]
fn chunked_bodies_are_read_and_broken_ones_refused() {
    let whole = |body: &str| chunked(&[body.as_bytes()]);
    assert_eq!(whole("3\r\nabc\r\n0\r\n\r\n"), Ok(Some((b"abc".to_vec(), 0))));
    assert_eq!(whole("A;x=y\r\n0123456789\r\n0\r\nx: 1\r\ny: 2\r\n\r\n"), Ok(Some((b"0123456789".to_vec(), 2))));
    assert_eq!(whole("3\r\nabc\r\n0\r\nhost: evil\r\n\r\n"), Ok(Some((b"abc".to_vec(), 0))));
    assert_eq!(whole("3\r\nab"), Ok(None));
    for broken in [
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "-3\r\n",
        "+3\r\nabc\r\n",
        "\r\n",
        ";a\r\n",
        "11111111111111111\r\n",
        "3;a\rb\r\nabc\r\n",
        "3;a\0b\r\nabc\r\n",
        "g\r\n",
    ] {
        assert_eq!(whole(broken), Err(Cause::InvalidChunk), "{broken:?}");
    }
    let long = format!("3;{}", "a".repeat(300));
    assert_eq!(whole(&long), Err(Cause::InvalidChunk));
}

proptest! {
    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut input = BytesMut::from(&bytes[..]);
        if let Ok(Some(head)) = parse::take_head(&mut input, &mut 0, Settings::default()) {
            let _ = parse::request(&head, Settings::default());
            let _ = parse::response(&head, &Method::GET, Settings::default());
        }
        let _ = chunked(&[&bytes]);
    }

    #[test]
    fn near_heads_do_not_make_the_parser_panic(lines in prop::collection::vec("[ -~\\t\u{80}-\u{ff}]{0,30}", 0..8)) {
        let head = format!("GET / HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"));
        let head = Bytes::from(head);
        let _ = parse::request(&head, Settings::default());
        let head = Bytes::from(format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", lines.join("\r\n")));
        let _ = parse::response(&head, &Method::GET, Settings::default());
    }

    #[test]
    fn a_chunked_body_reads_the_same_wherever_it_is_split(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut whole = Vec::new();
        for chunk in &chunks {
            whole.extend_from_slice(format!("{:x};e=1\r\n", chunk.len()).as_bytes());
            whole.extend_from_slice(chunk);
            whole.extend_from_slice(b"\r\n");
        }
        whole.extend_from_slice(b"0\r\nt: v\r\n\r\n");
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(whole.len())).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([whole.len()]) {
            pieces.push(&whole[from..cut]);
            from = cut;
        }
        prop_assert_eq!(chunked(&pieces), Ok(Some((chunks.concat(), 1))));
    }

    #[test]
    fn a_head_is_found_the_same_wherever_it_is_split(cut in 1usize..60) {
        let whole = b"POST /x HTTP/1.1\r\nhost: a\r\nx-long: 0123456789\r\n\r\nrest";
        let cut = cut.min(whole.len() - 1);
        let mut input = BytesMut::from(&whole[..cut]);
        let mut scanned = 0;
        let mut head = parse::take_head(&mut input, &mut scanned, Settings::default()).unwrap();
        input.extend_from_slice(&whole[cut..]);
        if head.is_none() {
            head = parse::take_head(&mut input, &mut scanned, Settings::default()).unwrap();
        }
        prop_assert_eq!(head.as_deref(), Some(&whole[..whole.len() - 4]));
        prop_assert_eq!(&input[..], b"rest");
    }
}
