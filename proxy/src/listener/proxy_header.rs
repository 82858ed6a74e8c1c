//! The PROXY protocol's header, versions 1 and 2 (haproxy.org, "The PROXY protocol").

use std::net::SocketAddr;

use ferromesh_proto::envoy::config::core::v3::proxy_protocol_config::Version;

const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V1_PREFIX: &[u8] = b"PROXY ";
/// Longest line of version 1, with its line break.
const V1_MAX: usize = 107;

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// Too few bytes to know.
    Partial,
    /// Something else.
    Absent,
    /// A header that breaks the rules.
    Malformed,
    /// A header of `length` bytes; without addresses it tells of the sender's own connection (health checks).
    Whole { version: Version, length: usize, addresses: Option<(SocketAddr, SocketAddr)> },
}

pub(super) fn parse(bytes: &[u8]) -> Header {
    let begins = |signature: &[u8]| {
        let common = bytes.len().min(signature.len());
        (bytes[..common] == signature[..common]).then_some(common == signature.len())
    };
    match (begins(V1_PREFIX), begins(V2_SIGNATURE)) {
        (Some(true), _) => parse_v1(bytes),
        (_, Some(true)) => parse_v2(bytes),
        (Some(false), _) | (_, Some(false)) => Header::Partial,
        (None, None) => Header::Absent,
    }
}

fn parse_v1(bytes: &[u8]) -> Header {
    let window = &bytes[..bytes.len().min(V1_MAX)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() >= V1_MAX { Header::Malformed } else { Header::Partial };
    };
    let length = end + 2;
    let Ok(header) = ppp::v1::Header::try_from(&bytes[..length]) else { return Header::Malformed };
    let addresses = match header.addresses {
        ppp::v1::Addresses::Unknown => None,
        ppp::v1::Addresses::Tcp4(v4) => Some((
            SocketAddr::from((v4.source_address, v4.source_port)),
            SocketAddr::from((v4.destination_address, v4.destination_port)),
        )),
        ppp::v1::Addresses::Tcp6(v6) => Some((
            SocketAddr::from((v6.source_address, v6.source_port)),
            SocketAddr::from((v6.destination_address, v6.destination_port)),
        )),
    };
    Header::Whole { version: Version::V1, length, addresses }
}

fn parse_v2(bytes: &[u8]) -> Header {
    let Some(&[high, low]) = bytes.get(14..16) else { return Header::Partial };
    let length = 16 + usize::from(u16::from_be_bytes([high, low]));
    let Some(whole) = bytes.get(..length) else { return Header::Partial };
    let Ok(header) = ppp::v2::Header::try_from(whole) else { return Header::Malformed };
    let addresses = match (header.command, header.addresses) {
        (ppp::v2::Command::Local, _) => None,
        (ppp::v2::Command::Proxy, ppp::v2::Addresses::IPv4(v4)) => Some((
            SocketAddr::from((v4.source_address, v4.source_port)),
            SocketAddr::from((v4.destination_address, v4.destination_port)),
        )),
        (ppp::v2::Command::Proxy, ppp::v2::Addresses::IPv6(v6)) => Some((
            SocketAddr::from((v6.source_address, v6.source_port)),
            SocketAddr::from((v6.destination_address, v6.destination_port)),
        )),
        (ppp::v2::Command::Proxy, _) => None,
    };
    Header::Whole { version: Version::V2, length, addresses }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8) -> Vec<u8> {
        let mut bytes = V2_SIGNATURE.to_vec();
        bytes.extend([0x20 | command, 0x11, 0, 15, 1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 0, 10, 4, 0, 0]);
        bytes
    }

    #[test]
    fn both_versions_give_addresses_and_their_length() {
        let v1 = b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\nGET /";
        let addresses = Some(("1.2.3.4:9".parse().unwrap(), "5.6.7.8:10".parse().unwrap()));
        assert_eq!(parse(v1), Header::Whole { version: Version::V1, length: 33, addresses });
        assert_eq!(parse(&v2(1)), Header::Whole { version: Version::V2, length: 31, addresses });
        assert_eq!(parse(&v2(0)), Header::Whole { version: Version::V2, length: 31, addresses: None });
        let unknown = Header::Whole { version: Version::V1, length: 15, addresses: None };
        assert_eq!(parse(b"PROXY UNKNOWN\r\n"), unknown);
    }

    #[test]
    fn what_is_cut_off_waits_and_what_is_wrong_is_refused() {
        for cut in 0..31 {
            assert_eq!(parse(&v2(1)[..cut]), Header::Partial, "after {cut} bytes");
        }
        assert_eq!(parse(b"PROXY TCP4 1.2.3.4"), Header::Partial);
        assert_eq!(parse(b"PROXY TCP4 1.2.3.4 5.6.7.8 99999 10\r\n"), Header::Malformed);
        assert_eq!(parse(&[b"PROXY TCP6 ".to_vec(), vec![b'1'; 120]].concat()), Header::Malformed);
        assert_eq!(parse(b"GET / HTTP/1.1\r\n"), Header::Absent);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, signature: bool) {
            let bytes = if signature { [V2_SIGNATURE.to_vec(), bytes].concat() } else { bytes };
            let _ = parse(&bytes);
            let _ = parse(&[b"PROXY ".to_vec(), bytes].concat());
        }
    }
}
