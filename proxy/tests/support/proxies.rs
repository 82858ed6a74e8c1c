//! Proxies with a static configuration: one listener `in` that leads to one cluster `c`.

use std::net::SocketAddr;

use ferromesh_proxy::app::Proxy;

use crate::peers::{self, get, proxy};

/// What differs between tests; each a piece of YAML in flow style.
#[derive(Default)]
pub struct Setup<'a> {
    /// The cluster without its name.
    pub cluster: &'a str,
    /// The route's action beside `cluster: c`.
    pub route: &'a str,
    /// Fields of the connection manager.
    pub manager: &'a str,
    /// Another cluster without its name, which is `m`; none if empty.
    pub other: &'a str,
}

impl Setup<'_> {
    pub fn bootstrap(&self) -> String {
        let Self { cluster, route, manager, other } = self;
        let other =
            if other.is_empty() { String::new() } else { format!("  - {{name: m, connect_timeout: 5s, {other}}}") };
        format!(
            r#"
node: {{id: test, cluster: test}}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
static_resources:
  listeners:
  - name: in
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    filter_chains:
    - filters:
      - name: http
        typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager,
          stat_prefix: in, {manager}
          route_config: {{name: local, virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: c{route}}}}}]}}]}},
          http_filters: [{{name: router, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}]}}
  clusters:
  - {{name: c, connect_timeout: 5s, {cluster}}}
{other}
"#
        )
    }

    /// A proxy that serves it.
    pub async fn start(&self) -> Serving {
        Serving::new(proxy(&self.bootstrap())).await
    }
}

/// A proxy that serves.
pub struct Serving {
    pub proxy: Proxy,
    pub address: SocketAddr,
    pub admin: SocketAddr,
}

impl Serving {
    pub async fn new(proxy: Proxy) -> Self {
        tokio::time::timeout(peers::PATIENCE, proxy.ready()).await.expect("ready in time");
        let (address, admin) = (proxy.listener_addr("in").unwrap(), proxy.admin_addr().unwrap());
        Self { proxy, address, admin }
    }

    /// `/clusters`.
    pub async fn clusters(&self) -> String {
        get(self.admin, "/clusters").await.1
    }

    /// Addresses of the cluster's hosts.
    pub async fn hosts(&self, cluster: &str) -> Vec<String> {
        let text = self.clusters().await;
        let prefix = format!("{cluster}::");
        text.lines()
            .filter_map(|line| line.strip_prefix(&prefix)?.strip_suffix("::priority::0"))
            .map(str::to_owned)
            .collect()
    }

    /// A host's `health_flags`.
    pub async fn flags(&self, host: SocketAddr) -> String {
        let text = self.clusters().await;
        let prefix = format!("c::{host}::health_flags::");
        text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or("no such host").to_owned()
    }

    /// A metric by its full name.
    pub async fn stat(&self, name: &str) -> u64 {
        stat(self.admin, name).await
    }
}

/// A metric by its full name.
pub async fn stat(admin: SocketAddr, name: &str) -> u64 {
    let text = get(admin, "/stats").await.1;
    let prefix = format!("{name}: ");
    text.lines().find_map(|line| line.strip_prefix(&prefix)?.parse().ok()).unwrap_or_else(|| panic!("no metric {name}"))
}

/// Endpoints of `c` as a `load_assignment`; each an address and further fields.
pub fn endpoints(hosts: &[(SocketAddr, &str)]) -> String {
    format!("load_assignment: {{cluster_name: c, endpoints: [{}]}}", locality(hosts, ""))
}

/// One `LocalityLbEndpoints`.
pub fn locality(hosts: &[(SocketAddr, &str)], more: &str) -> String {
    let endpoints: Vec<String> = hosts
        .iter()
        .map(|(address, more)| {
            format!(
                "{{endpoint: {{address: {{socket_address: {{address: '{}', port_value: {}}}}}}}{more}}}",
                address.ip(),
                address.port()
            )
        })
        .collect();
    format!("{{lb_endpoints: [{}]{more}}}", endpoints.join(", "))
}
