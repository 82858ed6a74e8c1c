//! A pod may have a container of the proxy's name: what it says is laid over the proxy's (Istio's "customizing
//! injection"). What was there is kept in an annotation, so that injecting again gives the same.

use k8s_openapi::DeepMerge;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use serde::{Deserialize, Serialize};

use super::{Context, INIT_CONTAINER, PROXY_CONTAINER, Parts, Refused, VALIDATION_CONTAINER};
use crate::annotations::InterceptionMode;

/// The annotation that keeps them.
pub(super) const ANNOTATION: &str = "proxy.istio.io/overrides";
/// The image that stands for: the mesh's.
const AUTO: &str = "auto";

/// The pod's own containers that were laid over ours.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Saved {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    containers: Vec<Container>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<Container>,
}

/// The pod's own container of that name, as the user wrote it.
pub(super) fn own(pod: &Pod, name: &str) -> Option<Container> {
    let annotation = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(ANNOTATION));
    if let Some(saved) = annotation.and_then(|text| serde_json::from_str::<Saved>(text).ok()) {
        return saved.containers.into_iter().chain(saved.init_containers).find(|container| container.name == name);
    }
    if super::metadata::is_injected(pod) {
        return None;
    }
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|one| one.name == name).cloned()
}

/// Puts our containers into the pod, the pod's own of the same names laid over them; gives what is to be kept.
pub(super) fn apply(context: &Context<'_>, spec: &mut PodSpec, parts: &Parts) -> Result<Option<Saved>, Refused> {
    let mut saved = Saved::default();
    let native = context.native();
    let mut proxy = parts.proxy.clone();
    if let Some(own) = own(context.original, PROXY_CONTAINER) {
        lay_over(&mut proxy, own.clone(), context)?;
        if native { &mut saved.init_containers } else { &mut saved.containers }.push(own);
    }
    remove(spec, PROXY_CONTAINER);
    if native {
        spec.init_containers.get_or_insert_default().push(proxy);
    } else {
        spec.containers.push(proxy);
    }
    for name in [INIT_CONTAINER, VALIDATION_CONTAINER] {
        let Some(ours) = parts.init.as_ref().filter(|init| init.name == name) else { continue };
        let mut init = ours.clone();
        if let Some(own) = own(context.original, name) {
            lay_over(&mut init, own.clone(), context)?;
            saved.init_containers.push(own);
        }
        if name == VALIDATION_CONTAINER {
            runs_as_the_proxy(context, &mut init);
        }
        remove(spec, name);
        spec.init_containers.get_or_insert_default().push(init);
    }
    Ok((saved != Saved::default()).then_some(saved))
}

fn lay_over(ours: &mut Container, mut own: Container, context: &Context<'_>) -> Result<(), Refused> {
    if own.image.as_deref() == Some(AUTO) {
        own.image = None;
    }
    let replaces = |what: &str| Refused::Override {
        container: own.name.clone(),
        reason: format!("{what} cannot be laid over the mesh's; use ProxyConfig or the annotations"),
    };
    if ours.name == PROXY_CONTAINER && own.command.as_ref().is_some_and(|command| !command.is_empty()) {
        return Err(replaces("command"));
    }
    // Lists of words are replaced (Kubernetes' strategic merge), not joined.
    if own.args.as_ref().is_some_and(|args| !args.is_empty()) {
        ours.args = None;
    }
    if let (Some(ours), Some(own)) = (&mut ours.security_context, &own.security_context)
        && own.capabilities.is_some()
    {
        ours.capabilities = None;
    }
    // A handler has one action, and a probe one way to ask.
    replace_probes(ours, &own);
    ours.merge_from(own);
    if context.mode() == InterceptionMode::Tproxy
        && ours.name == PROXY_CONTAINER
        && let Some(rights) = &mut ours.security_context
    {
        rights.run_as_user = Some(0);
    }
    Ok(())
}

fn replace_probes(ours: &mut Container, own: &Container) {
    if own.readiness_probe.is_some() {
        ours.readiness_probe = None;
    }
    if own.startup_probe.is_some() {
        ours.startup_probe = None;
    }
    if let (Some(ours), Some(own)) = (&mut ours.lifecycle, &own.lifecycle) {
        if own.pre_stop.is_some() {
            ours.pre_stop = None;
        }
        if own.post_start.is_some() {
            ours.post_start = None;
        }
    }
}

/// The check is made as the user whose traffic is exempt.
fn runs_as_the_proxy(context: &Context<'_>, init: &mut Container) {
    let own = own(context.original, PROXY_CONTAINER).and_then(|own| own.security_context);
    if let (Some(own), Some(rights)) = (own, &mut init.security_context)
        && context.mode() != InterceptionMode::Tproxy
    {
        rights.run_as_user = own.run_as_user.or(rights.run_as_user);
        rights.run_as_group = own.run_as_group.or(rights.run_as_group);
    }
}

fn remove(spec: &mut PodSpec, name: &str) {
    spec.containers.retain(|container| container.name != name);
    if let Some(init) = &mut spec.init_containers {
        init.retain(|container| container.name != name);
    }
}
