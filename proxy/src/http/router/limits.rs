//! How long a try may take.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::plan::Plan;
use super::replay::Progress;
use crate::cause::Cause;
use crate::timer::Timer;
use crate::upstream::UpstreamError;

/// The limits of a try.
pub(super) struct Limits<'a> {
    pub(super) plan: &'a Plan,
    pub(super) progress: &'a Rc<Progress>,
    /// When the try began.
    pub(super) begun: Instant,
}

impl Limits<'_> {
    /// What runs out first, and when. The clocks of whole request and try start when the request is complete.
    fn next(&self) -> Option<(Instant, Cause)> {
        let finished = self.progress.finished.get();
        let whole = finished.zip(self.plan.timeout).map(|(since, limit)| (since + limit, Cause::ResponseTimeout));
        let per_try =
            finished.zip(self.plan.per_try).map(|(since, limit)| (since.max(self.begun) + limit, Cause::PerTryTimeout));
        let idle = self.plan.per_try_idle;
        let idle = idle.map(|limit| (self.progress.moved.get().max(self.begun) + limit, Cause::PerTryTimeout));
        let stream = self.plan.stream.map(|limit| (self.begun + limit, Cause::UpstreamMaxStreamDuration));
        [whole, per_try, idle, stream].into_iter().flatten().min_by_key(|(deadline, _)| *deadline)
    }
}

/// Runs `work` until it is done or a limit has passed.
pub(super) async fn within<T>(
    work: impl Future<Output = Result<T, UpstreamError>>,
    limits: &Limits<'_>,
    timer: &mut Timer,
) -> Result<T, UpstreamError> {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|cx| {
        if let std::task::Poll::Ready(result) = work.as_mut().poll(cx) {
            return std::task::Poll::Ready(result);
        }
        while let Some((deadline, cause)) = limits.next() {
            std::task::ready!(timer.poll_until(cx, deadline));
            if limits.next().is_some_and(|(again, _)| again <= deadline) {
                let waited = Duration::from_millis(0).max(deadline.saturating_duration_since(limits.begun));
                let detail = format!("no answer within {waited:?}");
                return std::task::Poll::Ready(Err(UpstreamError::late(cause, detail)));
            }
        }
        std::task::Poll::Pending
    })
    .await
}
