//! Reasons in words, for events, the command line and metrics.

use std::fmt;

use ferromesh_api::labels::{INJECTION, REVISION, SIDECAR_INJECT};

use crate::decide::{Decision, Reason};

impl Reason {
    /// One word for a metric's label; the set is fixed.
    pub fn word(&self) -> &'static str {
        match self {
            Self::HostNetwork => "host_network",
            Self::SystemNamespace => "system_namespace",
            Self::NamespaceDisabled => "namespace_disabled",
            Self::PodLabelDisabled => "pod_label_disabled",
            Self::PodAnnotationDisabled => "pod_annotation_disabled",
            Self::NotAsked => "not_asked",
            Self::OtherRevision(_) => "other_revision",
            Self::BadValue(_) => "bad_value",
            Self::NeverSelected => "never_selected",
        }
    }
}

/// What it is, and what to do to have it otherwise.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostNetwork => {
                write!(f, "the pod uses its node's network (spec.hostNetwork), where a sidecar cannot be")
            }
            Self::SystemNamespace => {
                write!(f, "the namespace belongs to Kubernetes itself; its pods are never injected")
            }
            Self::NamespaceDisabled => {
                write!(f, "the namespace has the label {INJECTION}: disabled; set it to enabled, or remove it")
            }
            Self::PodLabelDisabled => write!(f, "the pod has the label {SIDECAR_INJECT}: \"false\"; remove it"),
            Self::PodAnnotationDisabled => {
                write!(f, "the pod has the annotation {SIDECAR_INJECT}: \"false\"; remove it")
            }
            Self::NotAsked => write!(
                f,
                "nothing asks for it; label the namespace {INJECTION}: enabled (or {REVISION}), or the pod {SIDECAR_INJECT}: \"true\""
            ),
            Self::OtherRevision(asked) => {
                write!(
                    f,
                    "the control plane of revision {asked:?} is asked for it ({REVISION} or {INJECTION}), not this one"
                )
            }
            Self::NeverSelected => {
                write!(f, "the injector's neverInjectSelector has its labels; label the pod {SIDECAR_INJECT}: \"true\"")
            }
            Self::BadValue(value) => write!(f, "{SIDECAR_INJECT} is {value:?}; write \"true\" or \"false\""),
        }
    }
}

/// `injected`, or `not injected: <reason>`.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inject => f.write_str("injected"),
            Self::Skip(reason) => write!(f, "not injected: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_what_to_do() {
        let text = Decision::Skip(Reason::NamespaceDisabled).to_string();
        assert_eq!(
            text,
            "not injected: the namespace has the label istio-injection: disabled; set it to enabled, or remove it"
        );
        assert_eq!(Reason::OtherRevision("canary".into()).word(), "other_revision");
    }
}
