//! Message bodies as streams of frames, whatever codec they come from.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;

use crate::cause::Cause;

/// A piece of a body.
#[derive(Debug, Clone)]
pub enum Frame {
    /// Payload bytes; may be empty only to signal flush.
    Data(Bytes),
    /// Trailers; nothing follows.
    Trailers(HeaderMap),
}

/// Why a body broke off.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail}")]
pub struct BodyError {
    /// The cause that log and metrics show.
    pub cause: Cause,
    /// What happened, in words.
    pub detail: String,
    /// The HTTP/2 error code that the peer sent, if it did.
    pub h2_reason: Option<u32>,
}

impl BodyError {
    /// An error with its cause.
    pub fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into(), h2_reason: None }
    }
}

/// Where frames come from. Polled by one task only, the one of its request.
pub trait BodySource {
    /// The next frame; `None` is the end. After an error or the end it is not polled again.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>>;

    /// Exact number of payload bytes still to come, if known (from Content-Length).
    fn remaining(&self) -> Option<u64> {
        None
    }
}

/// A message body. Dropping it before its end aborts the exchange that feeds it.
#[derive(Default)]
pub enum Body {
    /// No payload, no trailers.
    #[default]
    Empty,
    /// All of it at once.
    Full(Bytes),
    /// Frames as they come.
    Source(Box<dyn BodySource>),
}

impl Body {
    /// A body from a source.
    pub fn new(source: impl BodySource + 'static) -> Self {
        Self::Source(Box::new(source))
    }

    /// The next frame.
    pub async fn frame(&mut self) -> Option<Result<Frame, BodyError>> {
        std::future::poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// Polls for the next frame; `None` is the end, and is then given for ever.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::Data(bytes))))
            }
            Self::Source(source) => {
                let frame = source.poll_frame(cx);
                if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
                    *self = Self::Empty;
                }
                frame
            }
        }
    }

    /// Whether nothing can come (known without polling).
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Source(source) => source.remaining() == Some(0),
        }
    }

    /// Exact number of payload bytes still to come, if known.
    pub fn remaining(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Full(bytes) => Some(bytes.len() as u64),
            Self::Source(source) => source.remaining(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Full(bytes) }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body(remaining: {:?})", self.remaining())
    }
}
