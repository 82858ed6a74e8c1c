//! The access log: every operator, in a text and in JSON.

use super::Group;

/// The groups of this file.
pub fn groups() -> Vec<Group> {
    let mut groups = vec![texts(), durations(), headers()];
    groups.extend(objects());
    groups
}

const ROUTES: &str = "\
    {name: direct, match: {path: /direct}, direct_response: {status: 418, body: {inline_string: pot}}}, \
    {name: refused, match: {path: /refused}, route: {cluster: refused}}, \
    {name: empty, match: {path: /empty}, route: {cluster: empty}}, \
    {name: missing, match: {path: /missing}, route: {cluster: not-there}}, \
    {name: full, match: {path: /full}, route: {cluster: full}}, \
    {name: late, match: {path: /late}, route: {cluster: echo, timeout: 0.1s}}, \
    {name: rewritten, match: {prefix: /old}, route: {cluster: echo, prefix_rewrite: /new}}, \
    {name: again, match: {path: /again}, route: {cluster: levels, retry_policy: {retry_on: 5xx, num_retries: 3, \
     retry_back_off: {base_interval: 0.001s}, retry_priority: {name: p, typed_config: {\
     '@type': type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig, update_frequency: 1}}}}}, \
    {name: named, match: {path: /named}, route: {cluster: named}}, \
    {name: rest, match: {prefix: /}, route: {cluster: trailing}, metadata: {filter_metadata: {own: {a: 1, b: {c: [x, true, null]}, d: text}}}}";

const GRPC: &str = "content-type: application/grpc";

fn asked(group: Group) -> Group {
    let cases: &[(&'static str, &str, &[&str])] = &[
        ("plain", "/a?b=c&d=e%20f&b=g", &["x-one: 1", "x-long: 0123456789", "x-one: 2", "x-empty:"]),
        ("direct", "/direct", &[]),
        ("refused", "/refused", &[]),
        ("nobody", "/empty", &[]),
        ("missing", "/missing", &[]),
        ("full", "/full", &[]),
        ("late", "/late", &["x-do: delay=400"]),
        ("rewritten", "/old/x?y=z", &[]),
        ("again", "/again", &["x-do: status=500"]),
        ("named", "/named", &[]),
        ("trailers", "/", &["x-do: trailers size=10", "te: trailers"]),
        ("grpc", "/", &[GRPC, "x-do: header=grpc-status:5"]),
        ("grpc own status", "/", &[GRPC, "x-do: header=grpc-status:99"]),
        ("grpc refused", "/refused", &[GRPC]),
        ("quoted", "/", &["x-one: a \"b\" \\ c"]),
        ("forwarded", "/", &["x-forwarded-for: 8.8.8.8", "x-forwarded-proto: https"]),
        ("id", "/", &["x-request-id: 11111111-1111-4111-8111-111111111111"]),
        ("with host", "/", &["host: b.test:99"]),
    ];
    let group = group.hcm("http_protocol_options: {enable_trailers: true}").routes(ROUTES);
    let group = cases.iter().fold(group, |group, (name, path, headers)| group.get(name, path, headers));
    group
        .request("body", "POST / HTTP/1.1", &["content-length: 5"], "hello")
        .request("chunks", "POST / HTTP/1.1", &["transfer-encoding: chunked"], "3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
        .request("head", "HEAD / HTTP/1.1", &["x-do: size=20"], "")
}

/// Values that do not differ from one run to the next.
const OPERATORS: &[&str] = &[
    "REQ(X-ONE)",
    "REQ(x-one):1",
    "REQ(X-LONG):4",
    "REQ(X-NONE?X-LONG):3",
    "REQ(X-EMPTY)",
    "REQ(X-NONE)",
    "REQ(:METHOD)",
    "REQUEST_HEADER(X-ONE)",
    "STREAM_INFO_REQ(X-LONG)",
    "RESP(SERVER)",
    "RESP(:STATUS)",
    "RESPONSE_HEADER(X-SERVED-BY)",
    "TRAILER(X-TRAILER)",
    "RESPONSE_TRAILER(X-TRAILER):2",
    "PATH",
    "PATH(NQ)",
    "PATH(WQ:ORIG)",
    "PATH(NQ:PATH)",
    "PATH(WQ:PATH):4",
    "PATH(NQ:ORIG_OR_PATH)",
    "QUERY_PARAM(b)",
    "QUERY_PARAM(d)",
    "QUERY_PARAM(d):2",
    "QUERY_PARAM(none)",
    "QUERY_PARAMS",
    "QUERY_PARAMS(DECODED)",
    "PROTOCOL",
    "UPSTREAM_PROTOCOL",
    "RESPONSE_CODE",
    "RESPONSE_CODE_DETAILS",
    "RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)",
    "RESPONSE_FLAGS",
    "RESPONSE_FLAGS_LONG",
    "CUSTOM_FLAGS",
    "CONNECTION_TERMINATION_DETAILS",
    "BYTES_RECEIVED",
    "BYTES_SENT",
    "BYTES_RETRANSMITTED",
    "PACKETS_RETRANSMITTED",
    "UPSTREAM_HOST",
    "UPSTREAM_HOST_NAME",
    "UPSTREAM_HOST_NAME_WITHOUT_PORT",
    "UPSTREAM_CLUSTER",
    "UPSTREAM_CLUSTER_RAW",
    "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "UPSTREAM_REMOTE_ADDRESS",
    "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    "UPSTREAM_WIRE_BYTES_RECEIVED",
    "UPSTREAM_TLS_VERSION",
    "UPSTREAM_TLS_CIPHER",
    "UPSTREAM_TLS_GROUP",
    "UPSTREAM_PEER_SUBJECT",
    "UPSTREAM_PEER_URI_SAN",
    "UPSTREAM_TRANSPORT_FAILURE_REASON",
    "UPSTREAM_HOSTS_ATTEMPTED",
    "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT",
    "UPSTREAM_HOST_NAMES_ATTEMPTED",
    "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT",
    "DOWNSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID",
    "UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_TLS_VERSION",
    "DOWNSTREAM_PEER_SUBJECT",
    "DOWNSTREAM_PEER_CERT",
    "DOWNSTREAM_PEER_CERT_V_START(%Y)",
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
    "DOWNSTREAM_TLS_GROUP",
    "REQUESTED_SERVER_NAME",
    "ROUTE_NAME",
    "FILTER_CHAIN_NAME",
    "VIRTUAL_CLUSTER_NAME",
    "TRACE_ID",
    "SPAN_ID",
    "TLS_JA3_FINGERPRINT",
    "TLS_JA4_FINGERPRINT",
    "STREAM_ID",
    "HOSTNAME",
    "ACCESS_LOG_TYPE",
    "LOCAL_REPLY_BODY",
    "GRPC_STATUS",
    "GRPC_STATUS(SNAKE_STRING)",
    "GRPC_STATUS(NUMBER)",
    "GRPC_STATUS_NUMBER",
    "ENVIRONMENT(PATH):3",
    "ENVIRONMENT(FERROMESH_NOT_SET)",
    "DYNAMIC_METADATA(none)",
    "DYNAMIC_METADATA(none:key)",
    "CLUSTER_METADATA(own)",
    "CLUSTER_METADATA(own:a)",
    "CLUSTER_METADATA(own:b)",
    "CLUSTER_METADATA(own:b:c)",
    "CLUSTER_METADATA(own:none)",
    "UPSTREAM_METADATA(envoy.lb:hash_key)",
    "UPSTREAM_METADATA(envoy.lb)",
    "METADATA(ROUTE:own)",
    "METADATA(ROUTE:own:d)",
    "METADATA(ROUTE:own:a)",
    "METADATA(ROUTE:own:b):6",
    "METADATA(CLUSTER:own:a)",
    "METADATA(UPSTREAM_HOST:envoy.lb:hash_key)",
    "METADATA(DYNAMIC:none)",
    "RESPONSE_TRAILERS_BYTES",
    "PROTOCOL()",
    "START_TIME(fixed)",
    "COMMON_DURATION(DS_RX_BEG:own)",
    "ROUNDTRIP_DURATION",
];

/// Each operator is a field of its own; its place stands for its name, which may have any character.
fn texts() -> Group {
    let fields: Vec<String> =
        OPERATORS.iter().enumerate().map(|(index, operator)| format!("{index:03}=%{operator}%")).collect();
    asked(Group::new("log texts")).log(&fields.join("|"))
}

/// Times and counts of bytes, of which only is compared whether they are there.
fn durations() -> Group {
    let operators = [
        "DURATION",
        "REQUEST_DURATION",
        "REQUEST_TX_DURATION",
        "RESPONSE_DURATION",
        "RESPONSE_TX_DURATION",
        "UPSTREAM_CONNECTION_POOL_READY_DURATION",
        "COMMON_DURATION(DS_RX_BEG:DS_RX_END)",
        "COMMON_DURATION(DS_RX_BEG:DS_TX_BEG:us)",
        "COMMON_DURATION(DS_RX_BEG:DS_TX_END:ns)",
        "COMMON_DURATION(US_CX_BEG:US_CX_END:ns)",
        "COMMON_DURATION(US_CX_BEG:US_HS_END)",
        "COMMON_DURATION(DS_RX_BEG:US_TX_BEG:us)",
        "COMMON_DURATION(US_TX_BEG:US_TX_END)",
        "COMMON_DURATION(US_TX_END:US_RX_BEG)",
        "COMMON_DURATION(US_RX_BEG:US_RX_END)",
        "COMMON_DURATION(DS_TX_END:DS_RX_BEG)",
        "START_TIME",
        "START_TIME(%s)",
        "START_TIME(%Y/%m/%dT%H:%M:%S%z %s)",
        "START_TIME(%s.%3f)",
        "START_TIME(%s.%6f %9f %f)",
        "START_TIME(%H:%M:%E3S %E6S)",
        "START_TIME_LOCAL",
        "START_TIME_LOCAL(%Y-%m-%dT%H:%M:%S%z)",
        "EMIT_TIME",
        "EMIT_TIME(%H)",
        "EMIT_TIME_LOCAL(%H)",
        "CONNECTION_ID",
        "UPSTREAM_CONNECTION_ID",
        "UPSTREAM_CONNECTION_IDS_ATTEMPTED",
        "UPSTREAM_WIRE_BYTES_SENT",
        "UNIQUE_ID",
        "UPSTREAM_LOCAL_ADDRESS",
        "UPSTREAM_LOCAL_PORT",
        "UPSTREAM_REMOTE_PORT",
        "DOWNSTREAM_LOCAL_PORT",
        "DOWNSTREAM_DIRECT_LOCAL_PORT",
        "DOWNSTREAM_REMOTE_ADDRESS",
        "DOWNSTREAM_REMOTE_PORT",
        "DOWNSTREAM_DIRECT_REMOTE_PORT",
        "DOWNSTREAM_WIRE_BYTES_RECEIVED",
        "DOWNSTREAM_WIRE_BYTES_SENT",
        "DOWNSTREAM_HEADER_BYTES_RECEIVED",
        "DOWNSTREAM_HEADER_BYTES_SENT",
        "REQUEST_HEADERS_BYTES",
        "RESPONSE_HEADERS_BYTES",
    ];
    let fields: Vec<String> =
        operators.iter().enumerate().map(|(index, operator)| format!("n{index:03}=%{operator}%")).collect();
    asked(Group::new("log numbers")).log(&fields.join("|"))
}

/// The same operators in headers.
fn headers() -> Group {
    let add = |key: &str, value: &str| format!("{{header: {{key: {key}, value: '{value}'}}}}");
    let list = [
        add("x-path", "%PATH(NQ)% %QUERY_PARAM(b)%"),
        add("x-meta", "%METADATA(ROUTE:own:d)% %METADATA(ROUTE:own:b)% %DYNAMIC_METADATA(none)%"),
        add("x-cluster", "%UPSTREAM_CLUSTER% %CLUSTER_METADATA(own:a)%"),
        add("x-times", "%RESPONSE_FLAGS% %PROTOCOL% %RESPONSE_CODE_DETAILS%"),
        add("x-local", "<%LOCAL_REPLY_BODY%>"),
        add("x-env", "%ENVIRONMENT(FERROMESH_NOT_SET)% %HOSTNAME%"),
        add("x-status", "%RESPONSE_CODE% %RESPONSE_FLAGS_LONG% %GRPC_STATUS_NUMBER%"),
        add("x-host", "%UPSTREAM_HOST% %UPSTREAM_REMOTE_ADDRESS% %UPSTREAM_PROTOCOL%"),
    ];
    let table = format!(
        "request_headers_to_add: [{}], response_headers_to_add: [{}], virtual_hosts: [{{name: all, domains: ['*'], routes: [{ROUTES}]}}]",
        list.join(", "),
        list.join(", ")
    );
    asked(Group::new("log headers")).table(&table)
}

/// JSON logs.
fn objects() -> Vec<Group> {
    let object = "{code: '%RESPONSE_CODE%', 'code as text': '%RESPONSE_CODE% ', sent: '%BYTES_SENT%', method: '%REQ(:METHOD)%', \
        none: '%REQ(X-NONE)%', 'none in text': 'a%REQ(X-NONE)%b', empty: '%REQ(X-EMPTY)%', text: plain, number: 3, flag: true, nothing: null, quoted: '%REQ(X-ONE)%', 'a \"key\"': '%PATH%', \
        list: ['%RESPONSE_CODE%', '%REQ(X-NONE)%', 2, [], {}, {inner: '%PROTOCOL%'}], \
        nested: {a: {b: '%ROUTE_NAME%', none: '%REQ(X-NONE)%'}, only: {none: '%REQ(X-NONE)%'}}, \
        route: '%METADATA(ROUTE:own)%', 'route number': '%METADATA(ROUTE:own:a)%', 'route list': '%METADATA(ROUTE:own:b:c)%', \
        cluster: '%CLUSTER_METADATA(own)%', cut: '%METADATA(ROUTE:own:d):2%', \
        attempts: '%UPSTREAM_REQUEST_ATTEMPT_COUNT%', grpc: '%GRPC_STATUS(NUMBER)%', 'grpc name': '%GRPC_STATUS%', \
        trailer: '%TRAILER(X-TRAILER)%', flags: '%RESPONSE_FLAGS%', env: '%ENVIRONMENT(FERROMESH_NOT_SET)%', two: '%PROTOCOL%%RESPONSE_CODE%', \
        percent: '100%%', host: '%UPSTREAM_HOST_NAME%', body: '%LOCAL_REPLY_BODY%', custom: '%CUSTOM_FLAGS%', \
        client: '%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%', case: '%REQ(X-CASE)%'}";
    [
        ("log json", ""),
        ("log json omit", ", omit_empty_values: true"),
        ("log json sorted", ", json_format_options: {sort_properties: true}"),
    ]
    .into_iter()
    .map(|(name, more)| asked(Group::new(name)).json(&format!("json_format: {object}{more}")))
    .collect()
}
