//! References between namespaces: allowed only by a ReferenceGrant in the namespace that is referred to.

use super::View;

/// One end of a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End<'a> {
    /// API group; empty is core.
    pub group: &'a str,
    /// Kind.
    pub kind: &'a str,
    /// Namespace.
    pub namespace: &'a str,
}

impl View {
    /// True if an object `from` may refer to the object `to` of this name.
    pub fn may_refer(&self, from: End<'_>, to: End<'_>, name: &str) -> bool {
        from.namespace == to.namespace
            || self.reference_grants.in_namespace(to.namespace).any(|(_, grant)| {
                let granted_from = grant.spec.from.iter().any(|granted| {
                    granted.group == from.group && granted.kind == from.kind && granted.namespace == from.namespace
                });
                let granted_to = grant.spec.to.iter().any(|granted| {
                    granted.group == to.group
                        && granted.kind == to.kind
                        && granted.name.as_deref().is_none_or(|granted| granted.is_empty() || granted == name)
                });
                granted_from && granted_to
            })
    }
}
