//! The paths of kinds and objects in the API.

/// A kind, as paths name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// API group; empty is core.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// Plural, in small letters.
    pub plural: &'static str,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
}

/// An object, a subresource of it, or where objects of a kind are made.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The kind.
    pub resource: Resource,
    /// Its namespace; none for the whole cluster.
    pub namespace: Option<&'a str>,
    /// Its name; none for all of them.
    pub name: Option<&'a str>,
    /// Such as `status`.
    pub subresource: Option<&'a str>,
}

impl Resource {
    /// A kind whose objects are in namespaces.
    pub const fn namespaced(group: &'static str, version: &'static str, plural: &'static str) -> Self {
        Self { group, version, plural, namespaced: true }
    }

    /// A kind whose objects are the cluster's.
    pub const fn cluster_wide(group: &'static str, version: &'static str, plural: &'static str) -> Self {
        Self { group, version, plural, namespaced: false }
    }

    /// `v1` or `<group>/<version>`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// All of them, in a namespace or (`None`) in the cluster.
    pub fn all<'a>(self, namespace: Option<&'a str>) -> Place<'a> {
        Place { resource: self, namespace, name: None, subresource: None }
    }

    /// One object; the namespace of one that has none is passed over.
    pub fn named<'a>(self, namespace: &'a str, name: &'a str) -> Place<'a> {
        Place { resource: self, namespace: Some(namespace), name: Some(name), subresource: None }
    }
}

impl<'a> Place<'a> {
    /// Its subresource.
    pub fn subresource(self, name: &'a str) -> Self {
        Self { subresource: Some(name), ..self }
    }

    /// The path. Parts are escaped, though Kubernetes names need none of it.
    pub fn path(&self) -> String {
        let Resource { group, version, plural, namespaced } = self.resource;
        let mut path = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        if let (true, Some(namespace)) = (namespaced, self.namespace) {
            path.push_str("/namespaces/");
            path.push_str(&escape(namespace));
        }
        path.push('/');
        path.push_str(plural);
        for part in [self.name, self.subresource].into_iter().flatten() {
            path.push('/');
            path.push_str(&escape(part));
        }
        path
    }
}

/// Escapes what may not stand in a path or query.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        let pods = Resource::namespaced("", "v1", "pods");
        let routes = Resource::namespaced("gateway.networking.k8s.io", "v1", "httproutes");
        let classes = Resource::cluster_wide("gateway.networking.k8s.io", "v1", "gatewayclasses");
        assert_eq!(pods.all(None).path(), "/api/v1/pods");
        assert_eq!(pods.all(Some("demo")).path(), "/api/v1/namespaces/demo/pods");
        let status = routes.named("demo", "web").subresource("status");
        assert_eq!(status.path(), "/apis/gateway.networking.k8s.io/v1/namespaces/demo/httproutes/web/status");
        assert_eq!(classes.named("", "istio").path(), "/apis/gateway.networking.k8s.io/v1/gatewayclasses/istio");
        assert_eq!(pods.named("a/../b", "c?d").path(), "/api/v1/namespaces/a%2F..%2Fb/pods/c%3Fd");
    }
}
