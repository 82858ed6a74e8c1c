//! The names of the mesh as the pod says them, pure: Istio's name table and the pod's place in, addresses out.
//!
//! The rules are Istio's (its DNS proxying page): a Service is known by its full name, by `name.namespace.svc` and
//! `name.namespace`, and within its own namespace by `name`; each of them also behind the first search domain, which is
//! what a client asks for first. That is answered with an alias, so that it asks no further.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ferromesh_proto::istio::networking::nds::v1::NameTable;
use ferromesh_proto::istio::networking::nds::v1::name_table::NameInfo;

/// Names of other registries have no short forms.
const KUBERNETES: &str = "Kubernetes";

/// Where the pod is, as far as names go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its namespace.
    pub namespace: String,
    /// Its domain without the namespace: `svc.cluster.local`.
    pub domain: String,
    /// The first search domain of its `resolv.conf`.
    pub search: Option<String>,
}

impl Place {
    /// `domain` may begin with the namespace.
    pub fn new(namespace: &str, domain: &str, search: Option<&str>) -> Self {
        let rest = domain.strip_prefix(namespace).and_then(|rest| rest.strip_prefix('.'));
        let clean = |name: &str| name.trim_matches('.').to_ascii_lowercase();
        Self {
            namespace: namespace.to_owned(),
            domain: clean(rest.unwrap_or(domain)),
            search: search.map(clean).filter(|search| !search.is_empty()),
        }
    }
}

/// Addresses of a name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// For A records.
    pub v4: Vec<Ipv4Addr>,
    /// For AAAA records.
    pub v6: Vec<Ipv6Addr>,
}

/// Names in lower case, without a dot at their end.
#[derive(Debug, Default)]
pub struct Table {
    names: HashMap<Box<str>, Arc<Addresses>>,
    has_wildcards: bool,
    search: Option<String>,
}

/// A name that is known.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Its addresses.
    pub addresses: &'a Addresses,
    /// It is an alias of the name that its first so many labels are.
    pub labels: Option<usize>,
}

impl Table {
    /// The names of `table` as a pod at `place` says them.
    pub fn new(table: &NameTable, place: &Place) -> Self {
        let mut all: Vec<(u8, String, Arc<Addresses>)> = Vec::with_capacity(table.table.len() * 3);
        for (host, info) in &table.table {
            let addresses = addresses(info);
            if addresses.v4.is_empty() && addresses.v6.is_empty() {
                continue;
            }
            let addresses = Arc::new(addresses);
            let forms = forms(host, info, place).into_iter();
            all.extend(forms.map(|(rank, name)| (rank, name.to_ascii_lowercase(), addresses.clone())));
        }
        // Where two names have one form, the longer name is meant.
        all.sort_by_key(|(rank, _, _)| *rank);
        let has_wildcards = all.iter().any(|(_, name, _)| name.starts_with("*."));
        let mut names = HashMap::with_capacity(all.len());
        for (_, name, addresses) in all {
            names.entry(name.into_boxed_str()).or_insert(addresses);
        }
        Self { names, has_wildcards, search: place.search.clone() }
    }

    /// How many forms of names there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Looks a name up: itself, then behind the search domain, then by a wildcard, the longest one first.
    pub fn find(&self, name: &str) -> Option<Found<'_>> {
        if let Some(found) = self.one(name, name, "") {
            return Some(found);
        }
        if !self.has_wildcards {
            return None;
        }
        let suffixes = name.match_indices('.').filter_map(|(at, _)| name.get(at + 1..));
        suffixes.into_iter().find_map(|suffix| self.one(name, suffix, "*."))
    }

    /// `name` by `prefix` before `part` of it.
    fn one(&self, name: &str, part: &str, prefix: &str) -> Option<Found<'_>> {
        let get = |part: &str| {
            if prefix.is_empty() { self.names.get(part) } else { self.names.get(format!("{prefix}{part}").as_str()) }
        };
        if let Some(addresses) = get(part) {
            return Some(Found { addresses, labels: None });
        }
        let search = self.search.as_deref()?;
        let behind = |text: &str| text.strip_suffix(search)?.strip_suffix('.').map(str::len);
        // What ends with the search domain by itself is asked for as it is.
        let short = part.get(..behind(part)?).filter(|short| !short.ends_with(search))?;
        let addresses = get(short)?;
        let asked = name.get(..behind(name)?)?;
        Some(Found { addresses, labels: Some(asked.split('.').count()) })
    }
}

fn addresses(info: &NameInfo) -> Addresses {
    let mut addresses = Addresses::default();
    for ip in &info.ips {
        match ip.parse() {
            Ok(IpAddr::V4(ip)) => addresses.v4.push(ip),
            Ok(IpAddr::V6(ip)) => addresses.v6.push(ip),
            Err(_) => tracing::debug!(%ip, "a name's address is none"),
        }
    }
    addresses
}

/// All forms of a name, each with how much it says (0 is most).
fn forms(host: &str, info: &NameInfo, place: &Place) -> Vec<(u8, String)> {
    let full = host.trim_end_matches('.');
    if info.registry != KUBERNETES {
        return vec![(0, full.to_owned())];
    }
    if full != host {
        // Names of Services have no dot at their end.
        return Vec::new();
    }
    let mut forms = vec![(0, full.to_owned())];
    let NameInfo { shortname, namespace, .. } = info;
    // Short names of another cluster's domain could be those of this one's.
    if place.domain.is_empty() || !full.ends_with(&place.domain) || shortname.is_empty() || namespace.is_empty() {
        return forms;
    }
    let first = place.domain.split('.').next().unwrap_or_default();
    forms.extend(info.alt_hosts.iter().map(|name| (1, name.trim_end_matches('.').to_owned())));
    forms.push((2, format!("{shortname}.{namespace}.{first}")));
    forms.push((3, format!("{shortname}.{namespace}")));
    if *namespace == place.namespace {
        forms.push((4, shortname.clone()));
    }
    forms
}
