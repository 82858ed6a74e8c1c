//! A node: container runtime, kubelet and kube-proxy in namespaces of their own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::super::daemons::{self, node_paths};
use super::super::layout::{HUB, node_address, node_name, pod_subnet};
use super::super::{cgroup, images};
use super::{Init, sysctl, wait_until};

pub(super) fn bring_up(init: &Init, number: u8) -> anyhow::Result<()> {
    let Init { layout, spec, supervisor } = init;
    let name = node_name(number);
    supervisor.phase("file systems");
    file_systems(init, &name)?;
    supervisor.phase("network");
    network(init, number)?;

    supervisor.phase("containerd");
    let plugins =
        daemons::cni_plugins().context("no plugins of the pods' network; install containernetworking-plugins")?;
    fs::create_dir_all(node_paths::CNI)?;
    fs::write(format!("{}/10-pods.conflist", node_paths::CNI), daemons::cni_config(number))?;
    fs::create_dir_all(node_paths::CNI_PLUGINS)?;
    for plugin in fs::read_dir(&plugins).with_context(|| plugins.display().to_string())? {
        let plugin = plugin?.path();
        let name = plugin.file_name().context("a name")?;
        std::os::unix::fs::symlink(&plugin, Path::new(node_paths::CNI_PLUGINS).join(name))?;
    }
    fs::write(node_paths::CONTAINERD_CONFIG, daemons::containerd_config("overlayfs"))?;
    let (registries, text) = daemons::registry_config();
    fs::create_dir_all(registries.parent().context("a folder")?)?;
    fs::write(registries, text)?;
    fs::write(node_paths::RESOLV_CONF, format!("nameserver {HUB}\n"))?;
    supervisor.add(daemons::containerd("containerd".as_ref()))?;
    wait_until("containerd", 60, || std::os::unix::net::UnixStream::connect(node_paths::CONTAINERD).is_ok())?;
    let pause = images::pause_archive(layout);
    let pause = utf8(&pause)?;
    wait_until("containerd's image store", 30, || import(init, pause).is_ok())?;

    supervisor.phase("kubelet");
    let cgroup = cgroup::of_node(&spec.name, &name);
    fs::write(node_paths::KUBELET_CONFIG, daemons::kubelet_config(layout, &name, &cgroup))?;
    supervisor.add(daemons::kubelet(layout, spec, number, &name)?)?;
    supervisor.add(daemons::kube_proxy(layout, spec, number, &name)?)?;
    Ok(())
}

fn import(init: &Init, archive: &str) -> anyhow::Result<()> {
    init.supervisor.run("ctr", &["-a", node_paths::CONTAINERD, "-n", "k8s.io", "images", "import", archive])
}

/// Own `/run`, `/var/lib` and `/var/log`; what must outlive a restart of the node is in its folder.
fn file_systems(init: &Init, name: &str) -> anyhow::Result<()> {
    let place = init.layout.node(name);
    let run = |arguments: &[&str]| init.supervisor.run("mount", arguments);
    init.own_folder("/run")?;
    for folder in ["/run/node", "/run/lock", "/run/netns", "/run/new"] {
        fs::create_dir_all(folder)?;
    }
    // The new /var/lib is furnished elsewhere and moved there in one step: logs and tools may be below it.
    init.own_folder("/run/new")?;
    let kept = [init.layout.root()].into_iter().chain(init.spec.tools.iter().map(PathBuf::as_path));
    let kept = kept.filter_map(|folder| Some((folder.to_owned(), folder.strip_prefix("/var/lib").ok()?)));
    let own =
        ["kubelet", "containerd", "cni"].map(|folder| (place.root().join("disk").join(folder), Path::new(folder)));
    for (source, target) in kept.chain(own) {
        let target = Path::new("/run/new").join(target);
        fs::create_dir_all(&source)?;
        fs::create_dir_all(&target)?;
        run(&["--bind", utf8(&source)?, utf8(&target)?])?;
    }
    run(&["--move", "/run/new", "/var/lib"])?;
    let logs = place.root().join("varlog");
    fs::create_dir_all(&logs)?;
    run(&["--bind", utf8(&logs)?, "/var/log"])?;
    kernel_parameters(init)?;
    // Volumes are mounted into running containers.
    run(&["--make-rshared", "/"])
}

fn utf8(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// The kubelet insists on some parameters of the whole machine. It is shown files with these values; the machine keeps its own.
fn kernel_parameters(init: &Init) -> anyhow::Result<()> {
    let shown = [
        ("vm/overcommit_memory", "1"),
        ("vm/panic_on_oom", "0"),
        ("kernel/panic", "10"),
        ("kernel/panic_on_oops", "1"),
        ("kernel/keys/root_maxkeys", "1000000"),
        ("kernel/keys/root_maxbytes", "25000000"),
    ];
    for (name, value) in shown {
        let file = format!("/run/node/{}", name.replace('/', "_"));
        fs::write(&file, format!("{value}\n"))?;
        init.supervisor.run("mount", &["--bind", &file, &format!("/proc/sys/{name}")])?;
    }
    Ok(())
}

fn network(init: &Init, number: u8) -> anyhow::Result<()> {
    let name = node_name(number);
    init.supervisor.run("hostname", &[&name])?;
    init.ip("link set lo up")?;
    init.ip(&format!("address add {}/16 dev eth0", node_address(number)))?;
    init.ip("link set eth0 up")?;
    init.ip(&format!("route add default via {HUB}"))?;
    for (other, _) in init.spec.node_names().filter(|(other, _)| *other != number) {
        init.ip(&format!("route add {} via {}", pod_subnet(other), node_address(other)))?;
    }
    sysctl("net/ipv4/ip_forward", "1")
}
