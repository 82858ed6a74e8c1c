//! Rate limit actions: from a request to descriptor entries. Pure.

use std::net::IpAddr;

use ferromesh_proto::envoy::config::route::v3 as route;
use ferromesh_proto::envoy::r#type::metadata::v3::MetadataKey;
use ferromesh_proto::envoy::r#type::metadata::v3::metadata_key::path_segment::Segment;
use ipnet::IpNet;

use super::RateLimit;
use crate::config::{At, ConfigError, required};
use crate::format::Info;
use crate::matcher::header::Name;
use crate::matcher::{HeaderMatcher, QueryMatcher, metadata, query_value};

/// One entry of a descriptor.
pub type Entry = (String, String);

/// One action.
#[derive(Debug)]
pub enum Action {
    /// The proxy's own service cluster.
    SourceCluster,
    /// The route's cluster.
    DestinationCluster,
    /// A header: name, key, skip if absent.
    RequestHeader(Name, String, bool),
    /// A query parameter: name, key, skip if absent.
    QueryParameter(String, String, bool),
    /// The client's address.
    RemoteAddress,
    /// The network of the client's address: prefix lengths for IPv4 and IPv6.
    MaskedRemoteAddress(u8, u8),
    /// A constant: key, value.
    GenericKey(String, String),
    /// A constant if headers match: key, value, whether they must.
    HeaderValueMatch(String, String, bool, Vec<HeaderMatcher>),
    /// A constant if query parameters match: key, value, whether they must.
    QueryValueMatch(String, String, bool, Vec<QueryMatcher>),
    /// Metadata.
    Metadata(Box<MetadataAction>),
}

/// A value out of metadata.
#[derive(Debug)]
pub struct MetadataAction {
    key: String,
    filter: String,
    path: Vec<Box<str>>,
    default: String,
    /// Of the route, else of the request.
    of_route: bool,
    skip_if_absent: bool,
}

impl RateLimit {
    /// Decodes a list; errors name `field` and the place in it.
    ///
    /// # Errors
    /// Names the field that is missing, wrong or not implemented.
    pub fn decode_list(messages: &[route::RateLimit], field: &str) -> Result<Vec<Self>, ConfigError> {
        messages
            .iter()
            .enumerate()
            .map(|(index, message)| Self::decode(message).at(format!("{field}[{index}]")))
            .collect()
    }

    fn decode(message: &route::RateLimit) -> Result<Self, ConfigError> {
        let stage = message.stage.unwrap_or(0);
        if stage > 10 {
            return Err(ConfigError::new("stage", "must be from 0 to 10"));
        }
        let actions = message
            .actions
            .iter()
            .enumerate()
            .map(|(index, action)| Action::decode(action).at(format!("actions[{index}]")))
            .collect::<Result<_, _>>()?;
        Ok(Self { stage, actions })
    }

    /// The descriptor of a request; `None` if an action gives no entry. `service_cluster` is the proxy's own.
    pub fn descriptor(&self, info: &Info<'_>, service_cluster: &str) -> Option<Vec<Entry>> {
        let mut entries = Vec::with_capacity(self.actions.len());
        for action in &self.actions {
            match action.entry(info, service_cluster) {
                Outcome::Entry(key, value) => entries.push((key, value)),
                Outcome::Skip => {}
                Outcome::None => return None,
            }
        }
        (!entries.is_empty()).then_some(entries)
    }
}

enum Outcome {
    Entry(String, String),
    /// Nothing, and the others still count.
    Skip,
    /// Nothing, and so no descriptor.
    None,
}

impl Action {
    #[allow(deprecated)]
    fn decode(message: &route::rate_limit::Action) -> Result<Self, ConfigError> {
        use route::rate_limit::action::ActionSpecifier as Kind;
        let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
        let refuse = |field: &str| Err(ConfigError::new(field, "is not implemented"));
        Ok(match required(message.action_specifier.as_ref(), "action_specifier")? {
            Kind::SourceCluster(_) => Self::SourceCluster,
            Kind::DestinationCluster(_) => Self::DestinationCluster,
            Kind::RequestHeaders(headers) => Self::RequestHeader(
                Name::parse(&headers.header_name).at("request_headers.header_name")?,
                headers.descriptor_key.clone(),
                headers.skip_if_absent,
            ),
            Kind::QueryParameters(query) => Self::QueryParameter(
                query.query_parameter_name.clone(),
                query.descriptor_key.clone(),
                query.skip_if_absent,
            ),
            Kind::RemoteAddress(_) => Self::RemoteAddress,
            Kind::MaskedRemoteAddress(masked) => {
                let length = |given: Option<u32>, most: u8, field: &str| match given {
                    None => Ok(most),
                    Some(length) => u8::try_from(length).ok().filter(|length| *length <= most).ok_or_else(|| {
                        ConfigError::new(format!("masked_remote_address.{field}"), format!("must be at most {most}"))
                    }),
                };
                Self::MaskedRemoteAddress(
                    length(masked.v4_prefix_mask_len, 32, "v4_prefix_mask_len")?,
                    length(masked.v6_prefix_mask_len, 128, "v6_prefix_mask_len")?,
                )
            }
            Kind::GenericKey(generic) => {
                if !generic.default_value.is_empty() {
                    return refuse("generic_key.default_value");
                }
                Self::GenericKey(or(&generic.descriptor_key, "generic_key"), generic.descriptor_value.clone())
            }
            Kind::HeaderValueMatch(matched) => {
                if !matched.default_value.is_empty() {
                    return refuse("header_value_match.default_value");
                }
                Self::HeaderValueMatch(
                    or(&matched.descriptor_key, "header_match"),
                    matched.descriptor_value.clone(),
                    matched.expect_match.unwrap_or(true),
                    HeaderMatcher::decode_list(&matched.headers, "header_value_match.headers")?,
                )
            }
            Kind::QueryParameterValueMatch(matched) => {
                if !matched.default_value.is_empty() {
                    return refuse("query_parameter_value_match.default_value");
                }
                Self::QueryValueMatch(
                    or(&matched.descriptor_key, "query_match"),
                    matched.descriptor_value.clone(),
                    matched.expect_match.unwrap_or(true),
                    QueryMatcher::decode_list(
                        &matched.query_parameters,
                        "query_parameter_value_match.query_parameters",
                    )?,
                )
            }
            Kind::DynamicMetadata(found) => Self::Metadata(Box::new(MetadataAction::decode(
                &found.descriptor_key,
                found.metadata_key.as_ref(),
                &found.default_value,
                (false, false),
            )?)),
            Kind::Metadata(found) => {
                let of_route = match found.source {
                    0 => false,
                    1 => true,
                    _ => return refuse("metadata.source"),
                };
                Self::Metadata(Box::new(MetadataAction::decode(
                    &found.descriptor_key,
                    found.metadata_key.as_ref(),
                    &found.default_value,
                    (of_route, found.skip_if_absent),
                )?))
            }
            Kind::Extension(extension) => {
                return Err(ConfigError::new(
                    "extension",
                    format!("extension {:?} is not implemented", extension.name),
                ));
            }
            Kind::RemoteAddressMatch(_) => return refuse("remote_address_match"),
        })
    }

    fn entry(&self, info: &Info<'_>, service_cluster: &str) -> Outcome {
        let Some(head) = info.request else { return Outcome::None };
        let absent = |skip: bool| if skip { Outcome::Skip } else { Outcome::None };
        let constant = |key: &String, value: &String, hit: bool| {
            if hit { Outcome::Entry(key.clone(), value.clone()) } else { Outcome::None }
        };
        match self {
            Self::SourceCluster => Outcome::Entry("source_cluster".to_owned(), service_cluster.to_owned()),
            Self::DestinationCluster => match &info.upstream.cluster_name {
                Some(cluster) => Outcome::Entry("destination_cluster".to_owned(), cluster.to_string()),
                None => Outcome::None,
            },
            Self::RequestHeader(name, key, skip) => match name.in_request(head) {
                Some(value) => Outcome::Entry(key.clone(), value.into_owned()),
                None => absent(*skip),
            },
            Self::QueryParameter(name, key, skip) => match query_value(head.query(), name) {
                Some(value) => Outcome::Entry(key.clone(), value.into_owned()),
                None => absent(*skip),
            },
            Self::RemoteAddress => Outcome::Entry("remote_address".to_owned(), info.remote.ip().to_string()),
            Self::MaskedRemoteAddress(v4, v6) => match masked(info.remote.ip(), *v4, *v6) {
                Some(network) => Outcome::Entry("masked_remote_address".to_owned(), network),
                None => Outcome::None,
            },
            Self::GenericKey(key, value) => Outcome::Entry(key.clone(), value.clone()),
            Self::HeaderValueMatch(key, value, expect, headers) => {
                constant(key, value, headers.iter().all(|matcher| matcher.matches_request(head)) == *expect)
            }
            Self::QueryValueMatch(key, value, expect, query) => {
                constant(key, value, query.iter().all(|matcher| matcher.matches(head.query())) == *expect)
            }
            Self::Metadata(action) => action.entry(info),
        }
    }
}

fn masked(ip: IpAddr, v4: u8, v6: u8) -> Option<String> {
    let length = if ip.is_ipv4() { v4 } else { v6 };
    Some(IpNet::new(ip, length).ok()?.trunc().to_string())
}

impl MetadataAction {
    fn decode(
        key: &str,
        place: Option<&MetadataKey>,
        default: &str,
        (of_route, skip_if_absent): (bool, bool),
    ) -> Result<Self, ConfigError> {
        let place = required(place, "metadata_key")?;
        let path = place
            .path
            .iter()
            .map(|segment| match &segment.segment {
                Some(Segment::Key(key)) => Ok(key.as_str().into()),
                _ => Err(ConfigError::new("metadata_key.path", "each segment needs a key")),
            })
            .collect::<Result<_, _>>()?;
        let (key, default, filter) = (key.to_owned(), default.to_owned(), place.key.clone());
        Ok(Self { key, filter, path, default, of_route, skip_if_absent })
    }

    fn entry(&self, info: &Info<'_>) -> Outcome {
        let map = if self.of_route {
            info.route.and_then(|route| route.metadata?.get(&self.filter)?.as_object())
        } else {
            info.metadata.and_then(|metadata| metadata.get(&self.filter))
        };
        let found = map.and_then(|map| metadata::lookup(map, &self.path)).and_then(|value| value.as_str());
        match found.filter(|text| !text.is_empty()).or((!self.default.is_empty()).then_some(self.default.as_str())) {
            Some(value) => Outcome::Entry(self.key.clone(), value.to_owned()),
            None if self.skip_if_absent => Outcome::Skip,
            None => Outcome::None,
        }
    }
}
