//! A connection's bytes on their way to `h2`, with a count of the frames that cost us more than the peer.
//!
//! h2 itself limits CONTINUATION, small DATA, and resets of streams that it has not given out yet; PING, SETTINGS,
//! PRIORITY, GOAWAY, unknown frames, empty ones, WINDOW_UPDATE and RST_STREAM are limited here (by [`Limits`], with a rate
//! beside the count). Serves both sides.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::frames::{Counts, Frames};
use super::{Limits, PREFACE};
use crate::io::Io;
use crate::timer::Timer;

/// Control frames that may come each second.
const CONTROL_RATE: f64 = 100.0;
/// WINDOW_UPDATE frames that come free: at once; each second; for each stream. Clients with a small window that read much
/// at once send many.
const UPDATES: (f64, f64, f64) = (1000.0, 10.0, 2.0);
/// RST_STREAM frames of a client that may come each second, and for each request. Who resets more than half of many
/// requests does not want answers.
const RESETS: (f64, f64) = (50.0, 0.5);
/// GOAWAY with ENHANCE_YOUR_CALM, towards a server that has opened no stream (RFC 9113, 6.8).
const GOAWAY: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
/// For so many bytes a connection that is over is still read, so that GOAWAY is not lost to a RST.
const LINGER: usize = 256 * 1024;

/// What a peer sent too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flood {
    /// PING, SETTINGS, GOAWAY or frames of unknown types.
    Control,
    /// PRIORITY.
    Priority,
    /// HEADERS, CONTINUATION or DATA that carry nothing.
    Empty,
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
    dismissed: Cell<Option<u32>>,
    head_since: Cell<Option<Instant>>,
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

    /// Since when the head of a request has not come whole.
    pub fn head_since(&self) -> Option<Instant> {
        self.head_since.get()
    }

    /// The error code of the GOAWAY by which we have broken the connection off.
    pub fn dismissed(&self) -> Option<u32> {
        self.dismissed.get()
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
    /// Grows with what happens only, without an end.
    fn of(left: u32) -> Self {
        Self { left: f64::from(left), most: 1e9, rate: 0.0 }
    }

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
    /// What we send.
    sent: Frames,
    limits: Limits,
    control: Allowance,
    priorities: Allowance,
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
    pub fn server(ahead: Bytes, io: Io, delay: Duration, limits: Limits, seen: Rc<Seen>) -> Self {
        let most = f64::from(limits.premature_resets);
        let resets = Allowance { left: most, most: 2.0 * most, rate: RESETS.0 };
        Self {
            ahead,
            resets: Some(resets),
            ..Self::new(io, delay, [Frames::of_client(), Frames::of_server()], limits, seen)
        }
    }

    /// Guards a client. A server that floods it is told so, as far as it listens, and reading fails.
    pub fn client(io: Io, limits: Limits, seen: Rc<Seen>) -> Self {
        Self::new(io, Duration::ZERO, [Frames::of_server(), Frames::of_client()], limits, seen)
    }

    fn new(io: Io, delay: Duration, [frames, sent]: [Frames; 2], limits: Limits, seen: Rc<Seen>) -> Self {
        let control = f64::from(limits.max_outbound_control_frames);
        Self {
            ahead: Bytes::new(),
            io,
            seen,
            frames,
            sent,
            limits,
            control: Allowance { left: control, most: control, rate: CONTROL_RATE },
            priorities: Allowance::of(limits.max_inbound_priority_frames_per_stream),
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
        if let Some((last, _)) = counts.goaway {
            self.seen.last_stream.set(Some(last));
        }
        let since = self.seen.head_since.get();
        // A further head begins the time anew.
        let since = since.filter(|_| counts.heads == 0);
        self.seen.head_since.set(self.frames.is_in_head().then(|| since.unwrap_or_else(Instant::now)));
        if counts.settings > 0 && !self.seen.settled.replace(true) {
            self.seen.settling.notify_one();
        }
        let Counts { control, priorities, empty_run, updates, resets, heads, .. } = counts;
        if heads > 0 {
            let heads = f64::from(heads);
            if let Some(allowance) = &mut self.resets {
                allowance.grow(heads * RESETS.1);
            }
            self.priorities.grow(heads * f64::from(self.limits.max_inbound_priority_frames_per_stream));
            self.updates.grow(heads * UPDATES.2);
        }
        if empty_run > self.limits.max_consecutive_inbound_frames_with_empty_payload {
            self.seen.flood.set(Some(Flood::Empty));
        }
        if control + priorities + updates + resets == 0 {
            return;
        }
        let now = Instant::now();
        let passed = (now - self.refilled).as_secs_f64();
        self.refilled = now;
        let mut flood = None;
        let used = [
            (Some(&mut self.control), control, Flood::Control),
            (Some(&mut self.priorities), priorities, Flood::Priority),
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

    fn wrote(&mut self, bytes: &[u8]) {
        let Counts { data, goaway, .. } = self.sent.count(bytes);
        if let Some((_, code)) = goaway.filter(|(_, code)| *code != 0) {
            self.seen.dismissed.set(Some(code));
        }
        if data > 0 {
            // Twice, as Envoy counts: for the stream and for the connection.
            let each = 2.0 * f64::from(self.limits.max_inbound_window_update_frames_per_data_frame_sent);
            self.updates.grow(f64::from(data) * each);
        }
    }

    /// Tells a server that floods us to go away, if that can be written at once; then reading fails.
    fn poll_dismiss(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.sent.is_between() {
            let _ = Pin::new(&mut self.io).poll_write(cx, GOAWAY);
            let _ = Pin::new(&mut self.io).poll_flush(cx);
        }
        Poll::Ready(Err(io::Error::other("the server sends more control frames than any use of HTTP/2 needs")))
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
            // Of a server, the driver ends the connection; nothing more is taken in.
            return if this.resets.is_some() { Poll::Pending } else { this.poll_dismiss(cx) };
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
        self.wrote(&buf[..written]);
        Poll::Ready(Ok(written))
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        let mut left = written;
        for buf in bufs {
            let part = left.min(buf.len());
            self.wrote(&buf[..part]);
            left -= part;
            if left == 0 {
                break;
            }
        }
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
