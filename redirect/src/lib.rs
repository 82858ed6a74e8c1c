//! Redirects a pod's traffic into its proxy: arguments in; nf_tables rules in this network namespace, checked, out.
//!
//! ```text
//! arguments --args--> Plan --rules--> chains of rules (pure, and their text) --nft--> one netlink batch --netlink--> kernel
//!                                          Plan --route--> policy routes (TPROXY)
//!                                          Plan --verify--> a connection that must come back as the proxy's
//! ```
//!
//! # Invariants
//! * `plan`, `rules` and `nft` are pure; only `netlink` and `verify` touch the system, and only this network namespace.
//! * One batch replaces all of ours or changes nothing; doing it again gives the same.
//! * Rules of others are not looked at and not changed.
//! * IPv4 and IPv6 are in one table (`inet`), so none of them can be forgotten.

#![cfg(target_os = "linux")]

pub mod args;
pub mod netlink;
pub mod nft;
pub mod plan;
pub mod route;
pub mod rules;
pub mod verify;

pub use plan::{Mode, Plan};

/// Why traffic is not redirected.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// The kernel refuses to be told.
    #[error(transparent)]
    Netlink(#[from] netlink::NetlinkError),
    /// The rules are there and a connection was not redirected.
    #[error(transparent)]
    Verify(#[from] verify::VerifyError),
}

/// Puts the plan's rules into this network namespace.
///
/// # Errors
/// If the kernel refuses; then nothing was changed.
pub fn apply(plan: &Plan) -> Result<(), RedirectError> {
    let chains = rules::chains(plan);
    netlink::batch(&nft::replace_table(&chains))?;
    for request in route::requests(plan) {
        netlink::request(&request)?;
    }
    Ok(())
}

/// Takes the rules out again. It is no error if there are none.
///
/// # Errors
/// If the kernel refuses.
pub fn remove() -> Result<(), RedirectError> {
    Ok(netlink::batch(&nft::delete_table())?)
}

/// Whether our table is in this network namespace; what is in it is not looked at.
///
/// # Errors
/// If the kernel does not say.
pub fn is_applied() -> Result<bool, RedirectError> {
    Ok(netlink::exists(&nft::get_table())?)
}
