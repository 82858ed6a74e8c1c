//! Server name and application protocols of a TLS ClientHello, read from its first bytes (RFC 8446, 4.1.2; RFC 6066, 3).

/// What a peek at the first bytes shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peek {
    /// Not TLS.
    Other,
    /// Too few bytes to know.
    Partial,
    /// TLS, but the hello is malformed.
    Malformed,
    /// A hello.
    Hello(Hello),
}

/// What the client asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hello {
    /// SNI in lower case.
    pub server_name: Option<String>,
    /// ALPN, in the client's order.
    pub alpn: Vec<String>,
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// A record's payload (RFC 8446, 5.1).
const MAX_RECORD: usize = 1 << 14;

/// Reads the hello from the first bytes of a connection; hellos beyond `limit` bytes count as malformed.
pub fn peek(bytes: &[u8], limit: usize) -> Peek {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        match record(rest) {
            Record::Payload(payload, after) => {
                message.extend_from_slice(payload);
                rest = after;
            }
            Record::Partial(begun) => {
                // What has come of this record may already be enough to see that it is too long.
                return if message.len() + begun > limit { Peek::Malformed } else { Peek::Partial };
            }
            Record::Other => return if message.is_empty() { Peek::Other } else { Peek::Malformed },
        }
        let Some((head, body)) = message.split_at_checked(4) else { continue };
        let &[kind, a, b, c] = head else { return Peek::Malformed };
        if kind != CLIENT_HELLO {
            return Peek::Malformed;
        }
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if length > limit {
            return Peek::Malformed;
        }
        if let Some(body) = body.get(..length) {
            return parse(body).map_or(Peek::Malformed, Peek::Hello);
        }
    }
}

enum Record<'a> {
    Payload(&'a [u8], &'a [u8]),
    Partial(usize),
    Other,
}

fn record(bytes: &[u8]) -> Record<'_> {
    // Version 2 hellos and plain text differ in the first bytes already.
    if bytes.first().is_some_and(|kind| *kind != HANDSHAKE) || bytes.get(1).is_some_and(|major| *major != 3) {
        return Record::Other;
    }
    let Some((&[_, _, _, high, low], rest)) = bytes.split_first_chunk::<5>() else { return Record::Partial(0) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length == 0 || length > MAX_RECORD {
        return Record::Other;
    }
    match rest.split_at_checked(length) {
        Some((payload, after)) => Record::Payload(payload, after),
        None => Record::Partial(rest.len()),
    }
}

/// Takes length-prefixed pieces off a slice.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
    fn u8(&mut self) -> Option<usize> {
        self.take(1)?.first().map(|byte| usize::from(*byte))
    }
    fn u16(&mut self) -> Option<usize> {
        let bytes: [u8; 2] = self.take(2)?.try_into().ok()?;
        Some(usize::from(u16::from_be_bytes(bytes)))
    }
    fn vec8(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(length)
    }
    fn vec16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length)
    }
}

fn parse(body: &[u8]) -> Option<Hello> {
    let mut reader = Reader(body);
    reader.take(2 + 32)?; // version, random
    reader.vec8()?; // session id
    reader.vec16()?; // cipher suites
    reader.vec8()?; // compression methods
    let mut hello = Hello::default();
    if reader.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(reader.vec16()?);
    if !reader.0.is_empty() {
        return None;
    }
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let payload = extensions.vec16()?;
        match kind {
            0 if hello.server_name.is_none() => hello.server_name = Some(server_name(payload)?),
            16 if hello.alpn.is_empty() => hello.alpn = protocols(payload)?,
            0 | 16 => return None,
            _ => {}
        }
    }
    Some(hello)
}

fn server_name(payload: &[u8]) -> Option<String> {
    let mut outer = Reader(payload);
    let mut list = Reader(outer.vec16()?);
    let kind = list.u8()?;
    let name = list.vec16()?;
    let good = kind == 0
        && outer.0.is_empty()
        && list.0.is_empty()
        && (1..=255).contains(&name.len())
        && name.iter().all(u8::is_ascii_graphic);
    good.then(|| String::from_utf8_lossy(name).to_ascii_lowercase())
}

fn protocols(payload: &[u8]) -> Option<Vec<String>> {
    let mut outer = Reader(payload);
    let mut list = Reader(outer.vec16()?);
    let mut names = Vec::new();
    while !list.0.is_empty() {
        let name = list.vec8()?;
        if name.is_empty() {
            return None;
        }
        names.push(String::from_utf8_lossy(name).into_owned());
    }
    (outer.0.is_empty() && !names.is_empty()).then_some(names)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    /// A hello as a real client makes it.
    fn hello(name: &str, alpn: &[&str]) -> Vec<u8> {
        let mut config = rustls::ClientConfig::builder_with_provider(ferromesh_core::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_real_hello_shows_its_name_and_protocols_only_when_whole() {
        let bytes = hello("outbound_.80_._.Web.default.svc.cluster.local", &["istio-h2", "h2"]);
        let Peek::Hello(found) = peek(&bytes, 16 * 1024) else { panic!("a hello") };
        assert_eq!(found.server_name.as_deref(), Some("outbound_.80_._.web.default.svc.cluster.local"));
        assert_eq!(found.alpn, ["istio-h2", "h2"]);
        for cut in 1..bytes.len() {
            assert_eq!(peek(&bytes[..cut], 16 * 1024), Peek::Partial, "after {cut} bytes");
        }
        assert_eq!(peek(&bytes, 100), Peek::Malformed);
    }

    #[test]
    fn a_hello_may_come_in_several_records() {
        let bytes = hello("a.example", &[]);
        let mut split = Vec::new();
        for piece in bytes[5..].chunks(50) {
            split.extend_from_slice(&[22, 3, 1, 0, piece.len() as u8]);
            split.extend_from_slice(piece);
        }
        let Peek::Hello(found) = peek(&split, 16 * 1024) else { panic!("a hello") };
        assert_eq!(found.server_name.as_deref(), Some("a.example"));
    }

    #[test]
    fn plain_text_is_not_tls() {
        assert_eq!(peek(b"GET / HTTP/1.1\r\n", 16 * 1024), Peek::Other);
        assert_eq!(peek(&[22, 2, 0], 16 * 1024), Peek::Other);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_more_bytes_never_unsay_other(bytes: Vec<u8>, more: Vec<u8>) {
            let first = peek(&bytes, 1024);
            let joined = [bytes, more].concat();
            if first == Peek::Other {
                prop_assert_eq!(peek(&joined, 1024), Peek::Other);
            }
        }

        #[test]
        fn a_changed_hello_never_panics(place: usize, value: u8) {
            let mut bytes = hello("a.example", &["h2"]);
            let place = place % bytes.len();
            bytes[place] = value;
            let _ = peek(&bytes, 16 * 1024);
        }
    }
}
