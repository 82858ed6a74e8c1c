//! The connection manager: who is trusted, which paths and heads are taken, framing, versions, upgrades.

use super::Group;

/// The groups of this file.
pub fn groups() -> Vec<Group> {
    let mut groups = vec![framing(), http_10(), upgrades(), server_appended(), server_passed(), strict_http()];
    groups.extend(trailers());
    groups.extend(trust());
    groups.extend(normalization());
    groups
}

const ECHO: &str = "{match: {prefix: /}, route: {cluster: echo}}";

fn trust() -> Vec<Group> {
    let internal = "internal_address_config: {cidr_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}, {address_prefix: 127.0.0.0, prefix_len: 8}]}";
    let outer = "internal_address_config: {cidr_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]}";
    [
        ("inner", format!("use_remote_address: false, {internal}")),
        ("edge", format!("use_remote_address: true, {internal}")),
        ("edge untrusted", format!("use_remote_address: true, {outer}")),
        ("edge hops", format!("use_remote_address: true, xff_num_trusted_hops: 1, {outer}")),
        ("inner hops", format!("use_remote_address: false, xff_num_trusted_hops: 1, {outer}")),
        ("skip xff", format!("use_remote_address: true, skip_xff_append: true, {outer}")),
        (
            "keep id",
            "use_remote_address: true, preserve_external_request_id: true, always_set_request_id_in_response: true"
                .into(),
        ),
        ("no id", "generate_request_id: false, via: proxy-one".into()),
    ]
    .into_iter()
    .map(|(name, hcm)| trusted(Group::new(name).hcm(&hcm).routes(ECHO)))
    .collect()
}

fn trusted(group: Group) -> Group {
    let envoy = &[
        "x-envoy-internal: true",
        "x-envoy-retry-on: 5xx",
        "x-envoy-max-retries: 1",
        "x-envoy-upstream-rq-timeout-ms: 9000",
        "x-envoy-expected-rq-timeout-ms: 5",
        "x-envoy-downstream-service-cluster: a",
        "x-envoy-external-address: 1.1.1.1",
        "x-envoy-force-trace: true",
        "x-envoy-decorator-operation: op",
        "x-envoy-attempt-count: 3",
        "x-envoy-ip-tags: t",
        "x-envoy-original-path: /o",
        "x-envoy-hedge-on-per-try-timeout: true",
        "x-envoy-original-url: u",
    ];
    group
        .get("nothing", "/", &[])
        .get("one outside", "/", &["x-forwarded-for: 8.8.8.8"])
        .get("one inside", "/", &["x-forwarded-for: 10.1.2.3"])
        .get("two", "/", &["x-forwarded-for: 8.8.8.8, 10.1.2.3"])
        .get("two lines", "/", &["x-forwarded-for: 8.8.8.8", "x-forwarded-for: 9.9.9.9"])
        .get("bad address", "/", &["x-forwarded-for: nobody"])
        .get("proto", "/", &["x-forwarded-proto: https", "x-forwarded-host: h", "x-forwarded-port: 1"])
        .get("proto wrong", "/", &["x-forwarded-proto: ftp"])
        .get("id", "/", &["x-request-id: 11111111-1111-4111-8111-111111111111"])
        .get("id of another kind", "/", &["x-request-id: mine"])
        .get("envoy headers", "/", envoy)
        .get("envoy headers outside", "/", &[&["x-forwarded-for: 8.8.8.8"], &envoy[..]].concat())
        .get("client cert", "/", &["x-forwarded-client-cert: By=a;URI=b"])
}

fn normalization() -> Vec<Group> {
    let escaped = |action: &str| format!("normalize_path: true, path_with_escaped_slashes_action: {action}");
    [
        ("path off", "normalize_path: false".to_owned()),
        ("path on", "normalize_path: true".to_owned()),
        ("path merge", "normalize_path: true, merge_slashes: true".to_owned()),
        ("path keep", escaped("KEEP_UNCHANGED")),
        ("path reject", escaped("REJECT_REQUEST")),
        ("path redirect", escaped("UNESCAPE_AND_REDIRECT")),
        ("path forward", escaped("UNESCAPE_AND_FORWARD")),
    ]
    .into_iter()
    .map(|(name, hcm)| {
        let paths: &[(&'static str, &str)] = &[
            ("plain", "/a/b?c=/../d"),
            ("dots", "/a/./b/../c"),
            ("dots at the end", "/a/b/.."),
            ("dots above", "/../../a"),
            ("slashes", "//a///b//"),
            ("encoded dots", "/a/%2e%2E/b"),
            ("encoded letters", "/%61%7e%2D"),
            ("encoded slash", "/a%2Fb%2fc?d=%2F"),
            ("encoded backslash", "/a%5Cb%5cc"),
            ("backslash", "/a\\b"),
            ("encoded percent", "/a%252Fb"),
            ("encoded wrong", "/a%zzb%2"),
            ("encoded zero", "/a%00b"),
            ("fragment", "/a#b"),
            ("semicolon", "/a;b/../c"),
            ("bytes", "/\u{e9}"),
            ("only dots", "/..."),
        ];
        let group = Group::new(name).hcm(&hcm).routes(ECHO);
        paths.iter().fold(group, |group, (name, path)| group.get(name, path, &[]))
    })
    .collect()
}

fn framing() -> Group {
    let big = format!("x-big: {}", "v".repeat(70_000));
    let many: Vec<String> = (0..120).map(|index| format!("x-{index}: v")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let medium = format!("x-medium: {}", "v".repeat(20_000));
    Group::new("framing")
        .routes(ECHO)
        .request("head", "HEAD /a HTTP/1.1", &[], "")
        .request("head chunked", "HEAD /a HTTP/1.1", &["x-do: chunked"], "")
        .request("chunked", "POST / HTTP/1.1", &["transfer-encoding: chunked"], "3\r\nabc\r\n0\r\n\r\n")
        .request("chunked with trailers", "POST / HTTP/1.1", &["transfer-encoding: chunked", "te: trailers"], "3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n")
        .request("body", "PUT / HTTP/1.1", &["content-length: 3"], "abc")
        .request("empty body", "POST / HTTP/1.1", &["content-length: 0"], "")
        .request("no length", "POST / HTTP/1.1", &[], "")
        .request("delete", "DELETE / HTTP/1.1", &[], "")
        .request("own method", "BREW / HTTP/1.1", &[], "")
        .request("options star", "OPTIONS * HTTP/1.1", &[], "")
        .request("absolute", "GET http://b.test/x?y HTTP/1.1", &[], "")
        .request("absolute https", "GET https://b.test/x HTTP/1.1", &[], "")
        .request("absolute without path", "GET http://b.test HTTP/1.1", &[], "")
        .request("connect", "CONNECT a.test:80 HTTP/1.1", &[], "")
        .request("expect", "POST / HTTP/1.1", &["expect: 100-continue", "content-length: 3"], "abc")
        .get("upstream chunked", "/", &["x-do: chunked"])
        .get("upstream trailers", "/", &["x-do: trailers", "te: trailers"])
        .get("upstream large", "/", &["x-do: size=300000"])
        .get("upstream 204", "/", &["x-do: status=204"])
        .get("upstream 304", "/", &["x-do: status=304"])
        .get("upstream 404", "/", &["x-do: status=404"])
        .get("upstream hop by hop", "/", &["x-do: header=connection:close header=keep-alive:1 header=proxy-connection:x"])
        .get("upstream envoy headers", "/", &["x-do: header=x-envoy-decorator-operation:a header=x-envoy-internal:b header=x-envoy-overloaded:c header=x-request-id:mine header=date:x"])
        .get("hop by hop", "/", &["connection: keep-alive, x-hop", "x-hop: 1", "keep-alive: 1", "proxy-connection: keep-alive", "te: gzip", "proxy-authorization: x"])
        .get("connection close", "/", &["connection: close"])
        .get("large", "/", &[&medium])
        .get("too large", "/", &[&big])
        .get("too many", "/", &many)
        .get("underscore", "/", &["x_under: 1"])
        .get("capitals", "/", &["X-CapiTals: Mixed Value"])
        .get("spaces", "/", &["x-spaces:   a  b  "])
        .get("cookies", "/", &["cookie: a=1", "cookie: b=2"])
        .get("latin", "/", &["x-latin: \u{e9}"])
}

/// Trailers are read by the one side and written by the other only where each is told to.
fn trailers() -> Vec<Group> {
    [("trailers both", true, "trailing"), ("trailers down", true, "echo"), ("trailers up", false, "trailing")]
        .into_iter()
        .map(|(name, down, up)| {
            Group::new(name)
                .hcm(&format!("http_protocol_options: {{enable_trailers: {down}}}"))
                .routes(&format!("{{match: {{prefix: /}}, route: {{cluster: {up}}}}}"))
                .request(
                    "both ways",
                    "POST / HTTP/1.1",
                    &["transfer-encoding: chunked", "te: trailers", "x-do: trailers"],
                    "3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n",
                )
        })
        .collect()
}

/// What RFC 9112 wants refused; where Envoy takes it, we are stricter on purpose.
fn strict_http() -> Group {
    Group::new("strict")
        .routes(ECHO)
        .raw("length and chunked", "POST / HTTP/1.1\r\nhost: a.test\r\n$CASE\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
        .raw("two lengths", "POST / HTTP/1.1\r\nhost: a.test\r\n$CASE\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc")
        .raw("same lengths", "POST / HTTP/1.1\r\nhost: a.test\r\n$CASE\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc")
        .raw("length in words", "POST / HTTP/1.1\r\nhost: a.test\r\n$CASE\r\ncontent-length: abc\r\n\r\n")
        .raw("unknown coding", "POST / HTTP/1.1\r\nhost: a.test\r\n$CASE\r\ntransfer-encoding: gzip\r\n\r\n")
        .raw("no host", "GET / HTTP/1.1\r\n$CASE\r\n\r\n")
        .raw("two hosts", "GET / HTTP/1.1\r\nhost: a.test\r\nhost: b.test\r\n$CASE\r\n\r\n")
        .raw("host with user", "GET / HTTP/1.1\r\nhost: a@b.test\r\n$CASE\r\n\r\n")
        .raw("host with space", "GET / HTTP/1.1\r\nhost: a b\r\n$CASE\r\n\r\n")
        .raw("folded", "GET / HTTP/1.1\r\nhost: a.test\r\n$CASE\r\nx-fold: a\r\n b\r\n\r\n")
        .raw("zero byte", "GET / HTTP/1.1\r\nhost: a.test\r\n$CASE\r\nx-zero: a\0b\r\n\r\n")
        .raw("space before colon", "GET / HTTP/1.1\r\nhost: a.test\r\n$CASE\r\nx-space : a\r\n\r\n")
        .raw("no version", "GET /\r\nhost: a.test\r\n$CASE\r\n\r\n")
        .raw("version 2", "GET / HTTP/2.0\r\nhost: a.test\r\n$CASE\r\n\r\n")
        .raw("nonsense", "nonsense\r\n\r\n")
        .raw("bad chunk", "POST / HTTP/1.1\r\nhost: a.test\r\n$CASE\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")
        .raw("http 1.0", "GET / HTTP/1.0\r\nhost: a.test\r\n$CASE\r\n\r\n")
}

fn http_10() -> Group {
    Group::new("http10")
        .hcm("http_protocol_options: {accept_http_10: true, default_host_for_http_10: default.test}")
        .routes(ECHO)
        .request("plain", "GET / HTTP/1.0", &[], "")
        .raw("no host", "GET / HTTP/1.0\r\n$CASE\r\n\r\n")
        .request("keep alive", "GET / HTTP/1.0", &["connection: keep-alive"], "")
        .request("upstream chunked", "GET / HTTP/1.0", &["x-do: chunked"], "")
        .request("body", "POST / HTTP/1.0", &["content-length: 3"], "abc")
        .request("chunked", "POST / HTTP/1.0", &["transfer-encoding: chunked"], "0\r\n\r\n")
}

fn upgrades() -> Group {
    let routes = [
        "{match: {path: /off}, route: {cluster: echo, upgrade_configs: [{upgrade_type: websocket, enabled: false}]}}",
        ECHO,
    ];
    let ask: &[&str] = &["connection: Upgrade", "upgrade: websocket", "sec-websocket-key: x", "x-do: status=101"];
    Group::new("upgrades")
        .hcm("upgrade_configs: [{upgrade_type: websocket}]")
        .routes(&routes.join(", "))
        .get("taken", "/", ask)
        .get("refused by the route", "/off", ask)
        .get("other protocol", "/", &["connection: Upgrade", "upgrade: other", "x-do: status=200"])
        .get("answered 200", "/", &["connection: Upgrade", "upgrade: websocket", "x-do: status=200"])
        .get("answered 403", "/", &["connection: Upgrade", "upgrade: websocket", "x-do: status=403"])
        .get(
            "h2c",
            "/",
            &["connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAARAAAAAAAIAAAAA"],
        )
}

fn server_appended() -> Group {
    Group::new("server-append")
        .hcm("server_name: mesh, server_header_transformation: APPEND_IF_ABSENT")
        .routes(&format!("{{match: {{path: /direct}}, direct_response: {{status: 200}}}}, {ECHO}"))
        .get("upstream", "/", &[])
        .get("direct", "/direct", &[])
}

fn server_passed() -> Group {
    Group::new("server-pass")
        .hcm("server_name: mesh, server_header_transformation: PASS_THROUGH")
        .routes(&format!("{{match: {{path: /direct}}, direct_response: {{status: 200}}}}, {ECHO}"))
        .get("upstream", "/", &[])
        .get("direct", "/direct", &[])
}
