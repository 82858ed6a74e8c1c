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

#[derive(Debug)]
enum Permission {
    Any(bool),
    And(Vec<Permission>),
    Or(Vec<Permission>),
    Not(Box<Permission>),
    Header(HeaderMatcher),
    UrlPath(StringMatcher),
    DestinationIp(IpNet),
    /// First and last port.
    DestinationPort(u16, u16),
    Metadata(MetadataMatcher, bool),
    ServerName(StringMatcher),
}

impl Permission {
    fn list(messages: &[rbac::Permission], field: &str) -> Result<Vec<Self>, ConfigError> {
        if messages.is_empty() {
            return Err(ConfigError::new(field, "must have at least one entry"));
        }
        messages
            .iter()
            .enumerate()
            .map(|(index, message)| Self::decode(message).at(format!("{field}[{index}]")))
            .collect()
    }

    #[allow(deprecated)]
    fn decode(message: &rbac::Permission) -> Result<Self, ConfigError> {
        use rbac::permission::Rule;
        let refuse = |field: &str| Err(ConfigError::new(field, "is not implemented"));
        Ok(match required(message.rule.as_ref(), "rule")? {
            Rule::Any(any) => Self::Any(*any),
            Rule::AndRules(set) => Self::And(Self::list(&set.rules, "and_rules.rules")?),
            Rule::OrRules(set) => Self::Or(Self::list(&set.rules, "or_rules.rules")?),
            Rule::NotRule(rule) => Self::Not(Box::new(Self::decode(rule).at("not_rule")?)),
            Rule::Header(header) => Self::Header(HeaderMatcher::decode(header).at("header")?),
            Rule::UrlPath(path) => Self::UrlPath(url_path(path).at("url_path")?),
            Rule::DestinationIp(range) => Self::DestinationIp(cidr(range).at("destination_ip")?),
            Rule::DestinationPort(port) => {
                let port = u16::try_from(*port).map_err(|_| ConfigError::new("destination_port", "is not a port"))?;
                Self::DestinationPort(port, port)
            }
            Rule::DestinationPortRange(range) => {
                let end = range.end.checked_sub(1).and_then(|last| u16::try_from(last).ok());
                match (u16::try_from(range.start), end) {
                    (Ok(first), Some(last)) if first <= last => Self::DestinationPort(first, last),
                    _ => return Err(ConfigError::new("destination_port_range", "must be ports, start below end")),
                }
            }
            Rule::Metadata(metadata) => Self::Metadata(MetadataMatcher::decode(metadata).at("metadata")?, false),
            Rule::SourcedMetadata(sourced) => {
                let (matcher, of_route) = sourced_metadata(sourced).at("sourced_metadata")?;
                Self::Metadata(matcher, of_route)
            }
            Rule::RequestedServerName(name) => {
                Self::ServerName(StringMatcher::decode(name).at("requested_server_name")?)
            }
            Rule::Matcher(_) => return refuse("matcher"),
            Rule::UriTemplate(_) => return refuse("uri_template"),
        })
    }

    fn matches(&self, input: &Input<'_>) -> bool {
        match self {
            Self::Any(any) => *any,
            Self::And(all) => all.iter().all(|rule| rule.matches(input)),
            Self::Or(any) => any.iter().any(|rule| rule.matches(input)),
            Self::Not(rule) => !rule.matches(input),
            Self::Header(matcher) => input.header(matcher),
            Self::UrlPath(matcher) => input.url_path(matcher),
            Self::DestinationIp(network) => contains(network, input.local.ip()),
            Self::DestinationPort(first, last) => (*first..=*last).contains(&input.local.port()),
            Self::Metadata(matcher, of_route) => input.metadata(matcher, *of_route),
            Self::ServerName(matcher) => matcher.matches(input.server_name.unwrap_or_default()),
        }
    }
}

#[derive(Debug)]
enum Principal {
    Any(bool),
    And(Vec<Principal>),
    Or(Vec<Principal>),
    Not(Box<Principal>),
    /// The name in the peer's certificate; `None` asks only for one.
    Authenticated(Option<StringMatcher>),
    DirectRemoteIp(IpNet),
    RemoteIp(IpNet),
    Header(HeaderMatcher),
    UrlPath(StringMatcher),
    Metadata(MetadataMatcher, bool),
    /// The peer's principal as Istio's filters leave it (`io.istio.peer_principal`).
    IstioPeer(StringMatcher),
}

/// Filter state under which Istio's rules look for the peer's identity.
const PEER_PRINCIPAL: &str = "io.istio.peer_principal";

impl Principal {
    fn list(messages: &[rbac::Principal], field: &str) -> Result<Vec<Self>, ConfigError> {
        if messages.is_empty() {
            return Err(ConfigError::new(field, "must have at least one entry"));
        }
        messages
            .iter()
            .enumerate()
            .map(|(index, message)| Self::decode(message).at(format!("{field}[{index}]")))
            .collect()
    }

    #[allow(deprecated)]
    fn decode(message: &rbac::Principal) -> Result<Self, ConfigError> {
        use rbac::principal::Identifier;
        Ok(match required(message.identifier.as_ref(), "identifier")? {
            Identifier::Any(any) => Self::Any(*any),
            Identifier::AndIds(set) => Self::And(Self::list(&set.ids, "and_ids.ids")?),
            Identifier::OrIds(set) => Self::Or(Self::list(&set.ids, "or_ids.ids")?),
            Identifier::NotId(id) => Self::Not(Box::new(Self::decode(id).at("not_id")?)),
            Identifier::Authenticated(authenticated) => Self::Authenticated(
                authenticated
                    .principal_name
                    .as_ref()
                    .map(|name| StringMatcher::decode(name).at("authenticated.principal_name"))
                    .transpose()?,
            ),
            // Envoy's source_ip is the socket's peer, after PROXY protocol.
            Identifier::SourceIp(range) => Self::DirectRemoteIp(cidr(range).at("source_ip")?),
            Identifier::DirectRemoteIp(range) => Self::DirectRemoteIp(cidr(range).at("direct_remote_ip")?),
            Identifier::RemoteIp(range) => Self::RemoteIp(cidr(range).at("remote_ip")?),
            Identifier::Header(header) => Self::Header(HeaderMatcher::decode(header).at("header")?),
            Identifier::UrlPath(path) => Self::UrlPath(url_path(path).at("url_path")?),
            Identifier::Metadata(metadata) => Self::Metadata(MetadataMatcher::decode(metadata).at("metadata")?, false),
            Identifier::SourcedMetadata(sourced) => {
                let (matcher, of_route) = sourced_metadata(sourced).at("sourced_metadata")?;
                Self::Metadata(matcher, of_route)
            }
            Identifier::FilterState(state) => Self::filter_state(state).at("filter_state")?,
            Identifier::Custom(custom) => {
                return Err(ConfigError::new("custom", format!("extension {:?} is not implemented", custom.name)));
            }
        })
    }

    fn filter_state(message: &matcher::FilterStateMatcher) -> Result<Self, ConfigError> {
        if message.key != PEER_PRINCIPAL {
            return Err(ConfigError::new("key", format!("filter state {:?} is not implemented", message.key)));
        }
        match required(message.matcher.as_ref(), "string_match")? {
            matcher::filter_state_matcher::Matcher::StringMatch(text) => {
                StringMatcher::decode(text).map(Self::IstioPeer).at("string_match")
            }
            matcher::filter_state_matcher::Matcher::AddressMatch(_) => {
                Err(ConfigError::new("address_match", "is not implemented"))
            }
        }
    }

    fn matches(&self, input: &Input<'_>) -> bool {
        match self {
            Self::Any(any) => *any,
            Self::And(all) => all.iter().all(|id| id.matches(input)),
            Self::Or(any) => any.iter().any(|id| id.matches(input)),
            Self::Not(id) => !id.matches(input),
            Self::Authenticated(None) => input.tls.is_some(),
            Self::Authenticated(Some(name)) => input.authenticated(name),
            Self::DirectRemoteIp(network) => contains(network, input.direct_remote.ip()),
            Self::RemoteIp(network) => contains(network, input.remote.ip()),
            Self::Header(matcher) => input.header(matcher),
            Self::UrlPath(matcher) => input.url_path(matcher),
            Self::Metadata(matcher, of_route) => input.metadata(matcher, *of_route),
            Self::IstioPeer(name) => input
                .tls
                .filter(|tls| tls.mtls)
                .is_some_and(|tls| tls.peer_uri_sans.iter().any(|san| name.matches(san))),
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
