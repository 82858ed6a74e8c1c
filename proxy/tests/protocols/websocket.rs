//! WebSocket with tokio-tungstenite on both sides: over HTTP/1, over HTTP/2 between proxies, refused and broken off.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::config::{Hop, SHAPES, Shape, Way, http2};
use crate::peers::PATIENCE;
use crate::wire::{Server, Wire, header};

/// Sends back what it gets; closes with a reason of its own at `bye`.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(socket).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    match message {
                        Message::Text(text) if text.as_str() == "bye" => {
                            let frame = CloseFrame { code: CloseCode::Away, reason: "gone home".into() };
                            let _ = socket.close(Some(frame)).await;
                        }
                        Message::Text(_) | Message::Binary(_) => drop(socket.send(message).await),
                        _ => {}
                    }
                }
            });
        }
    });
    address
}

fn hop() -> Hop {
    Hop::http().terminal(json!({"upgrade_configs": [{"upgrade_type": "websocket"}],
        "http2_protocol_options": {"allow_connect": true}}))
}

async fn open(address: SocketAddr) -> Result<WebSocketStream<TcpStream>, Error> {
    let socket = TcpStream::connect(address).await.unwrap();
    let opened = tokio_tungstenite::client_async(format!("ws://{address}/chat?room=1"), socket);
    tokio::time::timeout(PATIENCE, opened).await.expect("an answer in time").map(|(socket, _)| socket)
}

async fn next(socket: &mut WebSocketStream<TcpStream>) -> Message {
    tokio::time::timeout(PATIENCE, socket.next()).await.expect("a message in time").unwrap().unwrap()
}

/// Ways with HTTP/1 everywhere, and with HTTP/2 between two proxies.
async fn ways() -> Vec<Way> {
    let server = echo().await;
    let mut ways = Vec::new();
    for shape in SHAPES {
        ways.push(shape.start(&hop(), server, &json!({})).await);
    }
    let inner = hop().to(server).start().await;
    let outer = hop().cluster("next", &[inner.address()], http2(json!({"allow_connect": true}))).start().await;
    ways.push(Way { nodes: vec![outer, inner] });
    ways
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_every_size_go_both_ways_and_the_close_frame_too() {
    for way in ways().await {
        let mut socket = open(way.address()).await.unwrap();
        for size in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
            let message = Message::binary(vec![7; size]);
            socket.send(message.clone()).await.unwrap();
            assert_eq!(next(&mut socket).await, message);
        }
        socket.send(Message::text("grüße")).await.unwrap();
        assert_eq!(next(&mut socket).await, Message::text("grüße"));
        socket.send(Message::Ping(b"p".to_vec().into())).await.unwrap();
        assert_eq!(next(&mut socket).await, Message::Pong(b"p".to_vec().into()));
        socket.send(Message::text("bye")).await.unwrap();
        let Message::Close(Some(frame)) = next(&mut socket).await else { panic!("a close frame") };
        assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::Away, "gone home"));
        let end = tokio::time::timeout(PATIENCE, socket.next()).await.expect("the end in time");
        assert!(end.is_none_or(|end| end.is_err()), "nothing comes after the close");
        for node in &way.nodes {
            node.logged(&["/chat?room=1"]).await;
            node.until_stat("http.in.downstream_rq_active", 0).await;
            node.until_stat("cluster.next.upstream_rq_active", 0).await;
        }
        way.first().until_stat("http.in.downstream_cx_active", 0).await;
        assert!(way.first().log().contains("HTTP/1.1 101 "), "{}", way.first().log());
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_messages_in_flight_keep_their_order() {
    for way in ways().await {
        let (mut send, mut receive) = open(way.address()).await.unwrap().split();
        let sending = async {
            for number in 0..5000u32 {
                send.send(Message::text(number.to_string())).await.unwrap();
            }
        };
        let receiving = async {
            for number in 0..5000u32 {
                assert_eq!(receive.next().await.unwrap().unwrap(), Message::text(number.to_string()));
            }
        };
        tokio::time::timeout(PATIENCE, async { tokio::join!(sending, receiving) }).await.expect("all in time");
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_on_either_side_reaches_the_other() {
    for way in ways().await {
        let socket = open(way.address()).await.unwrap();
        way.last().until_stat("cluster.next.upstream_rq_active", 1).await;
        drop(socket);
        way.last().until_stat("cluster.next.upstream_rq_active", 0).await;
        way.stop().await;
    }
    for shape in SHAPES {
        let server = Server::new().await;
        let way = shape.start(&hop(), server.address, &json!({})).await;
        let opening = tokio::spawn({
            let address = way.address();
            async move { open(address).await }
        });
        let mut upstream = server.accept().await;
        let key = header(&upstream.head().await, "sec-websocket-key").unwrap().to_owned();
        let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
        upstream
            .send(format!(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
            ))
            .await;
        let mut socket = opening.await.unwrap().unwrap();
        drop(upstream);
        let end = tokio::time::timeout(PATIENCE, socket.next()).await.expect("the end in time");
        assert!(end.is_none_or(|end| end.is_err()));
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_is_refused_by_the_proxy_and_by_the_server_with_an_answer() {
    let server = echo().await;
    let node = Hop::http().to(server).start().await;
    let Err(Error::Http(answer)) = open(node.address()).await else { panic!("an HTTP answer") };
    assert_eq!(answer.status(), 403, "no upgrade_configs: {answer:?}");
    node.stop().await;
    for shape in SHAPES {
        let server = Server::new().await;
        let way = shape.start(&hop(), server.address, &json!({})).await;
        let mut client = Wire::connect(way.address()).await;
        let request = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        client.send(format!("{request}GET /after HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let mut upstream = server.accept().await;
        assert!(upstream.head().await.contains("upgrade: websocket"));
        upstream.send("HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnope").await;
        let (head, body) = client.message().await;
        assert!(head.starts_with("HTTP/1.1 404") && body == "nope", "{head}{body}");
        // It stays HTTP: what the client sent behind the refused upgrade is a request, not a tunnel's bytes.
        let mut after = if head.contains("connection: close") { None } else { Some(server.accept().await) };
        if let Some(after) = &mut after {
            assert!(after.head().await.starts_with("GET /after "));
        }
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_websocket_outlives_the_route_timeout_and_ends_with_the_stream_idle_timeout() {
    let server = echo().await;
    let routes =
        json!([{"match": {"prefix": "/"}, "route": {"cluster": "next", "timeout": "0.1s", "idle_timeout": "2s"}}]);
    let idle: Value = routes;
    for shape in [Shape::Single, Shape::Pair] {
        let way = shape.start(&hop().routes(idle.clone()), server, &json!({})).await;
        let mut socket = open(way.address()).await.unwrap();
        for _ in 0..3 {
            tokio::time::sleep(std::time::Duration::from_millis(150)).await;
            socket.send(Message::text("on")).await.unwrap();
            assert_eq!(next(&mut socket).await, Message::text("on"));
        }
        let end = tokio::time::timeout(PATIENCE, socket.next()).await.expect("the end in time");
        assert!(end.is_none_or(|end| end.is_err()));
        // Of two proxies with the same timeout, either may be the first to see it.
        if matches!(shape, Shape::Single) {
            way.first().logged(&["flags=SI"]).await;
        }
        way.stop().await;
    }
}
