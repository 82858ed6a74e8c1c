//! Heads: how names are written, which targets and hosts are taken, how much a head may hold, whose address counts.

use super::Group;

/// The groups of this file.
pub fn groups() -> Vec<Group> {
    let mut groups = names();
    groups.extend(targets());
    groups.extend(hosts());
    groups.extend(limits());
    groups.extend(underscores());
    groups.extend(detections());
    groups.extend(ids());
    groups.extend(slashes());
    groups.extend(old_versions());
    groups
}

const ECHO: &str = "{match: {prefix: /}, route: {cluster: echo}}";

/// The formats of names, each with upstreams that have another.
fn names() -> Vec<Group> {
    let preserve = |more: &str| {
        format!(
            "http_protocol_options: {{enable_trailers: true, header_key_format: {{stateful_formatter: {{name: p, typed_config: {{\
             '@type': type.googleapis.com/envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig{more}}}}}}}}}, \
             upgrade_configs: [{{upgrade_type: websocket}}]"
        )
    };
    let proper = "http_protocol_options: {header_key_format: {proper_case_words: {}}}, upgrade_configs: [{upgrade_type: websocket}]";
    let all = [
        ("names plain", "upgrade_configs: [{upgrade_type: websocket}]".to_owned()),
        ("names proper", proper.to_owned()),
        ("names kept", preserve("")),
        ("names kept proper", preserve(", formatter_type_on_envoy_headers: PROPER_CASE")),
    ];
    let routes = "\
        {match: {prefix: /proper}, route: {cluster: proper}}, {match: {prefix: /kept}, route: {cluster: kept}}, \
        {match: {prefix: /reason}, route: {cluster: kept-reason}}, \
        {match: {path: /direct}, direct_response: {status: 418, body: {inline_string: pot}}, \
         response_headers_to_add: [{header: {key: X-Added, value: '1'}}]}, \
        {match: {prefix: /}, route: {cluster: echo}, request_headers_to_add: [{header: {key: X-Added-Here, value: '1'}}], \
         response_headers_to_add: [{header: {key: X-Added-Here, value: '1'}}]}";
    let mixed: &[&str] = &[
        "Host: A.Test",
        "X-MiXed: 1",
        "X-mixed: 2",
        "User-Agent: me",
        "X-under_SCORE: 1",
        "x--2nd-w.ord: 1",
        "X-Do: header=X-UpStream:1 header=ETag:x header=x-lower:1",
    ];
    let upgrade: &[&str] = &["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "X-Do: status=101"];
    all.into_iter()
        .map(|(name, hcm)| {
            let mut group = Group::new(name).hcm(&hcm).routes(routes);
            for (case, path) in
                [("echo", "/"), ("to proper", "/proper"), ("to kept", "/kept"), ("to reason", "/reason")]
            {
                group = group.get(case, path, mixed);
            }
            group
                .get("direct", "/direct", mixed)
                .get("upgrade", "/", upgrade)
                .get("upgrade to kept", "/kept", upgrade)
                .get("upgrade to proper", "/proper", upgrade)
                .get("chunked to kept", "/kept", &["X-Do: trailers header=X-Up:1", "TE: trailers"])
                .get("chunked to proper", "/proper", &["X-Do: trailers header=X-Up:1", "TE: trailers"])
                .request("body", "POST / HTTP/1.1", &["Content-LENGTH: 3", "X-Do: size=3"], "abc")
                .request("body to proper", "POST /proper HTTP/1.1", &["Content-LENGTH: 3", "X-Do: size=3"], "abc")
                .request(
                    "chunks to kept",
                    "POST /kept HTTP/1.1",
                    &["Transfer-ENCODING: chunked", "TE: trailers"],
                    "3\r\nabc\r\n0\r\nX-TraiLer: 1\r\n\r\n",
                )
                .get("unknown status to reason", "/reason", &["X-Do: status=299"])
                .get("close", "/", &["Connection: close"])
                .request("malformed", "GET / HTTP/1.1", &["x-bad : 1"], "")
        })
        .collect()
}

fn targets() -> Vec<Group> {
    [("absolute off", false), ("absolute on", true)]
        .into_iter()
        .map(|(name, on)| {
            Group::new(name)
                .hcm(&format!("http_protocol_options: {{allow_absolute_url: {on}}}"))
                .routes(ECHO)
                .request("path", "GET /x HTTP/1.1", &[], "")
                .request("http", "GET http://b.test/x?y HTTP/1.1", &[], "")
                .request("https", "GET https://b.test/x?y HTTP/1.1", &[], "")
                .request("host only", "GET http://b.test HTTP/1.1", &[], "")
                .request("with port", "GET http://b.test:99/x HTTP/1.1", &[], "")
                .request("query only", "GET http://b.test?x HTTP/1.1", &[], "")
                .request("connect", "CONNECT b.test:80 HTTP/1.1", &[], "")
        })
        .collect()
}

fn hosts() -> Vec<Group> {
    let all = [
        ("host as is", ""),
        ("host strip matching", "strip_matching_host_port: true"),
        ("host strip any", "strip_any_host_port: true"),
        ("host strip dot", "strip_trailing_host_dot: true"),
        ("host strip both", "strip_any_host_port: true, strip_trailing_host_dot: true"),
    ];
    let cases: &[(&'static str, &str)] = &[
        ("plain", "host: a.test"),
        ("own port", "host: a.test:$PORT"),
        ("other port", "host: a.test:1"),
        ("port 80", "host: a.test:80"),
        ("dot", "host: a.test."),
        ("dots", "host: a.test.."),
        ("dot and port", "host: a.test.:$PORT"),
        ("dot and other port", "host: a.test.:1"),
        ("ipv6", "host: [::1]"),
        ("ipv6 and port", "host: [::1]:1"),
        ("ipv6 and own port", "host: [::1]:$PORT"),
        ("empty port", "host: a.test:"),
        ("capitals", "host: A.Test"),
    ];
    let hosts = "virtual_hosts: [{name: own, domains: [a.test], routes: [{name: own, match: {prefix: /}, route: {cluster: echo}}]}, \
        {name: dotted, domains: [a.test.], routes: [{name: dotted, match: {prefix: /}, route: {cluster: echo}}]}, \
        {name: port, domains: ['a.test:1'], routes: [{name: port, match: {prefix: /}, route: {cluster: echo}}]}, \
        {name: rest, domains: ['*'], routes: [{name: rest, match: {prefix: /}, route: {cluster: echo}}]}]";
    all.into_iter()
        .map(|(name, hcm)| {
            let group = Group::new(name).hcm(hcm).table(hosts);
            let group = cases.iter().fold(group, |group, (name, host)| group.get(name, "/", &[host]));
            group.request("in the target", "GET http://b.test:$PORT/x HTTP/1.1", &[], "").request(
                "in the target with a dot",
                "GET http://b.test.:9/x HTTP/1.1",
                &[],
                "",
            )
        })
        .collect()
}

fn limits() -> Vec<Group> {
    let line = |length: usize| format!("x-long: {}", "v".repeat(length));
    let many = |count: usize| -> Vec<String> { (0..count).map(|index| format!("x-{index}: v")).collect() };
    let (few, some) = (many(3), many(12));
    let small = Group::new("limit of bytes").hcm("max_request_headers_kb: 2").routes(ECHO);
    let small = small.get("below", "/", &[&line(1000)]).get("above", "/", &[&line(3000)]);
    let large = Group::new("limit of many bytes").hcm("max_request_headers_kb: 96").routes(ECHO);
    let large = large.get("below", "/", &[&line(90_000)]).get("above", "/", &[&line(100_000)]);
    let counted =
        Group::new("limit of headers").hcm("common_http_protocol_options: {max_headers_count: 8}").routes(ECHO);
    let counted = counted.get("below", "/", &few.iter().map(String::as_str).collect::<Vec<_>>()).get(
        "above",
        "/",
        &some.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    vec![small, large, counted]
}

fn underscores() -> Vec<Group> {
    [("under allow", "ALLOW"), ("under reject", "REJECT_REQUEST"), ("under drop", "DROP_HEADER")]
        .into_iter()
        .map(|(name, action)| {
            Group::new(name)
                .hcm(&format!("common_http_protocol_options: {{headers_with_underscores_action: {action}}}"))
                .routes(ECHO)
                .get("none", "/", &[])
                .get("one", "/", &["x_under: 1"])
                .get("several", "/", &["x_under: 1", "x-over: 1", "_: 2", "x-an_other: 3"])
                .get("in a value", "/", &["x-value: a_b"])
        })
        .collect()
}

/// Where the client's address stands.
fn detections() -> Vec<Group> {
    let ways = |list: &str| {
        format!(
            "original_ip_detection_extensions: [{list}], internal_address_config: {{cidr_ranges: [{{address_prefix: 10.0.0.0, prefix_len: 8}}]}}"
        )
    };
    let way = |kind: &str, more: &str| {
        format!(
            "{{name: w, typed_config: {{'@type': type.googleapis.com/envoy.extensions.http.original_ip_detection.{kind}{more}}}}}"
        )
    };
    let xff = |more: &str| way("xff.v3.XffConfig", more);
    let header = |more: &str| way("custom_header.v3.CustomHeaderConfig", &format!(", header_name: X-Client{more}"));
    let proxies = "xff_trusted_cidrs: {cidrs: [{address_prefix: 127.0.0.0, prefix_len: 8}, {address_prefix: 10.0.0.0, prefix_len: 8}]}";
    let all = [
        ("by xff", ways(&xff(""))),
        ("by xff hop", ways(&xff(", xff_num_trusted_hops: 1"))),
        ("by xff appended", ways(&xff(", skip_xff_append: false"))),
        ("by proxies", ways(&xff(&format!(", {proxies}")))),
        ("by proxies appended", ways(&xff(&format!(", {proxies}, skip_xff_append: false")))),
        ("by other proxies", ways(&xff(", xff_trusted_cidrs: {cidrs: [{address_prefix: 10.0.0.0, prefix_len: 8}]}"))),
        ("by header", ways(&header(""))),
        ("by trusted header", ways(&header(", allow_extension_to_set_address_as_trusted: true"))),
        ("by header or 401", ways(&header(", reject_with_status: {code: Unauthorized}"))),
        ("by header or 200", ways(&header(", reject_with_status: {code: OK}"))),
        ("by header then xff", ways(&format!("{}, {}", header(""), xff("")))),
    ];
    let cases: &[(&'static str, &[&str])] = &[
        ("nothing", &[]),
        ("xff", &["x-forwarded-for: 8.8.8.8"]),
        ("xff inside", &["x-forwarded-for: 10.1.1.1"]),
        ("xff two", &["x-forwarded-for: 8.8.8.8, 10.1.1.1"]),
        ("xff three", &["x-forwarded-for: 9.9.9.9,8.8.8.8,10.1.1.1"]),
        ("xff all inside", &["x-forwarded-for: 10.2.2.2, 10.1.1.1"]),
        ("xff with nonsense", &["x-forwarded-for: nobody, 10.1.1.1"]),
        ("xff nonsense", &["x-forwarded-for: nobody"]),
        ("header", &["x-client: 8.8.8.8"]),
        ("header inside", &["x-client: 10.1.1.1"]),
        ("header with port", &["x-client: 8.8.8.8:80"]),
        ("header ipv6", &["x-client: 2001:db8::1"]),
        ("header nonsense", &["x-client: nobody"]),
        ("header twice", &["x-client: 8.8.8.8", "x-client: 9.9.9.9"]),
        ("both", &["x-client: 8.8.8.8", "x-forwarded-for: 9.9.9.9"]),
    ];
    all.into_iter()
        .map(|(name, hcm)| {
            let group = Group::new(name).hcm(&hcm).routes(ECHO);
            cases.iter().fold(group, |group, (name, headers)| group.get(name, "/", headers))
        })
        .collect()
}

/// Request ids, with all that a connection manager may do with them.
fn ids() -> Vec<Group> {
    let extension = |more: &str| {
        format!(
            "request_id_extension: {{typed_config: {{'@type': type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig{more}}}}}"
        )
    };
    let given = "x-request-id: 11111111-1111-4111-8111-111111111111";
    [
        ("id packed", extension("")),
        ("id not packed", extension(", pack_trace_reason: false, use_request_id_for_trace_sampling: false")),
        ("id answered", format!("{}, always_set_request_id_in_response: true", extension(""))),
        ("id not made", "generate_request_id: false, always_set_request_id_in_response: true".to_owned()),
    ]
    .into_iter()
    .map(|(name, hcm)| {
        Group::new(name)
            .hcm(&hcm)
            .routes(&format!("{{match: {{path: /direct}}, direct_response: {{status: 200}}}}, {ECHO}"))
            .get("none", "/", &[])
            .get("given", "/", &[given])
            .get("given and forced", "/", &[given, "x-envoy-force-trace: true"])
            .get("given from outside", "/", &[given, "x-forwarded-for: 8.8.8.8"])
            .get("client trace", "/", &["x-client-trace-id: c"])
            .get("of the upstream", "/", &[given, "x-do: header=x-request-id:22222222-1111-4111-8111-111111111111"])
            .get("direct", "/direct", &[given])
    })
    .collect()
}

/// What of several rules about slashes comes first.
fn slashes() -> Vec<Group> {
    let all = [
        ("slash merge only", "normalize_path: false, merge_slashes: true"),
        ("slash forward only", "normalize_path: false, path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD"),
        ("slash redirect only", "normalize_path: false, path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT"),
        ("slash reject only", "normalize_path: false, path_with_escaped_slashes_action: REJECT_REQUEST"),
        ("slash default", "normalize_path: false, path_with_escaped_slashes_action: IMPLEMENTATION_SPECIFIC_DEFAULT"),
        (
            "slash forward merge",
            "normalize_path: true, merge_slashes: true, path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD",
        ),
        (
            "slash redirect merge",
            "normalize_path: true, merge_slashes: true, path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT",
        ),
    ];
    let paths: &[(&'static str, &str)] = &[
        ("plain", "/a/b?c=%2F"),
        ("slashes", "//a///b//?x=//"),
        ("escaped", "/a%2Fb%2fc?d=%2F"),
        ("escaped beside plain", "/a/%2F/b"),
        ("escaped backslash", "/a%5Cb%5c"),
        ("escaped dots", "/a%2F..%2Fb"),
        ("escaped percent", "/a%252Fb"),
        ("only", "%2F"),
        ("root", "/%2F"),
        ("dots", "/a/../b//c"),
    ];
    all.into_iter()
        .map(|(name, hcm)| {
            let group = Group::new(name).hcm(hcm).routes(ECHO);
            paths.iter().fold(group, |group, (name, path)| group.get(name, path, &[]))
        })
        .collect()
}

fn old_versions() -> Vec<Group> {
    [
        ("http10 no default", "http_protocol_options: {accept_http_10: true}"),
        ("http10 default", "http_protocol_options: {accept_http_10: true, default_host_for_http_10: 'old.test:80'}, strip_any_host_port: true"),
        ("http10 off", "http_protocol_options: {default_host_for_http_10: old.test}"),
    ]
    .into_iter()
    .map(|(name, hcm)| {
        Group::new(name)
            .hcm(hcm)
            .routes(ECHO)
            .request("host", "GET / HTTP/1.0", &[], "")
            .raw("no host", "GET /a HTTP/1.0\r\n$CASE\r\n\r\n")
            .raw("empty host", "GET /a HTTP/1.0\r\nhost:\r\n$CASE\r\n\r\n")
            .request("absolute", "GET http://b.test/x HTTP/1.0", &[], "")
            .request("keep alive", "GET / HTTP/1.0", &["connection: keep-alive"], "")
            .request("upgrade", "GET / HTTP/1.0", &["connection: upgrade", "upgrade: websocket"], "")
            .request("large", "GET / HTTP/1.0", &["x-do: chunked size=3000"], "")
    })
    .collect()
}
