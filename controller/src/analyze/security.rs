//! PeerAuthentications: STRICT where callers have no proxy, selectors of nothing, words that are not known.

use super::{BOTH_ROOTS, Finding, INVALID, NO_WORKLOAD, STRICT_UNMESHED};
use crate::index::workloads::Workload;
use crate::index::{Kind, ObjectRef, Severity, View};
use ferromesh_api::istio::peer_authentication::MtlsMode;

pub(super) fn analyze(view: &View, workloads: &[Workload], findings: &mut Vec<Finding>) {
    let [ours, theirs] = view.root_namespaces();
    let unmeshed: Vec<_> = workloads.iter().filter(|workload| !workload.meshed).map(|w| w.name.as_str()).collect();
    for (key, policy) in view.peer_authentications.iter() {
        let object = ObjectRef { kind: Kind::PeerAuthentication, key: key.clone() };
        let mut say = |severity, code, message: String, remedy: &str| {
            findings.push(Finding { severity, code, object: object.clone(), message, remedy: remedy.to_owned() });
        };
        let ports = policy.spec.port_level_mtls.values();
        let modes: Vec<_> = policy.spec.mtls.iter().chain(ports).map(|mtls| &mtls.mode).collect();
        for word in modes.iter().filter(|mode| matches!(mode, MtlsMode::Unknown(_))) {
            let remedy = "Write UNSET, DISABLE, PERMISSIVE or STRICT";
            say(Severity::Error, INVALID, format!("mtls.mode {word} is not known and is passed over"), remedy);
        }
        if policy.spec.selector().is_none() && !policy.spec.port_level_mtls.is_empty() {
            let message = "portLevelMtls without a selector is passed over".to_owned();
            say(Severity::Warning, INVALID, message, "Write selector.matchLabels");
        }
        if modes.contains(&&MtlsMode::Strict) && !unmeshed.is_empty() {
            let names = unmeshed.iter().take(3).copied().collect::<Vec<_>>().join(", ");
            let more = unmeshed.len().saturating_sub(3);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let message = format!("STRICT refuses plaintext, and these workloads have no proxy: {names}{more}");
            say(
                Severity::Warning,
                STRICT_UNMESHED,
                message,
                "Give them a sidecar, or use PERMISSIVE until they have one",
            );
        }
        let near =
            |workload: &&Workload| view.is_root_namespace(&key.namespace) || workload.namespace == *key.namespace;
        if let Some(selector) = policy.spec.selector()
            && !workloads.iter().filter(near).any(|workload| selector.matches(&workload.labels))
        {
            let message = "the selector selects no workload".to_owned();
            say(Severity::Warning, NO_WORKLOAD, message, "Write labels that Pods of this namespace have");
        }
        if *key.namespace == *theirs && ours != theirs && view.peer_authentications.named(ours, &key.name).is_some() {
            let message = format!("the same name is in both root namespaces; the one in {ours} is asked first");
            say(Severity::Warning, BOTH_ROOTS, message, "Remove or rename one of them");
        }
    }
}
