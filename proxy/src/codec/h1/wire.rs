//! A connection with what was read from it and what is still to be written to it.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::io::Io;

/// Heads are read through a buffer on the stack, so that a connection at rest owns none.
const SCRATCH: usize = 8 * 1024;
/// Pieces up to this size are put together by copying; larger ones are written from where they are.
const SMALL: usize = 256;
/// Above this no more is taken in before some is written.
const HIGH_WATER: usize = 64 * 1024;
/// Least and most that one read of a body asks for.
const READ: (usize, usize) = (8 * 1024, 64 * 1024);

/// Socket and buffers of one HTTP/1 connection.
#[derive(Debug)]
pub struct Wire {
    io: Io,
    /// Bytes read and not yet taken.
    pub input: BytesMut,
    read_size: usize,
    eof: bool,
    output: Output,
    written: u64,
}

impl Wire {
    /// A connection with empty buffers.
    pub fn new(io: Io) -> Self {
        Self { io, input: BytesMut::new(), read_size: READ.0, eof: false, output: Output::default(), written: 0 }
    }

    /// The byte stream; what was read ahead is in `input`.
    pub fn into_parts(self) -> (Io, Bytes) {
        (self.io, self.input.freeze())
    }

    /// Whether the peer has closed its side.
    pub fn is_eof(&self) -> bool {
        self.eof
    }

    /// Bytes given to the socket since the connection began.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Bytes queued since the connection began.
    pub fn queued(&self) -> u64 {
        self.output.total
    }

    /// Gives the buffers back. What was read and not taken stays.
    pub fn release(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        if self.output.len == 0 {
            self.output = Output { total: self.output.total, ..Output::default() };
        }
        self.read_size = READ.0;
    }

    /// Reads some bytes of a head, or notices the end; `false` at the end.
    pub fn poll_fill_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.eof {
            return Poll::Ready(Ok(false));
        }
        let mut scratch = [MaybeUninit::<u8>::uninit(); SCRATCH];
        let mut buffer = ReadBuf::uninit(&mut scratch);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
        self.input.extend_from_slice(buffer.filled());
        self.eof = buffer.filled().is_empty();
        Poll::Ready(Ok(!self.eof))
    }

    /// Reads some bytes of a body, at most about `most` if that is known; `false` at the end.
    pub fn poll_fill_body(&mut self, cx: &mut Context<'_>, most: Option<u64>) -> Poll<io::Result<bool>> {
        if self.eof {
            return Poll::Ready(Ok(false));
        }
        let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        let want = self.read_size.min(most).max(1);
        if self.input.capacity() - self.input.len() < want {
            self.input.reserve(want);
        }
        let count = ready!(tokio_util::io::poll_read_buf(Pin::new(&mut self.io), cx, &mut self.input))?;
        if count >= self.read_size {
            self.read_size = (self.read_size * 2).min(READ.1);
        }
        self.eof = count == 0;
        Poll::Ready(Ok(!self.eof))
    }

    /// Where heads and chunk sizes are written to.
    pub fn tail(&mut self) -> Tail<'_> {
        Tail(&mut self.output)
    }

    /// Queues bytes, without copying them unless they are few.
    pub fn push(&mut self, bytes: Bytes) {
        self.output.push(bytes);
    }

    /// Whether more may be queued now.
    pub fn has_room(&self) -> bool {
        self.output.len < HIGH_WATER
    }

    /// Whether nothing waits to be written.
    pub fn is_flushed(&self) -> bool {
        self.output.len == 0
    }

    /// Forgets what waits to be written.
    pub fn discard_output(&mut self) {
        self.output = Output::default();
    }

    /// Writes all that is queued.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.output.len == 0 && !self.output.dirty {
            return Poll::Ready(Ok(()));
        }
        while self.output.len > 0 {
            let count = ready!(self.output.poll_write(Pin::new(&mut self.io), cx))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count as u64;
            self.output.advance(count);
        }
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.output.dirty = false;
        Poll::Ready(Ok(()))
    }

    /// Closes our side.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// Reads and throws away; ready when the peer has closed or broken off.
    pub fn poll_discard_input(&mut self, cx: &mut Context<'_>, budget: &mut usize) -> Poll<()> {
        self.input.clear();
        while !self.eof && *budget > 0 {
            match ready!(self.poll_fill_head(cx)) {
                Ok(true) => *budget = budget.saturating_sub(self.input.len()),
                Ok(false) | Err(_) => break,
            }
            self.input.clear();
        }
        Poll::Ready(())
    }
}

#[derive(Debug, Default)]
struct Output {
    queue: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
    /// All that was ever queued.
    total: u64,
    /// Written to the stream but not yet flushed (TLS).
    dirty: bool,
}

/// Appends small pieces to what is to be written.
pub struct Tail<'a>(&'a mut Output);

impl Tail<'_> {
    /// Appends by copying.
    pub fn put(&mut self, bytes: &[u8]) {
        self.0.tail.extend_from_slice(bytes);
        self.0.len += bytes.len();
        self.0.total += bytes.len() as u64;
        self.0.dirty = true;
    }

    /// Makes room for what is about to be put.
    pub fn reserve(&mut self, count: usize) {
        self.0.tail.reserve(count);
    }
}

impl Output {
    fn push(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.dirty = true;
        self.len += bytes.len();
        self.total += bytes.len() as u64;
        if bytes.len() <= SMALL {
            self.tail.extend_from_slice(&bytes);
            return;
        }
        if !self.tail.is_empty() {
            let tail = self.tail.split().freeze();
            self.queue.push_back(tail);
        }
        self.queue.push_back(bytes);
    }

    fn poll_write(&self, io: Pin<&mut Io>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.queue.is_empty() {
            return io.poll_write(cx, &self.tail);
        }
        let mut slices = [IoSlice::new(&[]); 16];
        let pieces = self.queue.iter().map(|piece| &piece[..]).chain([&self.tail[..]]);
        let mut count = 0;
        for (slot, piece) in slices.iter_mut().zip(pieces.filter(|piece| !piece.is_empty())) {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        io.poll_write_vectored(cx, slices.get(..count).unwrap_or_default())
    }

    fn advance(&mut self, mut count: usize) {
        self.len = self.len.saturating_sub(count);
        while let Some(front) = self.queue.front_mut() {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.queue.pop_front();
        }
        self.tail.advance(count.min(self.tail.len()));
    }
}
