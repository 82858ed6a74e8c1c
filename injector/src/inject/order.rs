//! The order of containers: what must run before what.

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::{Context, INIT_CONTAINER, PROXY_CONTAINER, VALIDATION_CONTAINER};

/// A native proxy starts after its redirect and before all other init containers, which then are in the mesh. One that
/// is not native cannot serve them: their traffic must pass by it, so the redirect comes last.
pub(super) fn containers(context: &Context<'_>, spec: &mut PodSpec) {
    if let Some(init) = &mut spec.init_containers {
        if context.native() {
            to_front(init, PROXY_CONTAINER);
            to_front(init, INIT_CONTAINER);
            to_front(init, VALIDATION_CONTAINER);
        } else {
            to_front(init, VALIDATION_CONTAINER);
            to_back(init, INIT_CONTAINER);
        }
    }
    if context.hold_application() {
        to_front(&mut spec.containers, PROXY_CONTAINER);
    } else {
        // `kubectl exec` without a name takes the first.
        to_back(&mut spec.containers, PROXY_CONTAINER);
    }
}

fn to_front(containers: &mut [Container], name: &str) {
    if let Some(place) = containers.iter().position(|container| container.name == name) {
        containers[..=place].rotate_right(1);
    }
}

fn to_back(containers: &mut [Container], name: &str) {
    if let Some(place) = containers.iter().position(|container| container.name == name) {
        containers[place..].rotate_left(1);
    }
}
