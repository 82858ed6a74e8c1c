//! Gateways: a class that is not there, fields that are not supported, listeners that cannot be used.

use super::{BAD_LISTENER, Finding, NOT_FOUND, NOT_SUPPORTED};
use crate::index::attachment::our_controller;
use crate::index::{Key, Kind, ObjectRef, Severity, View, listeners};
use ferromesh_api::gateway_api::Gateway;

pub(super) fn analyze(view: &View, key: &Key, gateway: &Gateway, findings: &mut Vec<Finding>) {
    let object = ObjectRef { kind: Kind::Gateway, key: key.clone() };
    let mut say = |severity, code, message: String, remedy: &str| {
        findings.push(Finding { severity, code, object: object.clone(), message, remedy: remedy.to_owned() });
    };
    let class = gateway.spec.gateway_class_name.as_str();
    if view.class_controller(class).is_none() {
        let message = format!("there is no GatewayClass {class:?}, so nobody serves this Gateway");
        say(Severity::Error, NOT_FOUND, message, "Write gatewayClassName: ferromesh or istio, or add the GatewayClass");
    }
    // What another controller looks after is judged by that one.
    if our_controller(view, gateway).is_none() {
        return;
    }
    if let Some((reason, what)) = listeners::refusal(gateway) {
        let message = format!("this Gateway is not served: {reason}: {what}");
        say(Severity::Error, NOT_SUPPORTED, message, "Leave it out, or write it in another way");
    }
    for what in listeners::passed_over(gateway) {
        say(Severity::Warning, NOT_SUPPORTED, what, "Leave it out, or do not rely on it");
    }
    for state in listeners::states(view, key, gateway) {
        for (reason, what) in [&state.unaccepted, &state.conflict, &state.unresolved].into_iter().flatten() {
            let message = format!("listener {:?}: {reason}: {what}", state.name);
            say(Severity::Error, BAD_LISTENER, message, "See status.listeners of the Gateway");
        }
    }
}
