//! Where a body begins and ends (RFC 9112, 6 and 7), in and out.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::names::Names;
use super::{Refusal, Settings};
use crate::body::Frame;
use crate::cause::Cause;

/// Longest chunk-size line, extensions and all.
const CHUNK_LINE: usize = 256;
/// Most bytes of chunk extensions that one body may carry.
const EXTENSIONS: usize = 16 * 1024;

/// How a body's end is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// All that comes until the connection ends; also raw bytes after an upgrade.
    UntilClose,
}

/// Takes a body out of a connection's bytes.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    settings: Settings,
    extensions: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length(u64),
    SizeLine,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    UntilClose,
    Done,
}

/// What a decoder found.
#[derive(Debug)]
pub enum Step {
    /// A frame.
    Frame(Frame),
    /// The end; also given on every later call.
    End,
    /// More bytes are needed.
    More,
}

fn bad_chunk(detail: &'static str) -> Refusal {
    Refusal::new(Cause::InvalidChunk, detail)
}

impl Decoder {
    /// A decoder at the start of a body.
    pub fn new(framing: Framing, settings: Settings) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::SizeLine,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, settings, extensions: 0 }
    }

    /// Whether the whole body was taken.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the body ends only with the connection.
    pub fn is_until_close(&self) -> bool {
        self.state == State::UntilClose
    }

    /// Payload bytes to come, if that is known.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(length) => Some(length),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// Bytes of payload that the next read may well ask for.
    pub fn expects(&self) -> Option<u64> {
        match self.state {
            State::Length(length) => Some(length),
            State::ChunkData(length) => Some(length.saturating_add(64)),
            _ => None,
        }
    }

    /// Takes the next frame out of `input`.
    ///
    /// # Errors
    /// If the chunked coding is broken.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Step, Refusal> {
        loop {
            match self.state {
                State::Done => return Ok(Step::End),
                State::UntilClose if input.is_empty() => return Ok(Step::More),
                State::UntilClose => return Ok(Step::Frame(Frame::Data(input.split().freeze()))),
                State::Length(left) => {
                    let Some((data, left)) = take(input, left) else { return Ok(Step::More) };
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                    return Ok(Step::Frame(Frame::Data(data)));
                }
                State::ChunkData(left) => {
                    let Some((data, left)) = take(input, left) else { return Ok(Step::More) };
                    self.state = if left == 0 { State::ChunkEnd } else { State::ChunkData(left) };
                    return Ok(Step::Frame(Frame::Data(data)));
                }
                State::ChunkEnd => match input.get(..2) {
                    Some(b"\r\n") => {
                        let _ = input.split_to(2);
                        self.state = State::SizeLine;
                    }
                    Some(_) => return Err(bad_chunk("a chunk is longer than its size")),
                    None if input.first().is_some_and(|byte| *byte != b'\r') => {
                        return Err(bad_chunk("a chunk is longer than its size"));
                    }
                    None => return Ok(Step::More),
                },
                State::SizeLine => {
                    if !self.size_line(input)? {
                        return Ok(Step::More);
                    }
                }
                State::Trailers => return self.trailers(input),
            }
        }
    }

    /// Takes a chunk-size line; `false` if it is not whole yet.
    fn size_line(&mut self, input: &mut BytesMut) -> Result<bool, Refusal> {
        let window = &input[..input.len().min(CHUNK_LINE)];
        let Some(end) = memchr::memchr(b'\n', window) else {
            if window.len() == CHUNK_LINE {
                return Err(bad_chunk("a chunk-size line is too long"));
            }
            parse_size_line(window, false)?;
            return Ok(false);
        };
        let line = input.split_to(end + 1);
        let Some(line) = line.strip_suffix(b"\r\n") else {
            return Err(bad_chunk("a chunk-size line ends in a bare LF"));
        };
        let (size, extension) = parse_size_line(line, true)?;
        self.extensions += extension;
        if self.extensions > EXTENSIONS {
            return Err(bad_chunk("too many bytes of chunk extensions"));
        }
        self.state = if size == 0 { State::Trailers } else { State::ChunkData(size) };
        Ok(true)
    }

    fn trailers(&mut self, input: &mut BytesMut) -> Result<Step, Refusal> {
        if input.starts_with(b"\r\n") {
            let _ = input.split_to(2);
            self.state = State::Done;
            return Ok(Step::End);
        }
        if input.len() < 2 && b"\r\n".starts_with(input) {
            return Ok(Step::More);
        }
        let Some(end) = super::parse::head_end(input, 0, self.settings)? else { return Ok(Step::More) };
        let block = input.split_to(end).freeze();
        self.state = State::Done;
        let trailers = parse_trailers(&block, self.settings)?;
        let wanted = self.settings.trailers && !trailers.is_empty();
        Ok(if wanted { Step::Frame(Frame::Trailers(trailers)) } else { Step::End })
    }
}

/// Up to `left` bytes, and how many are left after them; `None` if there are none yet.
fn take(input: &mut BytesMut, left: u64) -> Option<(Bytes, u64)> {
    if input.is_empty() {
        return None;
    }
    let count = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    Some((input.split_to(count).freeze(), left - count as u64))
}

/// Size, and length of the extensions. A line that is not whole is checked as far as it goes.
fn parse_size_line(line: &[u8], whole: bool) -> Result<(u64, usize), Refusal> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits > 16 || (digits == 0 && (whole || !line.is_empty())) {
        return Err(bad_chunk("a chunk size is not a hexadecimal number of at most 16 digits"));
    }
    let rest = line.get(digits..).unwrap_or_default();
    let rest = if whole { rest } else { rest.strip_suffix(b"\r").unwrap_or(rest) };
    let extension = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(rest.len());
    match rest.get(extension) {
        None if whole && !rest.is_empty() => return Err(bad_chunk("white space after a chunk size")),
        Some(byte) if *byte != b';' => return Err(bad_chunk("a chunk size is not a hexadecimal number")),
        _ => {}
    }
    if rest.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(bad_chunk("a control character in a chunk extension"));
    }
    let size = line
        .get(..digits)
        .unwrap_or_default()
        .iter()
        .fold(0u64, |size, digit| size << 4 | u64::from((*digit as char).to_digit(16).unwrap_or_default()));
    Ok((size, rest.len()))
}

fn parse_trailers(block: &Bytes, settings: Settings) -> Result<HeaderMap, Refusal> {
    let malformed = Refusal::new(Cause::InvalidHeader, "a malformed trailer");
    let mut slots = vec![httparse::EMPTY_HEADER; settings.headers];
    let parsed = match httparse::parse_headers(block, &mut slots) {
        Ok(httparse::Status::Complete((_, parsed))) => parsed,
        Ok(httparse::Status::Partial) => return Err(malformed),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::new(Cause::TooManyHeaders, "too many trailers"));
        }
        Err(_) => return Err(malformed),
    };
    let mut trailers = HeaderMap::with_capacity(parsed.len());
    for header in parsed {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| malformed.clone())?;
        // RFC 9110, 6.5.1: what frames, routes or authenticates a message must not come after it.
        if super::parse::is_forbidden_trailer(&name) {
            continue;
        }
        let value = HeaderValue::from_maybe_shared(block.slice_ref(header.value)).map_err(|_| malformed.clone())?;
        trailers.try_append(name, value).map_err(|_| malformed.clone())?;
    }
    Ok(trailers)
}

/// Puts a body's frames into the form that its head announced.
#[derive(Debug)]
pub struct Encoder {
    framing: Framing,
    trailers: bool,
}

/// The body is not as long as its head said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not as long as its Content-Length")]
pub struct LengthMismatch;

impl Encoder {
    /// An encoder at the start of a body.
    pub fn new(framing: Framing, settings: Settings) -> Self {
        Self { framing, trailers: settings.trailers }
    }

    /// How the body is framed.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Queues payload.
    ///
    /// # Errors
    /// If it is more than the head announced.
    pub fn data(&mut self, data: Bytes, wire: &mut super::wire::Wire) -> Result<(), LengthMismatch> {
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.framing {
            Framing::None => return Err(LengthMismatch),
            Framing::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(LengthMismatch)?;
                wire.push(data);
            }
            Framing::Chunked => {
                let mut line = [0u8; 18];
                let start = size_line(data.len() as u64, &mut line);
                wire.tail().put(line.get(start..).unwrap_or_default());
                wire.push(data);
                wire.tail().put(b"\r\n");
            }
            Framing::UntilClose => wire.push(data),
        }
        Ok(())
    }

    /// Queues the end, with trailers where the framing can carry them and the peer may have them.
    ///
    /// # Errors
    /// If payload is missing.
    pub fn end(&mut self, trailers: Option<&HeaderMap>, wire: &mut super::wire::Wire) -> Result<(), LengthMismatch> {
        match self.framing {
            Framing::Length(left) if left > 0 => return Err(LengthMismatch),
            Framing::Chunked => {
                let mut tail = wire.tail();
                tail.put(b"0\r\n");
                for (name, value) in trailers.filter(|_| self.trailers).into_iter().flatten() {
                    super::write::header(&mut tail, Names::Lower, name.as_str(), value.as_bytes());
                }
                tail.put(b"\r\n");
            }
            _ => {}
        }
        Ok(())
    }
}

/// Writes `size` in hexadecimal with CRLF to the end of `line`; gives where it starts.
fn size_line(mut size: u64, line: &mut [u8; 18]) -> usize {
    line[16] = b'\r';
    line[17] = b'\n';
    let mut at = 16;
    loop {
        at -= 1;
        line[at] = b"0123456789abcdef"[(size & 15) as usize];
        size >>= 4;
        if size == 0 || at == 0 {
            return at;
        }
    }
}
