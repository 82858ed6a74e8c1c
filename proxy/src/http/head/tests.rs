//! Tests of head rules.

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
    ] {
        let expected = if form == path { Outcome::Same } else { Outcome::Changed(form.into()) };
        assert_eq!(normalize(path, NORMALIZE), expected, "{path}");
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
}
