use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode};
use proptest::prelude::{ProptestConfig, any, proptest};

use super::{Formatter, Info, JsonFormatter, RouteInfo};
use crate::cause::Cause;
use crate::connection::{Connection, TlsInfo};
use crate::message::{RequestHead, ResponseHead};
use crate::route::table::tests::head;
use crate::stream::{Traffic, Upstream};

/// A connection over mTLS from 10.0.0.1 to 10.0.0.2:8080.
pub fn connection() -> Connection {
    let address = |text: &str| -> SocketAddr { text.parse().expect("an address") };
    Connection {
        id: 7,
        remote: address("10.0.0.1:1234"),
        direct_remote: address("10.0.0.9:1234"),
        direct_local: address("10.0.0.2:15006"),
        local: address("10.0.0.2:8080"),
        original_dst: None,
        server_name: Some("sni.example".into()),
        tls: Some(Rc::new(TlsInfo {
            version: "TLSv1.3",
            cipher: "TLS_AES_128_GCM_SHA256",
            peer_uri_sans: vec!["spiffe://a/ns/x/sa/y".into()],
            local_uri_sans: vec!["spiffe://a/ns/z/sa/w".into()],
            peer_subject: "CN=peer".into(),
            mtls: true,
            ..TlsInfo::default()
        })),
        peer: None,
        listener: "l".into(),
        direction: 1,
        filter_chain: "chain".into(),
        start: Instant::now(),
    }
}

struct Exchange {
    connection: Connection,
    request: RequestHead,
    response: ResponseHead,
    upstream: Upstream,
}

impl Exchange {
    fn new() -> Self {
        let mut request = head("h:80", "/a?q=1");
        request.headers.insert("user-agent", HeaderValue::from_static("curl"));
        request.headers.insert("x-evil", HeaderValue::from_bytes(b"a\tb\"c").expect("a value"));
        let headers: HeaderMap =
            [(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"))].into_iter().collect();
        let response = ResponseHead { status: StatusCode::OK, headers, upgrade: None, names: None };
        let upstream = Upstream {
            cluster: Some(crate::cluster::tests::cluster("{name: 'outbound|80||x', alt_stat_name: x}")),
            attempts: 2,
            connection_id: Some(9),
            wire: Some(Rc::new(Cell::new(Traffic { received: 40, sent: 20, ..Traffic::default() }))),
            ..Upstream::default()
        };
        Self { connection: connection(), request, response, upstream }
    }

    fn info(&self) -> Info<'_> {
        Info {
            connection: &self.connection,
            request: Some(&self.request),
            response: Some(&self.response),
            trailers: None,
            remote: self.connection.remote,
            start: self.connection.start,
            start_time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_042),
            duration: Some(Duration::from_micros(12_900)),
            request_duration: None,
            first_sent: None,
            wire: Traffic::default(),
            upstream: &self.upstream,
            causes: &[
                Cause::UpstreamConnectionFailure,
                Cause::UpstreamConnectTimeout,
                Cause::UpstreamRetryLimitExceeded,
            ],
            details: "via upstream",
            termination_details: None,
            status: Some(200),
            bytes_received: 3,
            bytes_sent: 5,
            route: Some(RouteInfo { name: "default", virtual_host: "", metadata: None }),
            metadata: None,
            state: None,
            local_reply: "",
        }
    }

    fn format(&self, text: &str) -> String {
        let mut out = Vec::new();
        Formatter::parse(text).expect(text).format(&self.info(), &mut out);
        String::from_utf8(out).expect("UTF-8")
    }
}

#[test]
fn every_operator_gives_its_value() {
    let exchange = Exchange::new();
    let table = [
        ("100%%", "100%"),
        ("%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%", "GET /a?q=1 HTTP/1.1"),
        ("%REQ(:AUTHORITY)% %REQ(USER-AGENT):2% %REQ(NONE)%", "h:80 cu -"),
        ("%RESP(Content-Type)% %TRAILER(grpc-status)%", "text/plain -"),
        ("%REQ(x-evil)%", "a\\x09b\"c"),
        ("%START_TIME%", "2023-11-14T22:13:20.042Z"),
        ("%START_TIME(%Y/%m/%d %H:%M:%S.%3f %s)%", "2023/11/14 22:13:20.042 1700000000"),
        ("%START_TIME(%E3S)%", "20.042"),
        ("%RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %RESPONSE_FLAGS%", "200 via_upstream UF,URX"),
        ("%CONNECTION_TERMINATION_DETAILS% %UPSTREAM_TRANSPORT_FAILURE_REASON%", "- -"),
        ("%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESPONSE_DURATION%", "3 5 12 -"),
        ("%UPSTREAM_HOST% %UPSTREAM_CLUSTER% %UPSTREAM_CLUSTER_RAW%", "- x outbound|80||x"),
        ("%UPSTREAM_REQUEST_ATTEMPT_COUNT% %UPSTREAM_LOCAL_ADDRESS%", "2 -"),
        ("%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.1:1234 10.0.0.1"),
        ("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_PORT%", "10.0.0.9:1234 8080"),
        ("%DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_PEER_SUBJECT%", "spiffe://a/ns/x/sa/y CN=peer"),
        ("%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_TLS_CIPHER%", "TLSv1.3 TLS_AES_128_GCM_SHA256"),
        ("%REQUESTED_SERVER_NAME% %ROUTE_NAME% %FILTER_CHAIN_NAME%", "sni.example default chain"),
        ("%UPSTREAM_WIRE_BYTES_RECEIVED% %UPSTREAM_WIRE_BYTES_SENT%", "40 20"),
        ("%UPSTREAM_CONNECTION_ID% %UPSTREAM_CONNECTION_IDS_ATTEMPTED%", "9 9"),
        ("%DYNAMIC_METADATA(a:b)% %FILTER_STATE(wasm.upstream_peer:FIELD:app)% %GRPC_STATUS%", "- - -"),
        ("%PATH(NQ)% %QUERY_PARAM(q)% %CONNECTION_ID%", "/a 1 7"),
    ];
    for (text, want) in table {
        assert_eq!(exchange.format(text), want, "{text}");
    }
}

#[test]
fn an_unknown_or_malformed_operator_is_refused_by_its_name() {
    for (text, name) in [("%NOPE%", "NOPE"), ("%FILTER_STATE(x)%", "FILTER_STATE"), ("%START_TIME(%!)%", "START_TIME")]
    {
        let error = Formatter::parse(text).expect_err(text);
        assert!(error.reason.contains(name), "{error}");
    }
    for text in ["%", "50% off", "%REQ(%", "%REQ(a):x%", "%PROTOCOL(a)%", "%REQ( )%"] {
        assert!(Formatter::parse(text).is_err(), "{text}");
    }
}

#[test]
fn json_keeps_types_and_escapes() {
    let exchange = Exchange::new();
    let object = serde_json::json!({
        "code": "%RESPONSE_CODE%", "none": "%REQ(none)%", "mixed": "%PROTOCOL% %REQ(none)%", "evil": "%REQ(x-evil)%",
        "nested": {"gone": "%REQ(none)%"}, "list": ["%BYTES_SENT%", true],
    });
    for (omit, want) in [
        (
            false,
            r#"{"code":200,"evil":"a\tb\"c","list":[5,true],"mixed":"HTTP/1.1 -","nested":{"gone":null},"none":null}"#,
        ),
        (true, r#"{"code":200,"evil":"a\tb\"c","list":[5,true],"mixed":"HTTP/1.1 "}"#),
    ] {
        let formatter = JsonFormatter::decode(ferromesh_proto::json::json_to_struct(&object), omit).expect("valid");
        let mut out = Vec::new();
        formatter.format(&exchange.info(), &mut out);
        assert_eq!(String::from_utf8(out).expect("UTF-8"), format!("{want}\n"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_text_makes_the_parser_or_the_formatter_panic(text in "[%A-Z_():?a-z0-9é*]{0,40}", cut in any::<u8>()) {
        for text in [text.clone(), format!("%REQ({text}):{cut}%"), format!("%START_TIME({text})%")] {
            if let Ok(formatter) = Formatter::parse(&text) {
                formatter.format(&Exchange::new().info(), &mut Vec::new());
            }
        }
    }
}
