//! A timer that is armed again only when it fires, so that a deadline that keeps moving costs nothing.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::Sleep;

/// Now, by the runtime's clock.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Most timers that rest.
const RESTING: usize = 256;

/// Timers that are lent to requests: one that was set for an earlier deadline need not be set again for a later one.
#[derive(Debug, Default)]
pub struct Timers(RefCell<Vec<Timer>>);

impl Timers {
    /// A timer.
    pub fn take(&self) -> Timer {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a timer back.
    pub fn give(&self, timer: Timer) {
        let resting = &mut *self.0.borrow_mut();
        if resting.len() < RESTING {
            resting.push(timer);
        }
    }
}

/// Watches one deadline at a time.
#[derive(Debug, Default)]
pub struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    fired: bool,
}

impl Timer {
    /// Ready when `deadline` has passed. A later call may name another deadline.
    pub fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let wanted = tokio::time::Instant::from_std(deadline);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(wanted)));
        if self.fired || sleep.deadline() > wanted {
            sleep.as_mut().reset(wanted);
            self.fired = false;
        }
        loop {
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if sleep.deadline() >= wanted {
                self.fired = true;
                return Poll::Ready(());
            }
            sleep.as_mut().reset(wanted);
        }
    }
}
