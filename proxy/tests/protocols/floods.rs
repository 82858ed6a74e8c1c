//! Clients that flood a listener with HTTP/2 frames are cut off; others on the same worker go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::config::{Hop, Node, route};
use crate::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, block, frame, request,
};
use crate::peers::PATIENCE;
use crate::wire::{Server, Wire};

/// So many units nobody may send.
const FAR_TOO_MANY: u32 = 300_000;

struct World {
    node: Node,
    /// Never answers `/held`.
    server: Server,
}

impl World {
    async fn new() -> Self {
        let server = Server::new().await;
        let direct = json!({"match": {"path": "/direct"}, "direct_response": {"status": 200}});
        let node = Hop::http()
            .routes(json!([direct, route("next", json!({"timeout": "0s"}))]))
            .to(server.address)
            .start()
            .await;
        Self { node, server }
    }

    /// A client on the same worker that asks on one connection until told to stop.
    fn victim(&self) -> (Arc<AtomicBool>, tokio::task::JoinHandle<u32>) {
        let (stop, address) = (Arc::new(AtomicBool::new(false)), self.node.address());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut client = Wire::connect(address).await;
            let mut served = 0;
            while !stopped.load(Ordering::SeqCst) || served == 0 {
                client.send("GET /direct HTTP/1.1\r\nhost: a\r\n\r\n").await;
                let (head, _) = client.message().await;
                assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                served += 1;
            }
            served
        });
        (stop, task)
    }

    /// Sends `begin`, then `unit(0)`, `unit(1)`, ... in pieces until the connection ends; what came back.
    async fn flood(&self, begin: &[u8], unit: impl Fn(u32) -> Vec<u8> + Send + 'static, reads: bool) -> Vec<Frame> {
        let (stop, victim) = self.victim();
        let client = Frames::client(self.node.address()).await;
        let (reader, mut writer) = client.wire.socket.into_split();
        let begin = begin.to_vec();
        let writing = tokio::spawn(async move {
            let mut sent = writer.write_all(&begin).await.is_ok();
            let mut number = 0;
            while sent && number < FAR_TOO_MANY {
                let piece: Vec<u8> = (0..20).flat_map(|more| unit(number + more)).collect();
                sent = writer.write_all(&piece).await.is_ok();
                number += 20;
                tokio::task::yield_now().await;
            }
            (sent, writer)
        });
        let mut seen = Vec::new();
        let mut held = None;
        if reads {
            seen = tokio::time::timeout(PATIENCE, read_all(reader)).await.expect("the connection ends in time");
        } else {
            held = Some(reader);
        }
        let (sent, _writer) = tokio::time::timeout(PATIENCE, writing).await.expect("cut off in time").unwrap();
        assert!(reads || !sent, "{FAR_TOO_MANY} units were taken");
        drop(held);
        stop.store(true, Ordering::SeqCst);
        assert!(tokio::time::timeout(PATIENCE, victim).await.expect("the victim ends").unwrap() > 0);
        seen
    }
}

/// Frames until the end of the connection, however it ends.
async fn read_all(mut reader: tokio::net::tcp::OwnedReadHalf) -> Vec<Frame> {
    use tokio::io::AsyncReadExt;
    let mut bytes = Vec::new();
    while matches!(reader.read_buf(&mut bytes).await, Ok(1..)) {}
    let (mut frames, mut rest) = (Vec::new(), &bytes[..]);
    while rest.len() >= 9 {
        let length = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
        if rest.len() < 9 + length {
            break;
        }
        let stream = u32::from_be_bytes(rest[5..9].try_into().unwrap()) & 0x7fff_ffff;
        frames.push(Frame { kind: rest[3], flags: rest[4], stream, payload: rest[9..9 + length].to_vec() });
        rest = &rest[9 + length..];
    }
    frames
}

fn is_cut(frames: &[Frame]) -> bool {
    frames.iter().any(|frame| frame.kind == GOAWAY && frame.code() != 0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_control_frames_end_with_goaway_whether_their_client_reads_or_not() {
    let world = World::new().await;
    type Unit = fn(u32) -> Vec<u8>;
    let units: [(&str, Unit, &str); 5] = [
        ("PING", |_| frame(PING, 0, 0, b"12345678"), "http2.outbound_control_flood"),
        ("SETTINGS", |_| frame(SETTINGS, 0, 0, b""), "http2.outbound_control_flood"),
        ("PRIORITY", |_| frame(PRIORITY, 0, 1, b"\0\0\0\0\x10"), "http2.outbound_control_flood"),
        ("unknown", |_| frame(0xfa, 0, 0, b"?"), "http2.outbound_control_flood"),
        (
            "WINDOW_UPDATE",
            |_| frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()),
            "http2.inbound_window_update_frames_flood",
        ),
    ];
    for (name, unit, counter) in units {
        let before = world.node.stat(counter).await;
        let frames = world.flood(b"", unit, true).await;
        assert!(is_cut(&frames), "{name}: {:?}", frames.last());
        assert_eq!(world.node.stat(counter).await, before + 1, "{name}");
        world.flood(b"", unit, false).await;
        assert_eq!(world.node.stat(counter).await, before + 2, "{name}, not reading");
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_resets_most_of_many_requests_is_cut_off() {
    let world = World::new().await;
    let rapid = |number: u32| {
        let stream = 2 * number + 1;
        let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("GET", "/direct"));
        [head, frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat()
    };
    assert!(is_cut(&world.flood(b"", rapid, true).await), "in one piece");
    // One by one, each request taken up before it is reset.
    let mut client = Frames::client(world.node.address()).await;
    let mut number = 0;
    loop {
        let stream = 2 * number + 1;
        let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("GET", "/held"));
        let alive = client.try_send(&head).await;
        tokio::time::sleep(Duration::from_micros(200)).await;
        if !alive || !client.try_send(&frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())).await {
            break;
        }
        number += 1;
        assert!(number < 20_000, "{number} resets were taken");
    }
    // Streams that we are made to reset (MadeYouReset).
    let made = |number: u32| {
        let stream = 2 * number + 1;
        let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("GET", "/held"));
        [head, frame(WINDOW_UPDATE, 0, stream, &0u32.to_be_bytes())].concat()
    };
    assert!(is_cut(&world.flood(b"", made, true).await));
    let World { node, server } = world;
    node.until_stat("cluster.next.upstream_rq_active", 0).await;
    drop(server);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_and_bodies_in_crumbs_are_cut_off() {
    let world = World::new().await;
    let begun = frame(HEADERS, 0, 1, &request("GET", "/direct"));
    let crumb = block(&[("x", &"y".repeat(1000))]);
    assert!(is_cut(&world.flood(&begun, move |_| frame(CONTINUATION, 0, 1, &crumb), true).await));
    assert!(is_cut(&world.flood(&begun, |_| frame(CONTINUATION, 0, 1, b""), true).await));
    let post = frame(HEADERS, END_HEADERS, 1, &request("POST", "/held"));
    assert!(is_cut(&world.flood(&post, |_| frame(DATA, 0, 1, b""), true).await));
    assert!(is_cut(&world.flood(&post, |_| frame(DATA, 0, 1, b"x"), true).await));
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_in_heads_are_refused_and_never_go_on() {
    let world = World::new().await;
    let pseudo = [(":method", "GET"), (":scheme", "http"), (":path", "/held"), (":authority", "a")];
    let many: Vec<String> = (0..1000).map(|number| format!("x-{number}")).collect();
    let many: Vec<(&str, &str)> = pseudo.iter().copied().chain(many.iter().map(|name| (&name[..], "y"))).collect();
    let crumbs: Vec<(&str, &str)> = pseudo.iter().copied().chain((0..1000).map(|_| ("cookie", "a=b"))).collect();
    // One entry of the table, 3.9 kB long, used 400 times by an index of one byte.
    let mut bomb = block(&pseudo);
    let mut entry = block(&[("x-bomb", &"b".repeat(3900))]);
    entry[0] = 0x40;
    bomb.extend(entry);
    bomb.extend([0xbe; 400]);
    for (name, head) in [("many", block(&many)), ("crumbs", block(&crumbs)), ("bomb", bomb)] {
        let mut client = Frames::client(world.node.address()).await;
        let mut first = true;
        let pieces: Vec<&[u8]> = head.chunks(16_000).collect();
        for (at, piece) in pieces.iter().enumerate() {
            let end = if at + 1 == pieces.len() { END_HEADERS } else { 0 };
            let kind = if std::mem::take(&mut first) { HEADERS } else { CONTINUATION };
            let flags = if kind == HEADERS { end | END_STREAM } else { end };
            client.send(kind, flags, 1, piece).await;
        }
        loop {
            match client.next().await {
                Some(frame) if [HEADERS, RST_STREAM, GOAWAY].contains(&frame.kind) => break,
                Some(frame) => assert!(frame.flags & ACK != 0 || frame.kind != DATA, "{name}: {frame:?}"),
                None => break,
            }
        }
    }
    assert_eq!(world.node.stat("cluster.next.upstream_rq_total").await, 0);
    world.node.stop().await;
}
