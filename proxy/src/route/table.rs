//! The lookup of virtual host and route: hash lookups, no allocation for hosts in lower case.

use std::sync::Arc;

use http::Method;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::matcher::{MatchInput, PathMatch};
use super::{Action, ClusterSpecifier, Route, RouteConfiguration, SelectedRoute};
use crate::config::ConfigError;

/// Virtual hosts by domain.
#[derive(Debug, Default)]
pub struct HostIndex {
    exact: FxHashMap<Box<str>, u32>,
    /// `*.example.com`: by length of what follows the `*`, longest first.
    suffix: Vec<(usize, FxHashMap<Box<str>, u32>)>,
    /// `example.*`: by length of what precedes the `*`, longest first.
    prefix: Vec<(usize, FxHashMap<Box<str>, u32>)>,
    any: Option<u32>,
    ignore_port: bool,
}

impl HostIndex {
    /// An index that takes ports off hosts before it looks them up, or not.
    pub fn new(ignore_port: bool) -> Self {
        Self { ignore_port, ..Self::default() }
    }

    /// Adds a domain of the virtual host at `index`.
    ///
    /// # Errors
    /// If another virtual host has it already.
    pub fn add(&mut self, domain: &str, index: u32) -> Result<(), ConfigError> {
        let domain = domain.to_ascii_lowercase();
        let taken = if domain == "*" {
            self.any.replace(index)
        } else if let Some(suffix) = domain.strip_prefix('*') {
            by_length(&mut self.suffix, suffix.len()).insert(suffix.into(), index)
        } else if let Some(prefix) = domain.strip_suffix('*') {
            by_length(&mut self.prefix, prefix.len()).insert(prefix.into(), index)
        } else {
            self.exact.insert(domain.as_str().into(), index)
        };
        match taken {
            None => Ok(()),
            Some(_) => {
                Err(ConfigError::new("", format!("domain {domain:?} is given twice; each may be in one place only")))
            }
        }
    }

    /// The virtual host for an authority.
    pub fn find(&self, authority: &str) -> Option<usize> {
        let host = if self.ignore_port { without_port(authority) } else { authority };
        if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            let lower: SmallVec<[u8; 128]> = host.bytes().map(|byte| byte.to_ascii_lowercase()).collect();
            // Changing ASCII letters only, it is UTF-8 as before.
            return self.find_lower(std::str::from_utf8(&lower).unwrap_or(host));
        }
        self.find_lower(host)
    }

    fn find_lower(&self, host: &str) -> Option<usize> {
        let found = self.exact.get(host).copied().or_else(|| {
            // A wildcard stands for at least one character.
            let suffix = self
                .suffix
                .iter()
                .filter(|(length, _)| *length < host.len())
                .find_map(|(length, hosts)| hosts.get(host.get(host.len() - length..)?));
            let prefix = || {
                self.prefix
                    .iter()
                    .filter(|(length, _)| *length < host.len())
                    .find_map(|(length, hosts)| hosts.get(host.get(..*length)?))
            };
            suffix.or_else(prefix).copied().or(self.any)
        });
        found.map(|index| index as usize)
    }
}

fn by_length(lists: &mut Vec<(usize, FxHashMap<Box<str>, u32>)>, length: usize) -> &mut FxHashMap<Box<str>, u32> {
    let at = lists.partition_point(|(other, _)| *other > length);
    if lists.get(at).is_none_or(|(other, _)| *other != length) {
        lists.insert(at, (length, FxHashMap::default()));
    }
    &mut lists[at].1
}

/// The authority without its port.
pub fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        // A colon before the closing bracket belongs to an IPv6 address.
        Some(colon) if authority.rfind(']').is_none_or(|bracket| bracket < colon) => {
            let port = &authority[colon + 1..];
            if port.bytes().all(|byte| byte.is_ascii_digit()) { &authority[..colon] } else { authority }
        }
        _ => authority,
    }
}

/// The routes of a virtual host by exact path, for those with many.
#[derive(Debug, Default)]
pub struct PathIndex {
    exact: FxHashMap<Box<str>, SmallVec<[u32; 1]>>,
    /// Routes that are not in `exact`, in order.
    others: Vec<u32>,
}

/// Fewer routes than this are tried one by one.
const INDEX_FROM: usize = 8;

impl PathIndex {
    /// An index; `None` where trying one by one is as good.
    pub fn new(routes: &[Route]) -> Option<Self> {
        let exact = routes.iter().filter(|route| matches!(route.matcher.path, PathMatch::Path(_, true))).count();
        if exact < INDEX_FROM {
            return None;
        }
        let mut index = Self::default();
        for (place, route) in routes.iter().enumerate() {
            let place = u32::try_from(place).ok()?;
            match &route.matcher.path {
                PathMatch::Path(path, true) => index.exact.entry(path.clone()).or_default().push(place),
                _ => index.others.push(place),
            }
        }
        Some(index)
    }

    /// Places of the routes that can match `path`, in order.
    fn candidates<'a>(&'a self, path: &str) -> impl Iterator<Item = usize> + 'a {
        let mut exact = self.exact.get(path).map(SmallVec::as_slice).unwrap_or_default().iter().copied().peekable();
        let mut others = self.others.iter().copied().peekable();
        std::iter::from_fn(move || match (exact.peek(), others.peek()) {
            (Some(a), Some(b)) if a < b => exact.next(),
            (_, Some(_)) => others.next(),
            (_, None) => exact.next(),
        })
        .map(|place| place as usize)
    }
}

impl RouteConfiguration {
    /// The route of a request.
    pub fn route(self: &Arc<Self>, input: &MatchInput<'_>) -> Option<SelectedRoute> {
        let host = self.hosts.find(&input.request.authority)?;
        let virtual_host = self.virtual_hosts.get(host)?;
        // The target's scheme is the client's word; x-forwarded-proto is what the connection, or a trusted proxy, says.
        let proto = input.request.headers.get("x-forwarded-proto").map(http::HeaderValue::as_bytes);
        let plain = proto.unwrap_or(input.request.scheme.as_bytes()) != b"https";
        if plain && (virtual_host.require_tls == 2 || virtual_host.require_tls == 1 && !input.internal) {
            // The hidden last route, made by `decode`, redirects to https.
            return SelectedRoute::new(self.clone(), host, virtual_host.routes.len().checked_sub(1)?);
        }
        let path = input.request.path_only();
        let matches = |place: &usize| {
            virtual_host.routes.get(*place).is_some_and(|route| {
                route.matcher.matches_path(path, input.request) && route.matcher.matches_rest(input)
            })
        };
        let place = match &virtual_host.index {
            Some(index) if input.request.method != Method::CONNECT => index.candidates(path).find(matches),
            _ => (0..virtual_host.routes.len()).find(matches),
        }?;
        let selected = SelectedRoute::new(self.clone(), host, place)?;
        Some(selected.weighted_by(input.random))
    }
}

impl SelectedRoute {
    /// Chooses among weighted clusters.
    fn weighted_by(mut self, random: u64) -> Self {
        if let Action::Forward(forward) = &self.route().action
            && let ClusterSpecifier::Weighted(clusters) = &forward.cluster
        {
            self.weighted = pick(clusters.iter().map(|cluster| cluster.weight), random);
        }
        self
    }
}

/// The place that a random number falls on among weights.
pub fn pick(weights: impl Iterator<Item = u32> + Clone, random: u64) -> Option<u32> {
    let total: u64 = weights.clone().map(u64::from).sum();
    let mut left = random.checked_rem(total)?;
    for (place, weight) in weights.enumerate() {
        match left.checked_sub(u64::from(weight)) {
            Some(rest) => left = rest,
            None => return u32::try_from(place).ok(),
        }
    }
    None
}

#[cfg(test)]
pub(crate) mod tests;
