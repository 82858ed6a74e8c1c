//! An orderly end: one side asks for it, the other holds guards while work is in progress.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// A connected pair: `Signal` asks for the drain and awaits it, `Watch` (clone it freely) is for the workers.
pub fn channel() -> (Signal, Watch) {
    let watch = Watch { token: CancellationToken::new(), work: TaskTracker::new() };
    (Signal(watch.clone()), watch)
}

/// The side that ends things. Dropping it does not drain.
#[derive(Debug)]
pub struct Signal(Watch);

/// The side of the workers.
#[derive(Debug, Clone)]
pub struct Watch {
    token: CancellationToken,
    work: TaskTracker,
}

/// Work in progress: a drain waits until it is dropped.
#[derive(Debug)]
#[must_use = "a drain waits only while this is held"]
pub struct Guard {
    _token: TaskTrackerToken,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// All work finished.
    Clean,
    /// The time was up with this many guards still held.
    TimedOut(usize),
}

impl Signal {
    /// Begins the drain and returns at once.
    pub fn begin(&self) {
        self.0.token.cancel();
        self.0.work.close();
    }

    /// Begins the drain and waits until each guard is dropped, `deadline` at most.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        self.begin();
        match tokio::time::timeout(deadline, self.0.work.wait()).await {
            Ok(()) => Drained::Clean,
            Err(_) => Drained::TimedOut(self.0.work.len()),
        }
    }

    /// Another watch of the same drain.
    pub fn watch(&self) -> Watch {
        self.0.clone()
    }
}

impl Watch {
    /// Returns when the drain begins (at once if it has).
    pub async fn signaled(&self) {
        self.token.cancelled().await;
    }

    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Marks work as in progress.
    pub fn guard(&self) -> Guard {
        Guard { _token: self.work.token() }
    }

    /// How many guards are held.
    pub fn in_progress(&self) -> usize {
        self.work.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_waits_for_the_guards_and_not_for_the_watches() {
        let (signal, watch) = channel();
        let idle_watch = watch.clone();
        let guard = watch.guard();
        let worker = tokio::spawn(async move {
            watch.signaled().await;
            drop(guard);
        });
        assert!(!idle_watch.is_draining());
        assert_eq!(signal.drain(Duration::from_secs(60)).await, Drained::Clean);
        assert!(idle_watch.is_draining());
        worker.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_gives_up_at_its_deadline_and_counts_what_is_left() {
        let (signal, watch) = channel();
        let _guards = (watch.guard(), watch.guard());
        assert_eq!(signal.drain(Duration::from_secs(5)).await, Drained::TimedOut(2));
    }

    #[tokio::test]
    async fn without_work_a_drain_ends_at_once() {
        let (signal, watch) = channel();
        assert_eq!(signal.drain(Duration::ZERO).await, Drained::Clean);
        watch.signaled().await;
    }
}
