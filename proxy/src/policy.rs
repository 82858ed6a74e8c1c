//! Envoy's RBAC rules: from what is known about a request or connection to allow or deny. Pure.
//!
//! Shared by the HTTP and the network filter. Semantics: Envoy, `envoy.config.rbac.v3.RBAC`.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::config::rbac::v3 as rbac;
use ferromesh_proto::envoy::r#type::matcher::v3 as matcher;
use ipnet::IpNet;

use crate::config::supported::Table;
use crate::config::{At, ConfigError, required};
use crate::connection::{Connection, TlsInfo};
use crate::matcher::metadata::Dynamic;
use crate::matcher::{HeaderMatcher, MetadataMatcher, StringMatcher};
use crate::message::RequestHead;

mod permission;
mod principal;

use permission::Permission;
use principal::Principal;

/// Fields of the policy language that are implemented.
pub const SUPPORTED: Table = &[
    ("envoy.config.rbac.v3.RBAC", "action policies"),
    ("envoy.config.rbac.v3.Policy", "permissions principals"),
    (
        "envoy.config.rbac.v3.Permission",
        "and_rules or_rules any header url_path destination_ip destination_port destination_port_range metadata \
         not_rule requested_server_name sourced_metadata",
    ),
    ("envoy.config.rbac.v3.Permission.Set", "*"),
    (
        "envoy.config.rbac.v3.Principal",
        "and_ids or_ids any authenticated source_ip direct_remote_ip remote_ip header url_path metadata filter_state \
         not_id sourced_metadata",
    ),
    ("envoy.config.rbac.v3.Principal.Set", "*"),
    ("envoy.config.rbac.v3.Principal.Authenticated", "*"),
    ("envoy.config.rbac.v3.SourcedMetadata", "*"),
];

/// What rules look at.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The request; `None` for a TCP connection.
    pub request: Option<&'a RequestHead>,
    /// Its path without query, which every rule may look at.
    pub path: Option<&'a str>,
    /// TLS of the client's connection.
    pub tls: Option<&'a TlsInfo>,
    /// SNI.
    pub server_name: Option<&'a str>,
    /// The socket's peer.
    pub direct_remote: SocketAddr,
    /// The client, after X-Forwarded-For or PROXY protocol.
    pub remote: SocketAddr,
    /// Where the client wanted to go.
    pub local: SocketAddr,
    /// Dynamic metadata.
    pub metadata: Option<&'a Dynamic>,
    /// Metadata of the route.
    pub route_metadata: Option<&'a serde_json::Map<String, serde_json::Value>>,
}

impl<'a> Input<'a> {
    /// The input of a TCP connection.
    pub fn of_connection(connection: &'a Connection) -> Self {
        Self {
            request: None,
            path: None,
            tls: connection.tls.as_deref(),
            server_name: connection.server_name.as_deref(),
            direct_remote: connection.direct_remote,
            remote: connection.remote,
            local: connection.local,
            metadata: None,
            route_metadata: None,
        }
    }
}

/// What a match means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Only what matches may pass.
    Allow,
    /// What matches may not pass.
    Deny,
    /// All may pass; what matches is noted.
    Log,
}

/// Compiled rules.
#[derive(Debug)]
pub struct Rules {
    action: Action,
    /// In the order of names.
    policies: Vec<(String, Policy)>,
}

/// A decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Whether the request may pass.
    pub allowed: bool,
    /// The policy that matched, if one did.
    pub policy: Option<&'a str>,
}

#[derive(Debug)]
struct Policy {
    permission: Permission,
    principal: Principal,
}

impl Rules {
    /// Decodes rules.
    ///
    /// # Errors
    /// Names the field that is missing, wrong or not implemented.
    pub fn decode(message: &rbac::Rbac) -> Result<Self, ConfigError> {
        let action = match message.action() {
            rbac::rbac::Action::Allow => Action::Allow,
            rbac::rbac::Action::Deny => Action::Deny,
            rbac::rbac::Action::Log => Action::Log,
        };
        let mut policies = Vec::with_capacity(message.policies.len());
        for (name, policy) in &message.policies {
            policies.push((name.clone(), Policy::decode(policy).at(format!("policies[{name:?}]"))?));
        }
        policies.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(Self { action, policies })
    }

    /// The action.
    pub fn action(&self) -> Action {
        self.action
    }

    /// Decides; the first policy that matches, in the order of names, is named.
    pub fn decide(&self, input: &Input<'_>) -> Decision<'_> {
        let policy = self
            .policies
            .iter()
            .find(|(_, policy)| policy.permission.matches(input) && policy.principal.matches(input))
            .map(|(name, _)| name.as_str());
        let allowed = match self.action {
            Action::Allow => policy.is_some(),
            Action::Deny => policy.is_none(),
            Action::Log => true,
        };
        Decision { allowed, policy }
    }
}

impl Policy {
    fn decode(message: &rbac::Policy) -> Result<Self, ConfigError> {
        if message.condition.is_some() || message.checked_condition.is_some() {
            return Err(ConfigError::new("condition", "is not implemented"));
        }
        Ok(Self {
            permission: one_of(Permission::list(&message.permissions, "permissions")?, Permission::Or),
            principal: one_of(Principal::list(&message.principals, "principals")?, Principal::Or),
        })
    }
}

/// Decodes the rules of a list; errors name their place.
fn some_of<M, T>(
    messages: &[M],
    field: &str,
    decode: impl Fn(&M) -> Result<T, ConfigError>,
) -> Result<Vec<T>, ConfigError> {
    if messages.is_empty() {
        return Err(ConfigError::new(field, "must have at least one entry"));
    }
    let place = |(index, message)| decode(message).at(format!("{field}[{index}]"));
    messages.iter().enumerate().map(place).collect()
}

/// What `any` makes of several rules; one stands for itself.
fn one_of<T>(mut rules: Vec<T>, any: fn(Vec<T>) -> T) -> T {
    match rules.pop() {
        Some(one) if rules.is_empty() => one,
        last => {
            rules.extend(last);
            any(rules)
        }
    }
}

impl Input<'_> {
    fn header(&self, matcher: &HeaderMatcher) -> bool {
        match self.request {
            Some(head) => matcher.matches_request(head),
            // A TCP connection has no headers: every header is absent.
            None => matcher.matches_value(None),
        }
    }

    fn url_path(&self, matcher: &StringMatcher) -> bool {
        self.path.is_some_and(|path| matcher.matches(path))
    }

    fn metadata(&self, matcher: &MetadataMatcher, of_route: bool) -> bool {
        if of_route {
            return match self.route_metadata {
                Some(metadata) => matcher.matches_static(metadata),
                None => matcher.matches_static(&serde_json::Map::new()),
            };
        }
        match self.metadata {
            Some(metadata) => matcher.matches(metadata),
            None => matcher.matches(&Dynamic::new()),
        }
    }

    /// Envoy looks at the URI SANs; only where there are none at the DNS SANs; only then at the subject.
    fn authenticated(&self, name: &StringMatcher) -> bool {
        let Some(tls) = self.tls else { return false };
        let sans = if tls.peer_uri_sans.is_empty() { &tls.peer_dns_sans } else { &tls.peer_uri_sans };
        if sans.is_empty() { name.matches(&tls.peer_subject) } else { sans.iter().any(|san| name.matches(san)) }
    }
}

fn url_path(message: &matcher::PathMatcher) -> Result<StringMatcher, ConfigError> {
    let matcher::path_matcher::Rule::Path(path) = required(message.rule.as_ref(), "path")?;
    StringMatcher::decode(path).at("path")
}

fn sourced_metadata(message: &rbac::SourcedMetadata) -> Result<(MetadataMatcher, bool), ConfigError> {
    let matcher = required(message.metadata_matcher.as_ref(), "metadata_matcher")?;
    let of_route = message.metadata_source() == rbac::MetadataSource::Route;
    Ok((MetadataMatcher::decode(matcher).at("metadata_matcher")?, of_route))
}

/// Decodes a network.
///
/// # Errors
/// If the address or the prefix length is not valid.
pub fn cidr(message: &core::CidrRange) -> Result<IpNet, ConfigError> {
    let ip: IpAddr = message.address_prefix.parse().map_err(|_| {
        ConfigError::new("address_prefix", format!("{:?} is not an IP address", message.address_prefix))
    })?;
    let length = message.prefix_len.unwrap_or(0);
    u8::try_from(length)
        .ok()
        .and_then(|length| IpNet::new(ip, length).ok())
        .ok_or_else(|| ConfigError::new("prefix_len", format!("{length} is too long for {ip}")))
}

/// Whether the network has the address; IPv4 in IPv6 counts as IPv4.
pub fn contains(network: &IpNet, ip: IpAddr) -> bool {
    network.contains(&ip.to_canonical())
}

/// The text of a policy for `response_code_details`: no spaces.
pub fn details(policy: Option<&str>) -> Cow<'static, str> {
    match policy {
        None => Cow::Borrowed("rbac_access_denied_matched_policy[none]"),
        Some(policy) => {
            Cow::Owned(format!("rbac_access_denied_matched_policy[{}]", policy.replace(char::is_whitespace, "_")))
        }
    }
}

#[cfg(test)]
mod tests;
