//! A node: container runtime, kubelet and kube-proxy in namespaces of their own.

use std::fs;

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
    fs::write(node_paths::CONTAINERD_CONFIG, daemons::containerd_config("overlayfs", &plugins))?;
    fs::write(node_paths::RESOLV_CONF, format!("nameserver {HUB}\n"))?;
    supervisor.add(daemons::containerd("containerd".as_ref()))?;
    wait_until("containerd", 60, || std::os::unix::net::UnixStream::connect(node_paths::CONTAINERD).is_ok())?;
    let pause = images::pause_archive(spec, layout)?;
    let pause = pause.to_str().context("the state folder's path is UTF-8")?;
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
    let disk = place.root().join("disk");
    for folder in ["kubelet", "containerd", "cni"] {
        fs::create_dir_all(disk.join(folder))?;
    }
    fs::create_dir_all(place.root().join("varlog"))?;
    init.own_folder("/run")?;
    // The state folder may be below /var/lib, which is about to be covered.
    let keep = "/run/state";
    fs::create_dir_all(keep)?;
    let run = |arguments: &[&str]| init.supervisor.run("mount", arguments);
    let state = init.layout.root().to_str().context("the state folder's path is UTF-8")?;
    run(&["--bind", state, keep])?;
    init.own_folder("/var/lib")?;
    fs::create_dir_all(state)?;
    run(&["--move", keep, state])?;
    for folder in ["kubelet", "containerd", "cni"] {
        let target = format!("/var/lib/{folder}");
        fs::create_dir_all(&target)?;
        run(&["--bind", disk.join(folder).to_str().context("UTF-8")?, &target])?;
    }
    run(&["--bind", place.root().join("varlog").to_str().context("UTF-8")?, "/var/log"])?;
    for folder in ["/run/node", "/run/lock", "/run/netns"] {
        fs::create_dir_all(folder)?;
    }
    kernel_parameters(init)?;
    // Volumes are mounted into running containers.
    run(&["--make-rshared", "/"])
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
