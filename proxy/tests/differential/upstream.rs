//! The upstream of a proxy under test: records what arrives and answers as the request's `x-do` header asks.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::wire::{self, Message};

/// A request as it arrived.
pub struct Received {
    /// Which of the upstream's servers has it.
    pub server: &'static str,
    /// The request.
    pub message: Message,
}

/// What has arrived, by the request's `x-case` header.
#[derive(Default)]
pub struct Record(Mutex<HashMap<String, Vec<Received>>>);

impl Record {
    /// Notes a request; says how many of its case came before.
    pub fn add(&self, server: &'static str, message: Message) -> usize {
        let case = message.header("x-case").unwrap_or("-").to_owned();
        let mut all = self.0.lock().unwrap();
        let list = all.entry(case).or_default();
        list.push(Received { server, message });
        list.len() - 1
    }

    /// Takes all that a case has sent.
    pub fn take(&self, case: &str) -> Vec<Received> {
        self.0.lock().unwrap().remove(case).unwrap_or_default()
    }
}

/// Serves on a new port until the test ends; returns the port.
pub fn serve(server: &'static str, record: &Arc<Record>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let record = record.clone();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let record = record.clone();
            std::thread::spawn(move || connection(server, socket, &record));
        }
    });
    port
}

fn connection(server: &'static str, mut socket: TcpStream, record: &Record) {
    let mut buffer = Vec::new();
    while let Some(message) = wire::read_message(&mut socket, &mut buffer, wire::Side::Request) {
        let asked = message.header("x-do").unwrap_or_default().to_owned();
        let path = message.start.split(' ').nth(1).unwrap_or_default().to_owned();
        let head = message.start.starts_with("HEAD ");
        let upgrade = message.header("upgrade").map(str::to_owned);
        let earlier = record.add(server, message);
        let answer = Answer::of(&asked, earlier);
        std::thread::sleep(Duration::from_millis(answer.delay));
        if answer.reset {
            return;
        }
        if let (Some(protocol), true) = (upgrade, answer.status == 101) {
            let text =
                format!("HTTP/1.1 101 Switching Protocols\r\nupgrade: {protocol}\r\nconnection: upgrade\r\n\r\n");
            if socket.write_all(text.as_bytes()).is_err() {
                return;
            }
            if !answer.hang_up {
                echo(&mut socket, &buffer);
            }
            return;
        }
        if socket.write_all(&answer.bytes(server, &path, head)).is_err() {
            return;
        }
    }
}

fn echo(socket: &mut TcpStream, first: &[u8]) {
    let mut chunk = [0; 1024];
    let _ = socket.write_all(first);
    while let Ok(length @ 1..) = socket.read(&mut chunk) {
        if socket.write_all(&chunk[..length]).is_err() {
            return;
        }
    }
}

/// What a request asks for.
#[derive(Default)]
pub struct Answer {
    pub status: u16,
    /// Milliseconds before it.
    pub delay: u64,
    /// Instead of an answer.
    pub reset: bool,
    hang_up: bool,
    /// Without a length.
    pub chunked: bool,
    pub trailers: bool,
    size: Option<usize>,
    /// More lines of its head.
    pub headers: Vec<String>,
}

impl Answer {
    /// `x-do` is a list of `name=value` with spaces between; `times=n` stops `status`, `delay`, `reset` after n requests.
    pub fn of(asked: &str, earlier: usize) -> Self {
        let mut answer = Self { status: 200, ..Self::default() };
        let mut times = usize::MAX;
        for part in asked.split(' ').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match name {
                "status" => answer.status = value.parse().unwrap(),
                "delay" => answer.delay = value.parse().unwrap(),
                "times" => times = value.parse().unwrap(),
                "size" => answer.size = Some(value.parse().unwrap()),
                "header" => answer.headers.push(value.replacen(':', ": ", 1)),
                "reset" => answer.reset = true,
                "hang-up" => answer.hang_up = true,
                "chunked" => answer.chunked = true,
                "trailers" => (answer.chunked, answer.trailers) = (true, true),
                other => panic!("x-do: {other:?} is not known"),
            }
        }
        if earlier >= times {
            (answer.status, answer.delay, answer.reset) = (200, 0, false);
        }
        answer
    }

    /// The body, if there may be one.
    pub fn body(&self, server: &str, path: &str) -> String {
        self.size.map_or_else(|| format!("{server} {path}"), |size| "b".repeat(size))
    }

    fn bytes(&self, server: &str, path: &str, head: bool) -> Vec<u8> {
        let body = self.body(server, path);
        let mut text = format!("HTTP/1.1 {} Whatever\r\nserver: upstream\r\nx-served-by: {server}\r\n", self.status);
        for header in &self.headers {
            text += &format!("{header}\r\n");
        }
        let empty = head || matches!(self.status, 204 | 304);
        if self.chunked {
            text += "transfer-encoding: chunked\r\n\r\n";
            if !empty {
                let trailers = if self.trailers { "x-trailer: yes\r\n" } else { "" };
                text += &format!("{:x}\r\n{body}\r\n0\r\n{trailers}\r\n", body.len());
            }
        } else {
            if !matches!(self.status, 204 | 304) {
                text += &format!("content-length: {}\r\n", body.len());
            }
            text += "\r\n";
            if !empty {
                text += &body;
            }
        }
        text.into_bytes()
    }
}
