//! A connection that a test reads and writes byte by byte, as client or as server.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::peers::PATIENCE;

/// A socket with what was read from it and not taken.
pub struct Wire {
    pub socket: TcpStream,
    pub input: Vec<u8>,
}

/// A server that a test plays itself.
pub struct Server {
    listener: TcpListener,
    pub address: SocketAddr,
}

impl Server {
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    pub async fn accept(&self) -> Wire {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept());
        Wire::new(accepted.await.expect("a connection in time").unwrap().0)
    }

    /// Whether nobody connects within `time`.
    pub async fn nobody_within(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.listener.accept()).await.is_err()
    }
}

impl Wire {
    pub fn new(socket: TcpStream) -> Self {
        socket.set_nodelay(true).unwrap();
        Self { socket, input: Vec::new() }
    }

    pub async fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.unwrap())
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        tokio::time::timeout(PATIENCE, self.socket.write_all(bytes.as_ref())).await.expect("sent in time").unwrap();
    }

    /// Reads more; false at the end or after a reset.
    pub async fn fill(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.socket.read_buf(&mut self.input));
        matches!(read.await.unwrap_or_else(|_| panic!("nothing more came after {:?}", self.text())), Ok(1..))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.input).into_owned()
    }

    /// Takes everything up to and with `end`.
    pub async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.input.windows(end.len()).position(|window| window == end.as_bytes()) {
                let taken: Vec<u8> = self.input.drain(..at + end.len()).collect();
                return String::from_utf8_lossy(&taken).into_owned();
            }
            assert!(self.fill().await, "ended before {end:?}: {:?}", self.text());
        }
    }

    /// Takes a head.
    pub async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// Takes so many bytes.
    pub async fn exact(&mut self, count: usize) -> Vec<u8> {
        while self.input.len() < count {
            assert!(self.fill().await, "ended after {} of {count} bytes", self.input.len());
        }
        self.input.drain(..count).collect()
    }

    /// A message with a length: head, and body as text.
    pub async fn message(&mut self) -> (String, String) {
        let head = self.head().await;
        let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        let body = self.exact(length).await;
        (head, String::from_utf8_lossy(&body).into_owned())
    }

    /// All until the peer closes; a reset is an end, too.
    pub async fn rest(&mut self) -> String {
        while self.fill().await {}
        let rest = self.text();
        self.input.clear();
        rest
    }

    /// Asserts that nothing comes within `time`.
    pub async fn is_quiet(&mut self, time: Duration) {
        let more = tokio::time::timeout(time, self.socket.read_buf(&mut self.input)).await;
        assert!(more.is_err() && self.input.is_empty(), "came: {more:?} {:?}", self.text());
    }
}

/// The value of a header in the text of a head.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}
