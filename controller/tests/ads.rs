//! The xDS port from outside: a gRPC client over HTTP/2, both protocols, hostile clients.

#[path = "support/client.rs"]
mod client;

use std::time::Duration;

use client::{Fixture, NODE, PATIENCE, Stream, World, eventually, text};
use ferromesh_controller::serve::session::Limits;
use ferromesh_controller::serve::stream::Timing;
use ferromesh_controller::serve::{Address, Hub, Kind, Kinds, Server, ServerConfig, ServerError};
use ferromesh_core::runtime::drain;
use tonic::Code;

fn world() -> World {
    World::default().with(Kind::Cluster, "c", 1).with(Kind::Endpoint, "c", 1).with(Kind::Listener, "l", 1).with(
        Kind::Route,
        "r",
        1,
    )
}

#[tokio::test]
async fn a_delta_client_gets_its_resources_and_then_only_changes() {
    let server = Fixture::start(world()).await;
    let mut stream = server.delta(NODE).await;
    stream.subscribe(Kind::Cluster, &["*"]).await;
    assert_eq!(stream.accept().await, "cds +c");
    stream.subscribe(Kind::Endpoint, &["c"]).await;
    assert_eq!(stream.accept().await, "eds +c");
    stream.subscribe(Kind::Listener, &["*"]).await;
    assert_eq!(stream.accept().await, "lds +l");
    stream.subscribe(Kind::Route, &["r", "none"]).await;
    assert_eq!(stream.accept().await, "rds +r -none");
    let changed = world().with(Kind::Route, "r", 2).with(Kind::Cluster, "d", 1).without(Kind::Listener, "l");
    server.publish(changed, Kinds::ALL);
    assert_eq!(stream.accept().await, "cds +d");
    assert_eq!(stream.accept().await, "lds -l");
    assert_eq!(stream.accept().await, "rds +r");
    eventually("all acknowledged", || server.hub.sync().iter().all(|p| p.is_synced() && p.generation == 2)).await;
    let sync = server.hub.sync();
    assert_eq!((sync[0].proxy.as_str(), sync[0].node.as_str(), sync[0].delta), ("web-0.default", NODE, true));
    assert_eq!(server.metrics.pushes(Kind::Cluster), 2);
}

#[tokio::test]
async fn a_state_of_the_world_client_gets_full_sets_of_what_changed() {
    let server = Fixture::start(world()).await;
    let mut stream = Stream::sotw(server.tcp().await, NODE).await.unwrap();
    stream.request(Kind::Cluster, &[], None).await;
    let clusters = stream.must().await;
    assert_eq!((clusters.resources.len(), clusters.type_url.as_str()), (1, Kind::Cluster.type_url()));
    stream.request(Kind::Cluster, &[], Some(&clusters)).await;
    stream.request(Kind::Route, &["r"], None).await;
    let routes = stream.must().await;
    stream.request(Kind::Route, &["r"], Some(&routes)).await;
    server.publish(world().with(Kind::Cluster, "d", 1), Kinds::ALL);
    let second = stream.must().await;
    assert_eq!((second.type_url.as_str(), second.resources.len()), (Kind::Cluster.type_url(), 2));
    assert_ne!(second.version_info, clusters.version_info);
    stream.request(Kind::Cluster, &[], Some(&second)).await;
    eventually("all acknowledged", || server.hub.sync().iter().all(|p| p.is_synced() && p.generation == 2)).await;
}

#[tokio::test]
async fn a_rejection_is_kept_with_its_text() {
    let server = Fixture::start(world()).await;
    let mut stream = server.delta(NODE).await;
    stream.subscribe(Kind::Listener, &["*"]).await;
    let response = stream.must().await;
    stream.answer(&response, Some("listener l: no such filter")).await;
    let nack = || server.hub.sync()[0].of(Kind::Listener).and_then(|sync| sync.nack.clone());
    eventually("the NACK is seen", || nack().is_some()).await;
    assert_eq!(nack().unwrap().detail, "listener l: no such filter");
    assert!(server.metrics.encode(1).unwrap().contains("pilot_total_xds_rejects{type=\"lds\"} 1"));
}

#[tokio::test]
async fn a_client_waits_for_the_first_view() {
    let server = Fixture::with(None, None, ServerConfig::default()).await;
    let mut stream = server.delta(NODE).await;
    stream.subscribe(Kind::Listener, &["*"]).await;
    eventually("the stream is open", || server.hub.len() == 1).await;
    server.publish(world(), Kinds::ALL);
    assert_eq!(stream.accept().await, "lds +l");
}

#[tokio::test]
async fn changes_that_come_while_one_is_in_flight_are_sent_as_one() {
    let server = Fixture::start(world()).await;
    let mut stream = server.delta(NODE).await;
    stream.subscribe(Kind::Route, &["r"]).await;
    let first = stream.must().await;
    for version in 2..=100 {
        server.publish(world().with(Kind::Route, "r", version), Kinds::NONE.with(Kind::Route));
    }
    stream.answer(&first, None).await;
    let second = stream.must().await;
    assert_eq!((text(&second).as_str(), second.resources[0].version.as_str()), ("rds +r", "0000000000000064"));
    stream.answer(&second, None).await;
    eventually("all acknowledged", || server.hub.sync()[0].generation == 100).await;
    assert_eq!(server.metrics.pushes(Kind::Route), 2);
}

#[tokio::test]
async fn who_does_not_say_who_they_are_is_refused() {
    let server = Fixture::start(world()).await;
    let mut stream = server.delta("envoy").await;
    stream.subscribe(Kind::Listener, &["*"]).await;
    let status = stream.next().await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("node.id \"envoy\""), "{status}");
}

#[tokio::test]
async fn a_client_that_says_nothing_is_cut_off_and_others_go_on() {
    let timing = Timing { first_request: Duration::from_millis(50), ..Timing::default() };
    let server = Fixture::with(Some(world()), None, ServerConfig { timing, ..ServerConfig::default() }).await;
    let mut silent = server.delta(NODE).await;
    assert_eq!(silent.next().await.unwrap_err().code(), Code::DeadlineExceeded);
    let mut stream = server.delta(NODE).await;
    stream.subscribe(Kind::Listener, &["*"]).await;
    assert_eq!(stream.accept().await, "lds +l");
}

#[tokio::test]
async fn too_many_streams_or_names_are_refused() {
    let limits = Limits { names: 2, ..Limits::default() };
    let config = ServerConfig { max_streams: 1, limits, ..ServerConfig::default() };
    let server = Fixture::with(Some(world()), None, config).await;
    let mut first = server.delta(NODE).await;
    let second = Stream::delta(server.tcp().await, NODE).await;
    assert_eq!(second.err().map(|status| status.code()), Some(Code::ResourceExhausted));
    first.subscribe(Kind::Route, &["a", "b", "c"]).await;
    assert_eq!(first.next().await.unwrap_err().code(), Code::ResourceExhausted);
    eventually("the stream is closed", || server.hub.is_empty()).await;
}

#[tokio::test]
async fn a_client_that_never_reads_or_answers_does_not_hold_up_others() {
    let server = Fixture::start(world()).await;
    let mut stuck = server.delta(NODE).await;
    stuck.subscribe(Kind::Listener, &["*"]).await;
    let mut stream = server.delta(NODE).await;
    stream.subscribe(Kind::Listener, &["*"]).await;
    assert_eq!(stream.accept().await, "lds +l");
    for version in 2..20 {
        server.publish(world().with(Kind::Listener, "l", version), Kinds::ALL);
        assert_eq!(stream.accept().await, "lds +l");
    }
}

#[tokio::test]
async fn a_drain_tells_clients_to_connect_again() {
    let server = Fixture::start(world()).await;
    let mut stream = server.delta(NODE).await;
    stream.subscribe(Kind::Listener, &["*"]).await;
    assert_eq!(stream.accept().await, "lds +l");
    assert_eq!(server.drain.drain(PATIENCE).await, drain::Drained::Clean);
    assert_eq!(stream.next().await.unwrap_err().code(), Code::Unavailable);
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", server.port())).await.is_err());
}

#[tokio::test]
async fn plaintext_is_refused_beyond_loopback_and_unless_asked_for() {
    let start = async |address: &str, allowed| {
        let address = Address::Tcp(address.parse().unwrap());
        let parts = (Hub::new(), ferromesh_controller::metrics::Metrics::new(), drain::channel().1);
        Server::start(address, None, allowed, ServerConfig::default(), parts).await.err()
    };
    assert!(matches!(start("0.0.0.0:0", true).await, Some(ServerError::Plaintext(_))));
    assert!(matches!(start("127.0.0.1:0", false).await, Some(ServerError::Plaintext(_))));
    assert!(start("127.0.0.1:0", true).await.is_none());
}

#[tokio::test]
async fn names_are_one_resource_without_a_name_and_come_whole_to_who_asks_for_them() {
    let world = |version| world().with(Kind::NameTable, "", version);
    let server = Fixture::start(world(1)).await;
    let mut delta = server.delta(NODE).await;
    // As Istio's agent asks: without a name.
    delta.subscribe(Kind::NameTable, &[]).await;
    assert_eq!(delta.accept().await, "nds +");
    let mut whole = Stream::sotw(server.tcp().await, NODE).await.unwrap();
    whole.request(Kind::NameTable, &[], None).await;
    let first = whole.must().await;
    assert_eq!((first.resources.len(), first.type_url.as_str()), (1, Kind::NameTable.type_url()));
    whole.request(Kind::NameTable, &[], Some(&first)).await;
    server.publish(world(2).with(Kind::Cluster, "d", 1), Kinds::ALL);
    assert_eq!(delta.accept().await, "nds +");
    let second = whole.must().await;
    assert_eq!(second.resources.len(), 1);
    assert_ne!(second.version_info, first.version_info);
    whole.request(Kind::NameTable, &[], Some(&second)).await;
    eventually("all acknowledged", || server.hub.sync().iter().all(|p| p.is_synced() && p.generation == 2)).await;
    assert_eq!(server.metrics.pushes(Kind::NameTable), 4);
}
