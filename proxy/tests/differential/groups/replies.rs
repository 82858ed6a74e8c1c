//! What becomes of the proxy's own answers: `local_reply_config`.

use super::Group;

/// The groups of this file.
pub fn groups() -> Vec<Group> {
    vec![mapped(), formatted("reply text", TEXT), formatted("reply json", JSON), typed(), malformed(), plain()]
}

const ROUTES: &str = "\
    {match: {path: /direct}, direct_response: {status: 418, body: {inline_string: 'a pot'}}, \
     response_headers_to_add: [{header: {key: x-route, value: '%RESPONSE_CODE%'}}]}, \
    {match: {path: /typed}, direct_response: {status: 409, body: {inline_string: '{}'}}, \
     response_headers_to_add: [{header: {key: content-type, value: application/json}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]}, \
    {match: {path: /typed-twice}, direct_response: {status: 409, body: {inline_string: '{}'}}, \
     response_headers_to_add: [{header: {key: content-type, value: application/json}}]}, \
    {match: {path: /typed-empty}, direct_response: {status: 409}, \
     response_headers_to_add: [{header: {key: content-type, value: application/json}}]}, \
    {match: {path: /empty}, direct_response: {status: 204}}, \
    {match: {path: /moved}, redirect: {host_redirect: new.test}}, \
    {match: {path: /refused}, route: {cluster: refused}, \
     response_headers_to_add: [{header: {key: x-route, value: '%RESPONSE_CODE%'}}]}, \
    {match: {path: /none}, route: {cluster: empty}}, \
    {match: {path: /missing}, route: {cluster: not-there}}, \
    {match: {path: /grpc}, direct_response: {status: 503, body: {inline_string: \"two\\nlines~ 100% \\u00e9\"}}}, \
    {match: {path: /late}, route: {cluster: echo, timeout: 0.1s}}, \
    {match: {path: /up}, route: {cluster: echo}}";

const GRPC: &str = "content-type: application/grpc";

/// The requests of every group.
fn asked(group: Group) -> Group {
    let cases: &[(&'static str, &str, &[&str])] = &[
        ("direct", "/direct", &[]),
        ("typed", "/typed", &[]),
        ("typed twice", "/typed-twice", &[]),
        ("typed and empty", "/typed-empty", &[]),
        ("empty", "/empty", &[]),
        ("moved", "/moved", &[]),
        ("refused", "/refused", &[]),
        ("nobody", "/none", &[]),
        ("missing", "/missing", &[]),
        ("no route", "/other?a=b", &["x-pick: me"]),
        ("late", "/late", &["x-do: delay=400"]),
        ("grpc", "/grpc", &[GRPC]),
        ("grpc no route", "/other", &[GRPC]),
        ("grpc refused", "/refused", &[GRPC]),
        ("grpc direct", "/direct", &[GRPC]),
        ("upstream", "/up", &["x-do: status=503"]),
        ("upstream grpc", "/up", &[GRPC, "x-do: status=503"]),
    ];
    let group = cases.iter().fold(group.routes(ROUTES), |group, (name, path, headers)| group.get(name, path, headers));
    group
        .request("head", "HEAD /direct HTTP/1.1", &[], "")
        .request("head grpc", "HEAD /direct HTTP/1.1", &[GRPC], "")
        .request("no path", "OPTIONS * HTTP/1.1", &[], "")
}

fn status(op: &str, value: u32) -> String {
    format!("status_code_filter: {{comparison: {{op: {op}, value: {{default_value: {value}, runtime_key: k}}}}}}")
}

/// The first mapper that matches, and only it.
fn mapped() -> Group {
    let add = |key: &str, value: &str, action: &str| {
        format!("{{header: {{key: {key}, value: '{value}'}}, append_action: {action}}}")
    };
    let mappers = [
        "{filter: {header_filter: {header: {name: x-pick, string_match: {exact: me}}}}, status_code: 299, body: {inline_string: picked}}".to_owned(),
        "{filter: {response_flag_filter: {flags: [UF]}}, status_code: 504, body: {inline_string: 'cannot reach'}, \
         body_format_override: {text_format_source: {inline_string: '%LOCAL_REPLY_BODY% as %RESPONSE_CODE% %RESP(:STATUS)% %RESPONSE_FLAGS% %RESP(X-ROUTE)%\n'}, content_type: text/html}}".to_owned(),
        format!("{{filter: {{{}}}, status_code: 410, headers_to_add: [{}, {}, {}]}}", status("EQ", 418),
            add("x-mapped", "%RESPONSE_CODE% %REQ(:PATH)% %RESP(X-ROUTE)%", "APPEND_IF_EXISTS_OR_ADD"),
            add("x-route", "mapper", "APPEND_IF_EXISTS_OR_ADD"),
            add("x-none", "%REQ(X-NOT-THERE)%", "APPEND_IF_EXISTS_OR_ADD")),
        format!("{{filter: {{{}}}, headers_to_add: [{}], body: {{inline_string: 'own typed'}}}}", status("EQ", 409),
            add("x-conflict", "yes", "ADD_IF_ABSENT")),
        format!("{{filter: {{and_filter: {{filters: [{{{}}}, {{{}}}]}}}}, status_code: 404, headers_to_add: [{}], body: {{inline_string: ''}}}}",
            status("GE", 503), status("LE", 504), add("content-type", "text/own", "OVERWRITE_IF_EXISTS_OR_ADD")),
        format!("{{filter: {{{}}}, body: {{inline_bytes: YnllcyE=}}, headers_to_add: [{}]}}", status("EQ", 404),
            add("content-type", "text/own", "OVERWRITE_IF_EXISTS_OR_ADD")),
        format!("{{filter: {{{}}}, status_code: 200, body: {{inline_string: moved}}}}", status("EQ", 301)),
    ];
    asked(Group::new("reply mapped").hcm(&format!("local_reply_config: {{mappers: [{}]}}", mappers.join(", "))))
}

const TEXT: &str = "body_format: {text_format_source: {inline_string: '<%LOCAL_REPLY_BODY%> %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% \
    %REQ(:PATH)% %REQ(X-NOT-THERE)% %PROTOCOL% %ROUTE_NAME% %UPSTREAM_CLUSTER% %RESPONSE_FLAGS%'}, content_type: 'text/html; charset=UTF-8'}";
const JSON: &str = "body_format: {json_format: {text: '%LOCAL_REPLY_BODY%', code: '%RESPONSE_CODE%', both: '%RESPONSE_CODE% %REQ(:PATH)%', \
    none: '%REQ(X-NOT-THERE)%', nested: {list: ['%RESPONSE_FLAGS%', 3, true]}}}";

/// One format for all, and for some another.
fn formatted(name: &'static str, format: &str) -> Group {
    let mappers = [
        format!(
            "{{filter: {{{}}}, body_format_override: {{text_format: 'a teapot: %LOCAL_REPLY_BODY%', omit_empty_values: true}}}}",
            status("EQ", 418)
        ),
        format!("{{filter: {{{}}}, body: {{inline_string: 'broken'}}}}", status("EQ", 503)),
        format!(
            "{{filter: {{{}}}, body_format_override: {{json_format: {{t: '%LOCAL_REPLY_BODY%', p: '%REQ(:PATH)%'}}}}}}",
            status("EQ", 404)
        ),
    ];
    asked(Group::new(name).hcm(&format!("local_reply_config: {{mappers: [{}], {format}}}", mappers.join(", "))))
}

/// Types of bodies.
fn typed() -> Group {
    asked(Group::new("reply typed").hcm(
        "local_reply_config: {body_format: {json_format: {m: '%LOCAL_REPLY_BODY%'}, content_type: application/problem+json}}",
    ))
}

/// Requests that cannot be read are answered by the same rules.
fn malformed() -> Group {
    let mapper = "{filter: {response_flag_filter: {flags: [DPE]}}, status_code: 499, body: {inline_string: bad}, \
        body_format_override: {text_format: '%LOCAL_REPLY_BODY% %RESPONSE_CODE% %REQ(:METHOD)%'}}";
    let own = format!(
        "{{filter: {{{}}}, body: {{inline_string: unread}}, \
         body_format_override: {{text_format: '%LOCAL_REPLY_BODY% %RESPONSE_CODE% %REQ(:METHOD)%'}}}}",
        status("GE", 420)
    );
    Group::new("reply malformed")
        .hcm(&format!("local_reply_config: {{mappers: [{mapper}, {own}]}}"))
        .routes("{match: {prefix: /}, route: {cluster: echo}}")
        .raw("nonsense", "nonsense\r\n\r\n")
        .raw("http 1.0", "GET / HTTP/1.0\r\nhost: a.test\r\n$CASE\r\n\r\n")
        .raw(
            "two lengths",
            "POST / HTTP/1.1\r\nhost: a.test\r\n$CASE\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
        )
        .raw("no host", "GET / HTTP/1.1\r\n$CASE\r\n\r\n")
}

/// The same answers, with nothing configured.
fn plain() -> Group {
    asked(Group::new("reply plain"))
}
