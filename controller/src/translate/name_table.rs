//! The Services that a proxy sees go in; the names that its DNS proxy answers, with their addresses, come out (Istio's NDS).
//!
//! Short names and search domains are the agent's: it knows the pod's own namespace and `resolv.conf`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferromesh_proto::istio::networking::nds::v1::NameTable;
use ferromesh_proto::istio::networking::nds::v1::name_table::NameInfo;

use super::endpoint::is_ready;
use super::names;
use super::node::Node;
use super::service::{Reach, ServiceInfo};
use crate::index::{Key, View};

/// Name of the one resource: none, as in Istio.
pub const NAME: &str = "";
/// The registry of Services, as Istio calls it.
const KUBERNETES: &str = "Kubernetes";

/// Families of addresses that a pod can speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    v4: bool,
    v6: bool,
}

impl Families {
    /// Of the addresses that the proxy says to have.
    pub fn of(node: &Node) -> Self {
        let all = node.metadata.get("INSTANCE_IPS").map_or(node.ip.as_str(), String::as_str);
        let known: Vec<IpAddr> = all.split(',').filter_map(|ip| ip.trim().parse().ok()).collect();
        let has = |family: fn(&IpAddr) -> bool| known.is_empty() || known.iter().any(family);
        Self { v4: has(IpAddr::is_ipv4), v6: has(IpAddr::is_ipv6) }
    }

    fn has(self, ip: &IpAddr) -> bool {
        if ip.is_ipv4() { self.v4 } else { self.v6 }
    }
}

/// Whether a proxy has a DNS proxy: its agent was told so by `ISTIO_META_DNS_CAPTURE`, or (gateways) by
/// `ISTIO_META_ENABLE_DNS_SERVER`.
pub fn is_wanted(node: &Node) -> bool {
    // What Go's strconv.ParseBool takes.
    let is_true = |value: &String| ["1", "t", "T", "TRUE", "true", "True"].contains(&value.as_str());
    ["DNS_CAPTURE", "ENABLE_DNS_SERVER"].iter().any(|key| node.metadata.get(*key).is_some_and(is_true))
}

/// The names of these Services. One without an address that is known here is left to the cluster's own DNS.
pub fn name_table(view: &View, services: &[&ServiceInfo], families: Families) -> NameTable {
    let mut table = BTreeMap::new();
    for service in services {
        let ips = match &service.reach {
            Reach::Addresses(addresses) => {
                let parsed = addresses.iter().filter_map(|ip| ip.parse::<IpAddr>().ok());
                parsed.filter(|ip| families.has(ip)).map(|ip| ip.to_string()).collect()
            }
            Reach::Headless => headless(view, service, &mut table),
            Reach::ExternalName(_) => Vec::new(),
        };
        if !ips.is_empty() {
            table.insert(service.host.clone(), info(&service.key, service.key.name.to_string(), ips));
        }
    }
    NameTable { table }
}

fn info(key: &Key, shortname: String, ips: Vec<String>) -> NameInfo {
    NameInfo {
        ips,
        registry: KUBERNETES.to_owned(),
        shortname,
        namespace: key.namespace.to_string(),
        ..NameInfo::default()
    }
}

/// The addresses of a headless Service's pods. Pods with a hostname get a name of their own:
/// `<hostname>.<service>.<namespace>.svc.<domain>`, as Kubernetes' DNS specification has it.
fn headless(view: &View, service: &ServiceInfo, table: &mut BTreeMap<String, NameInfo>) -> Vec<String> {
    let key = &service.key;
    let Some(spec) = view.services.get(key).and_then(|found| found.spec.as_ref()) else { return Vec::new() };
    if spec.ports.as_ref().is_none_or(Vec::is_empty) {
        return Vec::new();
    }
    let with_unready = spec.publish_not_ready_addresses == Some(true);
    let mut seen = BTreeSet::new();
    let mut ips = Vec::new();
    let slices = view.slices_of(&key.namespace, &key.name);
    let endpoints = slices.flat_map(|slice| slice.endpoints.iter().flatten());
    for endpoint in endpoints.filter(|endpoint| with_unready || is_ready(endpoint)) {
        let known = endpoint.addresses.iter().filter_map(|ip| ip.parse::<IpAddr>().ok());
        let new: Vec<String> = known.filter(|ip| seen.insert(*ip)).map(|ip| ip.to_string()).collect();
        if let Some(hostname) = endpoint.hostname.as_ref().filter(|name| !name.is_empty() && !new.is_empty()) {
            let short = format!("{hostname}.{}", key.name);
            let host = names::host(&key.namespace, &short);
            let entry = table.entry(host).or_insert_with(|| info(key, short, Vec::new()));
            entry.ips.extend(new.iter().cloned());
        }
        ips.extend(new);
    }
    ips
}
