//! A body that goes on no faster than it may.

use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::body::{Body, BodyError, BodySource, Frame};
use crate::timer::Timer;

/// Bytes go in pieces of what may go in this time, milliseconds.
const SLICE: u64 = 50;

/// The body.
pub(super) struct Throttled {
    body: Body,
    /// Bytes a second.
    rate: u64,
    held: Bytes,
    /// When the next piece may go.
    due: Instant,
    timer: Timer,
}

impl Throttled {
    /// `rate` is in bytes a second, at least 1.
    pub(super) fn new(body: Body, rate: u64) -> Self {
        Self { body, rate, held: Bytes::new(), due: crate::timer::now(), timer: Timer::default() }
    }

    /// The next piece, sent now.
    fn piece(&mut self, now: Instant) -> Bytes {
        // Divided first: the rate may come from a header.
        let most =
            usize::try_from(self.rate / 1000 * SLICE + self.rate % 1000 * SLICE / 1000).unwrap_or(usize::MAX).max(1);
        let piece = self.held.split_to(most.min(self.held.len()));
        self.due = self.due.max(now) + Duration::from_secs_f64(piece.len() as f64 / self.rate as f64);
        piece
    }
}

impl BodySource for Throttled {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.held.is_empty() {
            match ready!(self.body.poll_frame(cx)) {
                Some(Ok(Frame::Data(data))) if !data.is_empty() => self.held = data,
                other => return Poll::Ready(other),
            }
        }
        while crate::timer::now() < self.due {
            ready!(self.timer.poll_until(cx, self.due));
        }
        Poll::Ready(Some(Ok(Frame::Data(self.piece(crate::timer::now())))))
    }

    fn remaining(&self) -> Option<u64> {
        Some(self.body.remaining()? + self.held.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_go_in_pieces_of_what_the_rate_allows() {
        let begun = tokio::time::Instant::now();
        let mut body = Throttled::new(Body::Full(Bytes::from(vec![b'x'; 300])), 1024);
        let mut sizes = Vec::new();
        while let Some(Ok(Frame::Data(data))) = std::future::poll_fn(|cx| body.poll_frame(cx)).await {
            sizes.push(data.len());
        }
        assert_eq!(sizes, [51, 51, 51, 51, 51, 45]);
        assert!(begun.elapsed() >= Duration::from_millis(249), "{:?}", begun.elapsed());
    }
}
