//! A connection's bytes on their way to `h2`, with a count of the frames that cost us more than the peer.
//!
//! h2 itself limits CONTINUATION, small DATA, and resets of streams that it has not given out yet; PING, SETTINGS,
//! PRIORITY, unknown frames, WINDOW_UPDATE and RST_STREAM are limited here (the limits are Envoy's, see its
//! Http2ProtocolOptions and `premature_reset_total_stream_count`, with a rate beside the count). Serves both sides.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::PREFACE;
use super::frames::{Counts, Frames};
use crate::io::Io;
use crate::timer::Timer;

/// Control frames that may come at once, and each second.
const CONTROL: (f64, f64) = (1000.0, 100.0);
/// WINDOW_UPDATE frames that may come at once; each second; and for each KiB that we send.
const UPDATES: (f64, f64, f64) = (1000.0, 10.0, 10.0);
/// RST_STREAM frames of a client that may come at once; each second; and for each request. Who resets more than half of
/// many requests does not want answers.
const RESETS: (f64, f64, f64) = (500.0, 50.0, 0.5);
/// What the allowance for resets grows to at most.
const MOST_RESETS: f64 = 1000.0;
/// For so many bytes a connection that is over is still read, so that GOAWAY is not lost to a RST.
const LINGER: usize = 256 * 1024;

/// What a peer sent too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flood {
    /// PING, SETTINGS, PRIORITY or frames of unknown types.
    Control,
    /// WINDOW_UPDATE.
    WindowUpdate,
    /// RST_STREAM.
    Reset,
}

/// What a guard has seen, for the connection's driver.
#[derive(Debug, Default)]
pub struct Seen {
    flood: Cell<Option<Flood>>,
    last_stream: Cell<Option<u32>>,
    settled: Cell<bool>,
    settling: Notify,
}

impl Seen {
    /// The flood that made the guard stop reading, if any.
    pub fn flood(&self) -> Option<Flood> {
        self.flood.get()
    }

    /// Comes back when the peer's first SETTINGS have come.
    pub async fn settled(&self) {
        while !self.settled.get() {
            self.settling.notified().await;
        }
    }

    /// The last stream that the peer's GOAWAY says it has processed or will.
    pub fn last_stream(&self) -> Option<u32> {
        self.last_stream.get()
    }
}

/// An allowance that grows with time and is used up by frames.
#[derive(Debug)]
struct Allowance {
    left: f64,
    most: f64,
    rate: f64,
}

impl Allowance {
    fn grow(&mut self, by: f64) {
        self.left = (self.left + by).min(self.most);
    }
}

/// A byte stream that counts HTTP/2 frames.
#[derive(Debug)]
pub struct Guard {
    ahead: Bytes,
    io: Io,
    seen: Rc<Seen>,
    frames: Frames,
    control: Allowance,
    updates: Allowance,
    /// Of the server's side only.
    resets: Option<Allowance>,
    refilled: Instant,
    end: End,
}

/// How the connection ends.
#[derive(Debug)]
struct End {
    /// How long the peer may take to close its side.
    delay: Duration,
    since: Option<Instant>,
    budget: usize,
    timer: Timer,
}

impl Guard {
    /// Guards a server; `ahead` was read from the connection to detect its protocol. At the end the client has `delay`
    /// to close its side.
    pub fn server(ahead: Bytes, io: Io, delay: Duration, seen: Rc<Seen>) -> Self {
        let resets = Allowance { left: RESETS.0, most: MOST_RESETS, rate: RESETS.1 };
        Self { ahead, resets: Some(resets), ..Self::new(io, delay, Frames::of_client(), seen) }
    }

    /// Guards a client.
    pub fn client(io: Io, seen: Rc<Seen>) -> Self {
        Self::new(io, Duration::ZERO, Frames::of_server(), seen)
    }

    fn new(io: Io, delay: Duration, frames: Frames, seen: Rc<Seen>) -> Self {
        Self {
            ahead: Bytes::new(),
            io,
            seen,
            frames,
            control: Allowance { left: CONTROL.0, most: CONTROL.0, rate: CONTROL.1 },
            // Grows with what is sent, without an end.
            updates: Allowance { left: UPDATES.0, most: 1e9, rate: UPDATES.1 },
            resets: None,
            refilled: Instant::now(),
            end: End { delay, since: None, budget: LINGER, timer: Timer::default() },
        }
    }

    /// Reads the client's preface ahead; false if what comes is none (RFC 9113, 3.4).
    ///
    /// # Errors
    /// If the client is gone.
    pub async fn has_preface(&mut self) -> io::Result<bool> {
        let mut ahead = BytesMut::from(&self.ahead[..]);
        loop {
            let length = ahead.len().min(PREFACE.len());
            if ahead.get(..length) != PREFACE.get(..length) {
                return Ok(false);
            }
            if length == PREFACE.len() {
                self.ahead = ahead.freeze();
                return Ok(true);
            }
            if self.io.read_buf(&mut ahead).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn count(&mut self, bytes: &[u8]) {
        let counts = self.frames.count(bytes);
        if let Some(last) = counts.goaway {
            self.seen.last_stream.set(Some(last));
        }
        if counts.settings > 0 && !self.seen.settled.replace(true) {
            self.seen.settling.notify_one();
        }
        let Counts { control, updates, resets, heads, .. } = counts;
        if let Some(allowance) = &mut self.resets {
            allowance.grow(f64::from(heads) * RESETS.2);
        }
        if control + updates + resets == 0 {
            return;
        }
        let now = Instant::now();
        let passed = (now - self.refilled).as_secs_f64();
        self.refilled = now;
        let mut flood = None;
        let used = [
            (Some(&mut self.control), control, Flood::Control),
            (Some(&mut self.updates), updates, Flood::WindowUpdate),
        ];
        for (allowance, used, kind) in used.into_iter().chain([(self.resets.as_mut(), resets, Flood::Reset)]) {
            let Some(allowance) = allowance else { continue };
            allowance.grow(passed * allowance.rate);
            allowance.left -= f64::from(used);
            if allowance.left < 0.0 {
                flood = Some(kind);
            }
        }
        if flood.is_some() {
            self.seen.flood.set(flood);
        }
    }

    fn wrote(&mut self, count: usize) {
        self.updates.grow(count as f64 / 1024.0 * UPDATES.2);
    }

    /// Reads and throws away until the peer has closed, too, or had its time.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.end.since.get_or_insert_with(Instant::now);
        let mut scratch = [std::mem::MaybeUninit::uninit(); 4096];
        while self.end.budget > 0 && !self.end.delay.is_zero() {
            let mut buffer = ReadBuf::uninit(&mut scratch);
            match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.end.budget = self.end.budget.saturating_sub(buffer.filled().len());
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.end.timer.poll_until(cx, since + self.end.delay),
            }
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Guard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.seen.flood.get().is_some() {
            // The driver ends the connection; nothing more is taken in.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        if this.ahead.is_empty() {
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        } else {
            let length = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead[..length]);
            this.ahead.advance(length);
        }
        this.count(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.wrote(written);
        Poll::Ready(Ok(written))
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        self.wrote(written);
        Poll::Ready(Ok(written))
    }
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.end.since.is_none() {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        }
        self.poll_linger(cx).map(Ok)
    }
}
