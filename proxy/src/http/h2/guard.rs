//! A connection's bytes on their way to `h2`, with a count of the frames that cost us more than the peer.
//!
//! h2 itself limits resets, CONTINUATION and empty DATA; PING, SETTINGS, PRIORITY and WINDOW_UPDATE are limited here
//! (the limits are Envoy's, see its Http2ProtocolOptions, with a rate beside the count).

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::io::Io;

/// Length of the client's connection preface.
const PREFACE: usize = 24;
/// Control frames that may come at once, and each second.
const CONTROL: (f64, f64) = (1000.0, 100.0);
/// WINDOW_UPDATE frames that may come at once, and for each KiB that we send.
const UPDATES: (f64, f64) = (1000.0, 10.0);

/// A byte stream that counts HTTP/2 frames.
#[derive(Debug)]
pub struct Guard {
    ahead: Bytes,
    io: Io,
    abused: Rc<Cell<bool>>,
    frames: Frames,
    control: f64,
    updates: f64,
    refilled: Instant,
}

impl Guard {
    /// `abused` is set once the peer has sent too many frames.
    pub fn new(ahead: Bytes, io: Io, abused: Rc<Cell<bool>>) -> Self {
        let (control, updates) = (CONTROL.0, UPDATES.0);
        Self { ahead, io, abused, frames: Frames::default(), control, updates, refilled: Instant::now() }
    }

    fn count(&mut self, bytes: &[u8]) {
        let (control, updates) = self.frames.count(bytes);
        if control > 0 {
            let now = Instant::now();
            let more = (now - self.refilled).as_secs_f64() * CONTROL.1;
            self.control = (self.control + more).min(CONTROL.0);
            self.refilled = now;
        }
        self.control -= f64::from(control);
        self.updates -= f64::from(updates);
        if self.control < 0.0 || self.updates < 0.0 {
            self.abused.set(true);
        }
    }
}

/// Finds the frames in a byte stream.
#[derive(Debug)]
struct Frames {
    /// Bytes of preface or payload to pass over.
    skip: usize,
    header: [u8; 9],
    have: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self { skip: PREFACE, header: [0; 9], have: 0 }
    }
}

impl Frames {
    /// Numbers of control frames and of window updates whose heads end in `bytes`.
    fn count(&mut self, mut bytes: &[u8]) -> (u32, u32) {
        let (mut control, mut updates) = (0, 0);
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (self.header.len() - self.have).min(bytes.len());
            self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == self.header.len() {
                let [a, b, c, kind, flags, ..] = self.header;
                self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.have = 0;
                match kind {
                    // Acknowledgements answer what we asked.
                    4 | 6 if flags & 1 == 1 => {}
                    // PRIORITY, SETTINGS, PING
                    2 | 4 | 6 => control += 1,
                    8 => updates += 1,
                    _ => {}
                }
            }
        }
        (control, updates)
    }
}

impl AsyncRead for Guard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
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
        self.updates = (self.updates + written as f64 / 1024.0 * UPDATES.1).min(1e9);
        Poll::Ready(Ok(written))
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        self.updates = (self.updates + written as f64 / 1024.0 * UPDATES.1).min(1e9);
        Poll::Ready(Ok(written))
    }
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
