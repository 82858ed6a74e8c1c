//! Whom a policy is about.

use ferromesh_proto::envoy::config::rbac::v3 as rbac;
use ferromesh_proto::envoy::r#type::matcher::v3 as matcher;
use ipnet::IpNet;

use super::{Input, cidr, contains, some_of, sourced_metadata, url_path};
use crate::config::{At, ConfigError, required};
use crate::matcher::{HeaderMatcher, MetadataMatcher, StringMatcher};

#[derive(Debug)]
pub(super) enum Principal {
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
    pub(super) fn list(messages: &[rbac::Principal], field: &str) -> Result<Vec<Self>, ConfigError> {
        some_of(messages, field, Self::decode)
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

    pub(super) fn matches(&self, input: &Input<'_>) -> bool {
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
