//! What is read before a filter chain is chosen. Bytes come in pieces, so what was decided must stay when more come.

use super::filter::http_version;
use super::hello::{self, Peek};
use super::proxy_header::{self, Header};

/// Runs `check` on each beginning of `data` (every one of the first, then in steps) up to the whole.
fn beginnings(data: &[u8], mut check: impl FnMut(&[u8])) {
    for end in (0..data.len()).filter(|end| *end < 64 || end % 37 == 0) {
        check(&data[..end]);
    }
    check(data);
}

/// The protocol by the first bytes: TLS, HTTP/1, HTTP/2 or neither.
pub fn detection(data: &[u8]) {
    let mut decided = None;
    beginnings(data, |bytes| {
        let found = http_version(bytes);
        assert!(decided.is_none() || found == decided, "{decided:?} became {found:?}");
        decided = found;
    });
    let mut tls = None;
    beginnings(data, |bytes| {
        let is_tls = match hello::peek(bytes, 16 * 1024) {
            Peek::Partial => return assert!(tls.is_none(), "undecided after {tls:?}"),
            Peek::Other => false,
            Peek::Malformed | Peek::Hello(_) => true,
        };
        assert!(tls.is_none_or(|before| before == is_tls), "TLS or not changed");
        tls = Some(is_tls);
    });
}

/// Server name and protocols of a TLS ClientHello.
pub fn sni(data: &[u8]) {
    let mut decided: Option<Peek> = None;
    beginnings(data, |bytes| {
        let found = hello::peek(bytes, 4096);
        if let Peek::Hello(hello) = &found {
            let name = hello.server_name.as_deref().unwrap_or_default();
            assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase() || byte == 0), "{name:?}");
        }
        match &decided {
            Some(before) => assert_eq!(*before, found),
            None if found != Peek::Partial => decided = Some(found),
            None => {}
        }
    });
}

/// The PROXY protocol's header, both versions.
pub fn proxy_protocol(data: &[u8]) {
    let mut decided: Option<Header> = None;
    beginnings(data, |bytes| {
        let found = proxy_header::parse(bytes);
        if let Header::Whole { length, .. } = found {
            assert!(length > 0 && length <= bytes.len());
        }
        match &decided {
            Some(before) => assert_eq!(*before, found),
            None if found != Header::Partial => decided = Some(found),
            None => {}
        }
    });
}
