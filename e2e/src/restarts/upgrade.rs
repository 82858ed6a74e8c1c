//! Another build of the whole mesh by Helm, and back.

use super::scene::NAMESPACE;
use super::{Checks, NEXT, Scene};
use crate::mesh;

pub(super) fn there_and_back(scene: &Scene, checks: &mut Checks) -> anyhow::Result<()> {
    let took = scene.mesh.helm("upgrade", &["--reuse-values", "--set", &format!("image.tag={NEXT}")])?;
    gateways_follow(scene, NEXT, checks, "upgrade", took.as_secs_f64())?;
    let took = scene.mesh.helm("rollback", &[])?;
    gateways_follow(scene, mesh::chart_tag(), checks, "rollback", took.as_secs_f64())
}

/// The controller of the other build gives Gateways its own proxies.
fn gateways_follow(scene: &Scene, tag: &str, checks: &mut Checks, what: &str, took: f64) -> anyhow::Result<()> {
    let path = "jsonpath={.spec.template.spec.containers[0].image}";
    let wanted = format!("ferromesh/proxy:{tag}");
    let image = || scene.mesh.kubectl(&["get", "-n", NAMESPACE, "deployment/edge-istio", "-o", path]);
    let followed = scene.mesh.until(|| Ok((image()? == wanted).then_some(())))?;
    scene.mesh.rollout(NAMESPACE, "edge-istio")?;
    checks.must(followed.is_some(), format!("helm {what} in {took:.0} s; the Gateway runs {}", image()?));
    for daemon in ["controller", "ca", "injector"] {
        let deployment = format!("deployment/ferromesh-{daemon}");
        let image = scene.mesh.kubectl(&["get", "-n", mesh::NAMESPACE, &deployment, "-o", path])?;
        checks.must(image.ends_with(&format!(":{tag}")), format!("{daemon} runs {image}"));
    }
    Ok(())
}
