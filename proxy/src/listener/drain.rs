//! The wish to end connections gracefully, from whoever drains to whoever serves.

use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Closing,
}

/// Tells connections to drain; dropping it closes them.
#[derive(Debug)]
pub struct Drain(watch::Sender<Phase>);

impl Drain {
    /// Not yet draining.
    pub fn new() -> Self {
        Self(watch::Sender::new(Phase::Serving))
    }

    /// What connections listen to.
    pub fn signal(&self) -> DrainSignal {
        DrainSignal(self.0.subscribe())
    }

    /// Asks connections to end after the request they are in: `Connection: close`, GOAWAY.
    pub fn start(&self) {
        self.advance(Phase::Draining);
    }

    /// The time is over: connections close now.
    pub fn close(&self) {
        self.advance(Phase::Closing);
    }

    /// How many connections listen.
    pub fn listening(&self) -> usize {
        self.0.receiver_count()
    }

    fn advance(&self, to: Phase) {
        self.0.send_if_modified(|phase| {
            let changed = *phase < to;
            *phase = (*phase).max(to);
            changed
        });
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

/// A connection's view of a [`Drain`].
#[derive(Debug, Clone)]
pub struct DrainSignal(watch::Receiver<Phase>);

impl DrainSignal {
    /// Whether the connection should end with its current request.
    pub fn is_draining(&self) -> bool {
        self.phase() >= Phase::Draining
    }

    /// Whether the connection should end now.
    pub fn is_closing(&self) -> bool {
        self.phase() >= Phase::Closing
    }

    /// Comes back when draining begins. Cancel-safe.
    pub async fn draining(&mut self) {
        // An error says that the other end is gone: nobody will let this connection live on.
        let _ = self.0.wait_for(|phase| *phase >= Phase::Draining).await;
    }

    /// Comes back when connections must close. Cancel-safe.
    pub async fn closing(&mut self) {
        let _ = self.0.wait_for(|phase| *phase >= Phase::Closing).await;
    }

    fn phase(&self) -> Phase {
        if self.0.has_changed().is_err() { Phase::Closing } else { *self.0.borrow() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_goes_forward_only_and_ends_with_its_owner() {
        let drain = Drain::new();
        let mut signal = drain.signal();
        assert!(!signal.is_draining());
        drain.start();
        signal.draining().await;
        assert!(signal.is_draining() && !signal.is_closing());
        drain.close();
        drain.start();
        signal.closing().await;
        assert!(signal.is_closing());
        let other = Drain::new();
        let mut signal = other.signal();
        drop(other);
        signal.closing().await;
        assert!(signal.is_closing());
    }
}
