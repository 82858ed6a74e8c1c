//! Which pods are redirected from the node, and how: a Pod in; a plan, or why it is left alone, out. Pure.
//!
//! The words are those of the pod's own `istio-validation`, which the injector made of the pod's annotations and the mesh's
//! settings, and which will check that they hold: what is applied and what is checked cannot differ. Pods of another mesh's
//! injector have another program there and are left to its agent.

use clap::Parser;
use ferromesh_api::annotations::SIDECAR_STATUS;
use ferromesh_redirect::Plan;
use ferromesh_redirect::args::Args;
use k8s_openapi::api::core::v1::{Container, Pod};

/// The init container that checks what was redirected (Istio's name).
pub const VALIDATION_CONTAINER: &str = "istio-validation";
/// The program in it.
const PROGRAM: &str = "ferromesh-init";

/// What is done with a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Redirected.
    Redirect(Box<Plan>),
    /// Left alone, and why.
    Leave(&'static str),
}

/// A pod that is to be redirected and cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the arguments of its {VALIDATION_CONTAINER}: {0}")]
pub struct BadPod(String);

/// Decides.
///
/// # Errors
/// If the pod is ours and what it asks for cannot be understood.
pub fn decide(pod: &Pod) -> Result<Decision, BadPod> {
    let annotations = pod.metadata.annotations.as_ref();
    if annotations.is_none_or(|known| !known.contains_key(SIDECAR_STATUS)) {
        return Ok(Decision::Leave("no sidecar was injected"));
    }
    let Some(validation) = validation(pod) else {
        return Ok(Decision::Leave("it has no istio-validation: its own init container redirects, or nothing does"));
    };
    let program = validation.command.iter().flatten().next().and_then(|path| path.rsplit('/').next());
    if program != Some(PROGRAM) {
        return Ok(Decision::Leave("its istio-validation is of another mesh"));
    }
    let words = [PROGRAM].into_iter().chain(validation.args.iter().flatten().map(String::as_str));
    let args = Args::try_parse_from(words).map_err(|error| BadPod(first_line(&error)))?;
    Ok(Decision::Redirect(Box::new(args.plan())))
}

fn validation(pod: &Pod) -> Option<&Container> {
    pod.spec.as_ref()?.init_containers.iter().flatten().find(|container| container.name == VALIDATION_CONTAINER)
}

fn first_line(error: &clap::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}
