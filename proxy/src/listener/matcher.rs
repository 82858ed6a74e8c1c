//! Which filter chain serves a connection: Envoy's order of criteria, without backtracking.
//!
//! Destination port, destination IP, server name, transport protocol, application protocol, direct source IP,
//! source type, source IP, source port; at each step the most specific value that some chain names decides, and only
//! chains with that value stay (Envoy, "FilterChainMatch").

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ferromesh_proto::envoy::config::core::v3::CidrRange;
use ferromesh_proto::envoy::config::listener::v3 as proto;
use ipnet::IpNet;
use proto::filter_chain_match::ConnectionSourceType;

use crate::config::{At, ConfigError};

/// What is known about a connection when its chain is chosen.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// Where the peer wanted to go.
    pub local: SocketAddr,
    /// The peer, after PROXY protocol.
    pub remote: SocketAddr,
    /// The peer of the socket.
    pub direct_remote: SocketAddr,
    /// SNI in lower case; empty if none.
    pub server_name: &'a str,
    /// `tls` or `raw_buffer`.
    pub transport: &'a str,
    /// Application protocols that the peer offers.
    pub alpn: &'a [String],
}

/// Values of one criterion; `any` is for chains that do not name it.
#[derive(Debug)]
struct Exact<K, T> {
    named: HashMap<K, T>,
    any: Option<T>,
}

impl<K: Hash + Eq, T: Default> Exact<K, T> {
    fn entry(&mut self, key: Option<K>) -> &mut T {
        match key {
            Some(key) => self.named.entry(key).or_default(),
            None => self.any.get_or_insert_default(),
        }
    }
}

impl<K, T> Default for Exact<K, T> {
    fn default() -> Self {
        Self { named: HashMap::new(), any: None }
    }
}

/// Prefixes, longest first; `any` is for chains that name none.
#[derive(Debug)]
struct Prefixes<T> {
    named: Vec<(IpNet, T)>,
    any: Option<T>,
}

impl<T> Default for Prefixes<T> {
    fn default() -> Self {
        Self { named: Vec::new(), any: None }
    }
}

impl<T: Default> Prefixes<T> {
    fn entry(&mut self, key: Option<IpNet>) -> &mut T {
        let Some(key) = key else { return self.any.get_or_insert_default() };
        let place = match self.named.iter().position(|(net, _)| *net == key) {
            Some(place) => place,
            None => {
                let place = self.named.partition_point(|(net, _)| net.prefix_len() >= key.prefix_len());
                self.named.insert(place, (key, T::default()));
                place
            }
        };
        // `place` was found or inserted just above.
        &mut self.named[place].1
    }

    fn find(&self, address: IpAddr) -> Option<&T> {
        let address = address.to_canonical();
        let named = self.named.iter().find(|(net, _)| net.contains(&address)).map(|(_, value)| value);
        named.or(self.any.as_ref())
    }
}

type SourcePorts = Exact<u16, Option<usize>>;
type SourceTypes = [Option<Prefixes<SourcePorts>>; 3];
type Alpns = Exact<String, Prefixes<SourceTypes>>;
type Names = Exact<String, Exact<String, Alpns>>;

/// All chains of a listener, ordered for lookup.
#[derive(Debug, Default)]
pub struct Matcher {
    ports: Exact<u16, Prefixes<Names>>,
}

/// One criterion's values; one `None` if it is not named.
fn or_any<T>(values: Vec<T>) -> Vec<Option<T>> {
    if values.is_empty() { vec![None] } else { values.into_iter().map(Some).collect() }
}

impl Matcher {
    /// Orders the chains; a chain's place in `chains` is what [`Self::find`] gives back.
    ///
    /// # Errors
    /// If a criterion is malformed, or two chains match the same.
    pub fn build(chains: &[proto::FilterChain]) -> Result<Self, ConfigError> {
        let mut matcher = Self::default();
        let empty = proto::FilterChainMatch::default();
        for (index, chain) in chains.iter().enumerate() {
            let rule = chain.filter_chain_match.as_ref().unwrap_or(&empty);
            matcher.add(index, rule).at(format!("filter_chains[{index}].filter_chain_match"))?;
        }
        Ok(matcher)
    }

    fn add(&mut self, index: usize, rule: &proto::FilterChainMatch) -> Result<(), ConfigError> {
        let port = rule.destination_port.map(|port| self::port(port, "destination_port")).transpose()?;
        let destinations = or_any(prefixes(&rule.prefix_ranges, "prefix_ranges")?);
        let names = or_any(server_names(&rule.server_names)?);
        let transport = Some(rule.transport_protocol.clone()).filter(|name| !name.is_empty());
        let mut leaf = Leaf {
            index,
            direct: or_any(prefixes(&rule.direct_source_prefix_ranges, "direct_source_prefix_ranges")?),
            kind: match rule.source_type() {
                ConnectionSourceType::Any => 0,
                ConnectionSourceType::SameIpOrLoopback => 1,
                ConnectionSourceType::External => 2,
            },
            sources: or_any(prefixes(&rule.source_prefix_ranges, "source_prefix_ranges")?),
            ports: Vec::new(),
        };
        let ports: Result<Vec<_>, _> = rule.source_ports.iter().map(|port| self::port(*port, "source_ports")).collect();
        leaf.ports = or_any(ports?);
        let by_port = self.ports.entry(port);
        for destination in &destinations {
            let by_name = by_port.entry(*destination);
            for name in &names {
                let by_alpn = by_name.entry(name.clone()).entry(transport.clone());
                for alpn in or_any(rule.application_protocols.clone()) {
                    leaf.add(by_alpn.entry(alpn))?;
                }
            }
        }
        Ok(())
    }

    /// The place of the chain that serves a connection; `None` leaves it to the default chain.
    pub fn find(&self, facts: &Facts<'_>) -> Option<usize> {
        // A chain that names this port shuts out the ones that name none.
        let by_port = self.ports.named.get(&facts.local.port()).or(self.ports.any.as_ref())?;
        let by_name = by_port.find(facts.local.ip())?;
        let by_transport = find_name(by_name, facts.server_name)?;
        let by_alpn = by_transport.named.get(facts.transport).or(by_transport.any.as_ref())?;
        let named = facts.alpn.iter().find_map(|name| by_alpn.named.get(name));
        let by_type = named.or(by_alpn.any.as_ref())?.find(facts.direct_remote.ip())?;
        let [any, local, external] = by_type;
        let same = is_same_or_loopback(facts);
        let specific = if same { local } else { external };
        let by_source = specific.as_ref().or(any.as_ref())?;
        let by_port = by_source.find(facts.remote.ip())?;
        *by_port.named.get(&facts.remote.port()).or(by_port.any.as_ref())?
    }
}

/// The criteria below the application protocol.
struct Leaf {
    index: usize,
    direct: Vec<Option<IpNet>>,
    kind: usize,
    sources: Vec<Option<IpNet>>,
    ports: Vec<Option<u16>>,
}

impl Leaf {
    fn add(&self, by_direct: &mut Prefixes<SourceTypes>) -> Result<(), ConfigError> {
        for direct in &self.direct {
            let by_type = by_direct.entry(*direct);
            let Some(by_type) = by_type.get_mut(self.kind) else { continue };
            let by_source = by_type.get_or_insert_default();
            for source in &self.sources {
                let by_port = by_source.entry(*source);
                for port in &self.ports {
                    let place = by_port.entry(*port);
                    if let Some(other) = place.filter(|other| *other != self.index) {
                        let reason = format!("matches the same connections as filter_chains[{other}]");
                        return Err(ConfigError::new("", reason));
                    }
                    *place = Some(self.index);
                }
            }
        }
        Ok(())
    }
}

/// The exact name, else the longest wildcard, else chains without names.
fn find_name<'a, T>(names: &'a Exact<String, T>, name: &str) -> Option<&'a T> {
    if !name.is_empty() {
        if let Some(found) = names.named.get(name) {
            return Some(found);
        }
        for (place, _) in name.match_indices('.').filter(|(place, _)| *place > 0) {
            if let Some(found) = name.get(place..).and_then(|suffix| names.named.get(suffix)) {
                return Some(found);
            }
        }
    }
    names.any.as_ref()
}

fn is_same_or_loopback(facts: &Facts<'_>) -> bool {
    let (local, remote) = (facts.local.ip().to_canonical(), facts.remote.ip().to_canonical());
    // Of 127.0.0.0/8 only the one address, as in Envoy.
    remote == IpAddr::from(Ipv4Addr::LOCALHOST) || remote == IpAddr::from(Ipv6Addr::LOCALHOST) || local == remote
}

fn port(value: u32, field: &str) -> Result<u16, ConfigError> {
    u16::try_from(value)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| ConfigError::new(field, format!("{value} is not a port")))
}

fn prefixes(ranges: &[CidrRange], field: &str) -> Result<Vec<IpNet>, ConfigError> {
    ranges
        .iter()
        .enumerate()
        .map(|(index, range)| crate::policy::cidr(range).map(|net| net.trunc()).at(format!("{field}[{index}]")))
        .collect()
}

/// Names in lower case; `*.example.com` becomes `.example.com`.
fn server_names(names: &[String]) -> Result<Vec<String>, ConfigError> {
    let one = |(index, name): (usize, &String)| {
        let name = name.to_lowercase();
        let bare = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(&name);
        if bare.is_empty() || bare.contains('*') {
            let reason = format!("{name:?}: a wildcard stands for the first labels, as in *.example.com");
            return Err(ConfigError::new(format!("server_names[{index}]"), reason));
        }
        Ok(bare.to_owned())
    };
    names.iter().enumerate().map(one).collect()
}

#[cfg(test)]
#[path = "matcher/tests.rs"]
mod tests;
