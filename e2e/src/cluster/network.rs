//! Sockets in another network namespace.

use std::fs::File;
use std::os::fd::AsFd;

use anyhow::Context;
use rustix::thread::LinkNameSpaceType;

/// Runs something in a thread of the network namespace of a process.
///
/// # Errors
/// If the namespace cannot be entered (root may).
pub fn inside<T: Send>(process: i32, run: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
    let file = format!("/proc/{process}/ns/net");
    let namespace = File::open(&file).with_context(|| format!("opening {file}"))?;
    let entered = std::thread::scope(|scope| {
        let thread = scope.spawn(move || -> anyhow::Result<T> {
            rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .context("entering the network of the cluster (only root may)")?;
            Ok(run())
        });
        thread.join()
    });
    match entered {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
