//! Which mTLS mode a workload's port has, by Istio's precedence: workload, then namespace, then root namespace; the
//! oldest wins where two are equally near; port-level modes count only with a selector; the default is PERMISSIVE.

use super::{View, labels};
use ferromesh_api::ObjectMeta;
use ferromesh_api::istio::PeerAuthentication;
use ferromesh_api::istio::peer_authentication::MtlsMode;
use std::collections::BTreeMap;
use std::sync::Arc;

impl View {
    /// The mode of one port of a workload (its own port, not the Service's). Never `Unset`.
    pub fn mtls_mode(&self, namespace: &str, pod_labels: &BTreeMap<String, String>, port: u16) -> MtlsMode {
        let workload = self.workload_policy(namespace, pod_labels);
        if let Some(policy) = workload
            && let Some(mode) = policy.spec.port_level_mtls.get(&port)
            && let Some(mode) = said(&mode.mode)
        {
            return mode;
        }
        self.mtls_mode_of_workload(namespace, pod_labels)
    }

    /// The mode of a workload where no port-level mode says otherwise. Never `Unset`.
    pub fn mtls_mode_of_workload(&self, namespace: &str, pod_labels: &BTreeMap<String, String>) -> MtlsMode {
        let roots = self.root_namespaces();
        let mesh = roots.into_iter().map(|root| self.namespace_policy(root));
        let policies = std::iter::once(self.workload_policy(namespace, pod_labels))
            .chain(std::iter::once(self.namespace_policy(namespace)))
            .chain(mesh);
        let mut modes = policies.flatten().filter_map(|policy| said(&policy.spec.mtls.as_ref()?.mode));
        modes.next().unwrap_or(MtlsMode::Permissive)
    }

    /// The policy with a selector that selects the workload.
    fn workload_policy(
        &self,
        namespace: &str,
        pod_labels: &BTreeMap<String, String>,
    ) -> Option<&Arc<PeerAuthentication>> {
        oldest(
            self.peer_authentications
                .in_namespace(namespace)
                .map(|(_, policy)| policy)
                .filter(|policy| policy.spec.selector().is_some_and(|selector| selector.matches(pod_labels))),
        )
    }

    /// The policy of a whole namespace.
    fn namespace_policy(&self, namespace: &str) -> Option<&Arc<PeerAuthentication>> {
        let all = self.peer_authentications.in_namespace(namespace).map(|(_, policy)| policy);
        oldest(all.filter(|policy| policy.spec.selector().is_none()))
    }

    /// The modes of single ports that a workload has, for those that want them all.
    pub fn port_level_mtls(&self, namespace: &str, pod_labels: &BTreeMap<String, String>) -> BTreeMap<u16, MtlsMode> {
        let ports = self.workload_policy(namespace, pod_labels).map(|policy| &policy.spec.port_level_mtls);
        ports.into_iter().flatten().map(|(port, _)| (*port, self.mtls_mode(namespace, pod_labels, *port))).collect()
    }

    /// The mode that clients of this pod meet on this port.
    pub fn mtls_mode_of_pod(&self, pod: &ObjectMeta, port: u16) -> MtlsMode {
        self.mtls_mode(pod.namespace.as_deref().unwrap_or_default(), labels::of(pod), port)
    }
}

/// The mode, unless it leaves the question open. An unknown word does too (it is named by `analyze`).
fn said(mode: &MtlsMode) -> Option<MtlsMode> {
    match mode {
        MtlsMode::Unset | MtlsMode::Unknown(_) => None,
        known => Some(known.clone()),
    }
}

fn oldest<'a>(policies: impl Iterator<Item = &'a Arc<PeerAuthentication>>) -> Option<&'a Arc<PeerAuthentication>> {
    policies.min_by_key(|policy| {
        let meta = &policy.metadata;
        (meta.creation_timestamp.as_ref().map(|time| time.0), meta.name.clone())
    })
}
