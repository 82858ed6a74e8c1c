//! References between namespaces: allowed only by a ReferenceGrant in the namespace that is referred to.

use super::View;
use ferromesh_api::conditions::reasons;
use ferromesh_api::gateway_api::{BackendObjectReference, GrpcRoute, HttpRoute};

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

/// Whose requests a route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Those of a Gateway, which may come from anywhere.
    Gateway,
    /// Workloads of the mesh. They may call a Service of another namespace without a route, and so need no grant for a
    /// route to it (as in Istio; otherwise no consumer route of GEP-1324 could name the Service that it is for).
    Mesh,
}

/// The Service and port that a backendRef of a route means, or why it means none.
pub fn backend(
    view: &View,
    route: &super::ObjectRef,
    reference: &BackendObjectReference,
    callers: Callers,
) -> Result<(super::Key, u16), super::listeners::Fault> {
    let namespace = reference.namespace_or(&route.key.namespace);
    let name = reference.name.as_str();
    if (reference.group(), reference.kind()) != ("", "Service") {
        let what = format!(
            "backend {name:?} is a {} {:?}; only Services can be backends",
            reference.kind(),
            reference.group()
        );
        return Err((reasons::INVALID_KIND, what));
    }
    let from = End { group: route.kind.group(), kind: route.kind.as_str(), namespace: &route.key.namespace };
    let granted = || view.may_refer(from, End { group: "", kind: "Service", namespace }, name);
    if callers == Callers::Gateway && !granted() {
        let what = format!(
            "Service {namespace}/{name} needs a ReferenceGrant in namespace {namespace} for {}s of namespace {}",
            route.kind, route.key.namespace
        );
        return Err((reasons::REF_NOT_PERMITTED, what));
    }
    let key = super::Key::new(namespace, name);
    let Some(service) = view.services.get(&key) else {
        return Err((reasons::BACKEND_NOT_FOUND, format!("there is no Service {key}")));
    };
    let Some(port) = reference.port else {
        return Err((reasons::BACKEND_NOT_FOUND, format!("the backend Service {key} needs a port")));
    };
    if super::services::port(service, port).is_none() {
        let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).map(|port| port.port.to_string());
        let ports: Vec<_> = ports.collect();
        let what = format!("Service {key} has no port {port}; it has {}", ports.join(", "));
        return Err((reasons::BACKEND_NOT_FOUND, what));
    }
    Ok((key, port))
}

/// The backends of an HTTPRoute: those of rules, and those of mirrors.
pub fn http_backends(route: &HttpRoute) -> impl Iterator<Item = &BackendObjectReference> {
    route.spec.rules.iter().flat_map(|rule| {
        let mirrors = rule.filters.iter().filter_map(|filter| filter.request_mirror.as_ref());
        rule.backend_refs.iter().map(|backend| &backend.object).chain(mirrors.map(|mirror| &mirror.backend_ref))
    })
}

/// The backends of a GRPCRoute: those of rules, and those of mirrors.
pub fn grpc_backends(route: &GrpcRoute) -> impl Iterator<Item = &BackendObjectReference> {
    route.spec.rules.iter().flat_map(|rule| {
        let mirrors = rule.filters.iter().filter_map(|filter| filter.request_mirror.as_ref());
        rule.backend_refs.iter().map(|backend| &backend.object).chain(mirrors.map(|mirror| &mirror.backend_ref))
    })
}
