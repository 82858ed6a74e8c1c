//! The request's body on its way upstream: kept for another try as long as it is small, copied for mirrors, watched
//! for its end.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;

use crate::body::{Body, BodyError, BodySource, Frame};
use crate::cause::Cause;

/// What the tries of a request know of its body.
#[derive(Debug)]
pub struct Progress {
    /// When the last byte came from the client.
    pub finished: Cell<Option<Instant>>,
    /// When a byte last moved.
    pub moved: Cell<Instant>,
}

impl Progress {
    fn new(finished: bool) -> Rc<Self> {
        let now = crate::timer::now();
        Rc::new(Self { finished: Cell::new(finished.then_some(now)), moved: Cell::new(now) })
    }
}

/// A request's body that can be sent again.
pub struct Replay {
    kind: Kind,
    /// How far it is.
    pub progress: Rc<Progress>,
}

enum Kind {
    Empty,
    Full(Bytes),
    Stream(Rc<RefCell<Kept>>),
}

struct Kept {
    source: Body,
    /// The client told the length before.
    has_length: bool,
    frames: VecDeque<Frame>,
    /// Frames that were let go of; the place of `frames[0]`.
    gone: usize,
    size: usize,
    limit: usize,
    keep: bool,
    ended: bool,
    copies: Vec<Rc<RefCell<Copy>>>,
}

impl Replay {
    /// Keeps up to `limit` bytes of `body`.
    pub fn new(body: Body, limit: usize) -> Self {
        let (kind, finished) = match body {
            Body::Empty => (Kind::Empty, true),
            Body::Full(bytes) => (Kind::Full(bytes), true),
            source => {
                let kept = Kept {
                    has_length: source.remaining().is_some(),
                    source,
                    frames: VecDeque::new(),
                    gone: 0,
                    size: 0,
                    limit,
                    keep: limit > 0,
                    ended: false,
                    copies: Vec::new(),
                };
                (Kind::Stream(Rc::new(RefCell::new(kept))), false)
            }
        };
        Self { kind, progress: Progress::new(finished) }
    }

    /// Whether it can be sent from its start (again).
    pub fn is_whole(&self) -> bool {
        match &self.kind {
            Kind::Empty | Kind::Full(_) => true,
            Kind::Stream(kept) => kept.borrow().gone == 0,
        }
    }

    /// The body for a try.
    pub fn body(&self) -> Body {
        match &self.kind {
            Kind::Empty => Body::Empty,
            Kind::Full(bytes) => Body::Full(bytes.clone()),
            Kind::Stream(kept) => Body::new(Try { kept: kept.clone(), next: 0, progress: self.progress.clone() }),
        }
    }

    /// There will be no further try: nothing more is kept.
    pub fn settle(&self) {
        if let Kind::Stream(kept) = &self.kind {
            kept.borrow_mut().keep = false;
        }
    }

    /// A copy for a mirror, which gives up if it falls behind by more than `limit` bytes.
    pub fn copy(&self, limit: usize) -> Body {
        match &self.kind {
            Kind::Empty => Body::Empty,
            Kind::Full(bytes) => Body::Full(bytes.clone()),
            Kind::Stream(kept) => {
                let mut kept = kept.borrow_mut();
                let copy = Rc::new(RefCell::new(Copy {
                    frames: VecDeque::new(),
                    size: 0,
                    limit,
                    state: State::Open,
                    length: kept.source.remaining(),
                    waker: None,
                }));
                kept.copies.push(copy.clone());
                Body::new(Mirrored(copy))
            }
        }
    }
}

/// The body of one try.
struct Try {
    kept: Rc<RefCell<Kept>>,
    next: usize,
    progress: Rc<Progress>,
}

impl BodySource for Try {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let kept = &mut *self.kept.borrow_mut();
        if self.next < kept.gone {
            let detail = "the request's body is not kept any more";
            return Poll::Ready(Some(Err(BodyError::new(Cause::UpstreamRemoteReset, detail))));
        }
        if let Some(frame) = kept.frames.get(self.next - kept.gone) {
            let frame = frame.clone();
            self.next += 1;
            if !kept.keep {
                let read = self.next - kept.gone;
                kept.frames.drain(..read);
                kept.gone += read;
            }
            return Poll::Ready(Some(Ok(frame)));
        }
        if kept.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = kept.source.poll_frame(cx) else { return Poll::Pending };
        self.progress.moved.set(crate::timer::now());
        for copy in &kept.copies {
            copy.borrow_mut().push(frame.as_ref());
        }
        match &frame {
            Some(Ok(frame)) => {
                self.next += 1;
                kept.remember(frame);
                if let Frame::Trailers(_) = frame {
                    kept.ended = true;
                    self.progress.finished.set(Some(crate::timer::now()));
                }
            }
            None => {
                kept.ended = true;
                self.progress.finished.set(Some(crate::timer::now()));
            }
            Some(Err(_)) => kept.ended = true,
        }
        Poll::Ready(frame)
    }

    fn remaining(&self) -> Option<u64> {
        let kept = self.kept.borrow();
        if !kept.has_length {
            // It may be known by now, but every try is sent alike.
            return None;
        }
        let frames = kept.frames.iter().skip(self.next.saturating_sub(kept.gone));
        let held: u64 = frames.map(|frame| if let Frame::Data(data) = frame { data.len() as u64 } else { 0 }).sum();
        Some(kept.source.remaining()? + held)
    }
}

impl Kept {
    fn remember(&mut self, frame: &Frame) {
        if let Frame::Data(data) = frame {
            self.size += data.len();
        }
        if self.keep && self.size <= self.limit {
            self.frames.push_back(frame.clone());
            return;
        }
        // Too large: this try goes on, another one is not possible.
        self.keep = false;
        self.gone += self.frames.len() + 1;
        self.frames.clear();
    }
}

enum State {
    Open,
    Ended,
    Broken,
}

/// What a mirror has still to read.
struct Copy {
    frames: VecDeque<Frame>,
    size: usize,
    limit: usize,
    state: State,
    length: Option<u64>,
    waker: Option<Waker>,
}

impl Copy {
    fn push(&mut self, frame: Option<&Result<Frame, BodyError>>) {
        match frame {
            Some(Ok(frame)) if matches!(self.state, State::Open) => {
                if let Frame::Data(data) = frame {
                    self.size += data.len();
                }
                if self.size > self.limit {
                    self.state = State::Broken;
                    self.frames.clear();
                } else {
                    self.frames.push_back(frame.clone());
                }
            }
            Some(Ok(_)) => {}
            Some(Err(_)) => self.state = State::Broken,
            None if matches!(self.state, State::Open) => self.state = State::Ended,
            None => {}
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

struct Mirrored(Rc<RefCell<Copy>>);

impl BodySource for Mirrored {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let copy = &mut *self.0.borrow_mut();
        if let State::Broken = copy.state {
            let detail = "the mirror fell behind, or the request broke off";
            return Poll::Ready(Some(Err(BodyError::new(Cause::DownstreamRemoteDisconnect, detail))));
        }
        match (copy.frames.pop_front(), &copy.state) {
            (Some(frame), _) => {
                if let Frame::Data(data) = &frame {
                    copy.size -= data.len();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            (None, State::Ended) => Poll::Ready(None),
            (None, _) if Rc::strong_count(&self.0) == 1 => {
                let detail = "the mirrored request is gone";
                Poll::Ready(Some(Err(BodyError::new(Cause::DownstreamRemoteDisconnect, detail))))
            }
            (None, _) => {
                copy.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn remaining(&self) -> Option<u64> {
        self.0.borrow().length
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        for copy in &self.copies {
            let mut copy = copy.borrow_mut();
            if matches!(copy.state, State::Open) {
                copy.state = State::Broken;
            }
            if let Some(waker) = copy.waker.take() {
                waker.wake();
            }
        }
    }
}
