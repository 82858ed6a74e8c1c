//! Sockets in another network namespace.

use std::fs::File;
use std::os::fd::AsFd;

use anyhow::Context;
use rustix::thread::LinkNameSpaceType;

/// A network namespace; it lives as long as this.
#[derive(Debug)]
pub struct Namespace(File);

impl Namespace {
    /// That of a process.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn of(process: i32) -> anyhow::Result<Self> {
        let file = format!("/proc/{process}/ns/net");
        File::open(&file).map(Self).with_context(|| format!("opening {file}"))
    }

    /// Moves this thread into it, for good.
    ///
    /// # Errors
    /// If it may not (root may).
    pub fn enter(&self) -> anyhow::Result<()> {
        rustix::thread::move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
            .context("entering another network namespace (only root may)")
    }
}

/// Runs something in a thread of the network namespace of a process.
///
/// # Errors
/// If the namespace cannot be entered (root may).
pub fn inside<T: Send>(process: i32, run: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
    let namespace = Namespace::of(process)?;
    let entered = std::thread::scope(|scope| {
        let thread = scope.spawn(move || -> anyhow::Result<T> {
            namespace.enter()?;
            Ok(run())
        });
        thread.join()
    });
    match entered {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
