//! Tests of head rules.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::path::{Outcome, Rules, normalize};

const NORMALIZE: Rules = Rules { normalize: true, merge_slashes: false, escaped_slashes: 0 };

#[test]
fn paths_get_one_form_and_queries_stay() {
    for (path, form) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/./b/.", "/a/b/"),
        ("/..", "/"),
        ("/../../x", "/x"),
        ("/a/..", "/"),
        ("/a/%2e%2E/b", "/b"),
        ("/%61%2fb", "/a%2fb"),
        ("/a\\b", "/a/b"),
        ("//a", "//a"),
        ("/a?x=/../b", "/a?x=/../b"),
        ("/a/../b?%2e", "/b?%2e"),
        ("/%", "/%"),
        ("/%2", "/%2"),
        ("/%zz", "/%zz"),
        ("/...", "/..."),
        ("/a?%00", "/a?%00"),
    ] {
        let expected = if form == path { Outcome::Same } else { Outcome::Changed(form.into()) };
        assert_eq!(normalize(path, NORMALIZE), expected, "{path}");
    }
}

#[test]
fn a_decoded_octet_never_makes_an_escape_that_nobody_has_looked_at() {
    // What the escape would be: a slash that is to be rejected, a zero byte, a letter.
    for path in ["/a%%32Fb", "/a%2%46b", "/a%%300b", "/%%352e/"] {
        for escaped_slashes in [0, 2, 4] {
            let rules = Rules { normalize: true, merge_slashes: true, escaped_slashes };
            assert_eq!(normalize(path, rules), Outcome::Same, "{path}");
        }
    }
}

#[test]
fn slashes_are_merged_and_escaped_ones_handled_as_told() {
    let rules = |escaped_slashes| Rules { normalize: true, merge_slashes: true, escaped_slashes };
    assert_eq!(normalize("//a///b", rules(0)), Outcome::Changed("/a/b".into()));
    assert_eq!(normalize("/a%2Fb", rules(0)), Outcome::Same);
    assert_eq!(normalize("/a%2Fb", rules(2)), Outcome::Reject);
    assert_eq!(normalize("/a%5c..%2Fb?q", rules(4)), Outcome::Changed("/b?q".into()));
    assert_eq!(normalize("/a%2Fb", rules(3)), Outcome::Redirect("/a/b".into()));
    assert_eq!(normalize("/a/../b", rules(3)), Outcome::Changed("/b".into()));
    assert_eq!(normalize("/a%00b", rules(0)), Outcome::Reject);
}

#[test]
fn several_lines_become_one_where_somebody_could_read_only_the_first() {
    let mut headers = HeaderMap::new();
    for (name, value) in
        [("x-forwarded-for", "1.1.1.1"), ("x-own", "a"), ("x-forwarded-for", "2.2.2.2"), ("x-own", "b")]
    {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    super::joined::join(&mut headers);
    assert_eq!(headers.get_all("x-forwarded-for").iter().collect::<Vec<_>>(), ["1.1.1.1,2.2.2.2"]);
    assert_eq!(headers.get_all("x-own").iter().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_referer_must_name_a_page() {
    for (value, want) in
        [("http://a/b", true), ("/b", true), ("a b", false), ("https://", false), ("javascript:x", false)]
    {
        assert_eq!(super::is_referer(value.as_bytes()), want, "{value}");
    }
}
