//! What a policy permits.

use ferromesh_proto::envoy::config::rbac::v3 as rbac;
use ipnet::IpNet;

use super::{Input, cidr, contains, some_of, sourced_metadata, url_path};
use crate::config::{At, ConfigError, required};
use crate::matcher::{HeaderMatcher, MetadataMatcher, StringMatcher};

#[derive(Debug)]
pub(super) enum Permission {
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
    pub(super) fn list(messages: &[rbac::Permission], field: &str) -> Result<Vec<Self>, ConfigError> {
        some_of(messages, field, Self::decode)
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

    pub(super) fn matches(&self, input: &Input<'_>) -> bool {
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
