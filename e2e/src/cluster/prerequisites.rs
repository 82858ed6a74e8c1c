//! What a cluster needs of the machine, and the command that brings what is missing.

use std::fmt::Write;
use std::path::Path;

use anyhow::bail;

use super::daemons;
use crate::process;

/// Something that must be there.
struct Prerequisite {
    what: &'static str,
    /// The Debian package that has it.
    package: &'static str,
    here: fn() -> bool,
}

const ALWAYS: &[Prerequisite] = &[
    Prerequisite {
        what: "unshare, nsenter and mount",
        package: "util-linux mount",
        here: || programs(&["unshare", "nsenter", "mount"]),
    },
    Prerequisite { what: "ip", package: "iproute2", here: || programs(&["ip"]) },
];

const FOR_NODES: &[Prerequisite] = &[
    Prerequisite { what: "containerd and ctr", package: "containerd", here: || programs(&["containerd", "ctr"]) },
    Prerequisite { what: "runc", package: "runc", here: || programs(&["runc"]) },
    Prerequisite {
        what: "the plugins ptp, host-local and portmap of the pods' network",
        package: "containernetworking-plugins",
        here: || daemons::cni_plugins().is_some(),
    },
    Prerequisite { what: "iptables (for host ports)", package: "iptables", here: || programs(&["iptables"]) },
    Prerequisite { what: "nft (for Services)", package: "nftables", here: || programs(&["nft"]) },
    Prerequisite { what: "conntrack (for Services)", package: "conntrack", here: || programs(&["conntrack"]) },
    Prerequisite { what: "hostname", package: "hostname", here: || programs(&["hostname"]) },
];

fn programs(names: &[&str]) -> bool {
    names.iter().all(|name| {
        process::find(name).is_some()
            || ["/usr/sbin", "/sbin", "/usr/local/sbin"].iter().any(|folder| Path::new(folder).join(name).is_file())
    })
}

/// Says all that is missing at once.
///
/// # Errors
/// If anything is.
pub fn check(nodes: bool) -> anyhow::Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("a test cluster needs Linux: it is made of namespaces. On other systems use kind and --kubeconfig");
    }
    if nodes && !rustix::process::geteuid().is_root() {
        bail!(
            "nodes need root (containers, control groups): run it with sudo, or take the control plane alone (--nodes 0)"
        );
    }
    let wanted = ALWAYS.iter().chain(if nodes { FOR_NODES } else { &[] });
    let missing: Vec<&Prerequisite> = wanted.filter(|prerequisite| !(prerequisite.here)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut message = "missing on this machine:\n".to_owned();
    for Prerequisite { what, .. } in &missing {
        let _ = writeln!(message, "  {what}");
    }
    let packages: Vec<&str> = missing.iter().map(|prerequisite| prerequisite.package).collect();
    let _ = write!(
        message,
        "install with: apt-get install --no-install-recommends {}  (or all of it: e2e/setup-debian.sh)",
        packages.join(" ")
    );
    bail!(message)
}
