//! Servers that flood the proxy with HTTP/2 frames: their connection ends, their requests are answered with 502, and
//! nobody else notices.

use serde_json::json;

use super::{is_cut, read_all};
use crate::config::{Hop, http2, route};
use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, frame,
};
use crate::peers::PATIENCE;
use crate::wire::{Server, Wire};

const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";

/// How a server abuses the request on stream 1.
struct Row {
    name: &'static str,
    begin: Vec<u8>,
    unit: Vec<u8>,
    count: usize,
    /// Whether the whole connection ends; else only the stream is broken.
    ends: bool,
}

fn row(name: &'static str, count: usize, unit: Vec<u8>) -> Row {
    Row { name, begin: Vec::new(), unit, count, ends: true }
}

impl Row {
    fn after(self, begin: Vec<u8>) -> Self {
        Self { begin, ..self }
    }

    fn of_stream(self) -> Self {
        Self { ends: false, ..self }
    }
}

/// A head in frames of a size that is allowed.
fn head(headers: &[u8]) -> Vec<u8> {
    let pieces: Vec<&[u8]> = headers.chunks(16_000).collect();
    let last = pieces.len() - 1;
    let frames = pieces.iter().enumerate().flat_map(|(at, piece)| {
        let flags = if at == last { END_HEADERS } else { 0 };
        let end = if at == 0 { END_STREAM } else { 0 };
        frame(if at == 0 { HEADERS } else { CONTINUATION }, flags | end, 1, piece)
    });
    frames.collect()
}

fn rows() -> Vec<Row> {
    let open = frame(HEADERS, 0, 1, &block(&[(":status", "200")]));
    let begun = frame(HEADERS, END_HEADERS, 1, &block(&[(":status", "200")]));
    let early = frame(HEADERS, END_HEADERS, 1, &block(&[(":status", "103"), ("x", "y")]));
    let names: Vec<String> = (0..1000).map(|number| format!("x-{number}")).collect();
    let ok = [(":status", "200")];
    let many: Vec<(&str, &str)> = ok.into_iter().chain(names.iter().map(|name| (&name[..], "y"))).collect();
    let cookies: Vec<(&str, &str)> = ok.into_iter().chain((0..1000).map(|_| ("set-cookie", "a=b"))).collect();
    // One entry of the table, 3.9 kB long, used 400 times by an index of one byte.
    let mut bomb = block(&ok);
    let mut entry = block(&[("x-bomb", &"b".repeat(3900))]);
    entry[0] = 0x40;
    bomb.extend(entry);
    bomb.extend([0xbe; 400]);
    let promise = [&4u32.to_be_bytes()[..], &block(&[(":method", "GET"), (":path", "/")])].concat();
    vec![
        row("PING", 5000, frame(PING, 0, 0, b"12345678")),
        row("SETTINGS", 5000, frame(SETTINGS, 0, 0, b"")),
        row("GOAWAY", 5000, frame(GOAWAY, 0, 0, b"\x7f\xff\xff\xff\0\0\0\0")),
        row("unknown", 5000, frame(0xfa, 0, 0, b"?")),
        row("PRIORITY", 500, frame(PRIORITY, 0, 1, b"\0\0\0\0\x10")),
        row("WINDOW_UPDATE", 5000, frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes())),
        row("RST_STREAM of no stream", 1, frame(RST_STREAM, 0, 7, &8u32.to_be_bytes())),
        row("empty DATA", 2, frame(DATA, 0, 1, b"")).after(begun),
        row("CONTINUATION", 60, frame(CONTINUATION, 0, 1, &block(&[("x", &"y".repeat(1000))]))).after(open.clone()),
        row("empty CONTINUATION", 2, frame(CONTINUATION, 0, 1, b"")).after(open),
        row("PUSH_PROMISE", 1, frame(5, END_HEADERS, 1, &promise)),
        row("an answer that nobody asked for", 1, frame(HEADERS, END_HEADERS | END_STREAM, 7, &block(&ok))),
        row("1xx", 100, early).of_stream(),
        row("many headers", 1, head(&block(&many))).of_stream(),
        row("many cookies", 1, head(&block(&cookies))).of_stream(),
        row("HPACK bomb", 1, head(&bomb)).of_stream(),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_flood_are_left_and_their_requests_answered_with_502() {
    for row in rows() {
        let server = Server::new().await;
        let direct = json!({"match": {"path": "/direct"}, "direct_response": {"status": 200}});
        let routes = json!([direct, route("next", json!({"timeout": "0s"}))]);
        let node = Hop::http().routes(routes).cluster("next", &[server.address], http2(json!({}))).start().await;
        let mut second = Wire::connect(node.address()).await;
        let mut client = Wire::connect(node.address()).await;
        client.send(POST).await;
        let mut hostile = Frames::server(&server, &[]).await;
        assert_eq!(hostile.until(HEADERS).await.stream, 1);
        let bytes = [row.begin.clone(), row.unit.repeat(row.count)].concat();
        let (reader, mut writer) = hostile.wire.socket.into_split();
        let writing = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            let _ = writer.write_all(&bytes).await;
            writer
        });
        let mut answer = client.head().await;
        while answer.starts_with("HTTP/1.1 1") {
            answer = client.head().await;
        }
        if row.begin.is_empty() || row.begin[4] & END_HEADERS == 0 {
            assert!(answer.starts_with("HTTP/1.1 502"), "{}: {answer}", row.name);
            node.logged(&["502 flags=UPE", "{protocol_error}"]).await;
        } else {
            assert!(answer.starts_with("HTTP/1.1 200"), "{}: {answer}", row.name);
            assert!(!client.rest().await.contains("0\r\n\r\n"), "{}: it is not whole", row.name);
        }
        if row.ends {
            let frames = tokio::time::timeout(PATIENCE, read_all(reader)).await;
            let frames: Vec<Frame> = frames.unwrap_or_else(|_| panic!("{}: it is not left", row.name));
            assert!(is_cut(&frames), "{}: {frames:?}", row.name);
            assert_eq!(node.stat("cluster.next.upstream_cx_protocol_error").await, 1, "{}", row.name);
        }
        second.send("GET /direct HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(second.message().await.0.starts_with("HTTP/1.1 200"), "{}: another client", row.name);
        if row.ends {
            // The next request finds a connection of its own.
            second.send(POST).await;
            let mut fresh = Frames::server(&server, &[]).await;
            let stream = fresh.until(HEADERS).await.stream;
            fresh.answer(stream, "200", b"").await;
            assert!(second.head().await.starts_with("HTTP/1.1 200"), "{}", row.name);
        }
        drop(writing.await);
        node.stop().await;
    }
}
