//! TCP proxying: what goes in comes out, halves are closed one by one, limits and rules hold, the log tells.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::config::{Hop, SHAPES, Shape, typed};
use crate::peers::PATIENCE;
use crate::wire::{Server, Wire};

const LARGE: usize = 100 * 1024 * 1024;

/// Says its name to everybody, then closes.
async fn named(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.write_all(name.as_bytes()).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_go_both_ways_at_once_unchanged() {
    for shape in SHAPES {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let way = shape.start(&Hop::tcp(), listener.local_addr().unwrap(), &json!({})).await;
        let transfer = |socket: TcpStream| async move {
            let (mut reader, mut writer) = socket.into_split();
            let writing = tokio::spawn(async move {
                let block: Vec<u8> = (0..253 * 256).map(|at| (at % 253) as u8).collect();
                let mut left = LARGE;
                while left > 0 {
                    let count = left.min(block.len());
                    writer.write_all(&block[..count]).await.unwrap();
                    left -= count;
                }
                writer.shutdown().await.unwrap();
            });
            let (mut buffer, mut at) = (vec![0; 64 * 1024], 0);
            loop {
                let count = reader.read(&mut buffer).await.unwrap();
                if count == 0 {
                    break;
                }
                assert!(buffer[..count].iter().enumerate().all(|(index, byte)| *byte == ((at + index) % 253) as u8));
                at += count;
            }
            writing.await.unwrap();
            at
        };
        let server = tokio::spawn(async move { transfer(listener.accept().await.unwrap().0).await });
        let client = tokio::spawn(transfer(TcpStream::connect(way.address()).await.unwrap()));
        let both = tokio::time::timeout(PATIENCE * 4, async { (client.await.unwrap(), server.await.unwrap()) });
        assert_eq!(both.await.expect("all of it in time"), (LARGE, LARGE));
        for node in &way.nodes {
            node.logged(&[&format!("in={LARGE} out={LARGE}"), "cluster=next", "flags=- "]).await;
        }
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_side_may_close_its_half_first_and_still_read() {
    for shape in SHAPES {
        let server = Server::new().await;
        let way = shape.start(&Hop::tcp(), server.address, &json!({})).await;
        let mut client = Wire::connect(way.address()).await;
        client.send("question").await;
        client.socket.shutdown().await.unwrap();
        let mut upstream = server.accept().await;
        assert_eq!(upstream.rest().await, "question", "the end of the client's half is the server's end of input");
        upstream.send("answer").await;
        drop(upstream);
        assert_eq!(client.rest().await, "answer");
        let mut client = Wire::connect(way.address()).await;
        let mut upstream = server.accept().await;
        upstream.send("first word").await;
        upstream.socket.shutdown().await.unwrap();
        assert_eq!(client.rest().await, "first word");
        client.send("last word").await;
        client.socket.shutdown().await.unwrap();
        assert_eq!(upstream.rest().await, "last word");
        for node in &way.nodes {
            node.until_stat("tcp.in.downstream_cx_active", 0).await;
        }
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_on_one_side_ends_the_other() {
    for shape in SHAPES {
        let server = Server::new().await;
        let way = shape.start(&Hop::tcp(), server.address, &json!({})).await;
        let mut client = Wire::connect(way.address()).await;
        client.send("x").await;
        let mut upstream = server.accept().await;
        upstream.exact(1).await;
        socket2::SockRef::from(&upstream.socket).set_linger(Some(Duration::ZERO)).unwrap();
        drop(upstream);
        assert_eq!(client.rest().await, "");
        for node in &way.nodes {
            node.until_stat("tcp.in.downstream_cx_active", 0).await;
        }
        let client = Wire::connect(way.address()).await;
        let mut upstream = server.accept().await;
        socket2::SockRef::from(&client.socket).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        assert_eq!(upstream.rest().await, "");
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weighted_clusters_get_their_shares() {
    let (heavy, light) = (named("heavy").await, named("light").await);
    let weights = json!({"weighted_clusters": {"clusters": [
        {"name": "heavy", "weight": 80}, {"name": "light", "weight": 20}]}});
    let hop = Hop::tcp().terminal(json!({"cluster": null})).terminal(weights);
    let node = hop.cluster("heavy", &[heavy], json!({})).cluster("light", &[light], json!({})).start().await;
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..500 {
        *counts.entry(Wire::connect(node.address()).await.rest().await).or_default() += 1;
    }
    // Five standard deviations of the binomial distribution about 400.
    assert!((355..=445).contains(&counts["heavy"]), "{counts:?}");
    assert_eq!(counts["heavy"] + counts["light"], 500, "{counts:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rbac_lets_those_in_whom_its_policies_name() {
    let server = named("in").await;
    let rules = |address: &str| {
        typed(
            "network.rbac.v3.RBAC",
            json!({"stat_prefix": "gate", "rules": {"action": "ALLOW", "policies": {"only": {
            "permissions": [{"any": true}],
            "principals": [{"direct_remote_ip": {"address_prefix": address, "prefix_len": 32}}]}}}}),
        )
    };
    for (address, answer) in [("127.0.0.1", "in"), ("127.0.0.9", "")] {
        let node = Hop::tcp().filter(rules(address)).to(server).start().await;
        assert_eq!(Wire::connect(node.address()).await.rest().await, answer);
        if answer.is_empty() {
            node.logged(&["rbac_access_denied"]).await;
            assert_eq!(node.stat("cluster.next.upstream_cx_total").await, 0, "not a byte goes on");
        }
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_closed_and_one_in_use_is_not() {
    for shape in SHAPES {
        let server = Server::new().await;
        let hop = Hop::tcp().terminal(json!({"idle_timeout": "0.5s"}));
        let way = shape.start(&hop, server.address, &json!({})).await;
        let mut client = Wire::connect(way.address()).await;
        client.send("x").await;
        let mut upstream = server.accept().await;
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            upstream.send("y").await;
            client.exact(1).await;
        }
        assert_eq!((client.rest().await, upstream.rest().await), (String::new(), "x".into()));
        if shape == Shape::Single {
            way.first().logged(&["closed=tcp_session_idle_timeout"]).await;
        }
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lives_no_longer_than_it_may() {
    let server = Server::new().await;
    let node =
        Hop::tcp().terminal(json!({"max_downstream_connection_duration": "0.3s"})).to(server.address).start().await;
    let mut client = Wire::connect(node.address()).await;
    let upstream = server.accept().await;
    assert_eq!(client.rest().await, "");
    drop(upstream);
    node.logged(&["closed=max_downstream_connection_duration"]).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_says_why_nobody_was_reached() {
    let gone = Server::new().await.address;
    let node = Hop::tcp().to(gone).start().await;
    assert_eq!(Wire::connect(node.address()).await.rest().await, "");
    node.logged(&["flags=UF", "cluster=next", "in=0 out=0"]).await;
    node.stop().await;
    let node = Hop::tcp().cluster("next", &[], json!({})).start().await;
    assert_eq!(Wire::connect(node.address()).await.rest().await, "");
    node.logged(&["flags=UH"]).await;
    node.stop().await;
    let node = Hop::tcp().start().await;
    assert_eq!(Wire::connect(node.address()).await.rest().await, "");
    node.logged(&["flags=NC"]).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_endpoint_is_tried_where_more_than_one_attempt_is_allowed() {
    let (gone, server) = (Server::new().await.address, named("here").await);
    let node = Hop::tcp()
        .terminal(json!({"max_connect_attempts": 3}))
        .cluster("next", &[gone, server], json!({}))
        .start()
        .await;
    for _ in 0..6 {
        assert_eq!(Wire::connect(node.address()).await.rest().await, "here");
    }
    node.stop().await;
}
