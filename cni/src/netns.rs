//! Work in a pod's network namespace, in a thread that ends with it.

use std::os::fd::{AsFd, BorrowedFd};

use ferromesh_redirect::{Plan, RedirectError};
use rustix::thread::LinkNameSpaceType;

/// Why nothing was done there.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// It is ours.
    #[error("it is the node's own network namespace")]
    Own,
    /// It is none, or may not be entered.
    #[error("its network namespace: {0}; the agent needs the capabilities SYS_ADMIN and NET_ADMIN")]
    Enter(std::io::Error),
    /// The kernel refuses.
    #[error(transparent)]
    Rules(#[from] RedirectError),
    /// There are none.
    #[error("its network namespace has no rules of ours")]
    NoRules,
}

/// Puts a plan's rules there. They are not tried by a connection, as ferromesh-init does: the loopback may not be up yet;
/// the pod's own istio-validation does it.
///
/// # Errors
/// If it cannot be; then nothing was changed.
pub fn redirect(namespace: BorrowedFd<'_>, plan: &Plan) -> Result<(), NetnsError> {
    inside(namespace, || Ok(ferromesh_redirect::apply(plan)?))
}

/// Whether our rules are there.
///
/// # Errors
/// If they are not, or it cannot be told.
pub fn check(namespace: BorrowedFd<'_>) -> Result<(), NetnsError> {
    inside(namespace, || if ferromesh_redirect::is_applied()? { Ok(()) } else { Err(NetnsError::NoRules) })
}

fn inside(namespace: BorrowedFd<'_>, work: impl FnOnce() -> Result<(), NetnsError> + Send) -> Result<(), NetnsError> {
    let failed = |error: rustix::io::Errno| NetnsError::Enter(error.into());
    let own = std::fs::File::open("/proc/self/ns/net").map_err(NetnsError::Enter)?;
    let (ours, theirs) =
        (rustix::fs::fstat(own.as_fd()).map_err(failed)?, rustix::fs::fstat(namespace).map_err(failed)?);
    if (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino) {
        return Err(NetnsError::Own);
    }
    std::thread::scope(|scope| {
        let entered = move || {
            rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network)).map_err(failed)?;
            work()
        };
        let thread = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, entered);
        let thread = thread.map_err(NetnsError::Enter)?;
        thread.join().unwrap_or_else(|_| Err(NetnsError::Enter(std::io::Error::other("its thread ended"))))
    })
}
