//! Istio's names of services, clusters, route configurations and secrets.

/// The cluster's DNS domain.
pub const DOMAIN: &str = "cluster.local";
/// What goes to addresses that no service has.
pub const PASSTHROUGH: &str = "PassthroughCluster";
/// What goes nowhere.
pub const BLACK_HOLE: &str = "BlackHoleCluster";
/// What comes in on ports that no service has.
pub const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";
/// The route configuration of a sidecar's HTTP proxy port.
pub const HTTP_PROXY_ROUTES: &str = "http_proxy";

/// `<name>.<namespace>.svc.cluster.local`.
pub fn host(namespace: &str, name: &str) -> String {
    format!("{name}.{namespace}.svc.{DOMAIN}")
}

/// `(namespace, name)` of a service's host.
pub fn service_of_host(host: &str) -> Option<(&str, &str)> {
    let (name, rest) = host.split_once('.')?;
    let namespace = rest.strip_suffix(".svc.cluster.local")?;
    (!name.is_empty() && !namespace.is_empty() && !namespace.contains('.')).then_some((namespace, name))
}

/// Name of the cluster for a service's port.
pub fn outbound(host: &str, port: u16) -> String {
    format!("outbound|{port}||{host}")
}

/// `(host, port)` of an outbound cluster's name.
pub fn parse_outbound(cluster: &str) -> Option<(&str, u16)> {
    let (port, host) = cluster.strip_prefix("outbound|")?.split_once("||")?;
    Some((host, port.parse().ok()?))
}

/// Name of the cluster for a port of the pod itself.
pub fn inbound(port: u16) -> String {
    format!("inbound|{port}||")
}

/// The server name that a mesh client says for a service's port.
pub fn sni(host: &str, port: u16) -> String {
    format!("outbound_.{port}_._.{host}")
}

/// Route configuration of a gateway's plain HTTP port.
pub fn gateway_http(port: u16) -> String {
    format!("http.{port}")
}

/// Route configuration of a gateway's HTTPS listener.
pub fn gateway_https(port: u16, listener: &str, gateway: &str, namespace: &str) -> String {
    format!("https.{port}.{listener}.{gateway}.{namespace}")
}

/// SDS name of a Secret for a gateway.
pub fn gateway_secret(namespace: &str, name: &str) -> String {
    format!("kubernetes-gateway://{namespace}/{name}")
}

/// `(namespace, name)` of such a secret.
pub fn parse_gateway_secret(secret: &str) -> Option<(&str, &str)> {
    secret.strip_prefix("kubernetes-gateway://")?.split_once('/')
}
