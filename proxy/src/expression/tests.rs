use ferromesh_proto::envoy::config::core::v3 as core;
use http::{HeaderName, HeaderValue, StatusCode};

use super::{Expressions, MAX_VALUE};
use crate::connection::Peer;
use crate::http::serve::tests::stream;
use crate::http::stream::Stream;
use crate::message::ResponseHead;
use crate::route::table::tests::head;

fn expressions() -> Expressions {
    let metadata = serde_json::json!({"WORKLOAD_NAME": "web", "LABELS": {"app": "shop", "app/part": "front"}});
    let metadata = Some(ferromesh_proto::json::json_to_struct(&metadata));
    Expressions::new(&core::Node { id: "own".into(), metadata, ..Default::default() })
}

fn asked(headers: &[(&'static str, &'static str)]) -> Stream {
    let mut request = head("a.test", "/hello?a=b");
    request
        .headers
        .extend(headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))));
    stream("", request)
}

fn value(text: &str, stream: &Stream) -> Option<String> {
    let mut expressions = expressions();
    expressions.add(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    expressions.values(&stream.info()).remove(0)
}

#[tokio::test]
async fn attributes_of_requests_are_read_by_their_names() {
    let mut stream = asked(&[("x-user", "anna"), ("x-two", "1"), ("x-two", "2")]);
    stream.metadata.insert("own".into(), serde_json::json!({"list": ["a", 2]}).as_object().cloned().unwrap());
    let cases = [
        ("request.host", Some("a.test")),
        ("request.method", Some("GET")),
        ("request.path", Some("/hello?a=b")),
        ("request.url_path", Some("/hello")),
        ("request.query", Some("a=b")),
        ("request.protocol", Some("HTTP/1.1")),
        ("request.size", Some("0")),
        ("request.headers['x-user']", Some("anna")),
        ("request.headers['X-User']", Some("anna")),
        ("request.headers['x-two']", Some("1,2")),
        ("request.headers[':authority']", Some("a.test")),
        ("request.headers['x-none']", None),
        ("request.headers", None),
        ("request.referer", None),
        ("response.code", None),
        ("has(request.referer) ? request.referer : 'none'", Some("none")),
        ("'x-user' in request.headers", Some("true")),
        ("destination.port", Some("80")),
        ("'port ' + string(destination.port)", Some("port 80")),
        ("source.address", Some("127.0.0.1:1234")),
        ("connection.mtls", Some("false")),
        ("size(request.headers['x-user'])", Some("4")),
        ("request.path.matches('^/h.*b$')", Some("true")),
        ("request.host.startsWith('a.') && request.method in ['GET', 'HEAD']", Some("true")),
        ("1 + 'a'", None),
        ("metadata.filter_metadata.own.list[0]", Some("a")),
        ("metadata.filter_metadata['own']['list'][1]", Some("2")),
        ("metadata.filter_metadata.own.list[2]", None),
        ("xds.node.metadata['WORKLOAD_NAME'] + '/' + xds.node.metadata.LABELS.app", Some("web/shop")),
        ("node.metadata.LABELS['app/part']", Some("front")),
        ("xds.cluster_name", None),
        ("xds.listener_direction", Some("0")),
        ("filter_state.upstream_peer.workload", None),
    ];
    for (text, expected) in cases {
        assert_eq!(value(text, &stream).as_deref(), expected, "{text}");
    }
}

#[tokio::test]
async fn attributes_of_answers_and_peers_are_read_by_their_names() {
    let mut stream = asked(&[]);
    stream.status = Some(503);
    stream.note(crate::cause::Cause::NoHealthyUpstream);
    let headers = std::iter::once((HeaderName::from_static("x-own"), HeaderValue::from_static("1"))).collect();
    let status = StatusCode::SERVICE_UNAVAILABLE;
    stream.response = Some(ResponseHead { status, headers, upgrade: None, names: None });
    stream.state.set(Peer { workload: "web".into(), canonical_name: "shop".into(), ..Peer::default() });
    let cases = [
        ("response.code", "503"),
        ("response.code >= 500 ? '5xx' : 'fine'", "5xx"),
        ("response.code_details", "no_healthy_upstream"),
        ("response.flags", "2"),
        ("response.headers['x-own']", "1"),
        ("response.headers[':status']", "503"),
        ("downstream_peer.workload", "web"),
        ("filter_state['wasm.downstream_peer'].service", "shop"),
    ];
    for (text, expected) in cases {
        assert_eq!(value(text, &stream).as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn what_cannot_be_evaluated_is_refused_by_its_name() {
    let cases = [
        ("cannot _ parse", "expression \"cannot _ parse\""),
        ("", "expression \"\""),
        ("cannot_evaluate", "\"cannot_evaluate\""),
        ("request", "name one of its fields"),
        ("request.nothing", "\"request.nothing\""),
        ("request.time", "\"request.time\""),
        ("request.host.length", "\"request.host.length\""),
        ("filter_state['wasm.istio_responseClass']", "\"filter_state.wasm.istio_responseClass\""),
        ("filter_state.upstream_peer.labels['role']", "\"filter_state.upstream_peer.labels.role\""),
        ("xds.cluster_metadata.typed_filter_metadata", "typed_filter_metadata"),
        ("lower(request.host)", "function \"lower\""),
        ("['a'].exists(x, x == request.host)", "macro"),
        ("{'a': 1}", "map"),
        ("request.host.matches(request.path)", "constant"),
        ("request.host.matches('(')", "pattern"),
        ("request[0].host", "\"request.[].host\""),
        ("request.host[0]", "\"request.host.[]\""),
    ];
    for (text, named) in cases {
        let error = expressions().add(text).expect_err(text).to_string();
        assert!(error.contains(named), "{text}: {error}");
    }
}

#[test]
fn a_text_of_any_depth_or_length_ends_in_a_value_or_an_error() {
    let deep = |open: &str, inner: &str, close: &str, times: usize| {
        format!("{}{inner}{}", open.repeat(times), close.repeat(times))
    };
    for text in
        [deep("(", "1", ")", 500), deep("[", "1", "]", 500), deep("!", "true", "", 1000), deep("-", "1", "", 900)]
    {
        let _ = expressions().add(&text);
    }
    assert!(expressions().add(&deep("[", "1", "]", 100)).is_err());
    assert!(expressions().add(&format!("'{}'", "a".repeat(2000))).is_err());
}

#[tokio::test]
async fn a_value_has_a_bounded_length_and_whole_characters() {
    let long: &'static str = Box::leak("ab\u{e9}".repeat(200).into_boxed_str());
    let mut stream = asked(&[]);
    stream.request.authority = long.into();
    let value = value("request.host", &stream).unwrap();
    assert!(value.len() <= MAX_VALUE && value.len() > MAX_VALUE - 4 && long.starts_with(&value), "{value}");
}
