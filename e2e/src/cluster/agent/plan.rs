//! Which Service gets which address, and over which nodes it is reached. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// A Service of type LoadBalancer that is ours to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balanced {
    /// `namespace/name`.
    pub key: (String, String),
    /// The address that stands in its status.
    pub current: Option<Ipv4Addr>,
    /// The address that `spec.loadBalancerIP` asks for.
    pub wanted: Option<Ipv4Addr>,
    /// `externalTrafficPolicy: Local`: where nodes say whether they have an endpoint.
    pub health_port: Option<u16>,
}

/// What has to be so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Address of each Service.
    pub addresses: BTreeMap<(String, String), Ipv4Addr>,
    /// Nodes of each address; none: it is not reachable.
    pub routes: BTreeMap<Ipv4Addr, Vec<Ipv4Addr>>,
}

/// Addresses that are given stay as they are; new ones are the lowest free ones. A Service for which none is free has none.
///
/// `ready`: nodes that take traffic. `healthy`: for Services with a health port, nodes that answered there.
pub fn plan(
    services: &[Balanced],
    pool: impl Iterator<Item = Ipv4Addr>,
    ready: &[Ipv4Addr],
    healthy: &BTreeSet<(u16, Ipv4Addr)>,
) -> Plan {
    let pool: Vec<Ipv4Addr> = pool.collect();
    let mut taken = BTreeSet::new();
    let mut addresses = BTreeMap::new();
    // Who has an address first, then who asks for one, then the rest.
    let kept = services.iter().filter_map(|service| Some((service, service.current?)));
    let asked = services
        .iter()
        .filter(|service| service.current.is_none())
        .filter_map(|service| Some((service, service.wanted?)));
    for (service, address) in kept.chain(asked) {
        if pool.contains(&address) && taken.insert(address) {
            addresses.insert(service.key.clone(), address);
        }
    }
    for service in services {
        if addresses.contains_key(&service.key) || service.wanted.is_some_and(|_| service.current.is_none()) {
            continue;
        }
        if let Some(free) = pool.iter().find(|address| !taken.contains(*address)) {
            taken.insert(*free);
            addresses.insert(service.key.clone(), *free);
        }
    }
    let mut routes = BTreeMap::new();
    for service in services {
        let Some(address) = addresses.get(&service.key) else { continue };
        let serves = |node: &&Ipv4Addr| service.health_port.is_none_or(|port| healthy.contains(&(port, **node)));
        routes.insert(*address, ready.iter().filter(serves).copied().collect());
    }
    Plan { addresses, routes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> Balanced {
        Balanced { key: ("ns".into(), name.into()), current: None, wanted: None, health_port: None }
    }

    fn pool() -> impl Iterator<Item = Ipv4Addr> {
        (1..=2).map(|last| Ipv4Addr::new(10, 0, 0, last))
    }

    fn address(plan: &Plan, name: &str) -> Option<u8> {
        plan.addresses.get(&("ns".into(), name.into())).map(|address| address.octets()[3])
    }

    #[test]
    fn an_address_stays_and_a_full_pool_leaves_the_last_without() {
        let second = Balanced { current: Some(Ipv4Addr::new(10, 0, 0, 1)), ..service("b") };
        let plan = plan(&[service("a"), second, service("c")], pool(), &[], &BTreeSet::new());
        assert_eq!((address(&plan, "a"), address(&plan, "b"), address(&plan, "c")), (Some(2), Some(1), None));
    }

    #[test]
    fn an_address_that_is_asked_for_is_given_or_none() {
        let wants = |name: &str, last| Balanced { wanted: Some(Ipv4Addr::new(10, 0, 0, last)), ..service(name) };
        let plan = plan(&[wants("a", 2), wants("b", 2), wants("c", 99)], pool(), &[], &BTreeSet::new());
        assert_eq!((address(&plan, "a"), address(&plan, "b"), address(&plan, "c")), (Some(2), None, None));
    }

    #[test]
    fn a_local_service_is_routed_to_nodes_that_have_an_endpoint() {
        let nodes = [Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 1, 0, 2)];
        let local = Balanced { health_port: Some(30000), ..service("a") };
        let healthy = BTreeSet::from([(30000, nodes[1])]);
        let plan = plan(&[local, service("b")], pool(), &nodes, &healthy);
        let routes: Vec<Vec<Ipv4Addr>> = plan.routes.into_values().collect();
        assert_eq!(routes, [vec![nodes[1]], nodes.to_vec()]);
    }
}
