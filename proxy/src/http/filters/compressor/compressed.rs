//! A body that goes on compressed, piece by piece: what has come is sent on at once, and nothing is kept but the
//! encoder's window.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::direction::Bytes as Counted;
use super::library::Encoder;
use crate::body::{Body, BodyError, BodySource, Frame};
use crate::cause::Cause;

/// Bytes that are compressed at once; longer pieces give way to other requests of the worker in between.
const PIECE: usize = 64 * 1024;

/// The body.
pub(super) struct Compressed {
    body: Body,
    /// `None` once its end is written.
    encoder: Option<Encoder>,
    /// What is not compressed yet.
    held: Bytes,
    /// Trailers that follow the encoder's end.
    trailers: Option<Frame>,
    bytes: Counted,
}

impl Compressed {
    pub(super) fn new(body: Body, encoder: Encoder, bytes: Counted) -> Self {
        Self { body, encoder: Some(encoder), held: Bytes::new(), trailers: None, bytes }
    }

    /// The next piece of what is held, flushed; with the end if nothing follows.
    fn piece(&mut self) -> Result<Bytes, BodyError> {
        let piece = self.held.split_to(PIECE.min(self.held.len()));
        self.bytes.uncompressed.add(piece.len() as u64);
        let is_last = self.held.is_empty() && self.body.remaining() == Some(0);
        if is_last {
            return self.end(&piece);
        }
        let Some(encoder) = &mut self.encoder else { return Err(failed("bytes after the end")) };
        let out = encoder.push(&piece).map_err(failed)?;
        self.bytes.compressed.add(out.len() as u64);
        Ok(out.into())
    }

    fn end(&mut self, piece: &[u8]) -> Result<Bytes, BodyError> {
        let Some(encoder) = self.encoder.take() else { return Ok(Bytes::new()) };
        let out = encoder.finish(piece).map_err(failed)?;
        self.bytes.compressed.add(out.len() as u64);
        Ok(out.into())
    }
}

fn failed(why: impl std::fmt::Display) -> BodyError {
    BodyError::new(Cause::UpstreamResetAfterResponse, format!("compression: {why}"))
}

impl BodySource for Compressed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        loop {
            if let Some(trailers) = self.trailers.take() {
                return Poll::Ready(Some(Ok(trailers)));
            }
            if !self.held.is_empty() {
                let out = self.piece()?;
                if out.is_empty() {
                    continue;
                }
                return Poll::Ready(Some(Ok(Frame::Data(out))));
            }
            match ready!(self.body.poll_frame(cx)) {
                Some(Ok(Frame::Data(data))) if data.is_empty() => return Poll::Ready(Some(Ok(Frame::Data(data)))),
                Some(Ok(Frame::Data(data))) => self.held = data,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                end => {
                    let is_over = self.encoder.is_none();
                    let out = self.end(&[])?;
                    self.trailers = end.and_then(Result::ok);
                    match self.trailers.take() {
                        None if is_over => return Poll::Ready(None),
                        Some(trailers) if out.is_empty() => return Poll::Ready(Some(Ok(trailers))),
                        trailers => self.trailers = trailers,
                    }
                    return Poll::Ready(Some(Ok(Frame::Data(out))));
                }
            }
        }
    }
}
