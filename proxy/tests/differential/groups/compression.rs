//! Which bodies are compressed, for whom, and what their heads say then.

use super::Group;

/// The groups of this file.
pub fn groups() -> Vec<Group> {
    vec![negotiation(), preferred(), bodies(), told(), limited(), older(), by_route(), requests()]
}

const E: &str = "type.googleapis.com/envoy.extensions";

/// A compressor: library and the rest of its fields.
fn compressor(library: &str, more: &str) -> String {
    let message = match library {
        "gzip" => "gzip.compressor.v3.Gzip",
        "brotli" => "brotli.compressor.v3.Brotli",
        _ => "zstd.compressor.v3.Zstd",
    };
    format!(
        "{{name: {library}, typed_config: {{'@type': {E}.filters.http.compressor.v3.Compressor, compressor_library: \
         {{name: l, typed_config: {{'@type': {E}.compression.{message}}}}}{more}}}}}"
    )
}

fn all(more: &str) -> String {
    ["brotli", "zstd", "gzip"].map(|library| compressor(library, more)).join(", ")
}

const ECHO: &str = "{match: {path: /direct}, direct_response: {status: 200, body: {inline_string: \
    'a direct response that is long enough for it to be worth the while'}}}, \
    {match: {path: /refused}, route: {cluster: refused}}, {match: {prefix: /}, route: {cluster: echo}}";
const PLAIN: &str = "x-do: size=100 header=content-type:text/plain";

fn negotiation() -> Group {
    let cases: &[(&'static str, &str)] = &[
        ("gzip", "gzip"),
        ("brotli", "br"),
        ("zstd", "zstd"),
        ("several", "gzip, br, zstd"),
        ("by weight", "gzip;q=0.5, br;q=0.4"),
        ("spaces", "gzip ; q = 0.3 , br"),
        ("any", "*"),
        ("any but one", "br;q=0, *"),
        ("any as much", "*;q=0.5, gzip;q=0.5"),
        ("none of any", "*;q=0"),
        ("identity", "identity"),
        ("identity first", "identity, gzip"),
        ("identity last", "gzip, identity"),
        ("unknown", "deflate"),
        ("upper case", "GZIP"),
        ("no number", "gzip;q=x"),
        ("more than one", "gzip;q=1.5, br;q=1"),
        ("two parameters", "gzip;q=0.5;v=1, br;q=0.1"),
        ("another parameter", "gzip;v=0, br;q=0.1"),
        ("empty parts", ",, gzip,"),
    ];
    let group = Group::new("compression").filters(&all("")).routes(ECHO);
    let group = cases
        .iter()
        .fold(group, |group, (name, accepts)| group.get(name, "/", &[&format!("accept-encoding: {accepts}"), PLAIN]));
    let (first, second) = ("accept-encoding: deflate", "accept-encoding: gzip");
    group.get("two lines", "/", &[first, second, PLAIN]).get("not said", "/", &[PLAIN])
}

/// Compressors that go first among equals.
fn preferred() -> Group {
    let filters = [
        compressor("brotli", ", choose_first: true"),
        compressor("gzip", ", choose_first: true"),
        compressor("zstd", ""),
    ];
    let group = Group::new("compression first").filters(&filters.join(", ")).routes(ECHO);
    let cases: &[(&'static str, &str)] = &[
        ("gzip last", "br, gzip"),
        ("brotli last", "gzip, br"),
        ("over another", "zstd, br"),
        ("all", "br, gzip, zstd"),
        ("any", "*"),
        ("weights", "zstd;q=0.6, gzip;q=0.5, br;q=0.5"),
    ];
    cases
        .iter()
        .fold(group, |group, (name, accepts)| group.get(name, "/", &[&format!("accept-encoding: {accepts}"), PLAIN]))
}

const GZIP: &str = "accept-encoding: gzip";

/// Answers, by what their heads say.
fn answers() -> Vec<(&'static str, &'static str)> {
    vec![
        ("plain", "size=100 header=content-type:text/plain"),
        ("no type", "size=100"),
        ("upper type", "size=100 header=content-type:TEXT/HTML"),
        ("type with more", "size=100 header=content-type:text/html;charset=utf-8"),
        ("other type", "size=100 header=content-type:image/png"),
        ("grpc", "size=100 header=content-type:application/grpc"),
        ("small", "size=29 header=content-type:text/plain"),
        ("large enough", "size=30 header=content-type:text/plain"),
        ("chunked", "size=5 chunked header=content-type:text/plain"),
        ("chunked nothing", "size=0 chunked header=content-type:text/plain"),
        ("nothing", "size=0 header=content-type:text/plain"),
        ("trailers", "size=100 trailers header=content-type:text/plain"),
        ("204", "status=204"),
        ("304", "status=304 header=etag:\"a\""),
        ("404", "status=404 size=100 header=content-type:text/plain"),
        ("503", "status=503 size=100 header=content-type:text/plain"),
        ("encoded", "size=100 header=content-encoding:br"),
        ("encoded and small", "size=10 header=content-encoding:br"),
        ("encoded, other type", "size=100 header=content-encoding:br header=content-type:image/png"),
        ("no transform", "size=100 header=cache-control:max-age=1,No-Transform"),
        ("no transform, other type", "size=100 header=cache-control:no-transform header=content-type:image/png"),
        ("no transform and small", "size=10 header=cache-control:no-transform"),
        ("etag", "size=100 header=etag:\"a\""),
        ("weak etag", "size=100 header=etag:W/\"a\""),
        ("weak etag in lower case", "size=100 header=etag:w/\"a\""),
        ("odd etag", "size=100 header=etag:W/"),
        ("etag and 404", "size=100 status=404 header=etag:\"a\""),
        ("vary", "size=100 header=vary:Cookie"),
        ("vary there", "size=100 header=vary:Accept-Encoding"),
        ("vary there in lower case", "size=100 header=vary:accept-encoding"),
        ("vary any", "size=100 header=vary:*"),
        ("vary twice", "size=100 header=vary:Cookie header=vary:Origin"),
    ]
}

fn with_answers(group: Group) -> Group {
    let group = answers()
        .into_iter()
        .fold(group, |group, (name, answer)| group.get(name, "/", &[GZIP, &format!("x-do: {answer}")]));
    group
        .get("other encoding", "/", &["accept-encoding: x", PLAIN])
        .get("other encoding, other type", "/", &["accept-encoding: x", "x-do: size=100 header=content-type:image/png"])
        .request("head", "HEAD / HTTP/1.1", &[GZIP, PLAIN], "")
        .get("direct", "/direct", &[GZIP])
        .get("local reply", "/refused", &[GZIP])
}

fn bodies() -> Group {
    with_answers(Group::new("compression of bodies").filters(&compressor("gzip", "")).routes(ECHO))
}

/// A header says what was done, or why nothing.
fn told() -> Group {
    let more = ", response_direction_config: {status_header_enabled: true, disable_on_etag_header: true, \
         uncompressible_response_codes: [404]}";
    let filters = [compressor("brotli", more), compressor("gzip", more)];
    with_answers(Group::new("compression told").filters(&filters.join(", ")).routes(ECHO))
}

/// Each with types of its own, and lengths.
fn limited() -> Group {
    let of = |common: &str| {
        format!(", response_direction_config: {{weaken_etag_on_compress: true, common_config: {{{common}}}}}")
    };
    let filters = [
        compressor("brotli", &of("content_type: [text/css], min_content_length: 5")),
        compressor("zstd", &of("content_type_matcher: [{prefix: a/}], min_content_length: 0")),
        compressor("gzip", &of("content_type: [Text/Plain, text/css]")),
    ];
    let group = Group::new("compression limited").filters(&filters.join(", ")).routes(ECHO);
    let both = "accept-encoding: br, gzip, zstd";
    let cases: &[(&'static str, &str)] = &[
        ("plain", "size=100 header=content-type:text/plain"),
        ("css", "size=100 header=content-type:text/css"),
        ("small css", "size=6 header=content-type:text/css"),
        ("matched", "size=100 header=content-type:a/b;c"),
        ("matched in upper case", "size=100 header=content-type:A/B"),
        ("small and matched", "size=20 header=content-type:a/b"),
        ("none", "size=100"),
        ("etag", "size=100 header=content-type:text/plain header=etag:\"a\""),
        ("weak etag", "size=100 header=content-type:text/plain header=etag:W/\"a\""),
    ];
    cases.iter().fold(group, |group, (name, answer)| group.get(name, "/", &[both, &format!("x-do: {answer}")]))
}

/// The fields that stood in the place of `response_direction_config`.
fn older() -> Group {
    let more =
        ", content_length: 5, content_type: [a/b], disable_on_etag_header: true, remove_accept_encoding_header: true";
    let group = Group::new("compression of old").filters(&compressor("gzip", more)).routes(ECHO);
    let cases: &[(&'static str, &str)] = &[
        ("small", "size=6 header=content-type:a/b"),
        ("other type", "size=100 header=content-type:text/plain"),
        ("etag", "size=100 header=content-type:a/b header=etag:\"a\""),
    ];
    cases.iter().fold(group, |group, (name, answer)| group.get(name, "/", &[GZIP, &format!("x-do: {answer}")]))
}

fn by_route() -> Group {
    let route = |path: &str, config: &str| {
        format!(
            "{{match: {{path: {path}}}, route: {{cluster: echo}}, typed_per_filter_config: {{gzip: \
             {{'@type': {E}.filters.http.compressor.v3.CompressorPerRoute, {config}}}}}}}"
        )
    };
    let routes = [
        route("/never", "disabled: true"),
        route("/on", "overrides: {response_direction_config: {}}"),
        route("/removed", "overrides: {response_direction_config: {remove_accept_encoding_header: true}}"),
        route("/kept", "overrides: {response_direction_config: {remove_accept_encoding_header: false}}"),
        route("/nothing", "overrides: {}"),
        ECHO.to_owned(),
    ];
    let off = ", response_direction_config: {remove_accept_encoding_header: true, common_config: {enabled: \
         {default_value: false, runtime_key: none}}}";
    let filters = [compressor("gzip", off), compressor("brotli", "")];
    let group = Group::new("compression by route").filters(&filters.join(", ")).routes(&routes.join(", "));
    let paths = ["/never", "/on", "/removed", "/kept", "/nothing", "/off"];
    paths.into_iter().fold(group, |group, path| group.get(path, path, &["accept-encoding: gzip, br", PLAIN]))
}

fn requests() -> Group {
    let more = ", request_direction_config: {common_config: {min_content_length: 10}}";
    let group = Group::new("compression of requests").filters(&compressor("gzip", more)).routes(ECHO);
    let post = "POST / HTTP/1.1";
    let body = "a body that is long enough";
    let length = "content-length: 26";
    group
        .request("plain", post, &[length, "content-type: text/plain"], body)
        .request("no type", post, &[length], body)
        .request("other type", post, &[length, "content-type: image/png"], body)
        .request("encoded", post, &[length, "content-encoding: x"], body)
        .request("small", post, &["content-length: 5"], "small")
        .request("chunked", post, &["transfer-encoding: chunked"], "5\r\nsmall\r\n0\r\n\r\n")
        .request("both ways", post, &[length, GZIP, PLAIN], body)
        .get("without", "/", &[])
}
