//! Endpoints: from a ClusterLoadAssignment to hosts, keeping the identity of those that stay.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::config::endpoint::v3 as endpoint;
use ferromesh_proto::json;
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::{Map, Value};

use super::health::{HostCheck, HostHealth, Unhealthy};
use super::{Cluster, Host, HostAddress, Transport};
use crate::config::{At, ConfigError, required};
use crate::text::Text;

/// Host ids are keys of connection pools and never come back; counting them is all that proxies of one process share.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// The hosts of a cluster by priority and locality.
#[derive(Debug, Default)]
pub struct Assignment {
    /// Localities.
    pub localities: Vec<LocalityHosts>,
    /// Percent by which healthy hosts may be loaded beyond their share; Envoy's 140.
    pub overprovisioning: u32,
}

/// Hosts of one locality and priority.
#[derive(Debug, Default)]
pub struct LocalityHosts {
    /// 0 is highest.
    pub priority: u32,
    /// Region, zone, sub-zone.
    pub locality: Arc<[Text; 3]>,
    /// Its weight among localities of its priority.
    pub weight: u32,
    /// Its hosts.
    pub hosts: Vec<Arc<Host>>,
}

impl Assignment {
    /// Keeps hosts of `before` that are not here any more, as long as their active checks pass (Envoy, "Health checking",
    /// and `ignore_health_on_host_removal`). A locality that is here no more has no weight.
    pub(super) fn keep_passing(&mut self, before: &Self) {
        let here: FxHashSet<u64> =
            self.localities.iter().flat_map(|locality| &locality.hosts).map(|host| host.id).collect();
        for old in &before.localities {
            let stays = |host: &&Arc<Host>| !here.contains(&host.id) && host.passes_checks();
            let kept: Vec<Arc<Host>> = old.hosts.iter().filter(stays).cloned().collect();
            if kept.is_empty() {
                continue;
            }
            kept.iter().for_each(|host| _ = host.health.set(Unhealthy::PendingRemoval, true));
            let is_same = |new: &&mut LocalityHosts| new.priority == old.priority && new.locality == old.locality;
            match self.localities.iter_mut().find(is_same) {
                Some(new) => new.hosts.extend(kept),
                None => {
                    let (priority, locality) = (old.priority, old.locality.clone());
                    self.localities.push(LocalityHosts { priority, locality, weight: 0, hosts: kept });
                }
            }
        }
    }

    /// The same without hosts that are meant.
    pub(super) fn without(&self, is_meant: impl Fn(&Arc<Host>) -> bool) -> Self {
        let localities = self.localities.iter().map(|locality| LocalityHosts {
            priority: locality.priority,
            locality: locality.locality.clone(),
            weight: locality.weight,
            hosts: locality.hosts.iter().filter(|host| !is_meant(host)).cloned().collect(),
        });
        Self { localities: localities.collect(), overprovisioning: self.overprovisioning }
    }
}

impl Host {
    /// Whether it is checked, and passes.
    fn passes_checks(&self) -> bool {
        let is_checked = !self.check.as_ref().is_some_and(|check| check.disabled);
        let fails = [Unhealthy::ActiveCheck, Unhealthy::Eds];
        is_checked && !fails.into_iter().any(|reason| self.health.has(reason))
    }
}

/// Where an endpoint of the configuration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Here.
    Address(HostAddress),
    /// At the addresses of this name.
    Name(String, u16),
}

/// An endpoint as configured.
#[derive(Debug, Clone)]
pub struct Template {
    /// Where.
    pub target: Target,
    hostname: Text,
    metadata: Arc<Map<String, Value>>,
    locality: Arc<[Text; 3]>,
    priority: u32,
    weight: u32,
    transport: usize,
    check: Option<Arc<HostCheck>>,
    health: core::HealthStatus,
}

/// A ClusterLoadAssignment, decoded.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    localities: Vec<PlannedLocality>,
    overprovisioning: u32,
}

#[derive(Debug, Clone)]
struct PlannedLocality {
    priority: u32,
    locality: Arc<[Text; 3]>,
    weight: u32,
    endpoints: Vec<Template>,
}

impl Plan {
    /// The names that must be resolved.
    pub fn names(&self) -> impl Iterator<Item = (&str, u16)> {
        self.localities.iter().flat_map(|locality| &locality.endpoints).filter_map(|template| match &template.target {
            Target::Name(name, port) => Some((name.as_str(), *port)),
            Target::Address(_) => None,
        })
    }

    /// Number of endpoints.
    pub fn count(&self) -> usize {
        self.localities.iter().map(|locality| locality.endpoints.len()).sum()
    }

    /// The hosts, with what names stand for by `resolve`; unchanged addresses keep the identity they have in `before`.
    pub(super) fn hosts(
        &self,
        before: &Assignment,
        new_health: &dyn Fn() -> HostHealth,
        resolve: &dyn Fn(&str) -> Vec<IpAddr>,
    ) -> Assignment {
        let known: FxHashMap<&HostAddress, &Arc<Host>> =
            before.localities.iter().flat_map(|locality| &locality.hosts).map(|host| (&host.address, host)).collect();
        let mut made: FxHashMap<HostAddress, Arc<Host>> = FxHashMap::default();
        let localities = self.localities.iter().map(|locality| {
            let mut hosts = Vec::with_capacity(locality.endpoints.len());
            for template in &locality.endpoints {
                for address in template.addresses(resolve) {
                    let old = made.get(&address).or_else(|| known.get(&address).copied());
                    let host = template.host(&address, old, new_health);
                    made.insert(address, host.clone());
                    hosts.push(host);
                }
            }
            LocalityHosts {
                priority: locality.priority,
                locality: locality.locality.clone(),
                weight: locality.weight,
                hosts,
            }
        });
        Assignment { localities: localities.collect(), overprovisioning: self.overprovisioning }
    }
}

impl Template {
    fn addresses(&self, resolve: &dyn Fn(&str) -> Vec<IpAddr>) -> Vec<HostAddress> {
        match &self.target {
            Target::Address(address) => vec![address.clone()],
            Target::Name(name, port) => {
                resolve(name).into_iter().map(|ip| HostAddress::Tcp(SocketAddr::new(ip, *port))).collect()
            }
        }
    }

    fn host(&self, address: &HostAddress, old: Option<&Arc<Host>>, new_health: &dyn Fn() -> HostHealth) -> Arc<Host> {
        let health = old.map_or_else(|| Arc::new(new_health()), |old| old.health.clone());
        health.set(Unhealthy::Eds, matches!(self.health, core::HealthStatus::Unhealthy | core::HealthStatus::Timeout));
        health.set(Unhealthy::Draining, self.health == core::HealthStatus::Draining);
        health.set(Unhealthy::Degraded, self.health == core::HealthStatus::Degraded);
        health.set(Unhealthy::PendingRemoval, false);
        if let Some(old) = old.filter(|old| self.describes(old)) {
            return old.clone();
        }
        Arc::new(Host {
            id: old.map_or_else(|| NEXT_ID.fetch_add(1, Ordering::Relaxed), |old| old.id),
            address: address.clone(),
            hostname: self.hostname.clone(),
            metadata: self.metadata.clone(),
            locality: self.locality.clone(),
            priority: self.priority,
            weight: self.weight,
            transport: self.transport,
            check: self.check.clone(),
            active: old.map(|old| old.active.clone()).unwrap_or_default(),
            health,
            stats: old.map(|old| old.stats.clone()).unwrap_or_default(),
        })
    }

    /// Whether the host is just as this says, so that it can stay as it is.
    fn describes(&self, host: &Host) -> bool {
        host.hostname == self.hostname
            && host.weight == self.weight
            && host.priority == self.priority
            && host.transport == self.transport
            && host.locality == self.locality
            && host.metadata == self.metadata
            && host.check == self.check
    }
}

/// Decodes endpoints. `transports` give each host its transport by metadata.
pub(super) fn decode(
    assignment: &endpoint::ClusterLoadAssignment,
    transports: &[Transport],
) -> Result<Plan, ConfigError> {
    let mut localities = Vec::with_capacity(assignment.endpoints.len());
    let mut shared: HashMap<[Text; 3], Arc<[Text; 3]>> = HashMap::new();
    for (index, group) in assignment.endpoints.iter().enumerate() {
        let names = group.locality.as_ref().map_or_else(Default::default, locality);
        let locality = shared.entry(names.clone()).or_insert_with(|| Arc::new(names)).clone();
        let mut endpoints = Vec::with_capacity(group.lb_endpoints.len());
        for (place, endpoint) in group.lb_endpoints.iter().enumerate() {
            let template = template(endpoint, group, &locality, &assignment.named_endpoints, transports);
            endpoints.push(template.at(format_args!("endpoints[{index}].lb_endpoints[{place}]"))?);
        }
        if group.priority > 128 {
            return Err(ConfigError::new(format!("endpoints[{index}].priority"), "must be at most 128"));
        }
        let weight = group.load_balancing_weight.unwrap_or_default();
        localities.push(PlannedLocality { priority: group.priority, locality, weight, endpoints });
    }
    let overprovisioning = assignment.policy.as_ref().and_then(|policy| policy.overprovisioning_factor).unwrap_or(140);
    Ok(Plan { localities, overprovisioning })
}

fn locality(locality: &core::Locality) -> [Text; 3] {
    [&locality.region, &locality.zone, &locality.sub_zone].map(|name| Text::from(name.as_str()))
}

fn template(
    lb_endpoint: &endpoint::LbEndpoint,
    group: &endpoint::LocalityLbEndpoints,
    locality: &Arc<[Text; 3]>,
    named: &BTreeMap<String, endpoint::Endpoint>,
    transports: &[Transport],
) -> Result<Template, ConfigError> {
    let endpoint = match required(lb_endpoint.host_identifier.as_ref(), "endpoint")? {
        endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint) => endpoint,
        endpoint::lb_endpoint::HostIdentifier::EndpointName(name) => named
            .get(name)
            .ok_or_else(|| ConfigError::new("endpoint_name", format!("{name:?} is not in named_endpoints")))?,
    };
    let target = required(endpoint.address.as_ref(), "endpoint.address").and_then(target).at("endpoint.address")?;
    let metadata = merged_metadata(group.metadata.as_ref(), lb_endpoint.metadata.as_ref());
    let hostname = match &target {
        Target::Name(name, _) if endpoint.hostname.is_empty() => Text::from(name.as_str()),
        _ => Text::from(endpoint.hostname.as_str()),
    };
    let check =
        endpoint.health_check_config.as_ref().map(HostCheck::decode).transpose().at("endpoint.health_check_config")?;
    Ok(Template {
        hostname,
        transport: transport(transports, &metadata),
        metadata: Arc::new(metadata),
        locality: locality.clone(),
        priority: group.priority,
        weight: lb_endpoint.load_balancing_weight.unwrap_or(1).max(1),
        check: check.map(Arc::new),
        health: core::HealthStatus::try_from(lb_endpoint.health_status).unwrap_or(core::HealthStatus::Unknown),
        target,
    })
}

/// Metadata of the locality under that of the endpoint.
fn merged_metadata(outer: Option<&core::Metadata>, inner: Option<&core::Metadata>) -> Map<String, Value> {
    [outer, inner]
        .into_iter()
        .flatten()
        .flat_map(|metadata| &metadata.filter_metadata)
        .map(|(name, value)| (name.clone(), json::struct_to_json(value)))
        .collect()
}

/// The first transport whose criteria the endpoint's `envoy.transport_socket_match` metadata meets.
fn transport(transports: &[Transport], metadata: &Map<String, Value>) -> usize {
    let own = metadata.get("envoy.transport_socket_match");
    let meets = |transport: &Transport| {
        transport.criteria.iter().all(|(key, value)| own.and_then(|own| own.get(key)) == Some(value))
    };
    transports.iter().position(meets).unwrap_or(0)
}

/// An endpoint's address; a name where it is no IP address.
pub(super) fn target(address: &core::Address) -> Result<Target, ConfigError> {
    match required(address.address.as_ref(), "address")? {
        core::address::Address::SocketAddress(socket) => {
            let port = port(socket).at("socket_address")?;
            Ok(match socket.address.parse::<IpAddr>() {
                Ok(ip) => Target::Address(HostAddress::Tcp(SocketAddr::new(ip, port))),
                Err(_) if socket.address.is_empty() => {
                    return Err(ConfigError::new("socket_address.address", "must be set"));
                }
                Err(_) => Target::Name(socket.address.clone(), port),
            })
        }
        core::address::Address::Pipe(pipe) => Ok(Target::Address(HostAddress::Unix(pipe.path.as_str().into()))),
        core::address::Address::EnvoyInternalAddress(_) => {
            Err(ConfigError::new("envoy_internal_address", "is not implemented for endpoints"))
        }
    }
}

fn port(socket: &core::SocketAddress) -> Result<u16, ConfigError> {
    if socket.protocol != core::socket_address::Protocol::Tcp as i32 {
        return Err(ConfigError::new("protocol", "only TCP is implemented"));
    }
    match &socket.port_specifier {
        Some(core::socket_address::PortSpecifier::PortValue(port)) => {
            u16::try_from(*port).map_err(|_| ConfigError::new("port_value", "must be at most 65535"))
        }
        Some(core::socket_address::PortSpecifier::NamedPort(_)) => {
            Err(ConfigError::new("named_port", "is not implemented; use port_value"))
        }
        None => Ok(0),
    }
}

/// A host for an address that a connection wants to reach.
pub(super) fn original_host(address: SocketAddr, cluster: &Cluster) -> Arc<Host> {
    Arc::new(Host {
        id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        address: HostAddress::Tcp(address),
        hostname: Text::default(),
        metadata: Arc::default(),
        locality: Arc::default(),
        priority: 0,
        weight: 1,
        transport: cluster.config.transports.len().saturating_sub(1),
        check: None,
        active: Arc::default(),
        health: Arc::new(HostHealth::new(cluster.health_epoch.clone())),
        stats: Arc::default(),
    })
}
