//! The one task that owns the index: batches of events in; views, resources and statuses out. What proxies reject comes
//! back into the statuses.

use std::sync::Arc;
use std::time::Duration;

use ferromesh_api::Time;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::{Compile, Published};
use crate::index::{Event, Index, Problem, Rejection, Severity, View, labels};
use crate::metrics::Metrics;
use crate::serve::Hub;
use crate::serve::debounce::{Batch, Debounce};
use crate::serve::hub::Rejected;
use crate::status::{self, Facts, Statuses};
use crate::translate::Node;

/// How long answers of proxies are gathered: a bad resource is rejected by all of them at about the same time.
const GATHER: Duration = Duration::from_millis(100);

/// Logs the problems that are new, and how many of the old ones are gone.
fn report(before: &[Problem], now: &[Problem]) {
    for problem in now.iter().filter(|problem| !before.contains(problem)) {
        let (file, line) = (problem.file.display(), problem.line);
        match problem.severity {
            Severity::Error => tracing::error!(%file, line, "{}", problem.message),
            Severity::Warning => tracing::warn!(%file, line, "{}", problem.message),
            Severity::Info => tracing::info!(%file, line, "{}", problem.message),
        }
    }
    let mended = before.iter().filter(|problem| !now.contains(problem)).count();
    if mended > 0 {
        tracing::info!(mended, left = now.len(), "files were mended");
    }
}

/// The task's state.
pub(super) struct River {
    pub(super) index: Index,
    pub(super) compile: Arc<dyn Compile>,
    pub(super) hub: Hub,
    pub(super) metrics: Metrics,
    pub(super) views: watch::Sender<Published>,
    pub(super) debounce: Debounce,
    /// Sources that have not reported all yet.
    pub(super) unsynced: usize,
}

impl River {
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        if self.unsynced == 0 {
            self.take(Batch { events: Vec::new(), since: Instant::now() });
        }
        let (mut answers, debounce) = (self.hub.rejections(), self.debounce);
        let mut look: Option<Instant> = None;
        loop {
            // Not begun anew when an answer comes: it holds the events that it has gathered.
            let next = debounce.next(&mut events);
            tokio::pin!(next);
            let batch = loop {
                let at = look.unwrap_or_else(Instant::now);
                tokio::select! {
                    batch = &mut next => break batch,
                    // The hub is ours, too, so that this does not end.
                    Ok(()) = answers.changed() => look = look.or(Some(Instant::now() + GATHER)),
                    () = sleep_until(at), if look.is_some() => {
                        look = None;
                        self.answered();
                    }
                }
            };
            let Some(batch) = batch else { break };
            self.take(batch);
        }
        // Sources have ended; views stay readable and served while the controller lives.
        while answers.changed().await.is_ok() {
            tokio::time::sleep(GATHER).await;
            self.answered();
        }
    }

    fn take(&mut self, batch: Batch<Event>) {
        let count = batch.events.len();
        let _span = tracing::info_span!("view", events = count).entered();
        let changes = self.index.apply(batch.events);
        self.unsynced = self.unsynced.saturating_sub(changes.synced);
        let view = Arc::new(self.index.view().clone());
        report(&self.views.borrow().view.problems, &view.problems);
        self.metrics.view(count, view.services.len());
        self.metrics.problems(&view.problems);
        let mut changes_status = !changes.is_empty();
        let (synced, first) = (self.unsynced == 0 && !view.is_held, self.hub.generation() == 0);
        changes_status |= synced && first;
        let mut generation = self.hub.generation();
        if synced && (first || !changes.is_empty()) {
            let affected = self.compile.affected(&changes, &self.views.borrow().view, &view);
            generation = self.hub.publish(self.compile.snapshot(Arc::clone(&view)), affected, batch.since);
            tracing::debug!(generation, events = count, "a new view");
        }
        let (mut statuses, mut facts) = {
            let previous = self.views.borrow();
            (Arc::clone(&previous.statuses), Arc::clone(&previous.facts))
        };
        if changes_status {
            // Before all is there, patches find nothing: that would be said of them for a moment only.
            let mut found = if synced { self.compile.facts(&view) } else { Facts::default() };
            found.rejections = self.rejections(&view);
            self.metrics.patches(&found);
            facts = Arc::new(found);
            statuses = compute(&view, &facts, &statuses);
        }
        self.views.send_replace(Published { view, synced, generation, statuses, facts });
    }

    /// Proxies have answered: what they reject is said of the objects that it came from.
    fn answered(&mut self) {
        let mut published = self.views.borrow().clone();
        let rejections = self.rejections(&published.view);
        if rejections == published.facts.rejections {
            return;
        }
        let facts = Facts { rejections, ..(*published.facts).clone() };
        published.statuses = compute(&published.view, &facts, &published.statuses);
        published.facts = Arc::new(facts);
        self.views.send_replace(published);
    }

    fn rejections(&self, view: &View) -> Vec<Rejection> {
        let mut found: Vec<_> = self.hub.rejected().into_iter().map(|rejected| rejection(view, rejected)).collect();
        found.sort();
        found.dedup();
        found
    }
}

fn rejection(view: &View, rejected: Rejected) -> Rejection {
    let Rejected { client, kind, nack } = rejected;
    let (namespace, pod) = (client.id.namespace.to_string(), client.id.pod.to_string());
    let labels = match view.pods.named(&namespace, &pod) {
        Some(pod) => labels::of(&pod.metadata).clone(),
        // What the proxy says of itself.
        None => Node::from_proto(&client.proto).map(|node| node.labels).unwrap_or_default(),
    };
    Rejection { namespace, pod, labels, kind, why: nack.detail }
}

fn compute(view: &View, facts: &Facts, previous: &Statuses) -> Arc<Statuses> {
    Arc::new(status::compute(view, facts, &Time(jiff::Timestamp::now()), previous))
}
