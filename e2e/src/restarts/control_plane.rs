//! The mesh's own daemons die and stay away. What runs goes on, new pods wait, and are there when the daemon is.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::scene::NAMESPACE;
use super::{Checks, Scene, kill, of_program};
use crate::mesh;

/// How long a daemon stays away.
const AWAY: Duration = Duration::from_secs(10);

pub(super) fn controller(scene: &Scene, checks: &mut Checks) -> anyhow::Result<()> {
    daemon(scene, checks, "controller")
}

pub(super) fn ca(scene: &Scene, checks: &mut Checks) -> anyhow::Result<()> {
    daemon(scene, checks, "ca")
}

pub(super) fn injector(scene: &Scene, checks: &mut Checks) -> anyhow::Result<()> {
    daemon(scene, checks, "injector")
}

/// All replicas are killed (the kubelet starts them anew), then taken away for a while.
fn daemon(scene: &Scene, checks: &mut Checks, name: &str) -> anyhow::Result<()> {
    let deployment = format!("ferromesh-{name}");
    let replicas = crash(scene, name, usize::MAX)?;
    scene.mesh.rollout(mesh::NAMESPACE, &deployment)?;
    checks.must(true, format!("{replicas} processes killed, the kubelet started them anew"));
    let scale = |count: &str| {
        let count = format!("--replicas={count}");
        scene.mesh.kubectl(&["scale", "-n", mesh::NAMESPACE, &format!("deployment/{deployment}"), &count])
    };
    scale("0")?;
    let gone = scene.mesh.until(|| Ok(processes(scene, name, "").is_empty().then_some(())))?;
    ensure!(gone.is_some(), "{deployment} still runs");
    newcomer(scene, true)?;
    let begin = Instant::now();
    std::thread::sleep(AWAY);
    let ready = ready(scene)?;
    let seen = format!("a new pod waits while it is away ({:.0} s)", begin.elapsed().as_secs_f64());
    checks.must(!ready, if ready { "a new pod was ready while it was away".to_owned() } else { seen });
    scale("2")?;
    scene.mesh.rollout(mesh::NAMESPACE, &deployment)?;
    let begin = Instant::now();
    let came = scene.mesh.until_within(Duration::from_secs(90), || Ok(self::ready(scene)?.then_some(())))?;
    checks
        .must(came.is_some(), format!("the new pod is ready {:.1} s after it is back", begin.elapsed().as_secs_f64()));
    newcomer(scene, false)
}

/// The replica that leads dies; what is changed then reaches the proxies, and they all have a server of xDS.
pub(super) fn one_of_two(scene: &Scene, checks: &mut Checks) -> anyhow::Result<()> {
    let path = "jsonpath={.spec.holderIdentity}";
    let holder =
        scene.mesh.kubectl(&["get", "lease", "-n", mesh::NAMESPACE, "ferromesh-controller-leader", "-o", path])?;
    let leader = holder.split_whitespace().next().unwrap_or_default().to_owned();
    for (turn, pod) in [(1, leader), (2, String::new())] {
        let killed = processes(scene, "controller", &pod);
        ensure!(!killed.is_empty(), "no process of controller {pod:?}, which leads");
        let restarts = restarts(scene)?;
        kill(&killed[..1])?;
        let begin = Instant::now();
        let header = format!("turn-{turn}");
        let patch = format!(
            r#"[{{"op":"add","path":"/spec/rules/0/filters","value":[{{"type":"ResponseHeaderModifier","responseHeaderModifier":{{"set":[{{"name":"x-turn","value":"{header}"}}]}}}}]}}]"#
        );
        scene.mesh.kubectl(&["patch", "-n", NAMESPACE, "httproute/server", "--type=json", "-p", &patch])?;
        let url = format!("http://{}/", scene.gateway());
        let seen = scene.mesh.until(|| {
            let head = scene.mesh.curl(&["-i", "-H", "host: server.test", &url])?;
            Ok(head.contains(&header).then_some(()))
        })?;
        let which = if turn == 1 { "the leader" } else { "one of the two" };
        let seconds = begin.elapsed().as_secs_f64();
        checks.must(seen.is_some(), format!("{which} killed: a changed route is served {seconds:.1} s later"));
        // The kubelet takes a moment to see that it is gone.
        let noticed = scene.mesh.until(|| Ok((self::restarts(scene)? > restarts).then_some(())))?;
        ensure!(noticed.is_some(), "the controller that was killed is not started anew");
        scene.mesh.rollout(mesh::NAMESPACE, "ferromesh-controller")?;
    }
    Ok(())
}

/// How often the controllers' containers were started anew.
fn restarts(scene: &Scene) -> anyhow::Result<u32> {
    let path = "jsonpath={.items[*].status.containerStatuses[0].restartCount}";
    let counts =
        scene.mesh.kubectl(&["get", "pods", "-n", mesh::NAMESPACE, "-l", "app=ferromesh-controller", "-o", path])?;
    Ok(counts.split_whitespace().filter_map(|count| count.parse::<u32>().ok()).sum())
}

fn processes(scene: &Scene, daemon: &str, pod: &str) -> Vec<i32> {
    let pod = if pod.is_empty() { format!("ferromesh-{daemon}-") } else { pod.to_owned() };
    of_program(scene.mesh.cluster.name(), &format!("/ferromesh-{daemon}"), &pod)
}

/// Kills as many processes of a daemon; how many there were.
fn crash(scene: &Scene, daemon: &str, most: usize) -> anyhow::Result<usize> {
    let processes = processes(scene, daemon, "");
    ensure!(!processes.is_empty(), "no process of ferromesh-{daemon} runs");
    let killed = &processes[..most.min(processes.len())];
    kill(killed)?;
    let count = killed.len();
    let new = scene.mesh.until(|| {
        let now = self::processes(scene, daemon, "");
        Ok((now.len() >= processes.len() && now.iter().all(|id| !killed.contains(id))).then_some(()))
    })?;
    ensure!(new.is_some(), "ferromesh-{daemon} was not started anew");
    Ok(count)
}

/// A new pod of the bystander comes, or goes.
fn newcomer(scene: &Scene, comes: bool) -> anyhow::Result<()> {
    let count = if comes { "--replicas=2" } else { "--replicas=1" };
    scene.mesh.kubectl(&["scale", "-n", NAMESPACE, "deployment/bystander", count]).map(drop)
}

/// Whether both pods of the bystander are ready.
fn ready(scene: &Scene) -> anyhow::Result<bool> {
    let path = "jsonpath={.status.readyReplicas}";
    Ok(scene.mesh.kubectl(&["get", "-n", NAMESPACE, "deployment/bystander", "-o", path])? == "2")
}
