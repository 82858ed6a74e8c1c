use http::HeaderValue;
use proptest::prelude::{ProptestConfig, proptest};

use super::{MatchInput, RouteMatch};
use crate::route::table::tests::head;

fn matcher(yaml: &str) -> RouteMatch {
    RouteMatch::decode(&ferromesh_proto::json::from_yaml(yaml).expect(yaml)).expect(yaml)
}

fn matches(yaml: &str, path: &str, headers: &[(&'static str, &'static str)]) -> bool {
    let mut request = head("h", path);
    for (name, value) in headers {
        request.headers.append(*name, HeaderValue::from_static(value));
    }
    matcher(yaml).matches(&MatchInput::plain(&request, 499_999))
}

#[test]
fn every_path_specifier_matches_without_the_query() {
    let table = [
        ("{prefix: /a}", "/ab?x", true),
        ("{prefix: /a}", "/A", false),
        ("{prefix: /a, case_sensitive: false}", "/A", true),
        ("{path: /a}", "/a?x=1", true),
        ("{path: /a}", "/a/", false),
        ("{path: /a, case_sensitive: false}", "/A", true),
        ("{path_separated_prefix: /a}", "/a", true),
        ("{path_separated_prefix: /a}", "/a/b", true),
        ("{path_separated_prefix: /a}", "/a?x", true),
        ("{path_separated_prefix: /a}", "/ab", false),
        ("{safe_regex: {regex: '/v\\d+'}}", "/v1?x", true),
        ("{safe_regex: {regex: '/v\\d+'}}", "/v1/x", false),
        ("{connect_matcher: {}}", "/", false),
    ];
    for (yaml, path, want) in table {
        assert_eq!(matches(yaml, path, &[]), want, "{yaml} on {path}");
    }
}

#[test]
fn every_header_matcher_decides_about_present_and_absent_headers() {
    let table = [
        ("exact_match: v", Some("v"), true),
        ("exact_match: v", None, false),
        ("exact_match: v, invert_match: true", None, false),
        ("exact_match: '', treat_missing_header_as_empty: true", None, true),
        ("exact_match: v, invert_match: true, treat_missing_header_as_empty: true", None, true),
        ("present_match: true", Some("v"), true),
        ("present_match: true", None, false),
        ("present_match: true, invert_match: true", None, true),
        ("present_match: false", None, true),
        ("present_match: false", Some("v"), false),
        ("prefix_match: v", Some("vw"), true),
        ("suffix_match: w", Some("vw"), true),
        ("contains_match: x", Some("vxw"), true),
        ("range_match: {start: 1, end: 5}", Some("5"), false),
        ("range_match: {start: 1, end: 5}", Some("4"), true),
        ("range_match: {start: 1, end: 5}", Some("x"), false),
        ("safe_regex_match: {regex: 'v+'}", Some("vv"), true),
        ("safe_regex_match: {regex: 'v+'}", Some("vvw"), false),
        ("string_match: {exact: V, ignore_case: true}", Some("v"), true),
        ("string_match: {exact: V, ignore_case: true}, invert_match: true", Some("v"), false),
    ];
    for (rule, value, want) in table {
        let headers: Vec<_> = value.into_iter().map(|value| ("x", value)).collect();
        assert_eq!(
            matches(&format!("{{prefix: /, headers: [{{name: x, {rule}}}]}}"), "/", &headers),
            want,
            "{rule} {value:?}"
        );
    }
    let twice = [("x", "a"), ("x", "b")];
    let lines = [("exact: a", true), ("exact: b", true), ("exact: 'a,b'", false), ("exact: c", false)];
    for (rule, want) in lines {
        let one = |more: &str| format!("{{prefix: /, headers: [{{name: x, string_match: {{{rule}}}{more}}}]}}");
        assert_eq!(matches(&one(""), "/", &twice), want, "{rule} on two lines");
        assert_eq!(matches(&one(", invert_match: true"), "/", &twice), !want, "not {rule} on two lines");
    }
    assert!(matches("{prefix: /, headers: [{name: ':method', exact_match: GET}]}", "/", &[]));
    assert!(matches("{prefix: /, headers: [{name: ':authority', exact_match: h}]}", "/", &[]));
}

#[test]
fn query_cookie_grpc_and_fraction_decide_too() {
    let table = [
        ("query_parameters: [{name: a, string_match: {exact: 'x%20y'}}]", "/?a=x%20y", true),
        ("query_parameters: [{name: a, string_match: {exact: 'x y'}}]", "/?a=x%20y", false),
        ("query_parameters: [{name: a, present_match: true}]", "/?b&a", true),
        ("query_parameters: [{name: a, present_match: true}]", "/?b", false),
        ("query_parameters: [{name: a, present_match: false}]", "/", true),
        ("cookies: [{name: c, string_match: {exact: v}}]", "/", true),
        ("cookies: [{name: d, string_match: {exact: v}}]", "/", false),
        ("grpc: {}", "/", false),
        ("runtime_fraction: {default_value: {numerator: 50}}", "/", true),
        ("runtime_fraction: {default_value: {numerator: 49}}", "/", false),
        ("tls_context: {presented: true}", "/", false),
        ("tls_context: {validated: false}", "/", true),
        ("dynamic_metadata: [{filter: f, path: [{key: k}], value: {bool_match: true}}]", "/", false),
    ];
    for (rule, path, want) in table {
        assert_eq!(
            matches(&format!("{{prefix: /, {rule}}}"), path, &[("cookie", "b=1; c=v")]),
            want,
            "{rule} on {path}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_pattern_and_no_path_makes_matching_panic(pattern in r"[\\\[\]()a-z0-9*+?.|^$&~{},é-]{0,24}", path in "/[ -~é]{0,40}") {
        if let Ok(regex) = crate::matcher::re2::full(&pattern) {
            let _ = regex.is_match(&path);
        }
        let _ = matches("{prefix: /a, query_parameters: [{name: a, present_match: true}]}", &path, &[]);
        let _ = crate::route::table::without_port(&path);
    }
}
