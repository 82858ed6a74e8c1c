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

#[path = "floods/upstreams.rs"]
mod upstreams;

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

    /// Nothing is left of what was cut off.
    async fn stop(self) {
        let Self { node, server } = self;
        node.until_stat("cluster.next.upstream_rq_active", 0).await;
        drop(server);
        node.stop().await;
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

/// What a client may do once, and not without end.
struct Row {
    name: &'static str,
    /// What opens the way for it, beside the stream 1 that waits for its answer.
    begin: Vec<u8>,
    unit: Box<dyn Fn(u32) -> Vec<u8> + Send>,
    /// So many are taken.
    harmless: u32,
    /// Nobody may send so many.
    enough: u32,
    /// What counts it, where Envoy has a name.
    counter: &'static str,
    /// The cause by which the log knows it.
    details: &'static str,
}

impl Row {
    fn new(name: &'static str, harmless: u32, enough: u32, unit: impl Fn(u32) -> Vec<u8> + Send + 'static) -> Self {
        Self {
            name,
            begin: Vec::new(),
            unit: Box::new(unit),
            harmless,
            enough,
            counter: "",
            details: "details=http2.flood",
        }
    }

    /// It is a violation at once.
    fn violates(self) -> Self {
        Self { details: "details=http2.violation.of.messaging.rule", ..self }
    }

    fn after(self, begin: Vec<u8>) -> Self {
        Self { begin, ..self }
    }

    fn counted(self, counter: &'static str) -> Self {
        Self { counter, ..self }
    }

    fn units(&self, count: u32) -> Vec<u8> {
        (0..count).flat_map(&self.unit).collect()
    }
}

const CONTROL: &str = "http2.outbound_control_flood";
const EMPTY: &str = "http2.inbound_empty_frames_flood";

/// The limits that grow with time are exceeded by far, so that a slow machine makes no difference.
fn rows() -> Vec<Row> {
    let update = frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes());
    let crumb = block(&[("x", &"y".repeat(1000))]);
    let (post, open) = (request("POST", "/held"), request("GET", "/direct"));
    let number = |number: u32| 2 * number + 3;
    let resets = move |unit: u32| {
        let stream = number(unit);
        let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("GET", "/direct"));
        [head, frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat()
    };
    // Streams that we are made to reset (MadeYouReset).
    let made = move |unit: u32| {
        let stream = number(unit);
        let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("GET", "/held"));
        [head, frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffffu32.to_be_bytes())].concat()
    };
    let of_zero = |_| frame(WINDOW_UPDATE, 0, 1, &0u32.to_be_bytes());
    vec![
        Row::new("rapid reset", 10, 5000, resets),
        Row::new("made to reset", 10, 5000, made),
        Row::new("made to reset by WINDOW_UPDATE of 0", 0, 1, of_zero).violates(),
        Row::new("CONTINUATION", 0, 60, move |_| frame(CONTINUATION, 0, 3, &crumb)).after(frame(HEADERS, 0, 3, &open)),
        Row::new("empty CONTINUATION", 0, 2, |_| frame(CONTINUATION, 0, 3, b""))
            .after(frame(HEADERS, 0, 3, &open))
            .counted(EMPTY),
        Row::new("PING", 500, 5000, |_| frame(PING, 0, 0, b"12345678")).counted(CONTROL),
        Row::new("SETTINGS", 500, 5000, |_| frame(SETTINGS, 0, 0, b"")).counted(CONTROL),
        Row::new("GOAWAY", 1, 5000, |_| frame(GOAWAY, 0, 0, &[0; 8])).counted(CONTROL),
        Row::new("unknown", 500, 5000, |_| frame(0xfa, 0, 0, b"?")).counted(CONTROL),
        Row::new("PRIORITY", 200, 201, |_| frame(PRIORITY, 0, 5, b"\0\0\0\0\x10"))
            .counted("http2.inbound_priority_frames_flood"),
        Row::new("empty DATA", 1, 2, |_| frame(DATA, 0, 3, b""))
            .after(frame(HEADERS, END_HEADERS, 3, &post))
            .counted(EMPTY),
        Row::new("1-byte DATA", 500, 20_000, |_| frame(DATA, 0, 3, b"x")).after(frame(HEADERS, END_HEADERS, 3, &post)),
        Row::new("WINDOW_UPDATE", 500, 5000, move |_| update.clone())
            .counted("http2.inbound_window_update_frames_flood"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_flood_ends_after_a_bounded_number_with_goaway_and_its_cause() {
    let held = frame(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", "/held"));
    for row in rows() {
        let world = World::new().await;
        if row.harmless > 0 {
            let mut client = Frames::client(world.node.address()).await;
            client.wire.send([&held[..], &row.begin, &row.units(row.harmless)].concat()).await;
            client.wire.send(frame(PING, 0, 0, b"are you?")).await;
            loop {
                let next = client.next().await.unwrap_or_else(|| panic!("{}: cut off too early", row.name));
                assert!(next.kind != GOAWAY, "{}: {next:?}", row.name);
                if next.kind == PING && next.flags == ACK && next.payload == b"are you?" {
                    break;
                }
            }
        }
        let (stop, victim) = world.victim();
        let (reader, mut writer) = Frames::client(world.node.address()).await.wire.socket.into_split();
        let bytes = [&held[..], &row.begin, &row.units(row.enough)].concat();
        // What is not taken any more is not wanted.
        let writing = tokio::spawn(async move {
            let _ = writer.write_all(&bytes).await;
            writer
        });
        let seen = tokio::time::timeout(PATIENCE, read_all(reader)).await;
        let seen = seen.unwrap_or_else(|_| panic!("{}: {} were taken", row.name, row.enough));
        assert!(is_cut(&seen), "{}: {:?}", row.name, seen.last());
        drop(writing.await);
        world.node.logged(&["flags=DPE", row.details, "path=/held"]).await;
        if !row.counter.is_empty() {
            assert_eq!(world.node.stat(row.counter).await, 1, "{}", row.name);
        }
        assert!(world.node.stat("http.in.downstream_cx_protocol_error").await >= 1, "{}", row.name);
        stop.store(true, Ordering::SeqCst);
        let served = tokio::time::timeout(PATIENCE, victim).await.expect("the second client ends").unwrap();
        assert!(served > 0, "{}", row.name);
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_floods_and_never_reads_is_cut_off_too() {
    let world = World::new().await;
    let update = frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes());
    let units = [frame(PING, 0, 0, b"12345678"), frame(SETTINGS, 0, 0, b""), update];
    for unit in units {
        world.flood(b"", move |_| unit.clone(), false).await;
    }
    world.stop().await;
}

/// One by one, each request taken up before it is reset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_resets_most_of_many_requests_is_cut_off() {
    let world = World::new().await;
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
    world.stop().await;
}

/// Each of Envoy's fields moves its limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limits_are_what_the_configuration_says() {
    let server = Server::new().await;
    let post = frame(HEADERS, END_HEADERS, 1, &request("POST", "/held"));
    let rows = [
        ("max_outbound_control_frames", 7000, frame(PING, 0, 0, b"12345678"), 5000),
        ("max_inbound_priority_frames_per_stream", 400, frame(PRIORITY, 0, 5, b"\0\0\0\0\x10"), 700),
        ("max_consecutive_inbound_frames_with_empty_payload", 20, frame(DATA, 0, 1, b""), 20),
    ];
    for (field, value, unit, taken) in rows {
        let options = json!({"http2_protocol_options": {field: value}});
        let node = Hop::http().terminal(options).to(server.address).start().await;
        let mut client = Frames::client(node.address()).await;
        client.wire.send([&post[..], &unit.repeat(taken)].concat()).await;
        client.send(PING, 0, 0, b"are you?").await;
        loop {
            let next = client.next().await.unwrap_or_else(|| panic!("{field}: cut off too early"));
            assert!(next.kind != GOAWAY, "{field}: {next:?}");
            if next.kind == PING && next.payload == b"are you?" {
                break;
            }
        }
        node.stop().await;
    }
    let few = json!({"layered_runtime": {"layers": [{"name": "base", "static_layer":
        {"overload.premature_reset_total_stream_count": 3}}]}});
    let node = Hop::http().to(server.address).bootstrap(few).start().await;
    let mut client = Frames::client(node.address()).await;
    let mut sent = 0;
    while client.try_send(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * sent + 1, &request("GET", "/held"))).await {
        // The server has the request before it is reset.
        let reached = || async { node.stat("http.in.downstream_rq_total").await > u64::from(sent) };
        let cut = || async { node.stat("http.in.downstream_rq_too_many_premature_resets").await > 0 };
        crate::peers::eventually("it is taken up, or cut off", || async { reached().await || cut().await }).await;
        if cut().await {
            break;
        }
        client.reset(2 * sent + 1, 8).await;
        sent += 1;
        assert!(sent < 400, "{sent} resets were taken");
    }
    node.stop().await;
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
