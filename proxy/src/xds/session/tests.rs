use ferromesh_proto::envoy::service::discovery::v3::Resource;

use super::*;

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

fn session() -> Session {
    Session::new(Node { id: "sidecar~1".into(), ..Node::default() }, &[Kind::Cluster, Kind::Listener])
}

fn delta(kind: Kind, nonce: &str, resources: &[(&str, &str)], removed: &[&str]) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: kind.type_url(),
        nonce: nonce.into(),
        removed_resources: removed.iter().map(ToString::to_string).collect(),
        resources: resources
            .iter()
            .map(|(name, version)| Resource {
                name: name.to_string(),
                version: version.to_string(),
                resource: Some(Any { type_url: kind.type_url(), value: "x".into() }),
                ..Resource::default()
            })
            .collect(),
        ..DeltaDiscoveryResponse::default()
    }
}

#[test]
fn the_node_is_sent_once_a_stream() {
    let mut session = session();
    let requests = session.open_delta();
    assert_eq!(requests.iter().filter(|request| request.node.is_some()).count(), 1);
    assert!(requests[0].node.is_some());
    session.reconnect();
    assert!(session.open_delta()[0].node.is_some());
}

#[test]
fn versions_that_were_accepted_are_told_on_reconnect() {
    let mut session = session();
    session.open_delta();
    session.on_delta(delta(Kind::Cluster, "1", &[("a", "7"), ("b", "8")], &[]));
    session.answer_delta(
        Kind::Cluster,
        &[("a".into(), "7".into()), ("b".into(), "8".into())],
        &[("b".into(), "bad".into())],
    );
    session.reconnect();
    let clusters = session.open_delta().into_iter().find(|request| request.type_url == Kind::Cluster.type_url());
    let versions = clusters.expect("clusters are watched").initial_resource_versions;
    assert_eq!(versions.into_iter().collect::<Vec<_>>(), [("a".to_owned(), "7".to_owned())]);
}

#[test]
fn a_refused_resource_gives_a_nack_with_its_name_and_reason() {
    let mut session = session();
    session.open_delta();
    session.on_delta(delta(Kind::Listener, "n1", &[("l", "1")], &[]));
    let answer = session.answer_delta(Kind::Listener, &[("l".into(), "1".into())], &[("l".into(), "no".into())]);
    assert_eq!(answer.response_nonce, "n1");
    assert_eq!(answer.error_detail.expect("a NACK").message, "l: no");
}

#[test]
fn a_huge_nack_is_cut() {
    let errors: Vec<_> = (0..10_000).map(|i| (format!("resource-{i}"), "is wrong".to_owned())).collect();
    assert!(nack(&errors).expect("a NACK").message.len() < MAX_NACK_MESSAGE + 16);
}

#[test]
fn interest_is_told_as_a_difference_in_delta() {
    let mut session = session();
    session.open_delta();
    let (added, removed) = session.set_interest(Kind::Endpoint, names(&["a", "b"])).expect("a change");
    let first = session.delta_interest(Kind::Endpoint, added, removed);
    assert_eq!(first.resource_names_subscribe, ["a", "b"]);
    let (added, removed) = session.set_interest(Kind::Endpoint, names(&["b", "c"])).expect("a change");
    let second = session.delta_interest(Kind::Endpoint, added, removed);
    assert_eq!(second.resource_names_subscribe, ["c"]);
    assert_eq!(second.resource_names_unsubscribe, ["a"]);
    assert!(session.set_interest(Kind::Endpoint, names(&["b", "c"])).is_none());
}

#[test]
fn what_a_full_answer_no_longer_holds_is_removed() {
    let mut session = session();
    session.open_sotw();
    let response = |names: &[&str], version: &str| DiscoveryResponse {
        type_url: Kind::Cluster.type_url(),
        version_info: version.into(),
        nonce: version.into(),
        resources: names.iter().map(|name| Any { type_url: String::new(), value: name.to_string().into() }).collect(),
        ..DiscoveryResponse::default()
    };
    let name_of = |_: Kind, any: &Any| String::from_utf8(any.value.to_vec()).ok();
    session.on_sotw(response(&["a", "b"], "1"), name_of);
    session.answer_sotw(Kind::Cluster, &[("a".into(), "1".into()), ("b".into(), "1".into())], &[]);
    let (_, update) = session.on_sotw(response(&["b"], "2"), name_of).expect("watched");
    assert_eq!(update.removed, ["a"]);
    let answer = session.answer_sotw(Kind::Cluster, &[("b".into(), "2".into())], &[]);
    assert_eq!((answer.version_info.as_str(), answer.response_nonce.as_str()), ("2", "2"));
}

#[test]
fn a_refused_full_answer_keeps_the_last_good_version() {
    let mut session = session();
    session.open_sotw();
    let answer = session.answer_sotw(Kind::Cluster, &[("a".into(), "1".into())], &[("a".into(), "bad".into())]);
    assert_eq!(answer.version_info, "");
    assert!(answer.error_detail.is_some());
}

#[test]
fn a_type_that_was_not_asked_for_changes_nothing() {
    let mut session = session();
    assert!(session.on_delta(delta(Kind::Secret, "1", &[("x", "1")], &[])).is_none());
    let unknown = DeltaDiscoveryResponse { type_url: "type.googleapis.com/x.Y".into(), ..Default::default() };
    assert!(session.on_delta(unknown).is_none());
}
