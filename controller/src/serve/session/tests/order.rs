//! Make before break: the order of types on one stream.

use super::*;

type Resources = [(Kind, &'static [(&'static str, u64)])];

const WORLD: &Resources = &[
    (Kind::Cluster, &[("c", 1)]),
    (Kind::Endpoint, &[("c", 1)]),
    (Kind::Listener, &[("l", 1)]),
    (Kind::Route, &[("r", 1)]),
];

fn subscribed(mut t: Fixture) -> Fixture {
    t.subscribe(Kind::Cluster, &["*"]);
    t.drain();
    t.subscribe(Kind::Endpoint, &["c"]);
    t.subscribe(Kind::Listener, &["*"]);
    t.subscribe(Kind::Route, &["r"]);
    assert_eq!(t.drain().len(), 3);
    t
}

#[test]
fn a_change_goes_out_type_by_type() {
    let mut t = subscribed(Fixture::delta(WORLD));
    t.change(Kind::Route, &[("r", 2)]);
    t.change(Kind::Listener, &[("l", 2)]);
    t.change(Kind::Endpoint, &[("c", 2)]);
    t.change(Kind::Cluster, &[("c", 2)]);
    assert_eq!(t.drain(), ["cds +c", "eds +c", "lds +l", "rds +r"]);
}

#[test]
fn a_type_waits_for_the_answer_to_the_one_before() {
    let mut t = subscribed(Fixture::delta(WORLD));
    t.change(Kind::Cluster, &[("c", 2)]);
    t.change(Kind::Route, &[("r", 2)]);
    let clusters = t.push().unwrap();
    assert_eq!(t.sends(), "");
    t.ack(&clusters);
    assert_eq!(t.sends(), "eds +c");
}

#[test]
fn a_changed_cluster_is_followed_by_its_endpoints_though_they_did_not_change() {
    for fixture in [Fixture::delta(WORLD), Fixture::sotw(WORLD)] {
        let mut t = subscribed(fixture);
        t.change(Kind::Cluster, &[("c", 2)]);
        assert_eq!(t.drain(), ["cds +c", "eds +c"]);
    }
}

#[test]
fn endpoints_asked_for_before_the_clusters_are_answered_are_sent_once() {
    let mut t = Fixture::delta(WORLD);
    t.subscribe(Kind::Cluster, &["*"]);
    let clusters = t.push().unwrap();
    t.subscribe(Kind::Endpoint, &["c"]);
    let endpoints = t.push().unwrap();
    assert_eq!(text(&endpoints), "eds +c");
    t.ack(&clusters);
    t.ack(&endpoints);
    assert!(t.session.is_idle());
}

#[test]
fn what_a_client_asks_for_by_name_does_not_wait() {
    let mut t = subscribed(Fixture::delta(WORLD));
    t.change(Kind::Cluster, &[("c", 2)]);
    t.change(Kind::Route, &[("r", 2), ("new", 1)]);
    let clusters = t.push().unwrap();
    t.subscribe(Kind::Route, &["new"]);
    let route = t.push().unwrap();
    assert_eq!(text(&route), "rds +new", "and the changed route still waits");
    t.ack(&route);
    assert_eq!(t.sends(), "");
    t.ack(&clusters);
    assert_eq!(t.drain(), ["eds +c", "rds +r"]);
}

#[test]
fn listeners_wait_until_the_endpoints_of_a_new_cluster_were_asked_for_and_answered() {
    let mut t = subscribed(Fixture::delta(WORLD));
    t.change(Kind::Cluster, &[("c", 1), ("d", 1)]);
    t.change(Kind::Endpoint, &[("c", 1), ("d", 1)]);
    t.change(Kind::Listener, &[("l", 2)]);
    let clusters = t.push().unwrap();
    t.ack(&clusters);
    assert_eq!(t.sends(), "");
    assert!(t.session.is_settling());
    t.subscribe(Kind::Endpoint, &["d"]);
    assert_eq!(t.drain(), ["eds +d", "lds +l"]);
}

#[test]
fn a_client_that_never_asks_for_endpoints_gets_its_listeners_after_a_while() {
    let mut t = subscribed(Fixture::delta(WORLD));
    t.change(Kind::Cluster, &[("c", 1), ("static", 1)]);
    t.change(Kind::Listener, &[("l", 2)]);
    let clusters = t.push().unwrap();
    t.ack(&clusters);
    assert_eq!(t.sends(), "");
    assert!(!t.session.is_idle());
    t.session.settled();
    assert_eq!(t.drain(), ["lds +l"]);
    assert!(t.session.is_idle());
}

#[test]
fn a_cluster_is_withdrawn_after_the_routes_that_no_longer_name_it() {
    let mut t = subscribed(Fixture::delta(WORLD));
    t.change(Kind::Cluster, &[("d", 1)]);
    t.change(Kind::Endpoint, &[]);
    t.change(Kind::Route, &[("r", 2)]);
    assert_eq!(t.drain(), ["cds +d", "rds +r", "cds -c", "eds -c"]);
}

#[test]
fn a_cluster_is_left_out_of_the_full_set_after_the_routes_that_no_longer_name_it() {
    let mut t = subscribed(Fixture::sotw(WORLD));
    t.change(Kind::Cluster, &[("d", 1)]);
    t.change(Kind::Route, &[("r", 2)]);
    assert_eq!(t.drain(), ["cds +d +c", "eds +c", "rds +r", "cds +d"]);
}

#[test]
fn a_cluster_that_comes_back_in_time_is_not_withdrawn() {
    let mut t = subscribed(Fixture::delta(WORLD));
    t.change(Kind::Cluster, &[]);
    t.change(Kind::Route, &[("r", 2)]);
    let routes = t.push().unwrap();
    assert_eq!(text(&routes), "rds +r");
    t.change(Kind::Cluster, &[("c", 1)]);
    t.ack(&routes);
    assert_eq!(t.drain(), [""; 0]);
}

#[test]
fn a_client_that_does_not_answer_one_type_gets_the_others_in_the_end() {
    let mut t = subscribed(Fixture::delta(WORLD));
    t.change(Kind::Cluster, &[("c", 2)]);
    t.change(Kind::Route, &[("r", 2)]);
    t.push().unwrap();
    assert_eq!(t.sends(), "");
    t.session.overdue();
    assert_eq!(t.sends(), "rds +r");
}

#[test]
fn a_rejected_cluster_update_does_not_hold_back_the_rest() {
    let mut t = subscribed(Fixture::delta(WORLD));
    t.change(Kind::Cluster, &[("c", 2)]);
    t.change(Kind::Listener, &[("l", 2)]);
    let clusters = t.push().unwrap();
    assert!(matches!(t.answer(&clusters, Some("bad cluster")), Answer::Nack(_)));
    assert_eq!(t.drain(), ["eds +c", "lds +l"]);
}
