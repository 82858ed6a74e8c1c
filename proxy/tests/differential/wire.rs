//! HTTP/1 messages read from a socket as they are, with nothing mended.

use std::io::Read;

/// Who has sent the message; a response without a length ends with its connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A client.
    Request,
    /// A server; the flag is set if the request was HEAD.
    Response(bool),
}

/// A message.
#[derive(Debug, Default)]
pub struct Message {
    /// Its first line.
    pub start: String,
    /// Names as they are, values.
    pub headers: Vec<(String, String)>,
    /// The body without chunk framing.
    pub body: Vec<u8>,
    /// The trailers.
    pub trailers: Vec<(String, String)>,
    /// Whether it broke off in its body.
    pub broken: bool,
}

impl Message {
    /// A header's first value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Reads one message; `buffer` holds what is read and not used. `None` at the end of the connection or on a timeout.
pub fn read_message(socket: &mut impl Read, buffer: &mut Vec<u8>, side: Side) -> Option<Message> {
    let end = loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            break end;
        }
        if !fill(socket, buffer) {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let mut message = Message { start: lines.next()?.to_owned(), ..Message::default() };
    message.headers = lines.map(field).collect();
    let status = message.start.split(' ').nth(1).unwrap_or_default().to_owned();
    let bodyless = side == Side::Response(true)
        || (side != Side::Request && (status.starts_with('1') || status == "204" || status == "304"));
    if bodyless {
        return Some(message);
    }
    if message.header("transfer-encoding").is_some() {
        chunked(socket, buffer, &mut message);
    } else if let Some(length) = message.header("content-length").and_then(|length| length.parse::<usize>().ok()) {
        while buffer.len() < length && fill(socket, buffer) {}
        message.broken = buffer.len() < length;
        message.body = buffer.drain(..length.min(buffer.len())).collect();
    } else if side != Side::Request {
        while fill(socket, buffer) {}
        message.body = std::mem::take(buffer);
    }
    Some(message)
}

fn chunked(socket: &mut impl Read, buffer: &mut Vec<u8>, message: &mut Message) {
    loop {
        let Some(line) = line(socket, buffer) else {
            message.broken = true;
            return;
        };
        let length = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16).unwrap_or(0);
        if length == 0 {
            break;
        }
        while buffer.len() < length + 2 {
            if !fill(socket, buffer) {
                message.broken = true;
                return;
            }
        }
        message.body.extend(buffer.drain(..length + 2).take(length));
    }
    while let Some(line) = line(socket, buffer).filter(|line| !line.is_empty()) {
        message.trailers.push(field(&line));
    }
}

fn line(socket: &mut impl Read, buffer: &mut Vec<u8>) -> Option<String> {
    let end = loop {
        if let Some(end) = find(buffer, b"\r\n") {
            break end;
        }
        if !fill(socket, buffer) {
            return None;
        }
    };
    let line = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 2);
    Some(line)
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    (name.to_owned(), value.trim().to_owned())
}

fn fill(socket: &mut impl Read, buffer: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 16 * 1024];
    match socket.read(&mut chunk) {
        Ok(length @ 1..) => {
            buffer.extend_from_slice(&chunk[..length]);
            true
        }
        _ => false,
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}
