//! Where objects come from. A source is started once, sends events over a bounded channel, and ends when the receiver
//! (or the future that runs it) is dropped.

pub mod files;
pub mod folder;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod kubernetes;
pub mod memory;
pub mod parse;

#[cfg(test)]
mod tests;

pub use folder::{Folder, FolderOptions};
pub use kubernetes::{Kubernetes, SecretScope};
pub use memory::{Memory, MemoryHandle};

use crate::index::Event;
use futures_util::future::BoxFuture;
use std::path::PathBuf;
use tokio::sync::mpsc;

/// Why a source cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The folder is not there or cannot be read.
    #[error("cannot read {}: {error}; give a folder (or file) of YAML that this user may read", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// Sends what is there, then `Event::Synced`, then every change, until the receiver is gone.
pub trait Source: Send + 'static {
    /// What it is called in logs.
    fn name(&self) -> String;

    /// Runs until the receiver is dropped. To stop it sooner, drop the future (or abort its task).
    fn run(self: Box<Self>, events: mpsc::Sender<Event>) -> BoxFuture<'static, Result<(), SourceError>>;
}

/// Sends all of them; false if the receiver is gone.
async fn send_all(events: &mpsc::Sender<Event>, batch: Vec<Event>) -> bool {
    for event in batch {
        if events.send(event).await.is_err() {
            return false;
        }
    }
    true
}
