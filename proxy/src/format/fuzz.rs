//! Command operators in access logs and header rules.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use super::{Formatter, Info, RouteInfo};
use crate::connection::{Connection, TlsInfo};
use crate::message::{RequestHead, ResponseHead};
use crate::stream::{Traffic, Upstream};

/// The format and, after a NUL, the value of a header of the request: the client chooses that one.
pub fn format(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (format, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or(b"value"));
    let Ok(text) = std::str::from_utf8(format) else { return };
    let Ok(formatter) = Formatter::parse(text) else { return };
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(value) {
        for name in ["x", "user-agent", "x-forwarded-for", "content-type"] {
            headers.insert(name, value.clone());
        }
    }
    let request = RequestHead {
        method: Method::GET,
        scheme: "http".into(),
        authority: "host:80".into(),
        path: "/path?query=1".into(),
        version: Version::HTTP_11,
        headers: headers.clone(),
        upgrade: None,
        names: None,
    };
    let response = ResponseHead { status: StatusCode::OK, headers, upgrade: None, names: None };
    let (connection, upstream) = (connection(), Upstream::default());
    let info = Info {
        connection: &connection,
        request: Some(&request),
        response: Some(&response),
        trailers: None,
        remote: connection.remote,
        start: connection.start,
        start_time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_042),
        duration: Some(Duration::from_millis(12)),
        request_duration: None,
        first_sent: None,
        wire: Traffic::default(),
        upstream: &upstream,
        causes: &[],
        details: "via_upstream",
        termination_details: None,
        status: Some(200),
        bytes_received: 1,
        bytes_sent: 2,
        route: Some(RouteInfo { name: "route", virtual_host: "", metadata: None }),
        metadata: None,
        state: None,
        local_reply: "",
    };
    let mut line = Vec::new();
    formatter.format(&info, &mut line);
    assert!(std::str::from_utf8(&line).is_ok(), "a log line must be UTF-8");
    // Nobody but the format's author may end a log line or a header.
    let breaks = |bytes: &[u8]| bytes.iter().filter(|byte| b"\r\n".contains(byte)).count();
    assert!(breaks(&line) <= breaks(format), "{text:?} with {value:?}");
    let mut header = Vec::new();
    formatter.format_header(&info, &mut header);
}

fn connection() -> Connection {
    let address = SocketAddr::from(([10, 0, 0, 1], 1234));
    let tls = TlsInfo { version: "TLSv1.3", peer_subject: "CN=peer".into(), mtls: true, ..TlsInfo::default() };
    Connection {
        id: 7,
        remote: address,
        direct_remote: address,
        direct_local: address,
        local: address,
        original_dst: None,
        server_name: Some("sni.example".into()),
        tls: Some(Rc::new(tls)),
        peer: None,
        listener: "l".into(),
        direction: 1,
        filter_chain: "chain".into(),
        start: Instant::now(),
    }
}
