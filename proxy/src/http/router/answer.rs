//! The response's body on its way back: the request counts as active until its end, its limits run on, and gRPC's
//! status in the trailers counts for outlier detection.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::plan::Plan;
use super::replay::Progress;
use super::retry;
use crate::body::{Body, BodyError, BodySource, Frame};
use crate::cause::Cause;
use crate::cluster::outlier::Outcome;
use crate::cluster::{Cluster, Host};
use crate::message::{RequestHead, ResponseHead};
use crate::timer::Timer;
use crate::upstream::Active;

/// A response body, watched.
pub(super) struct Watched {
    body: Body,
    active: Option<Active>,
    cluster: Arc<Cluster>,
    host: Arc<Host>,
    grpc: bool,
    /// Since when the whole request is sent: the answer's time counts from then.
    progress: Rc<Progress>,
    ended: bool,
    limits: Option<Limits>,
}

struct Limits {
    timeout: Option<std::time::Duration>,
    idle: Option<std::time::Duration>,
    until: Option<Instant>,
    progress: Rc<Progress>,
    timer: Timer,
}

impl Watched {
    pub(super) fn new(
        body: Body,
        active: Active,
        cluster: Arc<Cluster>,
        host: Arc<Host>,
        request: &RequestHead,
        head: &ResponseHead,
        progress: Rc<Progress>,
    ) -> Self {
        let grpc = request.is_grpc() && head.status == http::StatusCode::OK;
        Self { body, active: Some(active), cluster, host, grpc, progress, ended: false, limits: None }
    }

    /// Sets what is left of the request's limits; a try's own ends with the head.
    pub(super) fn within(mut self, plan: &Plan, begun: Instant) -> Self {
        if plan.timeout.is_some() || plan.per_try_idle.is_some() || plan.stream.is_some() {
            let progress = self.progress.clone();
            progress.moved.set(crate::timer::now());
            let (timeout, idle) = (plan.timeout, plan.per_try_idle);
            let until = plan.stream.map(|limit| begun + limit);
            self.limits = Some(Limits { timeout, idle, until, progress, timer: Timer::default() });
        }
        self
    }

    fn finish(&mut self, frame: Option<&Result<Frame, BodyError>>) {
        match frame {
            Some(Ok(Frame::Trailers(trailers))) if self.grpc => {
                if let Some(status) = retry::grpc_status(trailers).filter(|status| *status != 0)
                    && let Some(detector) = &self.cluster.outlier
                {
                    detector.report(&self.cluster, &self.host, Outcome::Status(retry::http_status(status)));
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                if matches!(error.cause, Cause::UpstreamResetAfterResponse | Cause::UpstreamTerminationAfterResponse) {
                    self.cluster.stats.upstream_rq_rx_reset.inc();
                    self.cluster.report(&self.host, Outcome::Reset);
                }
                self.active = None;
            }
            None => self.active = None,
        }
        self.ended |= matches!(frame, None | Some(Ok(Frame::Trailers(_))));
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Who knows its length does not ask again after the last byte.
        if (self.ended || self.body.remaining() == Some(0))
            && let Some(since) = self.progress.finished.get()
        {
            let time = crate::timer::now().saturating_duration_since(since);
            self.cluster.stats.upstream_rq_time.record(time);
        }
    }
}

impl BodySource for Watched {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let Poll::Ready(frame) = self.body.poll_frame(cx) else {
            let Some(limits) = &mut self.limits else { return Poll::Pending };
            return match limits.poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(error) => {
                    // Dropping the body resets the stream, or closes the connection.
                    self.body = Body::Empty;
                    self.active = None;
                    self.cluster.stats.upstream_rq_timeout.inc();
                    self.cluster.report(&self.host, Outcome::Timeout);
                    Poll::Ready(Some(Err(error)))
                }
            };
        };
        if let Some(limits) = self.limits.as_ref().filter(|limits| limits.idle.is_some()) {
            limits.progress.moved.set(crate::timer::now());
        }
        self.finish(frame.as_ref());
        Poll::Ready(frame)
    }

    fn remaining(&self) -> Option<u64> {
        self.body.remaining()
    }
}

impl Limits {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        loop {
            let whole = self.progress.finished.get().zip(self.timeout).map(|(since, limit)| since + limit);
            let idle = self.idle.map(|limit| self.progress.moved.get() + limit);
            let limits = [
                (whole, Cause::ResponseTimeout),
                (idle, Cause::PerTryTimeout),
                (self.until, Cause::UpstreamMaxStreamDuration),
            ];
            let first = limits.into_iter().filter_map(|(at, cause)| Some((at?, cause))).min_by_key(|(at, _)| *at);
            let Some((deadline, cause)) = first else { return Poll::Pending };
            std::task::ready!(self.timer.poll_until(cx, deadline));
            if crate::timer::now() >= deadline {
                return Poll::Ready(BodyError::new(cause, "the answer was not whole in time"));
            }
        }
    }
}
