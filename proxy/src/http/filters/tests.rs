//! What each filter does with a request and a response, without a connection.

use std::sync::Arc;

use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::core::v3::Node;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::{Build, FILTERS, Flow, HttpFilter, resolve};
use crate::body::Body;
use crate::connection::Peer;
use crate::context::{Context, Local};
use crate::http::serve::tests::stream;
use crate::http::stream::Stream;
use crate::message::{LocalReply, RequestHead, ResponseHead};

const E: &str = "type.googleapis.com/envoy.extensions.filters.http";

/// A filter of this configuration (a YAML flow mapping without its braces).
fn filter(kind: &str, config: &str) -> Arc<dyn HttpFilter> {
    let node =
        serde_json::json!({"NAME": "web-1", "NAMESPACE": "shop", "WORKLOAD_NAME": "web", "LABELS": {"app": "web"}});
    let metadata = Some(ferromesh_proto::json::json_to_struct(&node));
    let context = Context::new(Local::new(Node { id: "own-node".into(), metadata, ..Default::default() }));
    let any: Any = ferromesh_proto::json::from_yaml(&format!("{{'@type': {kind}, {config}}}")).expect("good YAML");
    let config = resolve(&any).expect("a message");
    let kind = FILTERS.iter().find(|kind| kind.message == config.type_name()).expect("a filter");
    (kind.build)(&Build { config: &config, name: "f", stat_prefix: "test", context: &context }).expect("a good filter")
}

fn head(method: Method, path: &'static str, headers: &[(&'static str, &'static str)]) -> RequestHead {
    RequestHead { method, headers: map(headers), ..crate::route::table::tests::head("a.test", path) }
}

fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
    headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn get(headers: &[(&'static str, &'static str)]) -> Stream {
    stream("", head(Method::GET, "/hello", headers))
}

/// The answer of a filter that answers by itself.
fn reply(filter: &dyn HttpFilter, stream: &mut Stream) -> Option<LocalReply> {
    match filter.on_request(stream, &mut Body::Empty) {
        Flow::Respond(reply) => Some(*reply),
        Flow::Next => None,
        Flow::Wait(_) => panic!("it waits"),
    }
}

/// The headers of a response that has gone through a filter.
fn response(filter: &dyn HttpFilter, stream: &mut Stream, headers: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut head = ResponseHead { status: StatusCode::OK, headers: map(headers), upgrade: None, names: None };
    filter.on_response(stream, &mut head, &mut Body::Empty);
    head.headers
}

#[tokio::test]
async fn alpn_gives_the_list_of_the_upstreams_protocol_and_respects_a_cluster_that_keeps_its_own() {
    let list = "{upstream_protocol: HTTP11, alpn_override: [istio-http/1.1, http/1.1]}, {upstream_protocol: HTTP2, alpn_override: [h2]}";
    let alpn = filter(
        "type.googleapis.com/istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",
        &format!("alpn_override: [{list}]"),
    );
    let cases = [
        ("{name: a}", Some("istio-http/1.1")),
        ("{name: a, http2_protocol_options: {}}", Some("h2")),
        ("{name: a, metadata: {filter_metadata: {istio: {alpn_override: 'false'}}}}", None),
    ];
    for (cluster, first) in cases {
        let mut stream = get(&[]);
        stream.upstream.cluster = Some(crate::cluster::tests::cluster(cluster));
        assert!(reply(&*alpn, &mut stream).is_none());
        let list = stream.upstream.alpn_override;
        let found = list.as_deref().and_then(<[_]>::first).map(|name| String::from_utf8_lossy(name).into_owned());
        assert_eq!(found.as_deref(), first, "{cluster}");
    }
}

#[tokio::test]
async fn cors_does_nothing_on_a_route_without_a_policy() {
    let cors = filter(&format!("{E}.cors.v3.Cors"), "");
    let preflight = [("origin", "http://a.test"), ("access-control-request-method", "PUT")];
    let mut stream = stream("", head(Method::OPTIONS, "/hello", &preflight));
    assert!(reply(&*cors, &mut stream).is_none());
    assert!(response(&*cors, &mut stream, &[]).is_empty());
}

#[tokio::test]
async fn fault_aborts_the_requests_that_it_is_told_to_with_status_and_body() {
    let fault = filter(
        &format!("{E}.fault.v3.HTTPFault"),
        "abort: {http_status: 418, response_body: pot, percentage: {numerator: 100}}, headers: [{name: x-fault, present_match: true}]",
    );
    assert!(reply(&*fault, &mut get(&[])).is_none());
    let answer = reply(&*fault, &mut get(&[("x-fault", "1")])).expect("aborted");
    assert_eq!((answer.status, &*answer.body), (Some(StatusCode::IM_A_TEAPOT), "pot"));
}

#[tokio::test]
async fn fault_waits_before_the_request_goes_on() {
    let fault =
        filter(&format!("{E}.fault.v3.HTTPFault"), "delay: {fixed_delay: 0.001s, percentage: {numerator: 100}}");
    let Flow::Wait(wait) = fault.on_request(&mut get(&[]), &mut Body::Empty) else { panic!("it does not wait") };
    assert!(matches!(wait.await, Flow::Next));
}

#[tokio::test]
async fn header_mutation_changes_requests_and_responses_in_its_order() {
    let append = |value: &str| {
        format!("{{append: {{header: {{key: x-by, value: '{value}'}}, append_action: APPEND_IF_EXISTS_OR_ADD}}}}")
    };
    let mutation = filter(
        &format!("{E}.header_mutation.v3.HeaderMutation"),
        &format!(
            "mutations: {{request_mutations: [{{remove: x-by}}, {}], response_mutations: [{}, {{remove: x-gone}}]}}",
            append("%REQ(:PATH)%"),
            append("filter")
        ),
    );
    let mut stream = get(&[("x-by", "client")]);
    assert!(reply(&*mutation, &mut stream).is_none());
    assert_eq!(stream.request.headers, map(&[("x-by", "/hello")]));
    let headers = response(&*mutation, &mut stream, &[("x-gone", "1"), ("x-by", "server")]);
    assert_eq!(headers, map(&[("x-by", "server"), ("x-by", "filter")]));
}

#[tokio::test]
async fn health_check_answers_its_path_only_and_marks_its_answers() {
    let check = filter(
        &format!("{E}.health_check.v3.HealthCheck"),
        "pass_through_mode: false, headers: [{name: ':path', string_match: {exact: /hello}}]",
    );
    let mut asked = get(&[]);
    assert_eq!(reply(&*check, &mut asked).expect("an answer").cause.status(), 200);
    assert!(response(&*check, &mut asked, &[]).contains_key("x-envoy-upstream-healthchecked-cluster"));
    let mut other = stream("", head(Method::GET, "/other", &[]));
    assert!(reply(&*check, &mut other).is_none());
    assert!(response(&*check, &mut other, &[]).is_empty());
}

#[tokio::test]
async fn local_ratelimit_refuses_what_is_beyond_its_bucket_and_tells_what_is_left() {
    let limit = filter(
        &format!("{E}.local_ratelimit.v3.LocalRateLimit"),
        "stat_prefix: l, token_bucket: {max_tokens: 1, fill_interval: 3600s}, enable_x_ratelimit_headers: DRAFT_VERSION_03, \
         enable_retry_after_header: true, filter_enabled: {default_value: {numerator: 100}}, filter_enforced: {default_value: {numerator: 100}}",
    );
    let mut first = get(&[]);
    assert!(reply(&*limit, &mut first).is_none());
    let headers = response(&*limit, &mut first, &[]);
    assert_eq!(
        (&headers["x-ratelimit-limit"], &headers["x-ratelimit-remaining"]),
        (&"1".parse().expect("a value"), &"0".parse().expect("a value"))
    );
    let mut second = get(&[]);
    let answer = reply(&*limit, &mut second).expect("refused");
    assert_eq!(answer.status, Some(StatusCode::TOO_MANY_REQUESTS));
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn local_ratelimit_marks_requests_that_it_would_refuse_where_it_is_not_enforced() {
    let limit = filter(
        &format!("{E}.local_ratelimit.v3.LocalRateLimit"),
        "stat_prefix: l, token_bucket: {max_tokens: 0, fill_interval: 3600s}, filter_enabled: {default_value: {numerator: 100}}, \
         request_headers_to_add_when_not_enforced: [{header: {key: x-limited, value: '1'}}]",
    );
    let mut stream = get(&[]);
    assert!(reply(&*limit, &mut stream).is_none());
    assert_eq!(stream.request.headers, map(&[("x-limited", "1")]));
}

#[tokio::test]
async fn peer_metadata_takes_the_peers_headers_and_gives_its_own_to_who_asks() {
    let metadata = filter(
        "type.googleapis.com/io.istio.http.peer_metadata.Config",
        "downstream_discovery: [{istio_headers: {}}], downstream_propagation: [{istio_headers: {}}], \
         upstream_discovery: [{istio_headers: {}}], upstream_propagation: [{istio_headers: {}}]",
    );
    let mut sent = get(&[]);
    assert!(reply(&*metadata, &mut sent).is_none());
    let told = sent.request.headers["x-envoy-peer-metadata"].clone();
    assert_eq!(sent.request.headers["x-envoy-peer-metadata-id"], "own-node");
    assert!(response(&*metadata, &mut sent, &[]).is_empty(), "nobody has asked");
    let mut received = get(&[("x-envoy-peer-metadata-id", "other")]);
    received.request.headers.insert("x-envoy-peer-metadata", told);
    assert!(reply(&*metadata, &mut received).is_none());
    assert_eq!(received.state.get::<Peer>().map(|peer| peer.workload.to_string()), Some("web".to_owned()));
    assert!(response(&*metadata, &mut received, &[]).contains_key("x-envoy-peer-metadata"));
}

#[tokio::test]
async fn rbac_lets_pass_what_a_policy_allows_and_refuses_the_rest_with_its_details() {
    let rbac = filter(
        &format!("{E}.rbac.v3.RBAC"),
        "rules: {action: ALLOW, policies: {reads: {permissions: [{header: {name: ':method', string_match: {exact: GET}}}], principals: [{any: true}]}}}",
    );
    assert!(reply(&*rbac, &mut get(&[])).is_none());
    let answer = reply(&*rbac, &mut stream("", head(Method::POST, "/hello", &[]))).expect("refused");
    assert_eq!((answer.cause.status(), &*answer.body), (403, "RBAC: access denied"));
    assert_eq!(answer.details.as_deref(), Some("rbac_access_denied_matched_policy[none]"));
}

#[tokio::test]
async fn grpc_stats_leaves_bodies_and_heads_as_they_are() {
    let stats = filter(&format!("{E}.grpc_stats.v3.FilterConfig"), "emit_filter_state: true");
    let mut stream = get(&[("content-type", "application/grpc")]);
    let mut body = Body::from(bytes::Bytes::from_static(&[0, 0, 0, 0, 1, 7]));
    assert!(matches!(stats.on_request(&mut stream, &mut body), Flow::Next));
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(crate::body::Frame::Data(data)) = frame {
            read.extend_from_slice(&data);
        }
    }
    assert_eq!(read, [0, 0, 0, 0, 1, 7]);
    assert_eq!(response(&*stats, &mut stream, &[("x", "1")]), map(&[("x", "1")]));
}
