//! The hub: control plane, DNS, and the switch that nodes are wired to.

use std::net::SocketAddr;

use anyhow::Context;

use super::super::daemons;
use super::super::layout::{API_PORT, HUB, node_address, pod_subnet};
use super::super::probe::Probe;
use super::{Init, sysctl, wait_until};

/// Long enough for a machine on which everything else builds at the same time.
const PATIENCE: u64 = 180;

pub(super) fn bring_up(init: &Init) -> anyhow::Result<()> {
    let Init { layout, spec, supervisor } = init;
    let program = std::env::current_exe()?;
    supervisor.phase("network");
    network(init)?;

    supervisor.phase("etcd and API server");
    supervisor.add(daemons::etcd(layout, spec)?)?;
    supervisor.add(daemons::api_server(layout, spec)?)?;
    supervisor.add(daemons::agent(layout, &program))?;
    let probe = Probe::new(layout, SocketAddr::from((HUB, API_PORT)))?;
    wait_until("the API server", PATIENCE, || probe.get("/readyz").is_ok())?;

    supervisor.phase("controllers");
    supervisor.add(daemons::controller_manager(layout, spec)?)?;
    supervisor.add(daemons::scheduler(layout, spec)?)?;
    let objects = layout.root().join("bootstrap.json");
    std::fs::write(&objects, daemons::bootstrap_objects())?;
    let kubeconfig = format!("--kubeconfig={}", layout.pki("admin.kubeconfig").display());
    let objects = objects.to_str().context("the state folder's path is UTF-8")?;
    supervisor.run("kubectl", &[&kubeconfig, "apply", "--server-side", "--validate=false", "-f", objects])?;
    wait_until("the default service account", PATIENCE, || {
        probe.get("/api/v1/namespaces/default/serviceaccounts/default").is_ok()
    })?;

    if spec.nodes > 0 {
        std::fs::write(layout.root().join("Corefile"), daemons::corefile(layout))?;
        supervisor.add(daemons::coredns(layout, spec)?)?;
        for (number, name) in spec.node_names() {
            supervisor.add(daemons::node(layout, &program, number, &name))?;
        }
        for (_, name) in spec.node_names() {
            supervisor.phase(format!("waiting for {name}"));
            wait_for_node(init, &probe, &name)?;
        }
    }
    Ok(())
}

/// A node that cannot come up says why; otherwise the API server knows when it is ready.
fn wait_for_node(init: &Init, probe: &Probe, name: &str) -> anyhow::Result<()> {
    let socket = init.layout.node(name).control();
    let mut failed = None;
    wait_until(name, PATIENCE, || {
        failed = super::super::control::status(&socket).ok().and_then(|status| status.failed);
        failed.is_some() || probe.node_ready(name)
    })?;
    match failed {
        Some(why) => anyhow::bail!("{name}: {why}"),
        None => Ok(()),
    }
}

fn network(init: &Init) -> anyhow::Result<()> {
    init.own_folder("/run")?;
    std::fs::create_dir_all("/run/netns")?;
    init.ip("link set lo up")?;
    init.ip("link add nodes type bridge")?;
    init.ip(&format!("address add {HUB}/16 dev nodes"))?;
    init.ip("link set nodes up")?;
    // Node addresses are found by the default route; it leads nowhere, so that nothing leaves.
    init.ip("route add unreachable default")?;
    sysctl("net/ipv4/ip_forward", "1")?;
    for (number, _) in init.spec.node_names() {
        let (subnet, node) = (pod_subnet(number), node_address(number));
        init.ip(&format!("route add {subnet} via {node} dev nodes"))?;
    }
    if init.spec.nodes > 0 {
        // Like a cloud's load balancer: each connection goes to one of the nodes.
        sysctl("net/ipv4/fib_multipath_hash_policy", "1")?;
    }
    Ok(())
}
