//! Incremental xDS, one stream.

use super::*;

#[test]
fn an_empty_first_request_for_clusters_is_a_wildcard() {
    let mut t = Fixture::delta(&[(Kind::Cluster, &[("a", 1), ("b", 1)])]);
    t.subscribe(Kind::Cluster, &[]);
    assert_eq!(t.sends(), "cds +a +b");
}

#[test]
fn a_wildcard_without_any_resource_is_answered_too() {
    let mut t = Fixture::delta(&[]);
    t.subscribe(Kind::Listener, &["*"]);
    assert_eq!(t.sends(), "lds");
    assert_eq!(t.sends(), "", "and only once");
}

#[test]
fn routes_have_no_wildcard() {
    let mut t = Fixture::delta(&[(Kind::Route, &[("r", 1)])]);
    t.subscribe(Kind::Route, &["*"]);
    assert_eq!(t.sends(), "");
    t.subscribe(Kind::Route, &["r"]);
    assert_eq!(t.sends(), "rds +r");
}

#[test]
fn a_name_that_does_not_exist_is_told_as_removed_and_sent_once_it_exists() {
    let mut t = Fixture::delta(&[]);
    t.subscribe(Kind::Route, &["r"]);
    assert_eq!(t.drain(), ["rds -r"]);
    t.change(Kind::Route, &[]);
    assert_eq!(t.drain(), [""; 0], "it is not told twice");
    t.change(Kind::Route, &[("r", 1)]);
    assert_eq!(t.drain(), ["rds +r"]);
}

#[test]
fn only_what_changed_is_sent() {
    let mut t = Fixture::delta(&[(Kind::Listener, &[("a", 1), ("b", 1)])]);
    t.subscribe(Kind::Listener, &["*"]);
    t.drain();
    t.change(Kind::Listener, &[("a", 1), ("b", 2), ("c", 1)]);
    assert_eq!(t.drain(), ["lds +b +c"]);
    t.change(Kind::Listener, &[("a", 1), ("b", 2), ("c", 1)]);
    assert_eq!(t.drain(), [""; 0]);
    t.change(Kind::Listener, &[("b", 2)]);
    assert_eq!(t.drain(), ["lds -a -c"]);
}

#[test]
fn one_response_of_a_type_is_in_flight_and_changes_merge_behind_it() {
    let mut t = Fixture::delta(&[(Kind::Listener, &[("a", 1)])]);
    t.subscribe(Kind::Listener, &["*"]);
    let first = t.push().unwrap();
    t.change(Kind::Listener, &[("a", 2)]);
    t.change(Kind::Listener, &[("a", 3), ("b", 1)]);
    assert_eq!(t.sends(), "");
    t.ack(&first);
    let second = t.push().unwrap();
    assert_eq!((text(&second).as_str(), second.resources[0].version), ("lds +a +b", 3));
}

#[test]
fn asking_again_for_a_name_sends_it_again() {
    let mut t = Fixture::delta(&[(Kind::Secret, &[("s", 1)])]);
    t.subscribe(Kind::Secret, &["s"]);
    assert_eq!(t.drain(), ["sds +s"]);
    t.subscribe(Kind::Secret, &["s"]);
    assert_eq!(t.drain(), ["sds +s"]);
}

#[test]
fn what_is_unsubscribed_is_neither_sent_nor_removed() {
    let mut t = Fixture::delta(&[(Kind::Route, &[("a", 1), ("b", 1)])]);
    t.subscribe(Kind::Route, &["a", "b"]);
    t.drain();
    t.unsubscribe(Kind::Route, &["a"]);
    t.change(Kind::Route, &[("b", 2)]);
    assert_eq!(t.drain(), ["rds +b"]);
}

#[test]
fn a_name_unsubscribed_under_a_wildcard_is_sent_because_the_wildcard_still_wants_it() {
    let mut t = Fixture::delta(&[(Kind::Cluster, &[("a", 1)])]);
    t.subscribe(Kind::Cluster, &["*", "a"]);
    t.drain();
    t.unsubscribe(Kind::Cluster, &["a"]);
    assert_eq!(t.drain(), ["cds +a"]);
}

#[test]
fn without_its_wildcard_a_client_gets_only_what_it_names() {
    let mut t = Fixture::delta(&[(Kind::Listener, &[("a", 1), ("b", 1)])]);
    t.subscribe(Kind::Listener, &["*", "a"]);
    t.drain();
    t.unsubscribe(Kind::Listener, &["*"]);
    t.change(Kind::Listener, &[("a", 2), ("b", 2)]);
    assert_eq!(t.drain(), ["lds +a"]);
}

#[test]
fn a_reconnecting_client_gets_only_the_difference() {
    let mut t = Fixture::delta(&[(Kind::Listener, &[("same", 0x1f), ("new", 1), ("changed", 2)])]);
    let held = [("same", "000000000000001f"), ("changed", "1"), ("gone", "1")];
    t.resume(Kind::Listener, &["*"], &held);
    assert_eq!(t.sends(), "lds +changed +new -gone");
}

#[test]
fn a_version_of_another_server_counts_as_changed() {
    let mut t = Fixture::delta(&[(Kind::Route, &[("a", 1)])]);
    t.resume(Kind::Route, &["a"], &[("a", "2026-01-01T00:00:00Z/7")]);
    assert_eq!(t.sends(), "rds +a");
}

#[test]
fn a_reconnecting_client_that_has_all_named_resources_gets_nothing() {
    let mut t = Fixture::delta(&[(Kind::Route, &[("a", 1)])]);
    t.resume(Kind::Route, &["a"], &[("a", "1")]);
    assert_eq!(t.sends(), "");
    assert!(t.session.is_idle());
}

#[test]
fn a_stale_nonce_answers_nothing_but_its_subscription_counts() {
    let mut t = Fixture::delta(&[(Kind::Route, &[("a", 1), ("b", 1)])]);
    t.subscribe(Kind::Route, &["a"]);
    let first = t.push().unwrap();
    t.ack(&first);
    t.change(Kind::Route, &[("a", 2), ("b", 1)]);
    let second = t.push().unwrap();
    let names = Names::Delta { subscribe: strings(&["b"]), unsubscribe: Vec::new(), initial_versions: HashMap::new() };
    assert_eq!(t.request(Kind::Route, &first.nonce, None, names), Ok(Answer::Stale));
    assert_eq!(t.sends(), "", "the second is still in flight");
    t.ack(&second);
    assert_eq!(t.sends(), "rds +b");
}

#[test]
fn a_rejection_is_kept_and_the_same_content_is_not_sent_again() {
    let mut t = Fixture::delta(&[(Kind::Listener, &[("a", 1), ("bad", 1)])]);
    t.subscribe(Kind::Listener, &["*"]);
    let push = t.push().unwrap();
    let Answer::Nack(nack) = t.answer(&push, Some("bad: no such filter")) else { panic!("a NACK") };
    assert_eq!(nack.detail, "bad: no such filter");
    assert_eq!(nack.resources, [Arc::from("a"), Arc::from("bad")]);
    t.session.on_change(Kinds::ALL);
    assert_eq!(t.sends(), "");
    let sync = t.session.sync();
    assert_eq!((sync[0].nack.as_ref(), sync[0].acked.as_str()), (Some(&nack), ""));
}

#[test]
fn what_a_rejected_response_held_is_sent_again_once_a_later_one_is_accepted() {
    let mut t = Fixture::delta(&[(Kind::Route, &[("a", 1), ("bad", 1)])]);
    t.subscribe(Kind::Route, &["a", "bad"]);
    let push = t.push().unwrap();
    t.answer(&push, Some("bad"));
    t.change(Kind::Route, &[("a", 1), ("bad", 2)]);
    assert_eq!(t.drain(), ["rds +bad", "rds +a +bad"]);
    assert_eq!(t.session.sync()[0].nack, None);
}

#[test]
fn a_large_change_goes_out_in_parts() {
    let mut t = Fixture::delta(&[(Kind::Route, &[("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)])]);
    t.session.limits.response_bytes = 250;
    t.subscribe(Kind::Route, &["a", "b", "c", "d", "e", "none"]);
    assert_eq!(t.drain(), ["rds +a +b -none", "rds +c +d", "rds +e"]);
}

#[test]
fn more_names_than_allowed_end_the_stream() {
    let mut t = Fixture::delta(&[]);
    t.session.limits = Limits { names: 2, name_bytes: 3, ..Limits::default() };
    let ask = |names: &[&str]| Names::Delta {
        subscribe: strings(names),
        unsubscribe: Vec::new(),
        initial_versions: HashMap::new(),
    };
    t.request(Kind::Route, "", None, ask(&["a", "b"])).unwrap();
    t.request(Kind::Route, "", None, ask(&["a"])).unwrap();
    let error = t.request(Kind::Route, "", None, ask(&["c"])).unwrap_err();
    assert_eq!(error, SessionError::TooManyNames { kind: Kind::Route, limit: 2 });
    let error = t.request(Kind::Secret, "", None, ask(&["long"])).unwrap_err();
    assert_eq!(error, SessionError::LongName { kind: Kind::Secret, len: 4, limit: 3 });
}
