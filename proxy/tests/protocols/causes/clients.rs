//! What clients do wrong while an answer is awaited.

use ferromesh_proxy::cause::Cause;
use serde_json::json;

use super::{Scene, hop};
use crate::frames::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PING, block, frame};
use crate::wire::{Server, Wire};

pub async fn scene(cause: Cause) -> Scene {
    let server = Server::new().await;
    let node = hop(&[], json!({})).to(server.address).start().await;
    if cause == Cause::DownstreamRemoteDisconnect {
        let mut client = Wire::connect(node.address()).await;
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut upstream = server.accept().await;
        upstream.head().await;
        drop(client);
        node.logged(&["details="]).await;
        return Scene { node, request: true };
    }
    let mut client = Frames::client(node.address()).await;
    let head = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a"), ("content-length", "9")];
    client.send(HEADERS, END_HEADERS, 1, &block(&head)).await;
    let mut upstream = server.accept().await;
    upstream.head().await;
    match cause {
        Cause::DownstreamRemoteReset => client.reset(1, crate::frames::CANCEL).await,
        // Less than was announced.
        Cause::DownstreamH2Error => client.send(DATA, END_STREAM, 1, b"half").await,
        Cause::DownstreamFlood => client.wire.send(frame(PING, 0, 0, b"12345678").repeat(5000)).await,
        _ => unreachable!("{cause:?} is another room's"),
    }
    node.logged(&["details="]).await;
    Scene { node, request: true }
}
