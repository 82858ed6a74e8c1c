//! A patch's `match` and a generated resource go in; whether they fit comes out.

use std::collections::BTreeMap;

use ferromesh_proto::envoy::config::cluster::v3::Cluster;
use ferromesh_proto::envoy::config::listener::v3::{Filter, FilterChain, Listener};
use ferromesh_proto::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost, route::Action};
use serde::Deserialize;

use super::patch::Context;

/// What matching needs to know about the proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxy {
    /// A gateway, not a sidecar.
    pub gateway: bool,
    /// `ISTIO_VERSION` of its metadata.
    pub version: String,
    /// Its metadata: strings only.
    pub metadata: BTreeMap<String, String>,
}

/// A listener with what a match can mean by it beside its own name and address.
#[derive(Clone, Debug, Default)]
pub struct PatchListener {
    /// The listener.
    pub listener: Listener,
    /// Its context.
    pub context: Option<Context>,
    /// The port that `portNumber` means, where it is not that of the address (pods told apart by port).
    pub port: Option<u32>,
    /// Another name that `name` may mean.
    pub alias: Option<&'static str>,
}

/// `match.listener`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListenerMatch {
    /// Name of the listener.
    pub name: String,
    /// Its port.
    pub port_number: u32,
    /// Name of its port (not used, as in Istio).
    pub port_name: String,
    /// A filter chain of it.
    pub filter_chain: Option<FilterChainMatch>,
    /// A listener filter of it.
    pub listener_filter: String,
}

/// `match.listener.filterChain`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FilterChainMatch {
    /// Name of the chain.
    pub name: String,
    /// One of its server names.
    pub sni: String,
    /// Its transport protocol.
    pub transport_protocol: String,
    /// Application protocols, divided by commas; it must have all of them.
    pub application_protocols: String,
    /// Its destination port.
    pub destination_port: u32,
    /// A network filter of it.
    pub filter: Option<FilterMatch>,
}

/// `match.listener.filterChain.filter`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FilterMatch {
    /// Name of the network filter.
    pub name: String,
    /// A filter in it.
    pub sub_filter: Option<SubFilterMatch>,
}

/// `match.listener.filterChain.filter.subFilter`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SubFilterMatch {
    /// Name of the HTTP filter.
    pub name: String,
}

/// `match.routeConfiguration`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteConfigurationMatch {
    /// Port.
    pub port_number: u32,
    /// Name of the port (gateways).
    pub port_name: String,
    /// `namespace/name` of an Istio Gateway.
    pub gateway: String,
    /// Name.
    pub name: String,
    /// A virtual host in it.
    pub vhost: Option<VirtualHostMatch>,
}

/// `match.routeConfiguration.vhost`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualHostMatch {
    /// Name.
    pub name: String,
    /// One of its domains.
    pub domain_name: String,
    /// A route in it.
    pub route: Option<RouteMatch>,
}

/// `match.routeConfiguration.vhost.route`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RouteMatch {
    /// Name.
    pub name: String,
    /// `ANY`, `ROUTE`, `REDIRECT` or `DIRECT_RESPONSE`.
    pub action: String,
}

/// `match.cluster`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterMatch {
    /// Port.
    pub port_number: u32,
    /// Full name of the service.
    pub service: String,
    /// Subset.
    pub subset: String,
    /// Name of the cluster; alone if it is there.
    pub name: String,
}

impl ListenerMatch {
    /// Whether the listener fits; `whole` if the patch changes the listener itself.
    pub fn fits(&self, subject: &PatchListener, whole: bool) -> bool {
        let name = subject.listener.name.as_str();
        if !self.name.is_empty() && self.name != name && subject.alias != Some(self.name.as_str()) {
            return false;
        }
        // The virtual listeners stand for every port; their filter chains are asked instead.
        if self.port_number == 0 || (is_virtual(name) && !whole) {
            return true;
        }
        subject.port.or_else(|| listener_port(&subject.listener)) == Some(self.port_number)
    }

    /// Whether a filter chain of `subject` fits.
    pub fn fits_chain(&self, subject: &PatchListener, chain: &FilterChain) -> bool {
        let own_port = chain.filter_chain_match.as_ref().and_then(|found| found.destination_port);
        // A virtual listener's chain that names no port is for those that nobody names. Where the listener itself stands
        // for the port, its chains need not say it again.
        let says_another = match own_port {
            Some(port) => port != self.port_number,
            None => is_virtual(&subject.listener.name),
        };
        if self.port_number > 0 && subject.port.is_none() && says_another {
            return false;
        }
        self.filter_chain.as_ref().is_none_or(|wanted| wanted.fits(chain, own_port.or(subject.port)))
    }

    /// Whether a network filter fits.
    pub fn fits_filter(&self, filter: &Filter) -> bool {
        self.filter_name().is_none_or(|name| same_name(name, &filter.name))
    }

    /// The network filter that is named, if any.
    pub fn filter_name(&self) -> Option<&str> {
        let name = self.filter_chain.as_ref()?.filter.as_ref()?.name.as_str();
        (!name.is_empty()).then_some(name)
    }

    /// The HTTP filter that is named, if any.
    pub fn sub_filter_name(&self) -> Option<&str> {
        let name = self.filter_chain.as_ref()?.filter.as_ref()?.sub_filter.as_ref()?.name.as_str();
        (!name.is_empty()).then_some(name)
    }

    /// The listener filter that is named, if any.
    pub fn listener_filter_name(&self) -> Option<&str> {
        (!self.listener_filter.is_empty()).then_some(self.listener_filter.as_str())
    }
}

impl FilterChainMatch {
    fn fits(&self, chain: &FilterChain, port: Option<u32>) -> bool {
        let found = chain.filter_chain_match.as_ref();
        let has = |protocol: &str| {
            found.is_some_and(|found| found.application_protocols.iter().any(|other| other == protocol))
        };
        let transport = &self.transport_protocol;
        let mut protocols = self.application_protocols.split(',').map(str::trim).filter(|word| !word.is_empty());
        (self.name.is_empty() || self.name == chain.name)
            && (self.sni.is_empty() || found.is_some_and(|found| found.server_names.contains(&self.sni)))
            && (transport.is_empty() || found.is_some_and(|found| found.transport_protocol == *transport))
            && protocols.all(has)
            && (self.destination_port == 0 || port == Some(self.destination_port))
    }
}

/// Whether this is the name of a listener that stands for every port.
fn is_virtual(name: &str) -> bool {
    name == super::listener::VIRTUAL_INBOUND || name == super::listener::VIRTUAL_OUTBOUND
}

/// The port of a listener's address.
pub fn listener_port(listener: &Listener) -> Option<u32> {
    use ferromesh_proto::envoy::config::core::v3::{address::Address, socket_address::PortSpecifier};
    match listener.address.as_ref()?.address.as_ref()? {
        Address::SocketAddress(socket) => match socket.port_specifier.as_ref()? {
            PortSpecifier::PortValue(port) => Some(*port),
            PortSpecifier::NamedPort(_) => None,
        },
        _ => None,
    }
}

impl RouteConfigurationMatch {
    /// Whether the route configuration fits.
    pub fn fits(&self, context: Context, config: &RouteConfiguration) -> bool {
        if !self.name.is_empty() && self.name != config.name {
            return false;
        }
        if context != Context::Gateway {
            return self.port_number == 0 || sidecar_port(&config.name) == Some(self.port_number);
        }
        // `http.<port>` or `https.<port>.<port name>.<gateway>.<namespace>`.
        let mut parts = config.name.splitn(5, '.').skip(1);
        let port = parts.next().and_then(|port| port.parse().ok());
        let port_name = parts.next().unwrap_or_default();
        let gateway = match (parts.next(), parts.next()) {
            (Some(name), Some(namespace)) => format!("{namespace}/{name}"),
            _ => String::new(),
        };
        (self.port_number == 0 || port == Some(self.port_number))
            && (self.port_name.is_empty() || self.port_name == port_name)
            && (self.gateway.is_empty() || self.gateway == gateway)
    }

    /// Whether a virtual host fits.
    pub fn fits_virtual_host(&self, host: &VirtualHost) -> bool {
        let Some(wanted) = &self.vhost else { return true };
        (wanted.name.is_empty() || wanted.name == host.name)
            && (wanted.domain_name.is_empty() || host.domains.contains(&wanted.domain_name))
    }

    /// The word for what a route does, if it is none that is known.
    pub fn odd_action(&self) -> Option<&str> {
        let action = self.route()?.action.as_str();
        (!matches!(action, "" | "ANY" | "ROUTE" | "REDIRECT" | "DIRECT_RESPONSE")).then_some(action)
    }

    /// The route that is named, if any.
    pub fn route(&self) -> Option<&RouteMatch> {
        self.vhost.as_ref()?.route.as_ref()
    }
}

/// `80`, `svc.ns.svc.cluster.local:80` or `inbound|80||` to 80.
fn sidecar_port(name: &str) -> Option<u32> {
    if let Some(rest) = name.strip_prefix("inbound|") {
        return rest.split('|').next()?.parse().ok();
    }
    name.rsplit(':').next()?.parse().ok()
}

impl RouteMatch {
    /// Whether a route fits.
    pub fn fits(&self, route: &Route) -> bool {
        let action = match self.action.as_str() {
            "ROUTE" => matches!(route.action, Some(Action::Route(_))),
            "REDIRECT" => matches!(route.action, Some(Action::Redirect(_))),
            "DIRECT_RESPONSE" => matches!(route.action, Some(Action::DirectResponse(_))),
            _ => true,
        };
        action && (self.name.is_empty() || self.name == route.name)
    }
}

impl ClusterMatch {
    /// Whether a cluster fits; `hosts` are the services of an inbound cluster, whose name does not say them.
    pub fn fits(&self, cluster: &Cluster, hosts: &[String]) -> bool {
        if !self.name.is_empty() {
            return self.name == cluster.name;
        }
        let mut parts = cluster.name.splitn(4, '|');
        let direction = parts.next().unwrap_or_default();
        let port: Option<u32> = parts.next().and_then(|port| port.parse().ok());
        let subset = parts.next().unwrap_or_default();
        let host = parts.next().unwrap_or_default();
        let service = if direction == "inbound" && !hosts.is_empty() {
            hosts.contains(&self.service)
        } else {
            self.service == host
        };
        (self.service.is_empty() || service)
            && (self.subset.is_empty() || self.subset == subset)
            && (self.port_number == 0 || port == Some(self.port_number))
    }
}

/// Whether two filter names mean the same filter; names that Envoy has given up mean their successors.
pub fn same_name(wanted: &str, found: &str) -> bool {
    wanted == found || canonical(wanted) == canonical(found)
}

fn canonical(name: &str) -> &str {
    match name {
        "envoy.http_connection_manager" => "envoy.filters.network.http_connection_manager",
        "envoy.tcp_proxy" => "envoy.filters.network.tcp_proxy",
        "envoy.ratelimit" => "envoy.filters.network.ratelimit",
        "envoy.router" => "envoy.filters.http.router",
        "envoy.cors" => "envoy.filters.http.cors",
        "envoy.fault" => "envoy.filters.http.fault",
        "envoy.lua" => "envoy.filters.http.lua",
        "envoy.ext_authz" => "envoy.filters.http.ext_authz",
        "envoy.buffer" => "envoy.filters.http.buffer",
        "envoy.rate_limit" => "envoy.filters.http.ratelimit",
        "envoy.gzip" => "envoy.filters.http.gzip",
        "envoy.listener.tls_inspector" => "envoy.filters.listener.tls_inspector",
        "envoy.listener.http_inspector" => "envoy.filters.listener.http_inspector",
        "envoy.listener.original_dst" => "envoy.filters.listener.original_dst",
        "envoy.listener.proxy_protocol" => "envoy.filters.listener.proxy_protocol",
        other => other,
    }
}
