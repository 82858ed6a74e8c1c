//! Connections go in; threads that serve them, each on its own, come out.
//!
//! A change wakes every stream at once, for little work each. On one thread that is a queue; on a pool of threads that
//! take work from each other, waking these costs more than the work itself.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

/// More threads than that would wait for the network.
const MOST: usize = 8;

/// The threads; they end when this is dropped.
pub(super) struct Lanes {
    runtimes: Vec<Handle>,
    next: AtomicUsize,
    _alive: watch::Sender<()>,
}

impl Lanes {
    /// One for each processor.
    pub(super) fn start() -> io::Result<Self> {
        let (alive, _) = watch::channel(());
        let count = std::thread::available_parallelism().map_or(2, usize::from).min(MOST);
        let mut runtimes = Vec::new();
        for _ in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            runtimes.push(runtime.handle().clone());
            let mut end = alive.subscribe();
            let run = move || runtime.block_on(async { while end.changed().await.is_ok() {} });
            std::thread::Builder::new().name("xds".into()).spawn(run)?;
        }
        Ok(Self { runtimes, next: AtomicUsize::new(0), _alive: alive })
    }

    /// Serves a connection on the next thread.
    pub(super) fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        if let Some(runtime) = self.runtimes.get(turn % self.runtimes.len().max(1)) {
            runtime.spawn(connection);
        }
    }
}
