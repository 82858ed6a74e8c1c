//! Control groups of the nodes: made before, removed after, under every hierarchy of version 1 or the one of version 2.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

/// All groups of all clusters.
const TOP: &str = "ferromesh-e2e";
/// Where the system has them.
const MOUNTED: &str = "/sys/fs/cgroup";

/// The group of a node, as the kubelet is told.
pub fn of_node(cluster: &str, node: &str) -> String {
    format!("/{TOP}/{cluster}/{node}")
}

/// Makes the groups of a cluster's nodes.
///
/// # Errors
/// If the system does not allow it.
pub fn create<'a>(cluster: &str, nodes: impl Iterator<Item = &'a str>) -> anyhow::Result<()> {
    let nodes: Vec<&str> = nodes.collect();
    for hierarchy in hierarchies() {
        for node in &nodes {
            let folder = hierarchy.join(of_node(cluster, node).trim_start_matches('/'));
            fs::create_dir_all(&folder).with_context(|| format!("making the control group {}", folder.display()))?;
            delegate(&hierarchy, &folder);
        }
    }
    Ok(())
}

/// Version 2: every controller that a group has is passed on to its children.
fn delegate(hierarchy: &Path, folder: &Path) {
    let above: Vec<&Path> = folder.ancestors().take_while(|group| *group != hierarchy).collect();
    for group in [hierarchy].into_iter().chain(above.into_iter().rev()) {
        let Ok(controllers) = fs::read_to_string(group.join("cgroup.controllers")) else { return };
        for controller in controllers.split_whitespace() {
            // One that cannot be passed on (or is already) is not missed before something needs it.
            let _ = fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

/// Removes all groups of a cluster. Its processes may just be ending, so that it takes a moment.
pub fn remove(cluster: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    for hierarchy in hierarchies() {
        let top = hierarchy.join(TOP);
        let folder = top.join(cluster);
        while folder.is_dir() && !remove_tree(&folder) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        // The last cluster takes the top with it.
        let _ = fs::remove_dir(&top);
    }
}

/// Groups are removed as empty folders, the innermost first; their files go with them.
fn remove_tree(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return true };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_tree(&entry.path());
    }
    fs::remove_dir(folder).is_ok()
}

/// The roots of all hierarchies.
fn hierarchies() -> Vec<PathBuf> {
    let top = PathBuf::from(MOUNTED);
    if top.join("cgroup.controllers").is_file() {
        return vec![top];
    }
    let folders = fs::read_dir(&top).into_iter().flatten().flatten().map(|entry| entry.path());
    // A link (cpu -> cpu,cpuacct) names a hierarchy that is in the list already.
    folders.filter(|folder| folder.is_dir() && !folder.is_symlink()).collect()
}
