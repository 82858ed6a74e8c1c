//! The restarts, in the order in which they are done. The later ones change more.

use super::scene::NAMESPACE;
use super::{Case, Checks, NEXT, Scene, api_server, control_plane, upgrade};

/// All of them.
pub const CASES: &[Case] = &[
    Case { name: "application", what: "the application's rollout", again: true, act: application },
    Case { name: "gateway", what: "the Gateway's rollout", again: true, act: gateway },
    Case { name: "proxy", what: "proxies of another build, and back", again: true, act: proxy },
    Case { name: "controller", what: "controller killed and away", again: false, act: control_plane::controller },
    Case {
        name: "one-of-two",
        what: "one controller of two dies; the other serves changes",
        again: false,
        act: control_plane::one_of_two,
    },
    Case { name: "ca", what: "CA killed and away", again: false, act: control_plane::ca },
    Case { name: "injector", what: "injector killed and away", again: false, act: control_plane::injector },
    Case { name: "drain", what: "a node is drained", again: false, act: drain },
    Case { name: "api-server", what: "API server away for 60 s", again: false, act: api_server::away },
    Case { name: "upgrade", what: "helm upgrade, helm rollback", again: false, act: upgrade::there_and_back },
];

fn restart(scene: &Scene, name: &str) -> anyhow::Result<()> {
    scene.mesh.kubectl(&["rollout", "restart", "-n", NAMESPACE, &format!("deployment/{name}")])?;
    scene.mesh.rollout(NAMESPACE, name)
}

fn application(scene: &Scene, _: &mut Checks) -> anyhow::Result<()> {
    restart(scene, "server")
}

fn gateway(scene: &Scene, _: &mut Checks) -> anyhow::Result<()> {
    restart(scene, "edge-istio")
}

/// The same pods with the proxy of the other build, then with the mesh's again.
fn proxy(scene: &Scene, checks: &mut Checks) -> anyhow::Result<()> {
    let image = format!("ferromesh/proxy:{NEXT}");
    for annotation in [format!("{image:?}"), "null".to_owned()] {
        let patch = format!(
            r#"{{"spec":{{"template":{{"metadata":{{"annotations":{{"sidecar.istio.io/proxyImage":{annotation}}}}}}}}}}}"#
        );
        scene.mesh.kubectl(&["patch", "-n", NAMESPACE, "deployment/server", "--type=merge", "-p", &patch])?;
        scene.mesh.rollout(NAMESPACE, "server")?;
        let path = "jsonpath={.items[*].spec.initContainers[?(@.name==\"istio-proxy\")].image}";
        let selector = "--field-selector=status.phase=Running";
        let images = scene.mesh.kubectl(&["get", "pods", "-n", NAMESPACE, "-l", "app=server", selector, "-o", path])?;
        let wanted = annotation != "null";
        let good = images.split_whitespace().any(|found| (found == image) == wanted);
        checks.must(good, format!("its pods run {images}"));
    }
    Ok(())
}

fn drain(scene: &Scene, checks: &mut Checks) -> anyhow::Result<()> {
    let drain = [
        "drain",
        "node2",
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--timeout=240s",
        "--disable-eviction=false",
    ];
    let drained = scene.mesh.kubectl(&drain);
    let path = "jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name} {end}";
    let left = scene.mesh.kubectl(&[
        "get",
        "pods",
        "-A",
        "--field-selector=spec.nodeName=node2,status.phase=Running",
        "-o",
        path,
    ]);
    let back = scene.mesh.kubectl(&["uncordon", "node2"]);
    drained?;
    let left = left?;
    checks.must(left.trim().is_empty(), format!("pods left on the node: {}", left.split_whitespace().count()));
    back?;
    for name in ["server", "edge-istio"] {
        scene.mesh.rollout(NAMESPACE, name)?;
    }
    // The two pods of everything are on two nodes again.
    for name in ["server", "edge-istio"] {
        restart(scene, name)?;
    }
    Ok(())
}
