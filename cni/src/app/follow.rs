//! Keeps the program and the chain as they should be, whoever changes them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ferromesh_core::runtime::Check;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{mpsc, oneshot};

use crate::chain::{Chain, ChainError, Put};
use crate::metrics::{AgentMetrics, Outcome};
use crate::program::{Program, ProgramError};

/// Without an event: what a watch has missed is seen then.
const LOOK: Duration = Duration::from_secs(10);
/// While something is wrong.
const AGAIN: Duration = Duration::from_secs(2);
/// Between two rounds, at least: two that want different things must not keep a processor busy.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Program(#[from] ProgramError),
}

/// Until it is told to stop. A round that has begun ends before that: who stops it may write the chain then.
pub(super) async fn run(
    chain: Arc<Chain>,
    program: Program,
    check: Check,
    metrics: AgentMetrics,
    mut stop: oneshot::Receiver<()>,
) {
    let program = Arc::new(program);
    // One event that waits is as good as many.
    let (told, mut events) = mpsc::channel(1);
    let mut watch = None;
    loop {
        // Before it is looked, so that nothing is missed between.
        if watch.is_none() {
            watch = watch_folder(&chain.folder, &told);
        }
        let (of_round, program) = (Arc::clone(&chain), Arc::clone(&program));
        let round = tokio::task::spawn_blocking(move || -> Result<(bool, Put), Wrong> {
            // The runtime calls the program as soon as it is in the chain.
            Ok((program.put()?, of_round.put()?))
        });
        let wait = match round.await {
            Ok(Ok((copied, put))) => {
                if copied || put.written {
                    tracing::info!(file = %put.file.display(), copied, written = put.written, "in the node's network configuration");
                    metrics.chain.get_or_create(&Outcome::of("written")).inc();
                }
                check.ready();
                LOOK
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "not in the node's network configuration");
                metrics.chain.get_or_create(&Outcome::of("failed")).inc();
                check.not_ready(error.to_string());
                AGAIN
            }
            Err(error) => {
                check.not_ready(error.to_string());
                AGAIN
            }
        };
        let next = async {
            let _ = tokio::time::timeout(wait, events.recv()).await;
            tokio::time::sleep(PAUSE).await;
        };
        tokio::select! {
            _ = &mut stop => return,
            () = next => {}
        }
        // What was written meanwhile is seen in the round that comes.
        while events.try_recv().is_ok() {}
    }
}

/// None: the folder is not there yet, or the system has no watch left; then it is looked from time to time.
fn watch_folder(folder: &Path, told: &mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let told = told.clone();
    let tell = move |event: notify::Result<notify::Event>| {
        // Our own reading is no news.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = told.try_send(());
        }
    };
    let watching = notify::recommended_watcher(tell).and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watching.inspect_err(|error| tracing::debug!(%error, "no watch")).ok()
}
