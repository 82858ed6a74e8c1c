//! The API server goes away; the mesh does without it.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::{Checks, Scene, kill, of_pod, of_program};

const AWAY: Duration = Duration::from_secs(60);
/// A proxy that restarts in that time is ready within so long.
const READY: Duration = Duration::from_secs(10);
/// How long is watched what comes of it.
const AFTERWARDS: Duration = Duration::from_secs(30);
const DAEMON: &str = "kube-apiserver";

pub(super) fn away(scene: &Scene, checks: &mut Checks) -> anyhow::Result<()> {
    let pod = scene.pod("bystander")?;
    let cluster = scene.mesh.cluster.name();
    let process = of_pod(cluster, &pod)?;
    let begin = Instant::now();
    scene.mesh.cluster.stop(None, DAEMON)?;
    let done = restart_of_a_proxy(scene, checks, &pod, process);
    while begin.elapsed() < AWAY {
        std::thread::sleep(Duration::from_millis(100));
    }
    scene.mesh.cluster.start(None, DAEMON)?;
    done?;
    let back = scene.mesh.until_within(Duration::from_secs(60), || Ok(scene.mesh.kubectl(&["get", "nodes"]).ok()))?;
    ensure!(back.is_some(), "the API server does not come back");
    let away = begin.elapsed().as_secs_f64();
    // What the cluster makes of its absence comes later: nodes that could not say that they live.
    std::thread::sleep(AFTERWARDS);
    let path = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
    let nodes = scene.mesh.kubectl(&["get", "nodes", "-o", path])?;
    let good = nodes.split_whitespace().all(|status| status == "True");
    checks.must(
        good,
        format!("it was away for {away:.0} s; nodes are ready {:.0} s later: {nodes}", AFTERWARDS.as_secs_f64()),
    );
    Ok(())
}

/// The proxy of a pod crashes; the kubelet starts it anew, and the CA knows the pod from before.
fn restart_of_a_proxy(scene: &Scene, checks: &mut Checks, pod: &str, process: i32) -> anyhow::Result<()> {
    // Not in the first moment: watches of controller and CA have ended by then.
    std::thread::sleep(Duration::from_secs(5));
    let cluster = scene.mesh.cluster.name();
    let old = of_program(cluster, "/ferromesh-proxy", pod);
    ensure!(!old.is_empty(), "pod {pod} has no proxy");
    // The application's process holds the pod's network, whatever becomes of the proxy.
    let namespace = crate::cluster::network::Namespace::of(process)?;
    kill(&old)?;
    let killed = Instant::now();
    let mut started = None;
    let ready = std::thread::scope(|scope| {
        let thread = scope.spawn(|| -> anyhow::Result<Option<Duration>> {
            namespace.enter()?;
            while killed.elapsed() < Duration::from_secs(45) {
                let new = of_program(cluster, "/ferromesh-proxy", pod).iter().any(|id| !old.contains(id));
                if new && started.is_none() {
                    started = Some(Instant::now());
                }
                if let Some(started) = started
                    && is_ready()
                {
                    return Ok(Some(started.elapsed()));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(None)
        });
        thread.join()
    });
    let ready = ready.map_err(|_| anyhow::anyhow!("asking for readiness ended before its time"))??;
    let all = killed.elapsed().as_secs_f64();
    match ready {
        Some(took) => checks.must(
            took <= READY,
            format!(
                "a proxy that was killed meanwhile is ready {:.1} s after its start, {all:.1} s after its end",
                took.as_secs_f64()
            ),
        ),
        None => checks.must(false, format!("a proxy that was killed meanwhile is not ready after {all:.0} s")),
    }
    Ok(())
}

/// Whether the proxy of this thread's network says that it is ready.
fn is_ready() -> bool {
    use std::io::{Read, Write};
    let Ok(mut socket) = std::net::TcpStream::connect(("127.0.0.1", 15021)) else { return false };
    let _ = socket.set_read_timeout(Some(Duration::from_secs(1)));
    let mut answer = String::new();
    socket.write_all(b"GET /healthz/ready HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n").is_ok()
        && socket.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}
