//! State-of-the-world xDS, one stream.

use super::*;

#[test]
fn clusters_come_as_a_full_set_and_only_when_one_changed() {
    let mut t = Fixture::sotw(&[(Kind::Cluster, &[("a", 1), ("b", 1)])]);
    t.subscribe(Kind::Cluster, &[]);
    assert_eq!(t.drain(), ["cds +a +b"]);
    t.session.on_change(Kinds::ALL);
    assert_eq!(t.drain(), [""; 0]);
    t.change(Kind::Cluster, &[("a", 1), ("b", 2)]);
    assert_eq!(t.drain(), ["cds +a +b"]);
}

#[test]
fn an_empty_set_is_an_answer() {
    let mut t = Fixture::sotw(&[]);
    t.subscribe(Kind::Listener, &[]);
    assert_eq!(t.drain(), ["lds"]);
}

#[test]
fn a_listener_that_is_gone_is_left_out_of_the_next_set() {
    let mut t = Fixture::sotw(&[(Kind::Listener, &[("a", 1), ("b", 1)])]);
    t.subscribe(Kind::Listener, &[]);
    t.drain();
    t.change(Kind::Listener, &[("a", 1)]);
    assert_eq!(t.drain(), ["lds +a"]);
}

#[test]
fn a_longer_list_gets_only_the_new_names() {
    let mut t = Fixture::sotw(&[(Kind::Route, &[("a", 1), ("b", 1)])]);
    t.subscribe(Kind::Route, &["a"]);
    assert_eq!(t.drain(), ["rds +a"]);
    t.subscribe(Kind::Route, &["a", "b"]);
    assert_eq!(t.drain(), ["rds +b"]);
    t.change(Kind::Route, &[("a", 2), ("b", 1)]);
    assert_eq!(t.drain(), ["rds +a"]);
}

#[test]
fn a_name_left_out_and_named_again_is_sent_again() {
    let mut t = Fixture::sotw(&[(Kind::Route, &[("a", 1), ("b", 1)])]);
    t.subscribe(Kind::Route, &["a", "b"]);
    t.drain();
    t.subscribe(Kind::Route, &["a"]);
    assert_eq!(t.drain(), [""; 0]);
    t.subscribe(Kind::Route, &["a", "b"]);
    assert_eq!(t.drain(), ["rds +b"]);
}

#[test]
fn an_empty_list_after_names_unsubscribes_from_all() {
    let mut t = Fixture::sotw(&[(Kind::Listener, &[("a", 1), ("b", 1)])]);
    t.subscribe(Kind::Listener, &["a"]);
    assert_eq!(t.drain(), ["lds +a"]);
    t.subscribe(Kind::Listener, &[]);
    t.change(Kind::Listener, &[("a", 2)]);
    assert_eq!(t.drain(), [""; 0]);
}

#[test]
fn a_star_beside_names_is_a_wildcard() {
    let mut t = Fixture::sotw(&[(Kind::Listener, &[("a", 1), ("b", 1)])]);
    t.subscribe(Kind::Listener, &["a", "*"]);
    assert_eq!(t.drain(), ["lds +a +b"]);
}

#[test]
fn a_request_with_a_stale_nonce_is_ignored_whole() {
    let mut t = Fixture::sotw(&[(Kind::Route, &[("a", 1), ("b", 1)])]);
    t.subscribe(Kind::Route, &["a"]);
    let first = t.push().unwrap();
    t.ack(&first);
    t.change(Kind::Route, &[("a", 2), ("b", 1)]);
    let second = t.push().unwrap();
    let stale = t.request(Kind::Route, &first.nonce, None, Names::StateOfTheWorld(strings(&["a", "b"])));
    assert_eq!(stale, Ok(Answer::Stale));
    t.ack(&second);
    assert_eq!(t.sends(), "", "b was asked for in a stale request only");
}

#[test]
fn a_nonce_of_an_earlier_stream_is_a_first_request() {
    let mut t = Fixture::sotw(&[(Kind::Route, &[("a", 1)])]);
    let answer = t.request(Kind::Route, "77", None, Names::StateOfTheWorld(strings(&["a"])));
    assert_eq!(answer, Ok(Answer::None));
    assert_eq!(t.drain(), ["rds +a"]);
}

#[test]
fn an_acknowledgement_may_change_the_names() {
    let mut t = Fixture::sotw(&[(Kind::Endpoint, &[("a", 1), ("b", 1)])]);
    t.subscribe(Kind::Endpoint, &["a"]);
    let push = t.push().unwrap();
    let answer = t.request(Kind::Endpoint, &push.nonce, None, Names::StateOfTheWorld(strings(&["a", "b"])));
    assert_eq!(answer, Ok(Answer::Ack));
    assert_eq!(t.drain(), ["eds +b"]);
}

#[test]
fn a_rejected_set_is_kept_until_something_changes() {
    let mut t = Fixture::sotw(&[(Kind::Listener, &[("a", 1)])]);
    t.subscribe(Kind::Listener, &[]);
    let push = t.push().unwrap();
    assert!(matches!(t.answer(&push, Some("no")), Answer::Nack(_)));
    t.session.on_change(Kinds::ALL);
    assert_eq!(t.sends(), "");
    t.change(Kind::Listener, &[("a", 2)]);
    assert_eq!(t.sends(), "lds +a");
}

#[test]
fn the_same_content_has_the_same_version_on_every_stream() {
    let version = |resources| {
        let mut t = Fixture::sotw(&[(Kind::Listener, resources)]);
        t.subscribe(Kind::Listener, &[]);
        t.push().unwrap().version
    };
    assert_eq!(version(&[("a", 1), ("b", 1)]), version(&[("b", 1), ("a", 1)]));
    assert_ne!(version(&[("a", 1)]), version(&[("a", 2)]));
}
