//! Bursts of events become one: a batch ends when events pause, or when its first one has waited long enough.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// How long events are gathered before they become a new view.
#[derive(Clone, Copy, Debug)]
pub struct Debounce {
    /// A batch ends after this much quiet.
    pub quiet: Duration,
    /// No event waits longer than this.
    pub max: Duration,
    /// Nor does a batch grow larger than this.
    pub events: usize,
}

impl Default for Debounce {
    fn default() -> Self {
        Self { quiet: Duration::from_millis(10), max: Duration::from_millis(100), events: 65_536 }
    }
}

/// A batch of events and when its first one came.
#[derive(Debug)]
pub struct Batch<E> {
    /// In the order in which they came; never empty.
    pub events: Vec<E>,
    /// When the first one came.
    pub since: Instant,
}

impl Debounce {
    /// Awaits the next batch; `None` when every sender is gone and nothing is left.
    pub async fn next<E>(&self, events: &mut mpsc::Receiver<E>) -> Option<Batch<E>> {
        let mut batch = vec![events.recv().await?];
        let since = Instant::now();
        while batch.len() < self.events {
            let end = (since + self.max).min(Instant::now() + self.quiet);
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    Some(event) => batch.push(event),
                    None => break,
                },
                () = sleep_until(end) => break,
            }
            if Instant::now() >= since + self.max {
                break;
            }
        }
        Some(Batch { events: batch, since })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_one_batch_and_a_pause_ends_it() {
        let (sender, mut events) = mpsc::channel(100);
        tokio::spawn(async move {
            for event in 0..5 {
                sender.send(event).await.unwrap();
                tokio::time::sleep(Duration::from_millis(if event == 2 { 50 } else { 5 })).await;
            }
        });
        let debounce = Debounce::default();
        assert_eq!(debounce.next(&mut events).await.unwrap().events, [0, 1, 2]);
        assert_eq!(debounce.next(&mut events).await.unwrap().events, [3, 4]);
        assert!(debounce.next(&mut events).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn no_event_waits_longer_than_the_maximum() {
        let (sender, mut events) = mpsc::channel(100);
        tokio::spawn(async move {
            for event in 0..1000 {
                if sender.send(event).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let start = Instant::now();
        let batch = Debounce::default().next(&mut events).await.unwrap();
        assert!(batch.events.len() >= 19 && start.elapsed() <= Duration::from_millis(105), "{batch:?}");
    }
}
