//! SIGTERM and SIGINT: the first asks for a drain, the second forces the end.

use std::time::Duration;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use super::drain::{Drained, Signal};

/// How a daemon's life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All work finished.
    Clean,
    /// The drain's time was up with this many pieces of work unfinished.
    TimedOut(usize),
    /// A second signal came while draining.
    Forced,
}

/// The signals that ask a process to end. While it lives, they no longer kill the process by themselves.
#[derive(Debug)]
pub struct Signals {
    terminate: Stream,
    interrupt: Stream,
}

impl Signals {
    /// Begins to listen; needs a tokio runtime.
    ///
    /// # Errors
    /// If the system refuses a signal handler.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Awaits the next signal and gives its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Awaits the first signal, then drains; a second signal ends the drain at once.
    pub async fn drain_on_first(&mut self, drain: &Signal, deadline: Duration) -> End {
        let name = self.next().await;
        tracing::info!(signal = name, ?deadline, "draining");
        tokio::select! {
            drained = drain.drain(deadline) => match drained {
                Drained::Clean => End::Clean,
                Drained::TimedOut(left) => {
                    tracing::warn!(left, "the drain's time is up with work unfinished");
                    End::TimedOut(left)
                }
            },
            name = self.next() => {
                tracing::warn!(signal = name, "second signal: ending at once");
                End::Forced
            }
        }
    }
}
