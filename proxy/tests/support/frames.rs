//! HTTP/2 frame by frame, for what no well-behaved peer does.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::net::SocketAddr;

use crate::wire::{Server, Wire};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const PROTOCOL_ERROR: u32 = 1;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const ENHANCE_YOUR_CALM: u32 = 11;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// One end of a connection.
pub struct Frames {
    pub wire: Wire,
    /// What was passed over on the way to what was awaited.
    pub passed: Vec<Frame>,
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A block of literal headers without compression (RFC 7541, 6.2.2).
pub fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend(text.as_bytes());
        }
    }
    block
}

fn length(block: &mut Vec<u8>, length: usize) {
    if length < 127 {
        return block.push(length as u8);
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// A request's head.
pub fn request(method: &str, path: &str) -> Vec<u8> {
    block(&[(":method", method), (":scheme", "http"), (":path", path), (":authority", "a.test")])
}

impl Frames {
    /// Connects as a client; the preface and empty SETTINGS are sent.
    pub async fn client(address: SocketAddr) -> Self {
        let mut frames = Self { wire: Wire::connect(address).await, passed: Vec::new() };
        frames.wire.send([PREFACE, &frame(SETTINGS, 0, 0, b"")].concat()).await;
        frames
    }

    /// Takes a connection as a server with these settings.
    pub async fn server(server: &Server, settings: &[(u16, u32)]) -> Self {
        let mut frames = Self { wire: server.accept().await, passed: Vec::new() };
        assert_eq!(frames.wire.exact(PREFACE.len()).await, PREFACE);
        let payload: Vec<u8> =
            settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        // In one write: a proxy that these settings drive away may be gone before a second.
        frames.wire.send([frame(SETTINGS, 0, 0, &payload), frame(SETTINGS, ACK, 0, b"")].concat()).await;
        frames
    }

    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.wire.send(frame(kind, flags, stream, payload)).await;
    }

    /// Sends as long as the peer takes it; false once it has closed.
    pub async fn try_send(&mut self, bytes: &[u8]) -> bool {
        use tokio::io::AsyncWriteExt;
        self.wire.socket.write_all(bytes).await.is_ok()
    }

    pub async fn get(&mut self, stream: u32, path: &str) {
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &request("GET", path)).await;
    }

    /// Answers a stream with a status.
    pub async fn answer(&mut self, stream: u32, status: &str, body: &[u8]) {
        let flags = if body.is_empty() { END_HEADERS | END_STREAM } else { END_HEADERS };
        self.send(HEADERS, flags, stream, &block(&[(":status", status)])).await;
        if !body.is_empty() {
            self.send(DATA, END_STREAM, stream, body).await;
        }
    }

    pub async fn go_away(&mut self, last: u32, code: u32) {
        self.send(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat()).await;
    }

    pub async fn reset(&mut self, stream: u32, code: u32) {
        self.send(RST_STREAM, 0, stream, &code.to_be_bytes()).await;
    }

    /// The next frame; `None` at the end.
    pub async fn next(&mut self) -> Option<Frame> {
        while self.wire.input.len() < 9 {
            if !self.wire.fill().await {
                return None;
            }
        }
        let head: [u8; 9] = self.wire.input[..9].try_into().unwrap();
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        while self.wire.input.len() < 9 + length {
            if !self.wire.fill().await {
                return None;
            }
        }
        let payload = self.wire.input.drain(..9 + length).skip(9).collect();
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap()) & 0x7fff_ffff;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of this kind; acknowledgements are passed over. `None` if the connection ends before.
    pub async fn find(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let found = self.next().await?;
            if found.kind == kind && !(matches!(kind, SETTINGS | PING) && found.flags & ACK != 0) {
                return Some(found);
            }
            self.passed.push(found);
        }
    }

    /// As [`Self::find`], which must find it.
    pub async fn until(&mut self, kind: u8) -> Frame {
        match self.find(kind).await {
            Some(frame) => frame,
            None => panic!("no frame of kind {kind} came, but {:?}", self.passed),
        }
    }
}
